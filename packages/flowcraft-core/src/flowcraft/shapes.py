"""What is built in, as it stands in a blueprint: loops, batches, timers, waits and subflows, read for people.

Reading never fails: what is missing or malformed is None or empty here, and `flowcraft.lint` says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flowcraft.blueprint import Blueprint, Inputs, Json, Node
from flowcraft.checks import MAX_SECONDS
from flowcraft.graph import Graph
from flowcraft.scopes import LOOP_CONTROLLER

__all__ = [
    "BUILT_IN",
    "GATHER",
    "LOOP_CONTROLLER",
    "SCATTER",
    "SLEEP",
    "SUBFLOW",
    "WAIT",
    "WEBHOOK",
    "Batch",
    "Loop",
    "Subflow",
    "batches_of",
    "decides_itself",
    "loops_of",
    "seconds_of",
    "subflows_of",
    "text_of",
]

#: ``uses`` of what is built in; see also `LOOP_CONTROLLER`.
SCATTER: Final = "batch-scatter"
GATHER: Final = "batch-gather"
SLEEP: Final = "sleep"
WAIT: Final = "wait"
WEBHOOK: Final = "webhook"
SUBFLOW: Final = "subflow"
#: They need no function in the registry (a loop controller only if it has a condition).
BUILT_IN: Final = frozenset({SCATTER, GATHER, SLEEP, WAIT, WEBHOOK, SUBFLOW, LOOP_CONTROLLER})

_DURATION: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", re.ASCII)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Batch:
    """A scatter and what belongs to it. ``id`` is the scatter's without ``_scatter``: the items' in a run.

    ``worker`` is the ``uses`` of the function for one item, ``gather`` the id of the node that collects the results,
    or None if there is none.
    """

    id: str
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
    """Seconds of a duration: milliseconds, or a text such as ``"90s"``, ``"5m"``, ``"2h"``, ``"7d"``; else None."""
    if isinstance(value, str):
        found = _DURATION.fullmatch(value)
        seconds = float(found[1]) * _UNITS[found[2]] if found else -1.0
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value / 1000
    else:
        return None
    return seconds if 0 <= seconds <= MAX_SECONDS else None


def decides_itself(node: Node) -> bool:
    """Whether it is a loop controller with a condition, which needs no function."""
    return node.uses == LOOP_CONTROLLER and node.params.get("condition") is not None


def batches_of(blueprint: Blueprint) -> tuple[Batch, ...]:
    """The batches, in the order of their scatters."""
    gathers = {node.id for node in blueprint.nodes if node.uses == GATHER}
    ids = {node.id for node in blueprint.nodes}
    found: list[Batch] = []
    for node in blueprint.nodes:
        if node.uses != SCATTER:
            continue
        gather = text_of(node.params.get("gatherNodeId"))
        short = node.id.removesuffix("_scatter") or node.id
        found.append(
            Batch(
                id=f"{node.id}:items" if short in ids else short,
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
