"""Seeds that found something, kept: each must stay clean.

Whoever changes what is drawn in a seed finds new ones for the old faults.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FOUND"]

#: By seed, as the simulator was when it found it: what was wrong.
FOUND: Mapping[int, str] = {
    6: "a compensation got the run's input for that of a visit in a round before",
    46: "a kept signal that was sent again after its wait was skipped got another answer than the first",
    363: "a receiver whose acks were lost kept their places for ever (the fault was the simulator's own)",
    415: "a ticker put off an ended run's time by 30 days: a run that is kept for ever would be deleted then",
    420: "one limit of visits was two failures: a cycle within ended twice in one commit",
    528: "a late message of a visit that was given up ended it, and its parent, while the run of its subflow went on",
    955: "a signal ended a wait whose time was over, while the run of its fallback was waited for",
    1268: "a process that planned on a head that others had moved found no payload of a kept signal: a TypeError",
    6096: "a draining visit heard of its child and of the child's end in one commit (the accounts' own fault)",
    6393: "a kept signal that others had used up was asked for by a condition: a SerializationError, no conflict",
    18433: "a worker that had been paused executed what it had claimed before, 20 ms after (the accounts' own fault)",
    19042: "a commit of before a failover arrived late: its subflow had not ended in the new timeline (the accounts')",
    20653: "somebody undid a run whose client had its result already (the check compared with the second end)",
    30098: "items of a batch were read while the store was back at an older state, and were missing: a TypeError",
    1261: "after a failover a visit found the cancelled run of its subflow of before (left out: nothing can be told)",
}
