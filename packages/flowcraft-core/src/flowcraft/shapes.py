"""What is built in, as it stands in a blueprint: loops, batches, timers, waits and subflows, read for people.

Reading never fails: what is missing or malformed is None or empty here, and `flowcraft.lint` says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flowcraft.blueprint import Blueprint, Inputs, Json
from flowcraft.constructs import GATHER, SCATTER, SUBFLOW, duration, items_id
from flowcraft.errors import DefinitionError
from flowcraft.graph import Graph

__all__ = ["Batch", "Loop", "Subflow", "batches_of", "loops_of", "seconds_of", "subflows_of", "text_of"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A scatter and what belongs to it. ``id`` is the scatter's without ``_scatter``, ``items`` its items' in a run.

    ``worker`` is the ``uses`` of the function for one item, ``gather`` the id of the node that collects the results,
    or None if there is none.
    """

    id: str
    items: str
    scatter: str
    worker: str | None
    gather: str | None
    inputs: Inputs | None
    output_key: str | None


@dataclass(frozen=True, slots=True)
class Loop:
    """A cycle: its header, and the nodes that go round with it (``body``, without the header), in blueprint order.

    ``ends`` are those of them whose edges close the cycle. ``structured``: the header is a loop controller, with its
    ``condition``. ``parent`` is the header of the loop around it.
    """

    header: str
    body: tuple[str, ...]
    ends: tuple[str, ...]
    structured: bool
    condition: str | None
    parent: str | None


@dataclass(frozen=True, slots=True)
class Subflow:
    """A node that runs another blueprint, or None where it names none."""

    node: str
    blueprint_id: str | None


def text_of(value: Json) -> str | None:
    """The value if it is a text that is not empty."""
    return value if isinstance(value, str) and value else None


def seconds_of(value: Json) -> float | None:
    """A duration of a blueprint in seconds (see `flowcraft.constructs.duration`), or None if it is none."""
    try:
        return duration(value, "a duration")
    except DefinitionError:
        return None


def _short(scatter: str, others: set[str]) -> str:
    """A name for a batch that no other node has; its gather may have it."""
    short = scatter.removesuffix("_scatter")
    return scatter if not short or short in others else short


def batches_of(blueprint: Blueprint) -> tuple[Batch, ...]:
    """The batches, in the order of their scatters."""
    gathers = {node.id for node in blueprint.nodes if node.uses == GATHER}
    ids = {node.id for node in blueprint.nodes}
    found: list[Batch] = []
    for node in blueprint.nodes:
        if node.uses != SCATTER:
            continue
        gather = text_of(node.params.get("gatherNodeId"))
        found.append(
            Batch(
                id=_short(node.id, ids - {gather or ""}),
                items=items_id(node.id, ids),
                scatter=node.id,
                worker=text_of(node.params.get("workerUsesKey")),
                gather=gather if gather in gathers else None,
                inputs=node.inputs,
                output_key=text_of(node.params.get("outputKey")),
            )
        )
    return tuple(found)


def subflows_of(blueprint: Blueprint) -> tuple[Subflow, ...]:
    """The nodes that run other blueprints."""
    return tuple(
        Subflow(node.id, text_of(node.params.get("blueprintId"))) for node in blueprint.nodes if node.uses == SUBFLOW
    )


def loops_of(graph: Graph) -> tuple[Loop, ...]:
    """The cycles of a compiled blueprint, outer ones before those inside them."""
    known = {node.id for node in graph.blueprint.nodes}
    return tuple(_loops(graph, known))


def _loops(graph: Graph, known: set[str]) -> Iterator[Loop]:
    for plan in graph.scopes[1:]:
        header = graph.nodes[plan.header]
        ends = dict.fromkeys(graph.ids[graph.src[e]] for e in plan.back)
        yield Loop(
            header=header.id,
            body=tuple(graph.ids[n] for n in plan.members if n != plan.header and graph.ids[n] in known),
            ends=tuple(ends),
            structured=plan.structured,
            condition=text_of(header.params.get("condition")) if plan.structured else None,
            parent=graph.ids[graph.scopes[plan.parent].header] if plan.parent else None,
        )
