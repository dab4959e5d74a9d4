"""How a run ends: cancelled, failing fast, past its deadline, or because nothing is active any more."""

from __future__ import annotations

from flowcraft.engine.draft import Draft
from flowcraft.engine.head import (
    CANCELLED,
    COMPLETED,
    FAILED,
    HELD,
    OPEN,
    PARKED,
    PENDING,
    READY,
    RETRYING,
    WAITING,
)
from flowcraft.engine.joins import absolved

__all__ = ["fail_fast", "fallback_state", "finish", "stop", "stopped_state"]


def fallback_state(draft: Draft, node: int) -> int:
    """The final state of a fallback node: what its visits for others and its ordinary one came to."""
    ran, succeeded = draft.head.fallbacks.get(node, (False, False))
    if ran:
        return COMPLETED if succeeded else FAILED
    return draft.head.ordinary.get(node, CANCELLED)


def stopped_state(draft: Draft, node: int, state: int) -> int:
    """The final state of a node whose visit ends in ``state`` after the run was stopped.

    A fallback node is what all its visits came to, also if its ordinary one is cancelled.
    """
    return fallback_state(draft, node) if node in draft.head.fallbacks else state


def fail_fast(draft: Draft) -> None:
    """End the run at its first failure, if its blueprint says so and nothing has made up for it."""
    head, graph = draft.head, draft.graph
    draft.failed = False
    if graph.blueprint.failure != "fail-fast" or head.phase != "running":
        return
    if not all(absolved(graph, head, failure.node) for failure in head.failures):
        stop(draft, "failing", "")


def stop(draft: Draft, phase: str, cause: str) -> None:
    """No new work: what nobody works on is cancelled, what somebody may work on drains."""
    head, graph = draft.head, draft.graph
    head.phase, head.cause = phase, cause or head.cause
    draft.note(f"run:{phase}", reason=cause)
    for node, state in enumerate(head.states):
        if state == READY:
            if draft.drain(node):
                head.states[node] = stopped_state(draft, node, CANCELLED)
        elif state == OPEN:
            unneeded = graph.in_lo[node] == graph.in_hi[node] and node not in head.fallbacks
            head.states[node] = CANCELLED if unneeded else fallback_state(draft, node)
        elif state in (PENDING, RETRYING, WAITING, HELD, PARKED):
            head.states[node] = stopped_state(draft, node, CANCELLED)
            head.active.pop(node, None)
    for queue in (draft.work, draft.finals, draft.fired, draft.ended):
        queue.clear()


def finish(draft: Draft) -> None:
    """Nothing is active: here, and nowhere else, a run becomes terminal."""
    head, graph = draft.head, draft.graph
    for state in (PENDING, OPEN):
        if (node := head.states.find(state)) >= 0:
            raise AssertionError(f"node {graph.ids[node]!r} is pending at the end of the run")
    if head.phase == "running":
        lost = any(not absolved(graph, head, failure.node) for failure in head.failures)
        head.phase = "failed" if lost else "completed"
    else:
        head.phase = "cancelled" if head.phase == "cancelling" else "failed"
    head.wake_at = None
    draft.note(f"run:{head.phase}")
