"""Pictures of a blueprint, or of a run of it, as Mermaid or DOT text.

Ids, conditions and the like are text of users: every one of them is escaped, and the diagram's own names are numbers,
so that whatever an id holds the picture stays a picture. States are told by a word as well as by a colour. Loops and
batches are drawn as groups; waits, timers, webhooks and subflows have shapes of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from flowcraft.blueprint import Blueprint
from flowcraft.diagrams.dot import dot_of
from flowcraft.diagrams.mermaid import mermaid_of
from flowcraft.diagrams.picture import HasNodes, Options, draw

__all__ = ["Direction", "HasNodes", "to_dot", "to_mermaid"]

Direction = Literal["TD", "LR"]


def to_mermaid(
    blueprint: Blueprint,
    run: HasNodes | None = None,
    *,
    direction: Direction = "TD",
    fold: int | None = None,
    durations: Mapping[str, float] | None = None,
    legend: bool = False,
) -> str:
    """A flowchart for Mermaid.

    Args:
        blueprint: what to draw.
        run: a run of it, to show the states of its nodes, and which edges led nowhere.
        direction: top down or left to right.
        fold: draw more than so many nodes as one if they use the same function and have the same neighbours.
        durations: with ``run``: how many seconds each node took, by id, as far as that is known.
        legend: add what the shapes and colours in it mean.

    Raises:
        DefinitionError: the blueprint cannot work.
    """
    return mermaid_of(draw(blueprint, run, Options(fold, durations or {})), direction, legend=legend)


def to_dot(
    blueprint: Blueprint,
    run: HasNodes | None = None,
    *,
    direction: Direction = "TD",
    fold: int | None = None,
    durations: Mapping[str, float] | None = None,
    legend: bool = False,
) -> str:
    """A directed graph for Graphviz; see `to_mermaid`.

    Raises:
        DefinitionError: the blueprint cannot work.
    """
    picture = draw(blueprint, run, Options(fold, durations or {}))
    return dot_of(picture, blueprint.id, direction, legend=legend)
