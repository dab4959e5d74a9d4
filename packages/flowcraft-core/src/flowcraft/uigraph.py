"""A blueprint as user interfaces like to draw it: without controllers, scatters and gathers, as plain data.

Loops become one edge that leads back, batches one node. Everything else is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from flowcraft.blueprint import Blueprint, Edge, Json
from flowcraft.graph import compile_graph
from flowcraft.shapes import Batch, Loop, batches_of, loops_of

__all__ = ["UiEdge", "UiGraph", "UiNode", "to_ui_graph"]


@dataclass(frozen=True, slots=True)
class UiNode:
    """A node: ``node`` is its JSON in the blueprint (without id and uses), ``data`` what only the picture needs.

    ``type`` is ``batch-worker`` for a batch, else None.
    """

    id: str
    uses: str
    type: str | None = None
    node: Mapping[str, Json] = field(default_factory=dict[str, Json])
    data: Mapping[str, Json] = field(default_factory=dict[str, Json])

    def to_dict(self) -> dict[str, Json]:
        """The node as JSON data, without what is empty."""
        rest: dict[str, Json] = {"type": self.type, "data": dict(self.data)}
        return {"id": self.id, "uses": self.uses, **self.node, **{name: value for name, value in rest.items() if value}}


@dataclass(frozen=True, slots=True)
class UiEdge:
    """An edge; ``data`` says of one that leads back when it is taken."""

    source: str
    target: str
    action: str | None = None
    condition: str | None = None
    transform: str | None = None
    data: Mapping[str, Json] = field(default_factory=dict[str, Json])

    def to_dict(self) -> dict[str, Json]:
        """The edge as JSON data, without what is empty."""
        names = ("source", "target", "action", "condition", "transform")
        row: dict[str, Json] = {name: getattr(self, name) for name in names}
        return {name: value for name, value in {**row, "data": dict(self.data)}.items() if value}


@dataclass(frozen=True, slots=True)
class UiGraph:
    """The simplified graph."""

    nodes: tuple[UiNode, ...]
    edges: tuple[UiEdge, ...]

    def to_dict(self) -> dict[str, Json]:
        """The graph as JSON data: ``{"nodes": […], "edges": […]}``."""
        return {"nodes": [node.to_dict() for node in self.nodes], "edges": [edge.to_dict() for edge in self.edges]}

    def to_json(self, *, indent: int | None = None) -> str:
        """The graph as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent)


def to_ui_graph(blueprint: Blueprint) -> UiGraph:
    """The simplified graph of a blueprint.

    * Of a structured loop the controller goes: an edge from the end of its body to the start stands for it, with
      ``data`` ``{"isLoopback": True, "condition": …, "label": "continue if: …"}``; what led to the controller leads to
      the start, what followed it follows the end.
    * A batch is one node with its id, which uses the items' function, of the type ``batch-worker``.
    * Of edges with the same source, target and action one is left.

    Raises:
        DefinitionError: the blueprint cannot work.
    """
    graph = compile_graph(blueprint)
    loops = {loop.header: loop for loop in loops_of(graph) if _can_go(blueprint, loop)}
    batches = {batch.scatter: batch for batch in batches_of(blueprint)}
    return UiGraph(tuple(_nodes(blueprint, loops, batches)), tuple(_edges(blueprint, loops, batches)))


def _can_go(blueprint: Blueprint, loop: Loop) -> bool:
    """Whether it is a controller with a body: one that leads only to itself has nothing else to be drawn."""
    starts = _continued(blueprint.edges, loop.header)
    return loop.structured and bool(starts) and loop.header not in (*starts, *loop.ends)


def _continued(edges: Sequence[Edge], controller: str) -> list[str]:
    targets = [edge.target for edge in edges if edge.source == controller and edge.action == "continue"]
    return list(dict.fromkeys(targets))


def _nodes(blueprint: Blueprint, loops: Mapping[str, Loop], batches: Mapping[str, Batch]) -> Iterator[UiNode]:
    gathers = {batch.gather for batch in batches.values()}
    for node, row in zip(blueprint.nodes, _rows(blueprint), strict=True):
        if node.id in loops or node.id in gathers:
            continue
        batch = batches.get(node.id)
        if batch is None:
            own = {name: value for name, value in row.items() if name not in ("id", "uses")}
            yield UiNode(node.id, node.uses, node=own)
        else:
            data: dict[str, Json] = {
                "label": f"Batch: {batch.id}",
                "isBatchPlaceholder": True,
                "workerUsesKey": batch.worker,
                "inputKey": row.get("inputs"),
                "outputKey": batch.output_key or batch.gather,
            }
            yield UiNode(batch.id, str(batch.worker), "batch-worker", data=data)


def _rows(blueprint: Blueprint) -> Sequence[Mapping[str, Json]]:
    return cast("Sequence[Mapping[str, Json]]", blueprint.to_dict()["nodes"])


def _edges(blueprint: Blueprint, loops: Mapping[str, Loop], batches: Mapping[str, Batch]) -> Iterator[UiEdge]:
    inside = {(batch.scatter, str(batch.gather)) for batch in batches.values()}
    short = {end: batch.id for batch in batches.values() for end in (batch.scatter, str(batch.gather))}
    starts = {header: _continued(blueprint.edges, header) for header in loops}
    found: dict[tuple[str, str, str | None], UiEdge] = {}

    def ends(header: str) -> list[str]:
        return _followed(header, {name: loop.ends for name, loop in loops.items()})

    def add(sources: Sequence[str], targets: Sequence[str], like: UiEdge) -> None:
        for source in sources:
            for target in targets:
                key = short.get(source, source), short.get(target, target), like.action
                made = UiEdge(*key, like.condition, like.transform, like.data)
                if key not in found or (made.data and not found[key].data):
                    found[key] = made

    for edge in blueprint.edges:
        if (edge.source, edge.target) in inside:
            continue
        plain = UiEdge(edge.source, edge.target, edge.action, edge.condition, edge.transform)
        if edge.source in loops and edge.action == "continue":
            add(ends(edge.source), _followed(edge.target, starts), _loopback(loops[edge.source]))
        elif edge.target in loops and edge.source in loops[edge.target].ends:
            continue  # the edge that leads back stands for it
        else:
            add(ends(edge.source), _followed(edge.target, starts), plain)
    return iter(found.values())


def _followed(node_id: str, instead: Mapping[str, Sequence[str]]) -> list[str]:
    """The node itself, or, of a controller, what stands for it: again and again, for loops right inside loops."""
    seen: set[str] = set()
    found: dict[str, None] = {}
    todo = [node_id]
    while todo:
        at = todo.pop(0)
        if at in seen:
            continue
        seen.add(at)
        if at in instead:
            todo += instead[at]
        else:
            found[at] = None
    return list(found)


def _loopback(loop: Loop) -> UiEdge:
    told = loop.condition or loop.header
    return UiEdge("", "", data={"isLoopback": True, "condition": loop.condition, "label": f"continue if: {told}"})
