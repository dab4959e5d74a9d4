"""The end of visits that were drained and that nobody works on."""

from __future__ import annotations

from collections.abc import Sequence

from flowcraft.constructs import SUBFLOW
from flowcraft.engine.events import ChildStarted, Dropped, EngineEvent, Visit
from flowcraft.engine.head import DRAINING, Head
from flowcraft.engine.slots import item_of, node_of
from flowcraft.folding import EventSource, definition_of, visit_of
from flowcraft.graph import Graph
from flowcraft.model import Job
from flowcraft.runstate import slot_of
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


def drop_source(job: Job) -> EventSource:
    """The same for a job's visit, which is draining as far as its worker knows."""

    def events(graph: Graph, head: Head, now: float) -> Sequence[EngineEvent]:  # noqa: ARG001 - what is asked for
        slot = slot_of(graph, job.node, job.item)
        if slot in head.active and head.state(slot) == DRAINING and head.active[slot].nonce == job.nonce:
            return [drop_event(graph, job.run_id, head, slot)]
        return [Dropped(Visit(slot, job.nonce, job.visit, job.attempt))]

    return events
