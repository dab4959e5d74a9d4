"""The head: a run's small state.

A set of byte arrays and sparse dicts that the transition changes in place; `flowcraft.engine.headbytes` makes the
stored form. There is no RUNNING in it: who works on a visit is a lease.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from flowcraft.engine.slots import NODE_MASK, Batch, item_of, node_of
from flowcraft.model import NodeState

__all__ = [
    "ACTIVE",
    "BEGUN",
    "CANCELLED",
    "COMPLETED",
    "DEAD",
    "DRAINING",
    "FAILED",
    "FAILED_LATE",
    "GIVEN_UP",
    "HELD",
    "KEPT",
    "LIVE",
    "MARK_FAILED",
    "NOT_BEGUN",
    "OPEN",
    "PARKED",
    "PENDING",
    "READY",
    "RETRYING",
    "SETTLED",
    "SKIPPED",
    "SKIPPED_FAILED",
    "SPREAD",
    "STATE_NAMES",
    "TOKENS_KEPT",
    "UNMARKED",
    "UPSET",
    "VOID",
    "WAITING",
    "WAS_OPEN",
    "Activation",
    "Failure",
    "Head",
    "group_size",
]  # fmt: skip

#: So many tokens of its latest commits are kept in a head: how an unknown outcome is resolved.
TOKENS_KEPT: Final = 32

# States of a node, four bits each.
PENDING, READY, RETRYING, WAITING, HELD, PARKED, DRAINING = range(7)
COMPLETED, FAILED, SKIPPED, SKIPPED_FAILED, CANCELLED = range(7, 12)
#: A fallback node whose ordinary visit is decided while nodes that name it are not.
OPEN: Final = 12
#: The item node of a batch while its item visits are under way; it has no activation of its own.
SPREAD: Final = 13
ACTIVE: Final = frozenset({READY, RETRYING, WAITING, HELD, PARKED, DRAINING})
SETTLED: Final = frozenset({COMPLETED, FAILED, SKIPPED, SKIPPED_FAILED, CANCELLED})
#: What sends FAILED along its edges.
UPSET: Final = frozenset({FAILED, SKIPPED_FAILED})
STATE_NAMES: Final[tuple[NodeState, ...]] = (
    "pending", "ready", "retrying", "waiting", "held", "parked", "draining",
    "completed", "failed", "skipped", "skipped", "cancelled", "pending", "waiting",
)  # fmt: skip

# What a node was doing when its run was stopped: pending, begun, an open fallback; or it failed later. Or it had begun
# and was not needed any more: then it stays cancelled, but if it is reset all the same, its next visit is another one.
NOT_BEGUN, BEGUN, WAS_OPEN, FAILED_LATE, GIVEN_UP = range(5)

# Marks of an edge, four bits each. VOID: does not apply in this visit of its scope.
UNMARKED, LIVE, DEAD, MARK_FAILED, VOID = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """What is owed for one active node. One object is shared by all that a commit made READY in the same way.

    ``runs`` is the node whose function executes: the active node itself (-1) or the fallback that stands in for it;
    ``before`` are the (node, visit) pairs that failed before a fallback took over. ``due`` is when a timer ends (0: it
    never does). ``reason`` is why a visit is parked, or the id of the run that a subflow waits for. ``resend`` is how
    often its message was sent again, or KEPT.
    """

    nonce: str
    at: float
    visit: int = 1
    attempt: int = 1
    resend: int = 0
    due: float = 0.0
    runs: int = -1
    before: tuple[tuple[int, int], ...] = ()
    reason: str = ""


#: Instead of a number of resends: no message was sent at all, whoever committed goes on with the visit.
KEPT: Final = -1


@dataclass(frozen=True, slots=True)
class Failure:
    """An unhandled failure: the node, and the (node, visit) pairs whose errors tell why.

    ``owner``: of a fallback whose own edges could not be judged, the node that it stood in for (-1: none).
    """

    node: int
    visits: tuple[tuple[int, int], ...]
    owner: int = -1


@dataclass(slots=True)
class Head:
    """One run. Node and edge numbers are those of the compiled graph; ``active`` is by slot (`flowcraft.engine.slots`).

    * ``visits``: activations so far, of nodes that can repeat.
    * ``outputs``: the visit whose output counts, where it is not the visit the state speaks of.
    * ``last``: the state of the last visit that ran, of nodes that were reset.
    * ``wins``: the edges that fired a join of the kind at least n, or opened a visit.
    * ``mark_visits``: which visit of its source a LIVE edge speaks of, where that can be another than the latest.
    * ``brought``: by back edge that sent its header round, the visit of its source that did.
    * ``rounds``: visits of a scope's header in this opening.
    * ``fallbacks``: by fallback node, for whom it ran (itself: its ordinary visit), and whether that succeeded;
      ``ordinary``: how its own visit ended.
    * ``choosers``: by LIVE edge of a fallback node, for whom it was chosen, and by which visit.
    * ``fired``: joins of the kind at least n that fired in an earlier visit of their scope.
    * ``logged``: the number of the oldest notes that are kept, then how many records each notes since then hold.
    * ``entered``: the marks of edges into a scope that does not heed them in its later visits.
    * ``batches``: the item visits of a batch's item node, also of one that has ended.
    * ``answered``: by wait, the visits that signals ended, with the ids of the signals; the latest hundred.
    * ``mailbox``: by wait and visit, the id of a signal that came early, and whether it has an action; its payload
      and its action are values.
    * ``done``: completed visits that a rollback would undo, in order, and for whom they were; ``undo``: those that are
      still to be undone, ``goal``: the nodes that start again afterwards (none: the run ends), and ``was``: the state
      of the node of which a visit is being undone.
    * ``halted``: what nodes were doing when the run was stopped, or that they were given up; ``late``: (node, visit,
      action, for whom) of what completed since then.
    * ``frozen``: by scatter, how many items it has made, and its visit that made them.
    * ``parent``: the run, node and item that this run is a subflow of; ``depth``: how many runs are above it.
    * ``origin``: the run that this one took over from, and the node where it began again; ``given``: by node, the visit
      whose input was given for that; 0: the next one of a node that repeats.
    """

    states: bytearray
    marks: bytearray
    phase: str = "running"  # running | failing | cancelling | undoing | completed | failed | cancelled
    paused: bool = False
    depth: int = 0
    parent: tuple[str, str, int] | None = None
    origin: tuple[str, str] | None = None
    epoch: int = 1
    seq: int = 0
    wake_at: float | None = None
    deadline: float | None = None
    started_at: float = 0.0
    cause: str = ""
    tokens: list[str] = field(default_factory=list[str])
    active: dict[int, Activation] = field(default_factory=dict[int, Activation])
    visits: dict[int, int] = field(default_factory=dict[int, int])
    outputs: dict[int, int] = field(default_factory=dict[int, int])
    last: dict[int, int] = field(default_factory=dict[int, int])
    wins: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    mark_visits: dict[int, int] = field(default_factory=dict[int, int])
    brought: dict[int, int] = field(default_factory=dict[int, int])
    rounds: dict[int, int] = field(default_factory=dict[int, int])
    fallbacks: dict[int, dict[int, bool]] = field(default_factory=dict[int, dict[int, bool]])
    choosers: dict[int, list[tuple[int, int]]] = field(default_factory=dict[int, list[tuple[int, int]]])
    ordinary: dict[int, int] = field(default_factory=dict[int, int])
    fired: set[int] = field(default_factory=set[int])
    failures: list[Failure] = field(default_factory=list[Failure])
    logged: list[int] = field(default_factory=list[int])
    batches: dict[int, Batch] = field(default_factory=dict[int, Batch])
    answered: dict[int, list[tuple[int, str]]] = field(default_factory=dict[int, list[tuple[int, str]]])
    mailbox: dict[tuple[int, int], tuple[str, str | None]] = field(
        default_factory=dict[tuple[int, int], tuple[str, str | None]]
    )
    done: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    undo: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    goal: tuple[int, ...] = ()
    was: int = 0
    entered: dict[int, int] = field(default_factory=dict[int, int])
    halted: dict[int, int] = field(default_factory=dict[int, int])
    late: list[tuple[int, int, str | None, int]] = field(default_factory=list[tuple[int, int, str | None, int]])
    frozen: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    given: dict[int, int] = field(default_factory=dict[int, int])

    def state(self, slot: int) -> int:
        """The state of a node or of an item visit."""
        return self.states[slot] if slot <= NODE_MASK else self.batches[node_of(slot)].states[item_of(slot)]

    def put(self, slot: int, state: int) -> None:
        """Set the state of a node or of an item visit."""
        if slot <= NODE_MASK:
            self.states[slot] = state
        else:
            self.batches[node_of(slot)].states[item_of(slot)] = state

    def latest_visit(self, node: int, *, repeats: bool) -> int:
        """The visit that began last, or will be the first; 0: it can repeat, and none has begun."""
        return self.visits.get(node, 0 if repeats else 1)

    def mark_of(self, edge: int) -> int:
        """The mark of an edge, also if the scope that it leads into has gone round and heeds it no more."""
        mark = self.marks[edge]
        return mark if mark != VOID else self.entered.get(edge, UNMARKED)

    def put_mark(self, edge: int, mark: int) -> None:
        """Set what `mark_of` tells."""
        if self.marks[edge] == VOID:
            self.entered[edge] = mark
        else:
            self.marks[edge] = mark

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
        return self.phase in ("completed", "failed", "cancelled")


def group_size(head: Head, slot: int) -> int:
    """How many items a slot's job may have."""
    return 1 if slot <= NODE_MASK else head.batches[node_of(slot)].size
