"""Stopping a run: cancelled, failing fast, or past its deadline."""

from __future__ import annotations

from flowcraft.engine.batches import stop_items
from flowcraft.engine.draft import Draft
from flowcraft.engine.ending import fallback_state, stopped_state
from flowcraft.engine.head import (
    BEGUN,
    CANCELLED,
    DRAINING,
    HELD,
    NOT_BEGUN,
    OPEN,
    PARKED,
    PENDING,
    READY,
    RETRYING,
    SETTLED,
    SPREAD,
    WAITING,
    WAS_OPEN,
)
from flowcraft.engine.joins import absolved
from flowcraft.engine.slots import LOST

__all__ = ["fail_fast", "stop"]


def fail_fast(draft: Draft) -> None:
    """End the run at its first failure, if its blueprint says so and nothing has made up for it."""
    head, graph = draft.head, draft.graph
    draft.failed = False
    if graph.blueprint.failure != "fail-fast" or head.phase != "running":
        return
    new, draft.judged = head.failures[draft.judged :], len(head.failures)
    if not all(absolved(graph, head, failure.node) for failure in new):
        stop(draft, "failing", "")


def stop(draft: Draft, phase: str, cause: str) -> None:
    """No new work: what nobody works on is cancelled, what somebody may work on drains."""
    head = draft.head
    head.phase, head.cause = phase, cause or head.cause
    draft.note(f"run:{phase}", reason=cause)
    stop_items(draft)
    for node, state in enumerate(head.states):
        _stop_node(draft, node, state)
    for queue in (draft.work, draft.special, draft.finals, draft.fired, draft.exits, draft.spread, draft.ended):
        queue.clear()
    draft.unneeded.clear()


def _stop_node(draft: Draft, node: int, state: int) -> None:
    head, graph = draft.head, draft.graph
    if state == SPREAD and head.batches[node].ending == LOST:
        draft.came_to_nothing(node)
    elif state not in SETTLED and state != DRAINING:
        head.halted[node] = NOT_BEGUN if state == PENDING else WAS_OPEN if state == OPEN else BEGUN
    if state == READY or (state == WAITING and head.active[node].reason):
        if draft.drain(node):
            head.states[node] = stopped_state(draft, node, CANCELLED)
    elif state == OPEN:
        unneeded = graph.in_lo[node] == graph.in_hi[node] and node not in head.fallbacks
        head.states[node] = CANCELLED if unneeded else fallback_state(draft, node)
    elif state in (PENDING, RETRYING, WAITING, HELD, PARKED, SPREAD):
        head.states[node] = stopped_state(draft, node, CANCELLED)
        head.active.pop(node, None)
