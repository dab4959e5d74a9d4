"""Planning one commit: any number of events folded into a run's head, and what is to be written because of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from flowcraft.blueprint import Node
from flowcraft.codec import Codec
from flowcraft.engine.draft import MISSING, Cell, Times
from flowcraft.engine.events import ChildStarted, Completed, Dropped, Failed, Parked
from flowcraft.engine.head import KEPT, Activation, Head
from flowcraft.engine.inputs import InputPlan
from flowcraft.engine.slots import NODE_MASK, item_of, item_slot, node_of
from flowcraft.engine.transition import Effects, EngineEvent, Visit, apply, due_work, run_status, seal
from flowcraft.errors import PayloadTooLarge
from flowcraft.graph import Graph
from flowcraft.history import carrying
from flowcraft.model import Capabilities, Change, Event, Index, Job, ValueKey
from flowcraft.ports import Delivery
from flowcraft.runstate import Outdated, RunState, pack_head
from flowcraft.sealing import seal_data, seal_text

__all__ = [
    "Applied", "EventSource", "Fold", "Foreseen", "Gone", "Keeper", "Kept", "Outdated", "Result", "Rules", "Stale",
    "Submission", "Unread", "change_size", "definition_of", "fold", "fold_events", "head_index", "job_of",
    "undone_by", "visit_of",
]  # fmt: skip

#: Decides what to do when it sees the head that is really committed on; asked again after a conflict. What it returns
#: is applied one by one, so a generator sees what its events have done so far.
EventSource = Callable[[Graph, Head, float], Iterable[EngineEvent]]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """An event source whose events will probably ask for these values: they are read before it is asked."""

    source: EventSource
    keys: Collection[ValueKey]

    def __call__(self, graph: Graph, head: Head, now: float) -> Iterable[EngineEvent]:
        """See `EventSource`."""
        return self.source(graph, head, now)


class Keeper(Protocol):
    """A worker that may go on with a visit that its own commit made READY."""

    def wants(self, job: Job, node: Node) -> bool:
        """Whether it could execute ``node`` at once."""
        ...

    async def claim(self, keys: Sequence[str]) -> Sequence[bool]:
        """Take the leases of visits that are being committed as READY."""
        ...

    def forget(self, keys: Sequence[str]) -> None:
        """These leases are not needed after all."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """A visit that is the submitter's to execute: committed, claimed, not published. ``values`` are known already."""

    job: Job
    graph: Graph
    node: int
    runs: int
    plan: InputPlan
    values: Mapping[ValueKey, bytes]
    depth: int = 0
    size: int = 1


@dataclass(frozen=True, slots=True)
class Applied:
    """The event is committed, together with others perhaps: ``effects`` are those of the whole commit."""

    effects: Effects
    terminal: bool
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Stale:
    """The event changed nothing: its activation is over, or the run has ended."""


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such run."""


Result = Applied | Stale | Gone


@dataclass(slots=True, eq=False)
class Submission:
    """An event on its way into a commit. Its ``delivery`` is acked when the event has been decided.

    ``graph``: whose numbers the event is in, if it is of a visit.
    """

    event: EngineEvent | EventSource
    delivery: Delivery | None
    keeper: Keeper | None
    future: asyncio.Future[Result]
    graph: Graph | None = None
    applied: bool = False
    kept: tuple[Job, int] | None = None

    def renumber(self, graph: Graph) -> None:
        """Put the event into the numbers of ``graph``: the run may have been moved to another blueprint meanwhile.

        The nonce would not tell: all visits that became READY by one commit share it.
        """
        old, event = self.graph, self.event
        if old is None or old is graph:
            return
        self.graph = graph
        if isinstance(event, Completed | Failed | Dropped | Parked | ChildStarted) and event.visit.node >= 0:
            slot = event.visit.node
            node = graph.index.get(old.ids[node_of(slot)], -1)  # a node that is gone makes the event stale
            if slot > NODE_MASK and node >= 0:
                node = item_slot(node, item_of(slot))
            self.event = replace(event, visit=replace(event.visit, node=node))


@dataclass(frozen=True, slots=True)
class Rules:
    """What the commits of one process have in common. ``retention``: seconds a run is kept after its end, or None."""

    queue_name: str
    retention: float | None
    times: Times
    bound: bool
    limits: Capabilities
    codec: Codec


@dataclass(slots=True)
class Fold:
    """One planned commit of one run, which ``state`` is ahead of the store by."""

    state: RunState
    submissions: list[Submission]
    effects: Effects
    change: Change
    claimed: set[str] = field(default_factory=set[str])


class Unread(LookupError):
    """Planning asked for a value that was not read before: read it and plan again."""

    def __init__(self, key: ValueKey) -> None:
        super().__init__(f"{key} was not read before planning")
        self.key = key


def visit_of(node: int, activation: Activation) -> Visit:
    """The fence of an activation."""
    return Visit(node, activation.nonce, activation.visit, activation.attempt)


def definition_of(graph: Graph, slot: int, activation: Activation) -> Node:
    """The node whose function an active slot executes."""
    return graph.nodes[node_of(slot) if activation.runs < 0 else activation.runs]


def undone_by(graph: Graph, slot: int, runs: int) -> str:
    """The node of which ``runs`` undoes a visit when it is executed for an active slot; an empty text: of none."""
    node = node_of(slot)
    return graph.ids[node] if 0 <= runs == graph.compensation[node] else ""


def job_of(graph: Graph, run_id: str, slot: int, activation: Activation, queue_name: str) -> Job:
    """The doorbell for an activation. ``queue_name`` is the queue of nodes that name none."""
    definition = definition_of(graph, slot, activation)
    return Job(
        run_id, graph.ids[node_of(slot)], activation.visit, activation.attempt, activation.nonce,
        definition.queue or queue_name, definition.priority, activation.resend, item_of(slot),
    )  # fmt: skip


def head_index(head: Head, now: float, retention: float | None) -> Index:
    """What the store finds the run by. A terminal run is due again when its retention time is over."""
    wake_at = head.wake_at
    if head.terminal:
        wake_at = None if retention is None else now + retention
    return Index(run_status(head), wake_at, now)


def fold_events(graph: Graph, run_id: str, head: Head, effects: Effects, now: float, codec: Codec) -> tuple[Event, ...]:
    """The facts of a sealed fold as events; `seal` has counted them in ``head.seq`` already.

    Here, and nowhere else, facts become what is stored and told: ``codec`` decides whether their texts can be read.
    """
    first = head.seq - len(effects.facts) + 1
    return tuple(
        Event(run_id, seq, kind, now, None if node < 0 else graph.ids[node], visit, attempt, seal_data(codec, data))
        for seq, (kind, node, visit, attempt, data) in enumerate(effects.facts, first)
    )


def fold(
    state: RunState, submissions: list[Submission], *, nonce: str, now: float, rules: Rules,
    values: Mapping[ValueKey, Cell],
) -> Fold | None:  # fmt: skip
    """Fold the events into the state's draft; None if all of them are stale, and then nothing has changed.

    Raises whatever an event makes the engine raise: the state must then be rewound.

    Raises:
        Unread: a value is needed that is neither in ``values`` nor known to the state. Outdated: one is not in the
            store any more, so the head is not what is stored now. PayloadTooLarge: the commit
            would be beyond the limits of the store.
    """
    draft = state.draft
    state.tentative = True
    draft.read = _reader(values, state.values)
    draft.begin(nonce, now)
    for submission in submissions:
        submission.kept = None
        submission.applied = _apply(state, submission.event, now)
    effects = seal(draft)
    for key, cell in effects.values.items():
        if cell is MISSING:
            raise Outdated(
                f"run {state.run_id!r}: the {key.space} {key.name!r} of visit {key.visit} is not in the store"
            )
    if not effects.changed:
        state.tentative = False
        return None
    _finish_head(draft.head, effects, now, rules)
    change = _change(state, submissions, effects, rules)
    _check_size(change, rules)
    return Fold(state, submissions, effects, change)


def _reader(values: Mapping[ValueKey, Cell], known: Mapping[ValueKey, Cell]) -> Callable[[ValueKey], Cell]:
    def read(key: ValueKey) -> Cell:
        if key in values:
            return values[key]
        if key in known:
            return known[key]
        raise Unread(key)

    return read


def _finish_head(head: Head, effects: Effects, now: float, rules: Rules) -> None:
    """What a head is told about the store that it goes to."""
    if rules.limits.history and not effects.facts:  # a timer fired, or messages are sent again
        effects.facts.append(("run:updated", -1, 0, 0, {}))
        head.seq += 1
    if head.wake_at is not None and head.wake_at <= now:
        # The engine only ever moves it forward; one that has passed would wake the ticker after every commit.
        head.wake_at = due_work(head, now, rules.times).wake
    head.cause = seal_text(rules.codec, head.cause)  # a reason that somebody gave, or why something failed


def _change(state: RunState, submissions: list[Submission], effects: Effects, rules: Rules) -> Change:
    draft = state.draft
    jobs = _share_out(state, submissions, effects, rules)
    packed = pack_head(draft.graph.content_hash, draft.head)
    events = fold_events(draft.graph, state.run_id, draft.head, effects, draft.now, rules.codec)
    return Change(
        run_id=state.run_id,
        version=state.version,
        token=draft.nonce,
        head=packed,
        index=head_index(draft.head, draft.now, rules.retention),
        values=cast("Mapping[ValueKey, bytes]", effects.values),  # cells are bytes here
        deleted=effects.deleted,
        jobs=jobs,
        deliveries=[s.delivery for s in submissions if s.delivery is not None and not s.kept] if rules.bound else (),
        events=carrying(events, state.raw, packed) if rules.limits.history else events,
    )


def _apply(state: RunState, event: EngineEvent | EventSource, now: float) -> bool:
    if not callable(event):
        return apply(state.draft, event)
    applied = [apply(state.draft, each) for each in event(state.graph, state.draft.head, now)]
    return any(applied)


def _share_out(state: RunState, submissions: list[Submission], effects: Effects, rules: Rules) -> list[Job]:
    """The jobs of all that became READY, without those that their submitters keep."""
    graph = state.graph
    ready = {
        node: job_of(graph, state.run_id, node, activation, rules.queue_name) for node, activation in effects.ready
    }
    for submission in submissions:
        keeper = submission.keeper
        if keeper is None or not submission.applied or submission.future.done():
            continue
        for node, job in ready.items():
            activation = state.draft.head.active[node]
            definition = definition_of(graph, node, activation)
            if activation.nonce == state.draft.nonce and keeper.wants(job, definition):  # else others heard of it
                submission.kept = (job, node)
                state.draft.head.active[node] = replace(activation, resend=KEPT)
                del ready[node]
                break
    return list(ready.values())


def change_size(change: Change, *, history: bool) -> tuple[int, int]:
    """How many items and bytes a change makes a store write, roughly."""
    items = 1 + len(change.values) + len(change.deleted) + len(change.jobs) + (len(change.events) if history else 0)
    size = len(change.head) + sum(map(len, change.values.values()))
    return items, size + (sum(len(event.head) for event in change.events) if history else 0)


def _check_size(change: Change, rules: Rules) -> None:
    most_items, most_bytes = rules.limits.max_commit_items, rules.limits.max_commit_bytes
    if most_items is None and most_bytes is None:
        return
    items, size = change_size(change, history=rules.limits.history)
    if (most_items is not None and items > most_items) or (most_bytes is not None and size > most_bytes):
        raise PayloadTooLarge(f"a commit of run {change.run_id!r} takes {items} items and {size:,} bytes, too many")
