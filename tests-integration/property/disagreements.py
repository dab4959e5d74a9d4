"""Cases in which the engine does not do what the oracle, and as far as it says so the page, want. None should stay.

A case that is listed here must fail: whoever mends the engine, or the page and the oracle, removes its line.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DISAGREEMENTS"]

#: The case's name, the section of docs/semantics.md, and what the engine does.
DISAGREEMENTS: Mapping[str, str] = {
    "a condition of an edge that cannot be evaluated fails the controller": "9.1, 1.5: the error of a controller's edge is swallowed, the next edge is taken",
    "a loop that is entered at its body": "4.2: an inner controller becomes the header, and is DEAD at once",
    "a loop in a plain cycle": "4.2: an inner controller becomes the header, and is DEAD at once",
    "an exit out of a loop in a plain cycle drains the loop only": "4.2: an inner controller becomes the header, and is DEAD at once",
    "an early exit into another cycle, which goes round meanwhile": "9.2: the exit is forgotten, and the loop goes round",
    "of two that are due at one tick the earlier cancels the other": "10: timers of one tick act in the order in which they were set",
    "a sleep stands in for what failed": "3.2, 10: a sleep that is a fallback is handed out to workers",
    "a wait stands in for what failed": "3.2, 10: a wait that is a fallback is handed out to workers",
    "the same signal again in a later visit is the old one": "10.3: a signal that comes again ends the wait's next visit",
    "a child completes though its parent is cancelled": "5, 6, 12.3: the late outcome of a child is not recorded",
    "a losing subflow fails": "5, 6, 12.3: the late outcome of a child is not recorded",
    "a subflow is a loser before its child begins": "12.3: the visit is CANCELLED while the child that it has just made runs",
    "an item that is parked leaves the window": "11.2: a HELD item enters before one that is due again",
    "one that is due comes before those that are held": "11.2: a HELD item enters before one that is due again",
    "an empty batch completes before losers are judged": "5, 11.5: an empty batch is a loser by the outcome that completes it",
    "a header that is marked counts": "4.8, 13.3: a header's visit that was marked does not count",
    "what was cancelled": "13.4: what comes after a node that completed while the run was stopped starts without its input",
    "the action of what completed late": "13.4: what comes after a node that completed while the run was stopped starts, chosen or not",
    "after failing fast": "13.4: what comes after a node that completed while the run was stopped starts without its input",
    "a join that had fired keeps its winner": "13.4: an `any` join that starts again gets the first edge's output, not its winner's",
    "what failed starts again": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "one of two that failed": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "a failure that is absolved stays": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "from a node that completed": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "one named node leads to another": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "another way is taken": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "what was abandoned": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "a sleep that was cancelled": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "a wait that timed out": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "a fallback that failed too": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "a fallback that helps at last": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "before a loop": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "a subflow that failed": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "a paused run that ended is not paused in its next epoch": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "to a node": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "a completed run to a node": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "a branch that is not reset is not undone": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "an undone visit is not undone again": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
    "everything, and tried again": "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit",
}
