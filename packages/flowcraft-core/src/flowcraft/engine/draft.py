"""A draft: the head being changed, what the change needs and what it causes.

The caller owns it: many events are folded into one draft, which is then sealed once. The primitives here only record
and queue work; `flowcraft.engine.outcomes.propagate` does it until nothing is left to decide. A *cell* is a value in
the caller's form: bytes where values are stored, plain objects in process; ``decode`` and ``encode`` go between cells
and the data that expressions see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from flowcraft.engine.head import (
    COMPLETED,
    DEAD,
    DRAINING,
    GIVEN_UP,
    LIVE,
    MARK_FAILED,
    OPEN,
    READY,
    SETTLED,
    UNMARKED,
    UPSET,
    WAITING,
    Activation,
    Head,
)
from flowcraft.engine.slots import NODE_MASK, item_of, node_of
from flowcraft.graph import Graph
from flowcraft.model import ValueKey

__all__ = [
    "MISSING",
    "TIMES",
    "Cell",
    "Draft",
    "Fact",
    "Times",
    "output_key",
    "output_visit",
    "resend_delay",
]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


Cell = object
#: Stands for "no such value", which is not the value None.
MISSING: Final = _Missing()
#: (type, node number or -1, visit, attempt, data): an event before it gets its number.
Fact = tuple[str, int, int, int, dict[str, object]]

_RESEND_CAP: Final = 900.0


@dataclass(frozen=True, slots=True)
class Times:
    """How patient the engine is, in seconds.

    ``resend``: until a READY visit's message is sent again, doubled each time · ``drain``: how long a draining visit
    may go without a sign of life before it counts as over.
    """

    resend: float = 30.0
    drain: float = 30.0


TIMES: Final = Times()


def resend_delay(resend: int, times: Times) -> float:
    """Seconds from one sending of a READY visit's message to the next."""
    return min(times.resend * 2.0 ** min(max(resend, 0), 10), _RESEND_CAP)


def output_visit(graph: Graph, head: Head, node: int) -> int:
    """The visit whose output counts as the node's, or 0 if it has none."""
    visit = head.outputs.get(node)
    if visit is not None:
        return visit
    if head.states[node] == COMPLETED and not graph.repeats[node]:
        return head.visits.get(node, 1)
    return 0


def output_key(graph: Graph, node: int, visit: int) -> ValueKey:
    """Where the output of a visit is stored."""
    return graph.key_of[node] if visit == 1 else ValueKey("output", graph.ids[node], visit)


class Draft:
    """A head under change. Not thread-safe, never shared."""

    __slots__ = (
        "_altered", "_shared", "changed", "children", "decode", "deleted", "encode", "ended", "exits", "facts",
        "failed", "finals", "fired",
        "graph", "head", "judged", "left", "measured", "nonce", "now", "read", "ready", "revoked", "scheduled",
        "special", "spread", "times", "unneeded", "values", "work",
    )  # fmt: skip

    def __init__(
        self,
        graph: Graph,
        head: Head,
        *,
        read: Callable[[ValueKey], Cell],
        decode: Callable[[Cell], object],
        encode: Callable[[object], Cell],
        record: bool,
        times: Times = TIMES,
    ) -> None:
        self.graph = graph
        self.times = times
        self.head = head
        self.read = read
        self.decode = decode
        self.encode = encode
        self.facts: list[Fact] | None = [] if record else None
        self.work: deque[int] = deque()
        self.finals: list[int] = []
        self.fired: list[int] = []
        self.ended: list[int] = []
        #: Nodes that the engine itself takes care of, with their visits; loops that were left; batches with news.
        self.special: deque[tuple[int, int]] = deque()
        self.exits: list[int] = []
        self.spread: list[int] = []
        #: Batches that nobody needs any more.
        self.unneeded: list[int] = []
        self.left = _unsettled(graph, head)
        self.begin("", 0.0)

    def begin(self, nonce: str, now: float) -> None:
        """Start the next fold: what follows happens at ``now`` and is committed under ``nonce``."""
        self.nonce = nonce
        self.now = now
        self.values: dict[ValueKey, Cell] = {}
        self.deleted: set[ValueKey] = set()
        self.ready: list[int] = []
        self.revoked: list[tuple[int, Activation]] = []
        #: Runs of subflows that are not needed any more.
        self.children: list[str] = []
        #: The earliest timer that was set.
        self.scheduled: float | None = None
        self.changed = False
        self.failed = False
        #: So many failures were judged before, whether they stop the run.
        self.judged = len(self.head.failures)
        self.measured: dict[str, object] = {}
        self._shared: dict[tuple[int, int], Activation] = {}
        self._altered: dict[tuple[int, int], tuple[Activation, Activation]] = {}
        if self.facts is not None:
            self.facts = []

    def recount(self) -> None:
        """Count unsettled nodes afresh, after a change that went past `settle`."""
        self.left = _unsettled(self.graph, self.head)

    def note(self, kind: str, node: int = -1, visit: int = 0, attempt: int = 0, **data: object) -> None:
        """Record an event, if anyone wants events."""
        if self.facts is not None:
            if node > NODE_MASK:
                data["item"] = item_of(node)
                node = node_of(node)
            self.facts.append((kind, node, visit, attempt, data))

    def take_measured(self) -> dict[str, object]:
        """How the execution went whose outcome is being applied, for the one fact that tells of it."""
        measured, self.measured = self.measured, {}
        return measured

    def activate(self, node: int, *, runs: int = -1, before: tuple[tuple[int, int], ...] = ()) -> None:
        """Make the node READY: its next visit, or that of the fallback ``runs`` for it."""
        head, function = self.head, node if runs < 0 else runs
        if self.graph.repeats[function]:
            visit = head.visits[function] = head.visits.get(function, 0) + 1
            if runs < 0 and head.given.get(node) == 0:
                head.given[node] = visit
            scope = self.graph.header_of.get(node)
            if scope is not None and runs < 0:
                head.rounds[scope] = head.rounds.get(scope, 0) + 1
        else:
            visit = head.visits.get(function, 1)
        if runs < 0 and self.graph.kind[node]:
            self.head.states[node] = READY
            self.special.append((node, visit))
        elif runs < 0:
            self.rearm(node, visit, 1)
        else:
            self.resume(node, Activation(self.nonce, self.now, visit, runs=runs, before=before))

    def rearm(self, node: int, visit: int, attempt: int) -> None:
        """Make a plain visit READY under this draft's nonce; activations that are alike share one object."""
        activation = self._shared.get((visit, attempt))
        if activation is None:
            activation = self._shared[visit, attempt] = Activation(self.nonce, self.now, visit, attempt)
            self.wake(self.now + self.times.resend)
        if node > NODE_MASK:
            self.head.put(node, READY)
        else:
            self.head.states[node] = READY
        self.head.active[node] = activation
        self.ready.append(node)

    def resume(self, node: int, activation: Activation) -> None:
        """Make the node READY with an activation of its own."""
        self.head.put(node, READY)
        self.head.active[node] = activation
        self.ready.append(node)
        self.wake(self.now + self.times.resend)

    def altered(self, activation: Activation, *, resend: int | None = None) -> Activation:
        """The activation as of now: what is altered alike stays one object, which keeps the head small."""
        resend = activation.resend if resend is None else resend
        found = self._altered.get((id(activation), resend))
        if found is None:
            made = replace(activation, at=self.now, resend=resend)
            found = self._altered[id(activation), resend] = (activation, made)  # an id is good while its object lives
        return found[1]

    def schedule(self, node: int, state: int, activation: Activation) -> None:
        """Put an active node to sleep until ``activation.due``, or for good if that is 0."""
        self.head.put(node, state)
        self.head.active[node] = activation
        if activation.due:
            self.wake(activation.due)
            self.scheduled = activation.due if self.scheduled is None else min(self.scheduled, activation.due)

    def wake(self, at: float) -> None:
        """Make sure the ticker looks at the run at ``at``."""
        if self.head.wake_at is None or at < self.head.wake_at:
            self.head.wake_at = at

    def drain(self, node: int) -> bool:
        """Let a visit end without consequences; True if nobody can have heard of it, so that it is gone.

        It is READY, or waits for the run of a subflow, which is cancelled.
        """
        activation = self.head.active[node]
        if self.head.state(node) == WAITING:
            self.children.append(activation.reason)
        if activation.nonce == self.nonce and node in self.ready:
            self.ready.remove(node)
            del self.head.active[node]
            return True
        self.head.put(node, DRAINING)
        self.head.active[node] = self.altered(activation)
        self.wake(self.now + self.times.drain)
        self.revoked.append((node, activation))
        self.note("node:draining", node, activation.visit, activation.attempt)
        return False

    def came_to_nothing(self, node: int) -> None:
        """A visit that had begun was cancelled: its number is not given to another one."""
        if not self.graph.repeats[node]:
            self.head.halted.setdefault(node, GIVEN_UP)

    def mark(self, edge: int, mark: int) -> None:
        """Set an edge's mark, once; what it decides is queued."""
        head = self.head
        old = head.mark_of(edge)
        if old == UNMARKED:
            head.put_mark(edge, mark)
            target = self.graph.dst[edge]
            if edge < self.graph.in_mid[target]:
                self.work.append(target)
            if mark == LIVE and self.graph.early[edge]:
                self.exits += self.graph.early[edge]
        elif old not in (LIVE, mark):
            raise AssertionError(f"edge {edge} of {self.graph.ids[self.graph.src[edge]]!r} is marked twice")

    def send(self, node: int, mark: int) -> None:
        """Mark what is unmarked of a settled node's edges, except those that wait for the end of a scope."""
        head, exits = self.head, self.graph.exits_scope
        for edge in self.graph.out[node]:
            if not exits[edge] and head.mark_of(edge) == UNMARKED:
                self.mark(edge, mark)

    def settle(self, node: int, state: int) -> None:
        """The node's current visit is decided for good."""
        self.head.states[node] = state
        graph = self.graph
        fallback = graph.fallback[node]
        if fallback >= 0:
            self.finals.append(fallback)
        if graph.scope_of[node]:
            for scope in graph.chain[node]:
                if scope:
                    self.left[scope] -= 1
                    if not self.left[scope]:
                        self.ended.append(scope)

    def decide(self, node: int, state: int) -> None:
        """The node's ordinary visit ends without choosing edges: skipped, failed or cancelled."""
        if self.graph.namers[node]:
            self.open_fallback(node, state)
        else:
            self.settle(node, state)
            self.send(node, MARK_FAILED if state in UPSET else DEAD)

    def open_fallback(self, node: int, state: int) -> None:
        """The ordinary visit of a fallback node ended in ``state``; the node waits for those that name it."""
        self.head.ordinary[node] = state
        self.head.states[node] = OPEN
        self.finals.append(node)

    def cell(self, key: ValueKey) -> Cell:
        """A value as this draft sees it: its own write, else the committed one, else MISSING."""
        if key in self.values:
            return self.values[key]
        return MISSING if key in self.deleted else self.read(key)

    def value(self, key: ValueKey) -> object:
        """The decoded value, or MISSING."""
        cell = self.cell(key)
        return cell if cell is MISSING else self.decode(cell)

    def write(self, key: ValueKey, cell: Cell) -> None:
        """Store a value with this draft."""
        self.values[key] = cell
        self.deleted.discard(key)

    def erase(self, key: ValueKey) -> None:
        """Delete a value with this draft."""
        self.values.pop(key, None)
        self.deleted.add(key)


def _unsettled(graph: Graph, head: Head) -> list[int]:
    """How many nodes of each scope are not settled: derived, so that it is never wrong in storage."""
    if len(graph.scopes) == 1:
        return [0]
    states = head.states
    return [sum(states[n] not in SETTLED for n in plan.members) for plan in graph.scopes]
