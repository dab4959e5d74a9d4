"""Cases in which the engine does not do what the oracle, and as far as it says so the page, want. None should stay.

A case that is listed here must fail: whoever mends the engine, or the page and the oracle, removes its line.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DISAGREEMENTS"]

#: The section of docs/semantics.md and what the engine does: the names of the cases.
_BY_REASON: Mapping[str, tuple[str, ...]] = {
    "9.1, 1.5: the error of a controller's edge is swallowed, the next edge is taken": (
        "a condition of an edge that cannot be evaluated fails the controller",
    ),
    "4.2: an inner controller becomes the header, and is DEAD at once": (
        "a loop that is entered at its body",
        "a loop in a plain cycle",
        "an exit out of a loop in a plain cycle drains the loop only",
    ),
    "9.2: the exit is forgotten, and the loop goes round": (
        "an early exit into another cycle, which goes round meanwhile",
    ),
    "10: timers of one tick act in the order in which they were set": (
        "of two that are due at one tick the earlier cancels the other",
    ),
    "3.2, 10: a sleep that is a fallback is handed out to workers": ("a sleep stands in for what failed",),
    "3.2, 10: a wait that is a fallback is handed out to workers": ("a wait stands in for what failed",),
    "10.3: a signal that comes again ends the wait's next visit": (
        "the same signal again in a later visit is the old one",
    ),
    "5, 6, 12.3: the late outcome of a child is not recorded": (
        "a child completes though its parent is cancelled",
        "a losing subflow fails",
    ),
    "12.3: the visit is CANCELLED while the child that it has just made runs": (
        "a subflow is a loser before its child begins",
    ),
    "11.2: a HELD item enters before one that is due again": (
        "an item that is parked leaves the window",
        "one that is due comes before those that are held",
    ),
    "5, 11.5: an empty batch is a loser by the outcome that completes it": (
        "an empty batch completes before losers are judged",
    ),
    "4.8, 13.3: a header's visit that was marked does not count": ("a header that is marked counts",),
    "13.4: what comes after a node that completed while the run was stopped starts without its input": (
        "what was cancelled",
        "after failing fast",
    ),
    "13.4: what comes after a node that completed while the run was stopped starts, chosen or not": (
        "the action of what completed late",
    ),
    "13.4: an `any` join that starts again gets the first edge's output, not its winner's": (
        "a join that had fired keeps its winner",
    ),
    "13.4: behind a node that is visited again outside all cycles, the input is read at its first visit": (
        "what failed starts again",
        "one of two that failed",
        "a failure that is absolved stays",
        "from a node that completed",
        "one named node leads to another",
        "another way is taken",
        "what was abandoned",
        "a sleep that was cancelled",
        "a wait that timed out",
        "a fallback that failed too",
        "a fallback that helps at last",
        "before a loop",
        "a subflow that failed",
        "a paused run that ended is not paused in its next epoch",
        "to a node",
        "a completed run to a node",
        "a branch that is not reset is not undone",
        "an undone visit is not undone again",
        "everything, and tried again",
    ),
    "13.4: a node in a cycle that nothing enters does not start again, and the run completes": (
        "a node whose edges could not be judged, in a cycle that nothing enters",
    ),
    "13.4: an absolved failure is forgotten and tried again because the join that absolved it starts again": (
        "an absolved failure is not tried again with its join",
    ),
    "13.4: what was cancelled while it was pending starts, whatever its join says": (
        "the way that a loop did not take is not taken by a retry",
        "a loop that was left early stays left",
    ),
    "13.4: a scatter behind a node that starts again begins without its input": (
        "what comes before a batch was abandoned",
    ),
    "13.4: an assertion of the engine fails, the batch begins without items": (
        "a scatter that completed after the stop",
    ),
}
#: By the name of the case.
DISAGREEMENTS: Mapping[str, str] = {name: reason for reason, names in _BY_REASON.items() for name in names}
