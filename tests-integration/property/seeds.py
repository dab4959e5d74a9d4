"""Which random workflows a test looks at, and how to look at one of them again.

``FLOWCRAFT_GRAPHS=20000`` makes every test of this folder look at so many; ``FLOWCRAFT_SEEDS=17,40-60`` at these only.
"""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError
from flowcraft.graph import Graph, compile_graph

from ..oracle.behaviour import Behaviour, behaviour_of
from ..oracle.oracle import Oracle

__all__ = ["both", "replayable", "seeds"]


def seeds(default: int) -> Sequence[int]:
    """The seeds to look at; ``default`` is how many there are in CI."""
    chosen = os.environ.get("FLOWCRAFT_SEEDS")
    if not chosen:
        return range(int(os.environ.get("FLOWCRAFT_GRAPHS") or default))
    found: list[int] = []
    for part in chosen.split(","):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


@contextmanager
def replayable(file: str, seed: object) -> Iterator[None]:
    """Tell how to repeat what fails in here."""
    try:
        yield
    except Exception as error:
        name = file.rsplit("/", 1)[-1]
        told = f"again: FLOWCRAFT_SEEDS={seed} hatch run test -n0 tests-integration/property/{name}"
        print(told)
        error.add_note(told)
        raise


def both(blueprint: Blueprint, run_input: object) -> tuple[Graph, Oracle, Behaviour] | None:
    """The compiled graph and a started oracle; None if the rules refuse the blueprint, which both must do."""
    behaviour = behaviour_of(blueprint)
    refused: list[str] = []
    graph = oracle = None
    try:
        graph = compile_graph(blueprint)
    except DefinitionError as error:
        refused.append(f"the engine: {error}")
    try:
        oracle = Oracle(blueprint, behaviour, run_input)
    except DefinitionError as error:
        refused.append(f"the oracle: {error}")
    assert len(refused) != 1, f"refused by one only, {refused[0]}"
    return None if graph is None or oracle is None else (graph, oracle, behaviour)
