"""The end of visits that were drained and that nobody works on."""

from __future__ import annotations

from collections.abc import Sequence

from flowcraft.constructs import SUBFLOW
from flowcraft.engine.events import ChildStarted, Dropped, EngineEvent, Visit
from flowcraft.engine.head import DRAINING, Activation, Head
from flowcraft.engine.slots import item_of, node_of
from flowcraft.folding import EventSource, definition_of, visit_of
from flowcraft.graph import Graph
from flowcraft.model import Job
from flowcraft.runstate import slot_of
from flowcraft.subflows import child_id

__all__ = ["coming_child", "drop_events", "drop_source"]


def drop_events(graph: Graph, run_id: str, head: Head, slot: int) -> Sequence[EngineEvent]:
    """What ends a draining visit that nobody works on; nothing if it waits for the run of its subflow to end.

    Whoever executed a subflow may have made its run and died before it could say so. So the visit waits for that run,
    which is cancelled, or turns out not to be there.
    """
    activation = head.active[slot]
    if activation.reason:
        return ()
    visit = visit_of(slot, activation)
    if definition_of(graph, slot, activation).uses != SUBFLOW:
        return (Dropped(visit),)
    return (ChildStarted(visit, coming_child(graph, run_id, slot, activation)),)


def coming_child(graph: Graph, run_id: str, slot: int, activation: Activation) -> str:
    """The id of the run that whoever executes this visit makes, if it is a subflow."""
    fallback = "" if activation.runs < 0 else graph.ids[activation.runs]
    name = graph.ids[node_of(slot)]
    return child_id(run_id, name, item_of(slot), activation.visit, activation.attempt, fallback=fallback)


def drop_source(job: Job) -> EventSource:
    """The same for a job's visit, which is draining as far as its worker knows."""

    def events(graph: Graph, head: Head, now: float) -> Sequence[EngineEvent]:  # noqa: ARG001 - what is asked for
        slot = slot_of(graph, job.node, job.item)
        if slot in head.active and head.state(slot) == DRAINING and head.active[slot].nonce == job.nonce:
            return drop_events(graph, job.run_id, head, slot)
        return [Dropped(Visit(slot, job.nonce, job.visit, job.attempt))]

    return events
