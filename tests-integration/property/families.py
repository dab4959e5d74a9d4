"""Random workflows of all constructs whose subflows are random workflows, too: a blueprint and those that it runs."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError
from flowcraft.graph import compile_graph

from ..oracle.constructs import CONSTRUCTS, generate_constructs
from ..oracle.facts import Facts
from ..oracle.generator import generate

__all__ = ["Family", "Terms", "draw_family"]

Row = dict[str, object]


@dataclass(frozen=True)
class Terms:
    """What a test can bear. ``retries``: delays of retries in seconds; ``hours``: how long the longest sleep lasts;
    ``late``: nodes may read their input by names at the moment they are executed; ``other``: half of the functions are
    another one, which a worker may not have."""

    retries: tuple[float, ...] = (0.0, 0.0, 0.2, 70.0)
    hours: float = 1.0
    late: bool = True
    other: bool = False


@dataclass(frozen=True)
class Family:
    """One workflow, the input of its run, and the workflows of its subflows by id."""

    blueprint: Blueprint
    run_input: object
    children: Mapping[str, Blueprint]

    @property
    def blueprints(self) -> list[Blueprint]:
        """All of them."""
        return [self.blueprint, *self.children.values()]


def draw_family(source: random.Random, name: str, terms: Terms) -> Family:
    """One random family. A subflow runs ``<name> mid`` or ``<name> leaf``, those of ``mid`` run ``leaf``."""
    leaf = _drawn(source, f"{name} leaf", terms, {}, depth=2)
    mid = _drawn(source, f"{name} mid", terms, {leaf[0].id: leaf[0]}, depth=1)
    children = {leaf[0].id: leaf[0], mid[0].id: mid[0]}
    blueprint, run_input = _drawn(source, name, terms, children, depth=0)
    return Family(blueprint, run_input, children)


def _drawn(
    source: random.Random, name: str, terms: Terms, children: Mapping[str, Blueprint], *, depth: int
) -> tuple[Blueprint, object]:
    """One blueprint that both the engine and the oracle accept."""
    while True:
        if depth == 2 and source.random() < 0.5:
            workflow = generate(source, refused=0.0)
        else:
            allowed = [f for f in CONSTRUCTS if f != "subflows" or depth < 2]
            workflow = generate_constructs(source, frozenset(f for f in allowed if source.random() < 0.8))
        data = workflow.blueprint.to_dict()
        data["id"] = name
        for node in cast("list[Row]", data["nodes"]):
            _adapt(source, node, terms, children)
        _fall_back_to_subflows(source, cast("list[Row]", data["nodes"]), children)
        blueprint = Blueprint.from_dict(data)
        try:
            facts = Facts(blueprint)
            _ = compile_graph(blueprint)
        except DefinitionError:
            continue
        if depth and len(facts.nodes) > 9:
            continue
        special = sum(kind != "function" for kind in facts.kind.values())
        if not depth and special < 3 and source.random() < 0.8:
            continue
        return blueprint, workflow.run_input


def _adapt(source: random.Random, node: Row, terms: Terms, children: Mapping[str, Blueprint]) -> None:
    params = cast("Row", node.setdefault("params", {}))
    config = cast("Row", node.setdefault("config", {}))
    if cast("int", config.get("maxRetries", 1)) > 1:
        config.update({"retryDelay": round(source.choice(terms.retries) * 1000), "retryJitter": 0})
    for key in ("duration", "timeout"):
        if params.get(key) == "1h" and node["uses"] in ("sleep", "wait"):
            params[key] = round(3_600_000 * terms.hours)
        elif params.get(key) == "1m" and node["uses"] in ("sleep", "wait"):
            params[key] = round(60_000 * terms.hours)
    if not terms.late:
        node.pop("inputs", None)
    if node["uses"] == "subflow":
        _make_subflow(source, node, children)
        if "inputs" not in node and children and source.random() < 0.2:
            cast("Row", node["params"])["inputs"] = {"K": source.choice("abc"), "extra": "K"}
    elif terms.other and node["uses"] == "behave" and source.random() < 0.3:
        node["uses"] = "other"


def _make_subflow(source: random.Random, node: Row, children: Mapping[str, Blueprint]) -> None:
    if not children:
        node["uses"] = "behave"
        node["params"] = {}
        return
    child = source.choice(list(children.values()))
    old = cast("Row", node["params"])
    params: Row = {"blueprintId": child.id}
    if "outputs" in old:
        params["outputs"] = {"K": source.choice(child.nodes).id}
    node["uses"], node["params"] = "subflow", params


def _fall_back_to_subflows(source: random.Random, nodes: list[Row], children: Mapping[str, Blueprint]) -> None:
    """Some fallbacks are subflows; not of nodes that read their input by names: that is read again for a fallback."""
    if not children:
        return
    fallbacks = {str(n["id"]): str(fallback) for n in nodes if (fallback := cast("Row", n["config"]).get("fallback"))}
    late = {str(n["id"]) for n in nodes if "inputs" in n or "inputs" in cast("Row", n["params"])}
    while more := {fallbacks[name] for name in late if name in fallbacks} - late:
        late |= more
    for node in nodes:
        if node["id"] in set(fallbacks.values()) - late and node["uses"] == "behave" and source.random() < 0.25:
            _make_subflow(source, node, children)
