"""Which stored values a fold of events may ask for, so that they can be read in one round trip before planning."""

from __future__ import annotations

from collections.abc import Sequence

from flowcraft.engine.head import Head
from flowcraft.engine.routes import keys_of
from flowcraft.engine.transition import Completed, EngineEvent
from flowcraft.graph import Graph
from flowcraft.model import ValueKey

__all__ = ["needed_keys"]


def needed_keys(graph: Graph, head: Head, events: Sequence[EngineEvent]) -> set[ValueKey]:
    """The values that conditions and transforms behind these events may read. Those that do not exist are MISSING."""
    keys: set[ValueKey] = set()
    for event in events:
        if not isinstance(event, Completed):
            continue
        node = event.visit.node
        activation = head.active.get(node)
        if activation is None:
            continue
        function = node if activation.runs < 0 else activation.runs
        for involved in {node, function, *(other for other, _ in activation.before)}:
            for reference in graph.references[involved]:
                keys.update(keys_of(graph, head, reference))
    return keys
