"""Which stored values a fold of events may ask for, so that they can be read in one round trip before planning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flowcraft.constructs import SLEEP
from flowcraft.engine.events import ChildEnded, Completed, EngineEvent, MarkCompleted, Signal
from flowcraft.engine.head import WAITING, Head
from flowcraft.engine.inputs import input_plan
from flowcraft.engine.routes import keys_of
from flowcraft.engine.slots import NODE_MASK
from flowcraft.graph import Graph
from flowcraft.model import ValueKey

__all__ = ["needed_by_timers", "needed_keys"]


def needed_keys(graph: Graph, head: Head, events: Sequence[EngineEvent]) -> set[ValueKey]:
    """The values that conditions and transforms behind these events may read. Those that do not exist are MISSING.

    It need not be complete: what is asked for beyond it is read one by one.
    """
    keys: set[ValueKey] = set()
    for event in events:
        for node in _involved(head, event):
            for reference in graph.references[node]:
                keys.update(keys_of(graph, head, reference))
    return keys


def needed_by_timers(graph: Graph, head: Head, slots: Iterable[int]) -> set[ValueKey]:
    """The same for active slots whose time has come: a sleep passes on what it got."""
    keys: set[ValueKey] = set()
    for slot in slots:
        if slot <= NODE_MASK and graph.kind[slot] == SLEEP and head.states[slot] == WAITING:
            keys.update(input_plan(graph, head, slot).keys)
            for reference in graph.references[slot]:
                keys.update(keys_of(graph, head, reference))
    return keys


def _involved(head: Head, event: EngineEvent) -> set[int]:
    """The nodes whose edges the event may decide."""
    if isinstance(event, Completed):
        node = event.visit.node
    elif isinstance(event, Signal | MarkCompleted | ChildEnded):
        node = event.node
    else:
        return set()
    activation = head.active.get(node)
    if node > NODE_MASK or (activation is None and not isinstance(event, MarkCompleted)):
        return set()
    if activation is None:
        return {node}
    function = node if activation.runs < 0 else activation.runs
    return {node, function, *(other for other, _ in activation.before)}
