"""The built-in nodes: their names, what their parameters mean, and how a batch becomes part of the graph."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from flowcraft.blueprint import Blueprint, Edge, Join, Node
from flowcraft.checks import check_id, check_number, check_whole, told
from flowcraft.errors import DefinitionError
from flowcraft.scopes import LOOP_CONTROLLER

__all__ = [
    "BUILT_IN", "GATHER", "IRREPLACEABLE", "ITEMS", "LOOP", "ORDINARY", "SCATTER", "SLEEP", "SLEEP_USES", "SUBFLOW",
    "TIMEOUT", "WAIT", "WAIT_USES", "WEBHOOK", "WEBHOOK_EVENT", "WINDOW", "BatchPlan", "duration", "expand", "items_id",
    "kind_of",
    "mapping_of",
    "timer_of",
]  # fmt: skip

SLEEP_USES: Final = "sleep"
WAIT_USES: Final = "wait"
WEBHOOK: Final = "webhook"
#: The events of webhooks begin like this.
WEBHOOK_EVENT: Final = "webhook:"
SUBFLOW: Final = "subflow"
SCATTER: Final = "batch-scatter"
GATHER: Final = "batch-gather"
#: ``uses`` of all of them.
BUILT_IN: Final = frozenset({SLEEP_USES, WAIT_USES, WEBHOOK, SUBFLOW, SCATTER, GATHER, LOOP_CONTROLLER})
#: ``uses`` of those in whose place a function is never executed.
IRREPLACEABLE: Final = frozenset({SLEEP_USES, WAIT_USES, SUBFLOW})

#: What the engine does itself, in place of a function: decide a loop, sleep, wait for a signal, spread the items of a
#: batch.
ORDINARY, LOOP, SLEEP, WAIT, ITEMS = range(5)
#: The action of a wait whose time is over.
TIMEOUT: Final = "timeout"
#: How many item visits of a batch are under way at once, if nothing else is said.
WINDOW: Final = 256

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A batch: the ids of its nodes, and how its items are worked on. ``tolerate`` None: any number may fail."""

    scatter: str
    items: str
    gather: str
    window: int
    size: int
    tolerate: int | None


def duration(value: object, what: str) -> float:
    """Seconds of a duration as a parameter says it: milliseconds, or a text such as ``"90s"``, ``"5m"``, ``"7d"``.

    Raises:
        DefinitionError: it is neither; the message begins with ``what``.
    """
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return check_number(float(match[1]) * _UNITS[match[2]], what, at_least=0.0)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return check_number(value / 1000.0, what, at_least=0.0)
    raise DefinitionError(f'{what} is milliseconds, or a text such as "90s", "5m" or "7d", not {told(value)}')


def kind_of(node: Node) -> int:
    """What the engine does itself for this node."""
    if node.uses == LOOP_CONTROLLER:
        return LOOP if node.params.get("condition") is not None else ORDINARY
    return {SLEEP_USES: SLEEP, WAIT_USES: WAIT}.get(node.uses, ORDINARY)


def timer_of(node: Node) -> float | None:
    """How long a sleep or wait lasts, in seconds; None for a wait without a timeout, and for all other nodes.

    Raises:
        DefinitionError: its duration or timeout is not one.
    """
    kind = kind_of(node)
    if kind == SLEEP:
        return duration(node.params.get("duration"), f"params.duration of node {node.id!r}")
    if kind == WAIT and node.params.get("timeout") is not None:
        return duration(node.params["timeout"], f"params.timeout of node {node.id!r}")
    return None


def mapping_of(node: Node, name: str) -> Mapping[str, str] | None:
    """``params.inputs`` or ``params.outputs`` of a subflow: names by key; None if it has none.

    Raises:
        DefinitionError: it is no object of texts.
    """
    found = node.params.get(name)
    if found is None:
        return None
    rows = cast("Mapping[object, object]", found) if isinstance(found, Mapping) else {None: None}
    if not all(isinstance(key, str) and isinstance(value, str) and value for key, value in rows.items()):
        text = f"params.{name} of subflow {node.id!r} must be an object of names, not {told(found)}"
        raise DefinitionError(text, subject=node.id)
    return cast("Mapping[str, str]", found)


def expand(blueprint: Blueprint) -> tuple[tuple[Node, ...], tuple[Edge, ...], Mapping[str, BatchPlan]]:
    """Nodes and edges as they are executed: between a scatter and its gather comes the node of the items.

    Raises:
        DefinitionError: a batch that cannot work; the message names its scatter.
    """
    scatters = [node for node in blueprint.nodes if node.uses == SCATTER]
    if not scatters:
        return blueprint.nodes, blueprint.edges, {}
    nodes, edges = list(blueprint.nodes), list(blueprint.edges)
    plans: dict[str, BatchPlan] = {}
    for scatter in scatters:
        plan, item = _plan(blueprint, scatter)
        nodes.append(item)
        edges = _through(edges, plan)
        plans[plan.items] = plan
    return tuple(nodes), tuple(edges), plans


def _plan(blueprint: Blueprint, scatter: Node) -> tuple[BatchPlan, Node]:
    params, what = scatter.params, f"of batch {scatter.id!r}"
    taken = {node.id for node in blueprint.nodes}
    item_id = items_id(scatter.id, taken)
    gather = params.get("gatherNodeId")
    if not isinstance(gather, str) or _uses_of(blueprint, gather) != GATHER:
        raise DefinitionError(f"params.gatherNodeId {what} must name a node that uses {GATHER!r}", subject=scatter.id)
    caps = [_whole(scatter, name, 0) for name in ("concurrency", "chunkSize") if params.get(name) is not None]
    policy = params.get("onItemError", "fail")
    named = {"fail": 0, "collect": None}
    known = isinstance(policy, str) and policy in named
    tolerate = named[policy] if isinstance(policy, str) and known else _whole(scatter, "onItemError", 0, at_least=0)
    size = _whole(scatter, "itemsPerJob", 1)
    plan = BatchPlan(scatter.id, item_id, gather, min([WINDOW, *caps]), size, tolerate)
    worker = check_id(params.get("workerUsesKey"), f"params.workerUsesKey {what}")
    worker_params = params.get("workerParams") or {}
    if not isinstance(worker_params, Mapping):
        raise DefinitionError(f"params.workerParams {what} must be an object", subject=scatter.id)
    made = replace(
        scatter, id=check_id(item_id, "node id"), uses=worker, params=cast("Mapping[str, object]", worker_params),
        inputs=None, fallback=None, join=Join(), compensate=None,
    )  # fmt: skip
    return plan, made


def items_id(scatter: str, taken: Collection[str]) -> str:
    """The id of the node of a batch's items: its scatter's without ``_scatter``, if no other node has it."""
    short = scatter.removesuffix("_scatter")
    return next(name for name in (short, f"{short}:items", f"{scatter}:items") if name and name not in taken)


def _whole(scatter: Node, name: str, usual: int, *, at_least: int = 1) -> int:
    value = cast("int", scatter.params.get(name, usual))
    check_whole(value, f"params.{name} of batch {scatter.id!r}", at_least=at_least)
    return value


def _uses_of(blueprint: Blueprint, node_id: str) -> str | None:
    """What a node uses, or None if there is no such node."""
    return next((node.uses for node in blueprint.nodes if node.id == node_id), None)


def _through(edges: Sequence[Edge], plan: BatchPlan) -> list[Edge]:
    """The edges, the one from scatter to gather led through the items."""
    made: list[Edge] = []
    led = False
    for edge in edges:
        if (edge.source, edge.target) == (plan.scatter, plan.gather):
            if edge.action or edge.condition or edge.transform:
                raise DefinitionError(f"edge {edge} inside a batch has neither action, condition nor transform",
                                      subject=str(edge))  # fmt: skip
            if not led:
                made += [Edge(plan.scatter, plan.items), Edge(plan.items, plan.gather)]
            led = True
        else:
            made.append(edge)
    if not led:
        text = f"batch {plan.scatter!r} has no edge to its gather {plan.gather!r}"
        raise DefinitionError(text, subject=plan.scatter)
    return made
