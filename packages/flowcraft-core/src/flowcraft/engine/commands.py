"""What people tell a run to do: pause and resume, patch, mark completed, retry, roll back."""

from __future__ import annotations

from flowcraft.constructs import ITEMS, LOOP, SCATTER
from flowcraft.engine.draft import MISSING, Draft
from flowcraft.engine.events import Command, MarkCompleted, Patch, Pause, Retry, Rollback, Unpause
from flowcraft.engine.head import (
    DRAINING,
    GIVEN_UP,
    PARKED,
    PENDING,
    READY,
    RETRYING,
    WAITING,
    WAS_OPEN,
    Activation,
    Failure,
    Head,
)
from flowcraft.engine.joins import absolved
from flowcraft.engine.outcomes import complete, try_again
from flowcraft.engine.propagate import propagate
from flowcraft.engine.reset import affected, new_epoch, reset_from
from flowcraft.engine.slots import NODE_MASK
from flowcraft.engine.stopping import stop
from flowcraft.graph import Graph
from flowcraft.model import ErrorInfo, ValueKey

__all__ = [
    "apply_command",
    "can_mark",
    "failed_nodes",
    "go_on_undoing",
    "is_undoing",
    "undo_failed",
    "undone",
    "was_stopped",
]


def apply_command(draft: Draft, event: Command) -> bool:
    """Do as told, if that changes anything."""
    head = draft.head
    if isinstance(event, Retry):
        return _retry(draft, event)
    if isinstance(event, Rollback):
        return _roll_back(draft, event)
    if head.terminal:
        return False
    if isinstance(event, Pause | Unpause):
        return _pause(draft, isinstance(event, Pause))
    if isinstance(event, MarkCompleted):
        return _mark(draft, event)
    return _patch(draft, event)


def _pause(draft: Draft, paused: bool) -> bool:
    head = draft.head
    if head.paused == paused or head.phase != "running":
        return False
    head.paused = paused
    draft.note("run:paused" if paused else "run:resumed")
    if not paused:
        for slot in [s for s in head.active if head.state(s) == READY]:
            head.active[slot] = draft.altered(head.active[slot])
            draft.ready.append(slot)
            draft.wake(draft.now + draft.times.resend)
    return True


def _patch(draft: Draft, event: Patch) -> bool:
    for key, cell in event.writes.items():
        name = ValueKey("context", key)
        draft.erase(name) if cell is MISSING else draft.write(name, cell)
    draft.note("context:patched", keys=sorted(event.writes))
    return bool(event.writes)


def can_mark(graph: Graph, head: Head, node: int) -> bool:
    """Whether the node can be marked as completed now."""
    if graph.kind[node] in (LOOP, ITEMS) or graph.nodes[node].uses == SCATTER or graph.namers[node]:
        return False
    if node in graph.undoes or head.phase != "running":
        return False
    state = head.states[node]
    waits_for_child = state == WAITING and bool(head.active[node].reason)
    return state in (PENDING, READY, RETRYING, WAITING, PARKED) and not waits_for_child


def _mark(draft: Draft, event: MarkCompleted) -> bool:
    node, head = event.node, draft.head
    if not can_mark(draft.graph, head, node):
        return False
    old = head.active.get(node)
    if old is not None:
        if node in draft.ready:
            draft.ready.remove(node)
        elif head.states[node] == READY:
            draft.revoked.append((node, old))
        visit = old.before[0][1] if old.before else old.visit  # its own, not that of a fallback that runs for it
    elif draft.graph.repeats[node]:
        visit = head.visits[node] = head.visits.get(node, 0) + 1
        if head.given.get(node) == 0:
            del head.given[node]  # this was the visit that an input was given for
        scope = draft.graph.header_of.get(node)
        if scope is not None:
            head.rounds[scope] = head.rounds.get(scope, 0) + 1
    else:
        visit = head.visits.get(node, 1)
    head.active[node] = Activation(draft.nonce, draft.now, visit)
    draft.note("node:marked", node, visit)
    complete(draft, node, event.output, event.action)
    propagate(draft)
    return True


def failed_nodes(graph: Graph, head: Head) -> list[int]:
    """The nodes whose failure counts; of a fallback's edges, the node that it stood in for."""
    return sorted({f.owner if f.owner >= 0 else f.node for f in head.failures if not absolved(graph, head, f.node)})


def was_stopped(head: Head) -> bool:
    """Whether anything was cancelled when the run was stopped; a fallback that nobody had needed was not."""
    return any(how not in (GIVEN_UP, WAS_OPEN) for how in head.halted.values())


def _retry(draft: Draft, event: Retry) -> bool:
    graph, head = draft.graph, draft.head
    if head.phase not in ("failed", "cancelled"):
        return False
    nodes = list(event.nodes) or failed_nodes(graph, head)
    if not nodes and not was_stopped(head):
        return False
    new_epoch(draft)
    reset_from(draft, nodes)
    return True


def _roll_back(draft: Draft, event: Rollback) -> bool:
    graph, head = draft.graph, draft.head
    if head.phase not in ("running", "completed", "failed", "cancelled"):
        return False
    undone = set(range(graph.node_count)) if event.node is None else affected(graph, head, [event.node])
    if head.terminal:
        head.phase = "undoing"
    else:
        stop(draft, "undoing", "")
    head.paused = False
    head.goal = () if event.node is None else (event.node,)
    head.undo = [done for done in head.done if done[2] in undone]
    draft.note("run:undoing", visits=len(head.undo))
    return True


def is_undoing(draft: Draft, slot: int) -> bool:
    """Whether the active visit undoes another one."""
    if draft.head.phase != "undoing" or slot > NODE_MASK:
        return False
    runs = draft.head.active[slot].runs
    return runs >= 0 and runs == draft.graph.compensation[slot]


def go_on_undoing(draft: Draft) -> None:
    """Nothing is active: undo the next visit, or start again, or end the run."""
    graph, head = draft.graph, draft.head
    reset = affected(graph, head, head.goal) if head.goal else frozenset(range(graph.node_count))
    while head.undo and head.undo[-1][2] not in reset:
        head.undo.pop()  # it completed while the rollback waited for it, and stays
    if head.undo:
        node, visit, _ = head.undo[-1]
        activation = Activation(draft.nonce, draft.now, visit, runs=graph.compensation[node], before=((node, visit),))
        head.was = head.states[node]
        draft.resume(node, activation)
        return
    goal, head.goal = head.goal, ()
    if not goal:
        head.phase = "cancelling"
        return
    new_epoch(draft)
    reset_from(draft, goal)


def undone(draft: Draft, node: int) -> None:
    """A visit has been undone."""
    head = draft.head
    activation = head.active.pop(node)
    head.states[node] = head.was
    head.done.remove(head.undo.pop())
    draft.note("node:undone", node, activation.visit, activation.attempt, by=draft.graph.ids[activation.runs],
               **draft.take_measured())  # fmt: skip


def undo_failed(
    draft: Draft, node: int, error: ErrorInfo, *, retryable: bool, fatal: bool, attempts: int, random: float
) -> None:
    """Undoing a visit failed: it is tried again, or the run has failed."""
    graph, head = draft.graph, draft.head
    activation = head.active.pop(node)
    retry = graph.nodes[activation.runs].retry
    if retryable and not fatal and attempts < retry.attempts and head.states[node] != DRAINING:
        try_again(draft, node, activation, attempts, error, retry.delay_after(attempts, random))
        return
    name = graph.ids[activation.runs]
    draft.write(ValueKey("error", name, activation.visit), draft.encode(error.to_dict()))
    head.states[node] = head.was
    head.failures.append(Failure(node, ((activation.runs, activation.visit),)))
    head.undo, head.goal = [], ()
    head.phase, head.cause = "failing", f"node {graph.ids[node]!r} could not be undone: {error}"
    draft.note("node:failed", node, activation.visit, 0, error=str(error), by=name, **draft.take_measured())
