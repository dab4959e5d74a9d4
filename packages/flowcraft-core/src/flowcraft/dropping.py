"""The end of visits that were drained and that nobody works on."""

from __future__ import annotations

from collections.abc import Sequence

from flowcraft.constructs import SUBFLOW
from flowcraft.engine.events import ChildStarted, Dropped, EngineEvent, Visit
from flowcraft.engine.head import DRAINING, Head
from flowcraft.engine.slots import item_of, node_of
from flowcraft.folding import EventSource, definition_of, visit_of
from flowcraft.graph import Graph
from flowcraft.subflows import child_id

__all__ = ["drop_event", "drop_source"]


def drop_event(graph: Graph, run_id: str, head: Head, slot: int) -> EngineEvent:
    """What ends a draining visit that nobody works on.

    Whoever executed a subflow may have made its run and died before it could say so. So the visit waits for that run,
    which is cancelled, or turns out not to be there.
    """
    activation = head.active[slot]
    visit = visit_of(slot, activation)
    if activation.reason or definition_of(graph, slot, activation).uses != SUBFLOW:
        return Dropped(visit)
    name = graph.ids[node_of(slot)]
    return ChildStarted(visit, child_id(run_id, name, item_of(slot), activation.visit, activation.attempt))


def drop_source(run_id: str, visit: Visit) -> EventSource:
    """The same for a visit that is draining, as far as its worker knows."""

    def events(graph: Graph, head: Head, now: float) -> Sequence[EngineEvent]:  # noqa: ARG001 - what is asked for
        activation = head.active.get(visit.node)
        current = activation is not None and visit_of(visit.node, activation) == visit
        if current and head.state(visit.node) == DRAINING:
            return [drop_event(graph, run_id, head, visit.node)]
        return [Dropped(visit)]

    return events
