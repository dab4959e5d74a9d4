"""What waits for the commits of one run in this process."""

from __future__ import annotations

from typing import Final

from flowcraft.codec import Codec
from flowcraft.engine.draft import Cell
from flowcraft.engine.needs import needed_keys
from flowcraft.folding import Fold, Foreseen, Gone, Rules, Submission, fold
from flowcraft.model import ValueKey
from flowcraft.runstate import RunState
from flowcraft.settling import answer, too_large
from flowcraft.writing import Aftermath

__all__ = ["MOST_EVENTS", "Mailbox"]

#: So many events are folded into one commit at most.
MOST_EVENTS: Final = 256
_MOST_OUTDATED: Final = 20


class Mailbox:
    """One run. ``folding`` are the submissions of the commit being made, ``queue`` those after it.

    ``busy`` from the moment that something waits until nothing does. ``values`` were read for this commit.
    """

    __slots__ = ("busy", "conflicts", "folding", "limit", "queue", "run_id", "state", "values", "wanted")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.state: RunState | None = None
        self.queue: list[Submission] = []
        self.folding: list[Submission] = []
        self.busy = False
        self.limit = MOST_EVENTS
        self.conflicts = 0
        self.values: dict[ValueKey, Cell] = {}
        self.wanted: set[ValueKey] = set()

    def take(self) -> None:
        """Begin the next commit with what waits, unless one has begun."""
        if not self.folding:
            self.folding = self.queue[: self.limit]
            del self.queue[: self.limit]

    def missing(self, state: RunState) -> set[ValueKey]:
        """The values that planning may ask for and that are not at hand.

        From here on the events are in the numbers of the blueprint that the run has now.
        """
        for submission in self.folding:
            submission.renumber(state.graph)
        events = [s.event for s in self.folding if not callable(s.event)]
        needed = needed_keys(state.graph, state.committed(), events)
        for submission in self.folding:
            if isinstance(submission.event, Foreseen):
                needed.update(submission.event.keys)
        if self.wanted:
            needed |= self.wanted
        return {key for key in needed if key not in self.values and key not in state.values} if needed else needed

    def plan(self, state: RunState, *, nonce: str, now: float, rules: Rules) -> Fold | None:
        """Fold the submissions; see `flowcraft.folding.fold`."""
        return fold(state, self.folding, nonce=nonce, now=now, rules=rules, values=self.values)

    def forget(self) -> bool:
        """The head that was planned on is not what is stored now: plan on another one, read with all that goes with it.

        False if that was done again and again: then it is not the head that is wrong.
        """
        self.state, self.values = None, {}
        self.conflicts += 1
        return self.conflicts <= _MOST_OUTDATED

    def committed(self) -> None:
        """All that was being folded is answered."""
        self.folding = []
        self.limit = min(self.limit * 2, MOST_EVENTS)
        self.conflicts = 0

    def bisect(self, error: Exception, codec: Codec) -> None:
        """Something among these events cannot be committed: halve them until it is alone, and then refuse it."""
        if self.state is not None:
            self.state = self.state.rewound(codec)
        if len(self.folding) > 1:
            self.limit = len(self.folding) // 2
            self.queue[:0] = self.folding
            self.folding = []
        elif self.folding and not too_large(self.folding[0], error):
            self.fail(error)

    def fail(self, error: Exception, *, everything: bool = False) -> None:
        """Raise ``error`` at the submitters of this commit, or at all that wait."""
        if everything:
            self.folding += self.queue
            self.queue = []
        for submission in self.folding:
            if not submission.future.done():
                submission.future.set_exception(error)
        self.folding = []

    def gone(self, aftermath: Aftermath) -> None:
        """There is no such run: nothing that waits for it can change anything."""
        for submission in (*self.folding, *self.queue):
            answer(submission, Gone(), aftermath)
        self.folding, self.queue, self.state = [], [], None

    def rest(self) -> bool:
        """Nothing is under way any more; True if something waits already."""
        self.busy = False
        self.values = {}
        self.wanted = set()
        if self.state is not None:
            self.state.fresh = False  # from now on it is a memory
        return bool(self.folding or self.queue)
