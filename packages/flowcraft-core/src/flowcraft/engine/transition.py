"""The one transition of a run: events in, effects out. Pure: no I/O, no clock, no randomness.

::

    draft = Draft(graph, head, …)          # the head is changed in place: the caller owns it
    draft.begin(nonce, now)
    start(draft) or apply(draft, event)…   # as many as have arrived
    effects = seal(draft)                  # what to commit, publish and revoke
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from flowcraft.engine.batches import freeze, item_completed, item_dropped, item_failed
from flowcraft.engine.commands import apply_command, go_on_undoing, is_undoing, undo_failed, undone
from flowcraft.engine.draft import MISSING, Cell, Draft, Fact
from flowcraft.engine.ending import finish
from flowcraft.engine.events import (
    Cancel,
    ChildAsked,
    ChildEnded,
    ChildStarted,
    Completed,
    Dropped,
    Endpoint,
    EngineEvent,
    Failed,
    MarkCompleted,
    Parked,
    Patch,
    Pause,
    Resent,
    Retry,
    Rollback,
    Signal,
    Tick,
    Unparked,
    Unpause,
    Visit,
)
from flowcraft.engine.head import DRAINING, OPEN, READY, SKIPPED, TOKENS_KEPT, WAITING, Activation, Head
from flowcraft.engine.notes import keep_notes
from flowcraft.engine.outcomes import complete, drop, fail
from flowcraft.engine.propagate import propagate
from flowcraft.engine.slots import NODE_MASK
from flowcraft.engine.special import take_signal
from flowcraft.engine.stopping import stop
from flowcraft.engine.timers import LIMITED, due_work, limited, park, put_off, resend, tick, unpark
from flowcraft.graph import Graph
from flowcraft.model import RUN_INPUT, RunStatus, ValueKey

__all__ = [
    "LIMITED", "Cancel", "ChildAsked", "ChildEnded", "ChildStarted", "Completed", "Dropped", "Effects",
    "EngineEvent", "Failed", "MarkCompleted", "Parked", "Patch", "Pause", "Resent", "Retry", "Rollback",
    "Signal", "Tick", "Unparked", "Unpause", "Visit", "apply", "apply_completed", "due_work", "fresh_head",
    "limited", "run_status", "seal", "start",
]  # fmt: skip


@dataclass(slots=True)
class Effects:
    """What a sealed draft wants done.

    ``ready`` and ``revoked`` are slots with their activations; ``children`` are runs of subflows to be cancelled.
    """

    changed: bool
    terminal: bool
    ready: list[tuple[int, Activation]]
    revoked: list[tuple[int, Activation]]
    children: list[str]
    values: Mapping[ValueKey, Cell]
    deleted: Collection[ValueKey]
    facts: list[Fact]


def fresh_head(graph: Graph, now: float) -> Head:
    """The head of a run that has not started: everything pending."""
    head = Head(states=bytearray(graph.node_count), marks=bytearray(len(graph.src)), started_at=now)
    if graph.blueprint.timeout is not None:
        head.deadline = now + graph.blueprint.timeout
    for node, namers in enumerate(graph.namers):
        if namers and graph.in_lo[node] == graph.in_hi[node]:
            head.states[node] = OPEN
            head.ordinary[node] = SKIPPED
    for node in graph.undoes:
        head.states[node] = SKIPPED
    return head


def start(draft: Draft, run_input: Cell, context: Mapping[str, Cell]) -> None:
    """Make the start nodes READY; the draft's head must be a fresh one."""
    draft.changed = True
    draft.write(RUN_INPUT, run_input)
    for key, cell in context.items():
        draft.write(ValueKey("context", key), cell)
    draft.note("run:started")
    if draft.head.deadline is not None:
        draft.wake(draft.head.deadline)
    for node in draft.graph.starts:
        draft.activate(node)
    draft.work.extend(draft.graph.unreached)
    propagate(draft)


def apply(draft: Draft, event: EngineEvent) -> bool:
    """Fold one event into the draft. False: it is stale and changed nothing."""
    head = draft.head
    if isinstance(event, Retry | Rollback | Pause | Unpause | Patch | MarkCompleted):
        applied = apply_command(draft, event)
    elif head.terminal:
        return False
    elif isinstance(event, Completed | Failed | Dropped | Parked | ChildStarted):
        applied = _current(head, event.visit) and _apply_outcome(draft, event)
    else:
        applied = _apply_other(draft, event)
    draft.changed = draft.changed or applied
    return applied


def _apply_other(
    draft: Draft, event: Cancel | Tick | Signal | Endpoint | Resent | Unparked | ChildEnded | ChildAsked
) -> bool:
    """What is not about one activation."""
    if isinstance(event, Endpoint):
        draft.write(ValueKey("webhook", event.name), event.record)
        draft.note("webhook:registered", event.node)
        return True
    if isinstance(event, Resent):
        resend(draft, event.nodes)
        return True
    if isinstance(event, ChildAsked):
        put_off(draft, event.nodes)
        return True
    if isinstance(event, ChildEnded):
        return _child_ended(draft, event)
    if isinstance(event, Unparked):
        return unpark(draft, event)
    if isinstance(event, Cancel):
        if draft.head.phase in ("cancelling", "undoing"):
            return False  # what was done is still undone
        if not draft.head.active:
            return False  # all that there was has ended in this very commit
        stop(draft, "cancelling", event.reason)
        return True
    applied = tick(draft, event) if isinstance(event, Tick) else take_signal(draft, event)
    if applied:
        propagate(draft)
    return applied


def _measured(event: Completed | Failed) -> dict[str, object]:
    """What the history tells about the execution: how long it took, and of how many attempts it is the last."""
    told: dict[str, object] = {} if event.took is None else {"took": event.took}
    if event.attempts > event.visit.attempt:
        told["attempts"] = event.attempts
    return told


def _current(head: Head, visit: Visit) -> bool:
    activation = head.active.get(visit.node)
    return (
        activation is not None
        and activation.nonce == visit.nonce
        and activation.visit == visit.visit
        and activation.attempt == visit.attempt
        and head.state(visit.node) in (READY, DRAINING)
    )


def apply_completed(
    draft: Draft,
    node: int,
    output: Cell,
    action: str | None,
    writes: Mapping[str, Cell] | None,
    items: tuple[int, tuple[Cell, ...]] | None = None,
) -> None:
    """`Completed` for a node's activation that is known to be current; changes the draft without asking again."""
    if writes:
        _write_context(draft, writes)
    if items is not None:
        freeze(draft, node, items)
    complete(draft, node, output, action)
    if draft.work or draft.special or draft.finals or draft.exits or draft.ended or draft.failed:
        propagate(draft)
    draft.changed = True


def _write_context(draft: Draft, writes: Mapping[str, Cell] | None) -> None:
    for key, cell in (writes or {}).items():
        name = ValueKey("context", key)
        draft.erase(name) if cell is MISSING else draft.write(name, cell)


def _apply_outcome(draft: Draft, event: Completed | Failed | Dropped | Parked | ChildStarted) -> bool:
    """What came of an activation that is known to be current."""
    slot = event.visit.node
    if isinstance(event, Completed | Failed):
        draft.measured = _measured(event)
    if isinstance(event, Completed | Failed) and event.notes is not None:
        keep_notes(draft, event.notes)
    if isinstance(event, Completed):
        if slot > NODE_MASK:
            _write_context(draft, event.writes)
            item_completed(draft, slot, event.output, event.failed)
        elif is_undoing(draft, slot):
            _write_context(draft, event.writes)
            undone(draft, slot)
        else:
            apply_completed(draft, slot, event.output, event.action, event.writes, event.items)
            return True
    elif isinstance(event, Failed):
        attempts = max(event.attempts, event.visit.attempt)
        act = item_failed if slot > NODE_MASK else undo_failed if is_undoing(draft, slot) else fail
        act(draft, slot, event.error, retryable=event.retryable, fatal=event.fatal, attempts=attempts,
            random=event.random)  # fmt: skip
    elif isinstance(event, ChildStarted):
        return _child_started(draft, slot, event.child)
    elif draft.head.state(slot) == DRAINING:
        if draft.head.active[slot].reason:
            return False  # it ends with the run of its subflow
        item_dropped(draft, slot) if slot > NODE_MASK else drop(draft, slot)
    elif isinstance(event, Parked):
        park(draft, event)
    else:
        return False
    propagate(draft)
    return True


def _child_started(draft: Draft, slot: int, child: str) -> bool:
    """A subflow waits for its run now; if nobody needs it any more, the run is cancelled and waited for."""
    old = draft.head.active[slot]
    if draft.head.state(slot) == DRAINING:
        draft.head.active[slot] = replace(old, at=draft.now, reason=child)
        draft.children.append(child)
        return old.reason != child
    due = draft.now + draft.times.resend
    draft.note("node:waiting", slot, old.visit, old.attempt, child=child)
    draft.schedule(slot, WAITING, replace(old, at=draft.now, resend=0, due=due, reason=child))
    return True


def _child_ended(draft: Draft, event: ChildEnded) -> bool:
    """The run that a subflow waits for has ended."""
    slot, head = event.node, draft.head
    activation = head.active.get(slot)
    if activation is None or activation.reason != event.child or head.state(slot) not in (WAITING, DRAINING):
        return False
    visit = Visit(slot, activation.nonce, activation.visit, activation.attempt)
    head.active[slot] = replace(activation, reason="", due=0.0)
    if head.state(slot) == DRAINING and event.error is not None and not event.retryable:
        return _apply_outcome(draft, Dropped(visit))  # it was cancelled, as was wanted
    if event.error is not None:
        return _apply_outcome(draft, Failed(visit, event.error, event.retryable, random=event.random))
    return _apply_outcome(draft, Completed(visit, event.output, None, event.writes))


def run_status(head: Head) -> RunStatus:
    """The status in the words that stores and people use."""
    if head.phase in ("completed", "failed", "cancelled", "cancelling"):
        return head.phase  # type: ignore[return-value]
    if head.phase == "running" and head.paused:
        return "paused"
    if (
        head.phase == "running"
        and head.active
        and all(head.state(s) == WAITING and not a.reason for s, a in head.active.items())
    ):
        return "awaiting"
    return "running"


def seal(draft: Draft) -> Effects:
    """Close the fold: end the run if nothing is active, and hand out what the caller must do."""
    head = draft.head
    if draft.changed and not head.active and head.phase == "undoing":
        go_on_undoing(draft)
    if draft.changed and not head.active and not head.terminal:
        finish(draft)
    if draft.changed and draft.nonce:
        head.tokens = [*head.tokens[1 - TOKENS_KEPT :], draft.nonce]
    facts = draft.facts or []
    head.seq += len(facts)
    return Effects(
        changed=draft.changed,
        terminal=head.terminal,
        ready=[] if head.paused else [(slot, head.active[slot]) for slot in draft.ready if slot in head.active],
        revoked=draft.revoked,
        children=draft.children,
        values=draft.values,
        deleted=draft.deleted,
        facts=facts,
    )
