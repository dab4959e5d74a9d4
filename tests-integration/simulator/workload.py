"""What is executed in a seed: some of the workflows of its block of seeds, so that compiling them is paid once."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from flowcraft.blueprint import Blueprint
from flowcraft.graph import Graph
from flowcraft.runtime import FlowRuntime

from ..oracle.behaviour import behaviour_of
from ..oracle.oracle import Oracle
from ..property.families import Family, Terms, draw_family
from ..property.people import Meddling

__all__ = [
    "BLOCK",
    "Pool",
    "SharedRuntime",
    "Task",
    "blueprints_of",
    "draw_tasks",
    "graph_of",
    "meddling_of",
    "pool_of",
]

#: So many seeds share …
BLOCK = 100
#: … so many workflows, with their subflows.
FAMILIES = 12
_TERMS = Terms(retries=(0.0, 0.0, 0.2, 4.0), hours=1 / 60, late=False, other=True)
#: What this process has compiled: by content hash, and by the identity of the blueprint, which the graph keeps alive.
_GRAPHS: dict[str, Graph] = {}
_COMPILED: dict[int, Graph] = {}


class SharedRuntime(FlowRuntime):
    """A runtime that does not compile again what another one has compiled."""

    def register(self, blueprint: Blueprint) -> Graph:
        """Compile a blueprint, unless that was done."""
        graph = _COMPILED.get(id(blueprint))
        if graph is None:
            content_hash = blueprint.content_hash
            if content_hash in _GRAPHS:
                self._graphs[content_hash] = _GRAPHS[content_hash]
            graph = super().register(blueprint)
            _GRAPHS[graph.content_hash] = graph
            if graph.blueprint is blueprint:
                _COMPILED[id(blueprint)] = graph
        self._graphs[graph.content_hash] = graph
        return graph


@dataclass
class Pool:
    """The workflows of one block of seeds, made when they are asked for."""

    block: int
    families: dict[int, tuple[Family, Family]] = field(default_factory=dict[int, tuple[Family, Family]])

    def family(self, number: int) -> tuple[Family, Family]:
        """A workflow with its subflows as old code has it, and as new code has it."""
        if number not in self.families:
            source = random.Random(f"family {self.block}.{number}")
            old = _drawn(source, f"w{self.block}.{number}")
            while _ends_at_its_start(old):  # nothing could be learned from it
                old = _drawn(source, f"w{self.block}.{number}")
            self.families[number] = (old, _renewed(old))
        return self.families[number]


_POOLS: dict[int, Pool] = {}


def pool_of(seed: int) -> Pool:
    """The pool of the seed's block; the others are forgotten."""
    block = seed // BLOCK
    if block not in _POOLS:
        _POOLS.clear()
        _GRAPHS.clear()
        _COMPILED.clear()
        _POOLS[block] = Pool(block)
    return _POOLS[block]


def _drawn(source: random.Random, name: str) -> Family:
    return _steady(draw_family(source, name, _TERMS))


def _ends_at_its_start(family: Family) -> bool:
    blueprint = family.blueprint
    return not Oracle(blueprint, behaviour_of(blueprint), family.run_input).active


def _steady(family: Family) -> Family:
    """Without what a subflow reads at the moment that it is begun: which of several executions counted is not told."""
    children = {name: _without_inputs(child) for name, child in family.children.items()}
    return Family(_without_inputs(family.blueprint), family.run_input, children)


def _without_inputs(blueprint: Blueprint) -> Blueprint:
    data = blueprint.to_dict()
    for node in cast("list[Any]", data["nodes"]):
        if node["uses"] == "subflow":
            node["params"].pop("inputs", None)
    return Blueprint.from_dict(data)


def _renewed(family: Family) -> Family:
    """The same with one node more, in every blueprint: whoever takes one version for the other is seen."""
    children = {name: _one_more(child) for name, child in family.children.items()}
    return Family(_one_more(family.blueprint), family.run_input, children)


def _one_more(blueprint: Blueprint) -> Blueprint:
    data = blueprint.to_dict()
    cast("list[Any]", data["nodes"]).append({"id": "new", "uses": "behave", "params": {"of": "nothing"}})
    return Blueprint.from_dict(data)


@dataclass(frozen=True)
class Task:
    """One run that somebody wants. ``again``: how often it may be tried again, or rolled back, after its end."""

    run_id: str
    family: Family
    new: bool
    begins: float
    again: int

    @property
    def blueprint(self) -> Blueprint:
        """As the client that starts it knows it."""
        return self.family.blueprint


def draw_tasks(
    seed: int, source: random.Random, *, rolling: float, steered: bool, horizon: float, most: int
) -> list[Task]:
    """One to eight runs; mostly few, so that a seed is quick."""
    pool = pool_of(seed)
    count = min(most, source.choice((1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 5, 8)))
    tasks: list[Task] = []
    for number in range(count):
        new = source.random() < rolling
        family = pool.family(source.randrange(FAMILIES))[new]
        begins = source.choice((0.0, 0.0, source.random() * horizon / 2))
        again = source.choice((0, 0, 1, 2)) if steered else 0
        tasks.append(Task(f"r{number}", family, new, begins, again))
    return tasks


def meddling_of(source: random.Random, *, steered: bool) -> Meddling:
    """What people do in a seed. What is done by commands cannot be told again after a failover of the store."""
    rates = [source.choice((0.0, source.random() * most)) for most in (0.1, 0.3, 0.3, 0.2, 0.06)]
    cancel, pause, patch, mark, rollback = rates
    if not steered:
        patch = mark = rollback = 0.0
    if mark:
        rollback = 0.0  # not agreed upon: what a rollback to a node that was marked as completed makes ready
    return Meddling(cancel=cancel, pause=pause, patch=patch, mark=mark, rollback=rollback, again=0.2)


def blueprints_of(tasks: Iterable[Task], seed: int, *, new: bool) -> list[Blueprint]:
    """What a process of this version knows."""
    pool = pool_of(seed)
    found: dict[str, Blueprint] = {}
    for task in tasks:
        number = int(task.family.blueprint.id.partition(".")[2])
        for blueprint in pool.family(number)[new].blueprints:
            found[blueprint.id] = blueprint
    return list(found.values())


def graph_of(content_hash: str) -> Graph:
    """A blueprint that a runtime of this process has compiled."""
    return _GRAPHS[content_hash]
