"""How a run ends: because nothing is active any more; and what became of nodes that were stopped."""

from __future__ import annotations

from flowcraft.engine.draft import Draft
from flowcraft.engine.head import CANCELLED, COMPLETED, FAILED, OPEN, PENDING
from flowcraft.engine.joins import absolved

__all__ = ["fallback_state", "finish", "stopped_state"]


def fallback_state(draft: Draft, node: int) -> int:
    """The final state of a fallback node: what its visits for others and its ordinary one came to."""
    ran = draft.head.fallbacks.get(node)
    if ran:
        return COMPLETED if any(ran.values()) else FAILED
    return draft.head.ordinary.get(node, CANCELLED)


def stopped_state(draft: Draft, node: int, state: int) -> int:
    """The final state of a node whose visit ends in ``state`` after the run was stopped.

    A fallback node is what all its visits came to, also if its ordinary one is cancelled.
    """
    return fallback_state(draft, node) if node in draft.head.fallbacks else state


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
