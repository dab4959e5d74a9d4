"""The nodes that are no plain functions, and what becomes of a batch in the compiled graph (sections 9 to 12)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from flowcraft.blueprint import ALL, Blueprint, Edge, Node
from flowcraft.errors import DefinitionError

__all__ = ["CONTROLLER", "BatchPlan", "expanded", "is_controller", "kind_of", "lasts"]

CONTROLLER = "loop-controller"
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class BatchPlan:
    """A batch. ``tolerate`` is how many items may fail; None: all of them."""

    scatter: str
    gather: str
    window: int
    per_job: int
    tolerate: int | None

    def groups(self, items: Sequence[object]) -> tuple[object, ...]:
        """What the item visits get: an item, or a list of ``per_job`` of them."""
        if self.per_job == 1:
            return tuple(items)
        return tuple(list(items[i : i + self.per_job]) for i in range(0, len(items), self.per_job))


def _name(node: Node) -> str:
    return node.uses.split("@")[0]


def is_controller(node: Node) -> bool:
    return _name(node) == CONTROLLER


def kind_of(node: Node, batches: dict[str, BatchPlan]) -> str:
    """What executes the node: function, controller, sleep, wait, subflow or items."""
    if node.id in batches:
        return "items"
    if is_controller(node):
        return "controller" if node.params.get("condition") is not None else "function"
    return _name(node) if _name(node) in ("sleep", "wait", "subflow") else "function"


def lasts(value: object) -> float:
    """Seconds of a number of milliseconds or of a text such as ``"90s"``."""
    if isinstance(value, int | float):
        return value / 1000
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", cast("str", value))
    if match is None:
        raise DefinitionError(f"no duration: {value}")
    return int(match[1]) * _UNITS[match[2]]


def expanded(blueprint: Blueprint) -> tuple[Blueprint, dict[str, BatchPlan]]:
    """The blueprint with an item node in each batch, and the batches by its id.

    Raises:
        DefinitionError: a scatter without its gather, or a decision on the edge between them.
    """
    batches: dict[str, BatchPlan] = {}
    nodes: list[Node] = []
    edges = list(blueprint.edges)
    for node in blueprint.nodes:
        nodes.append(node)
        if _name(node) != "batch-scatter":
            continue
        items, gather = node.id.removesuffix("_scatter"), node.params.get("gatherNodeId")
        if items in {other.id for other in blueprint.nodes}:
            items = f"{node.id}:items"
        between = [edge for edge in edges if (edge.source, edge.target) == (node.id, gather)]
        if not between or any(edge.action or edge.condition or edge.transform for edge in between):
            raise DefinitionError(f"batch {node.id!r} has no plain edge to its gather", subject=items)
        if _name(blueprint.node(str(gather))) != "batch-gather":
            raise DefinitionError(f"{gather!r} does not gather", subject=items)
        led = [Edge(node.id, items), Edge(items, str(gather))]
        first = edges.index(between[0])
        edges = [edge for edge in edges if edge not in between]
        edges[first:first] = led
        # Reading: of S's policies the item visits have retries and timeout; the fallback is S's own.
        worker, params = str(node.params.get("workerUsesKey")), node.params.get("workerParams") or {}
        made = replace(node, id=items, uses=worker, params=cast("dict[str, object]", params), inputs=None)
        nodes.append(replace(made, fallback=None, join=ALL, compensate=None))
        batches[items] = _plan(node)
    return replace(blueprint, nodes=tuple(nodes), edges=tuple(edges)), batches


def _plan(node: Node) -> BatchPlan:
    params = node.params
    policy = params.get("onItemError", "fail")
    tolerate = 0 if policy == "fail" else None if policy == "collect" else cast("int", policy)
    # Reading: the least of them
    window = min(256, *(cast("int", params.get(name) or 256) for name in ("concurrency", "chunkSize")))
    return BatchPlan(node.id, str(params["gatherNodeId"]), window, cast("int", params.get("itemsPerJob", 1)), tolerate)
