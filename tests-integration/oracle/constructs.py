"""Random workflows of all constructs: loops, sleeps, waits, batches, subflows and compensations put into plain ones.

`generate` draws what it always drew; `generate_constructs` takes that apart again, so that old seeds stay as they are.
A condition of a loop reads outputs and the context key K, both of which the scripted nodes and the driver decide.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError

from .facts import Facts
from .generator import Workflow, generate
from .kinds import is_controller
from .scopes import Scope

__all__ = ["CONSTRUCTS", "LOOP_CONDITIONS", "generate_constructs"]

CONSTRUCTS = ("loops", "exits", "sleeps", "waits", "batches", "subflows", "compensations", "context")
#: Of a loop's controller.
LOOP_CONDITIONS = (
    "input.n % 2 == 0", "input.n > 300", "input.n % 3 != 0", "K.n > 300", "a.n > 300", "b.n > 300", "true",
    "1 / 0 == 1",
)  # fmt: skip
_WEIGHTS = (4, 4, 4, 2, 1, 1, 0.5, 0.2)
DURATIONS = (0, 1000, "5s", "1m", "1h")

Row = dict[str, object]


@dataclass
class _Sketch:
    """A blueprint's JSON under change."""

    source: random.Random
    features: frozenset[str]
    nodes: dict[str, Row]
    edges: list[Row]
    made: int = 0
    scripted: set[str] = field(default_factory=set[str])

    def chance(self, feature: str, probability: float) -> bool:
        return feature in self.features and self.source.random() < probability

    def add(self, name: str, uses: str = "behave", **more: object) -> str:
        self.nodes[name] = {"id": name, "uses": uses, "params": dict(more), "config": {}}
        return name

    def link(self, start: str, target: str, **more: object) -> None:
        self.edges.append({"source": start, "target": target, **more})

    def params(self, name: str) -> Row:
        return cast("Row", self.nodes[name]["params"])

    def config(self, name: str) -> Row:
        return cast("Row", self.nodes[name]["config"])


def generate_constructs(source: random.Random, only: frozenset[str] | None = None) -> Workflow:
    """One random workflow with some of the constructs (of ``only`` these)."""
    while True:
        base = generate(source, refused=0.0)
        features = frozenset(f for f in CONSTRUCTS if source.random() < 0.5)
        if only is not None:
            features = features & only or only
        data = base.blueprint.to_dict()
        nodes = {str(node["id"]): _filled(node) for node in cast("list[Row]", data["nodes"])}
        sketch = _Sketch(source, features, nodes, [dict(edge) for edge in cast("list[Row]", data["edges"])])
        _draw(sketch)
        metadata = cast("Row", data.get("metadata") or {})
        metadata["maxVisits"] = min(cast("int", metadata.get("maxVisits", 8)), 8)
        try:
            blueprint = Blueprint.from_dict(
                {"id": "constructs", "nodes": list(sketch.nodes.values()), "edges": sketch.edges, "metadata": metadata}
            )
            facts = Facts(blueprint)
        except DefinitionError:
            continue
        if not all(_is_plain(facts, scope) for scope in facts.scopes):
            continue
        return Workflow(blueprint, base.run_input, base.features | features)


def _is_plain(facts: Facts, scope: Scope) -> bool:
    """Whether its header is beyond doubt: a controller that is entered, unless there is none in it."""
    controllers = [n for n in scope.nodes if is_controller(facts.nodes[n])]
    return not controllers or scope.header in controllers


def _filled(node: Mapping[str, object]) -> Row:
    return {
        **node,
        "params": dict(cast("Row", node.get("params") or {})),
        "config": dict(cast("Row", node.get("config") or {})),
    }


def _draw(sketch: _Sketch) -> None:
    source = sketch.source
    plain = list(sketch.nodes)
    if "loops" in sketch.features:
        for _ in range(source.randint(1, 3)):
            _draw_loop(sketch)
    if "batches" in sketch.features:
        for _ in range(source.randint(1, 2)):
            _draw_batch(sketch)
    named = {str(config["fallback"]) for n in sketch.nodes if "fallback" in (config := sketch.config(n))}
    for name in list(sketch.nodes):
        if name in named or sketch.nodes[name]["uses"] != "behave":
            continue
        _convert(sketch, name)
    joins = {name for name in sketch.nodes if "joinStrategy" in sketch.config(name)}
    scatters = {name for name, node in sketch.nodes.items() if node["uses"] == "batch-scatter"}
    # Not agreed upon: whether an empty batch is a loser by the outcome that made it.
    sketch.edges = [e for e in sketch.edges if e["source"] not in scatters or e["target"] not in joins]
    if "compensations" in sketch.features:
        _draw_compensations(sketch, named)
    if "context" in sketch.features:
        _draw_context(sketch, plain)


def _draw_context(sketch: _Sketch, plain: list[str]) -> None:
    source = sketch.source
    for edge in sketch.edges:
        if source.random() < 0.1 and _may_decide(sketch, edge):
            edge.setdefault("condition", "K.n > 300")
    changed = {edge["target"] for edge in sketch.edges if "transform" in edge}
    for name in plain:
        if source.random() < 0.1 and name not in changed and "inputs" not in sketch.nodes[name]:
            sketch.nodes[name]["inputs"] = source.choice(("K", {"k": "K.n"}, ["K", "a"]))


def _may_decide(sketch: _Sketch, edge: Row) -> bool:
    """Not between a scatter and its gather."""
    return sketch.nodes[str(edge["source"])]["uses"] != "batch-scatter" and not str(edge["source"]).startswith("L")


def _draw_loop(sketch: _Sketch) -> None:
    """An edge u -> v becomes u -> L, a body, L -> v."""
    source = sketch.source
    if not sketch.edges:
        return
    edge = source.choice(sketch.edges)
    v = str(edge["target"])
    sketch.made += 1
    number = sketch.made
    controller = f"L{number}"
    condition = source.choices(LOOP_CONDITIONS, _WEIGHTS)[0]
    if condition == "1 / 0 == 1" and source.random() < 0.5:
        condition = "true"
    sketch.add(controller, "loop-controller", condition=condition)
    edge["target"] = controller
    body = [sketch.add(f"b{number}{i}", of="visit") for i in range(source.randint(1, 4))]
    sketch.link(controller, body[0], action="continue")
    for i, name in enumerate(body[1:], 1):
        start = source.choice([controller, *body[:i]])
        sketch.link(start, name, **({"action": "continue"} if start == controller else {}))
    for name in body:
        if not any(e["source"] == name for e in sketch.edges) and (name == body[-1] or source.random() < 0.8):
            sketch.link(name, controller)
        if source.random() < 0.15:
            sketch.params(name)["fail"] = {"visits": source.choice(([1], [2], [1, 3]))}
            if source.random() < 0.5:
                sketch.config(name).update({"maxRetries": 2, "retryDelay": 0, "retryJitter": 0})
    if source.random() < 0.3:
        sketch.config(controller)["joinStrategy"] = "any"
        if source.random() < 0.5:
            sketch.config(controller)["losers"] = "run"
    sketch.link(controller, v, action="break")
    if "exits" in sketch.features:
        _draw_exits(sketch, controller, body, v)


def _draw_exits(sketch: _Sketch, controller: str, body: list[str], v: str) -> None:
    source = sketch.source
    for name in source.sample(body, source.randint(1, min(2, len(body)))):
        if source.random() < 0.7:
            sketch.params(name)["actions"] = source.choice((["stop"], [None, "stop"], [None, None, "stop"]))
            sketch.link(name, v, action="stop")
        else:
            sketch.link(name, v, condition=source.choice(("input.n % 3 == 0", "input.n > 700")))
        if source.random() < 0.7 and "joinStrategy" not in sketch.config(v):
            sketch.config(v)["joinStrategy"] = "any"
            if source.random() < 0.5:
                sketch.config(v)["losers"] = "run"
    if source.random() < 0.3:
        sketch.link(controller, v, condition=source.choice(("input.n % 4 == 0", "input.n > 800")))


def _draw_batch(sketch: _Sketch) -> None:
    """An edge u -> v becomes u -> S, S -> G, G -> v."""
    source = sketch.source
    if not sketch.edges:
        return
    edge = source.choice(sketch.edges)
    v = str(edge["target"])
    sketch.made += 1
    name = f"w{sketch.made}"
    scatter, gather = sketch.add(f"{name}_scatter", "batch-scatter"), sketch.add(f"{name}_gather", "batch-gather")
    work: Row = {"of": source.choice(("input", "visit"))}
    if source.random() < 0.5:
        work["fail"] = {"odd": True, **({"attempts": 1} if source.random() < 0.4 else {})}
        if source.random() < 0.2:
            work["fail"] = {**cast("Row", work["fail"]), "kind": "fatal"}
    params = sketch.params(scatter)
    params |= {
        "gatherNodeId": gather, "workerUsesKey": "behave", "workerParams": work, "sourceUsesKey": "behave",
        "list": source.choice((0, 1, 3, 5, 8)),
    }  # fmt: skip
    params |= {"onItemError": source.choice(("fail", "collect", 1, 2))}
    if source.random() < 0.6:
        params["concurrency"] = source.randint(1, 4)
    if source.random() < 0.2:
        params["itemsPerJob"] = source.randint(2, 3)
    if source.random() < 0.3:
        params["fail"] = {"visits": [1]}
    if source.random() < 0.5:
        sketch.config(scatter).update({"maxRetries": 2, "retryDelay": source.choice((0, 0, 5000)), "retryJitter": 0})
    edge["target"] = scatter
    sketch.link(scatter, gather)
    sketch.link(gather, v)
    if source.random() < 0.2:
        sketch.link(scatter, v)


def _convert(sketch: _Sketch, name: str) -> None:
    source, node = sketch.source, sketch.nodes[name]
    out = [edge for edge in sketch.edges if edge["source"] == name]
    if sketch.chance("sleeps", 0.12):
        node["uses"], node["params"] = "sleep", {"duration": source.choice(DURATIONS)}
        sketch.config(name).pop("fallback", None)
    elif sketch.chance("waits", 0.15):
        node["uses"], node["params"] = "wait", {}
        if source.random() < 0.5:
            node["params"] = {"timeout": source.choice(DURATIONS[1:])}
            if out and source.random() < 0.5:
                edge = source.choice(out)
                if "condition" not in edge:
                    edge["action"] = "timeout"
    elif sketch.chance("subflows", 0.2):
        node["uses"] = "subflow"
        params = sketch.params(name)
        params["blueprintId"] = "child"
        params.pop("actions", None)
        if source.random() < 0.3:
            params["outputs"] = {"K": "x"}
        if source.random() < 0.3:
            params["fail"] = {"kind": source.choice(("error", "final")), "visits": [1]}


def _draw_compensations(sketch: _Sketch, named: set[str]) -> None:
    source = sketch.source
    makers = [n for n, node in sketch.nodes.items() if node["uses"] in ("behave", "wait", "subflow", "batch-gather")]
    for i in range(source.randint(1, 3)):
        by = f"u{i}"
        for name in source.sample(makers, min(len(makers), source.randint(1, 4))):
            sketch.config(name)["compensate"] = by
            if by not in sketch.nodes:
                sketch.add(by, of="nothing")
                if source.random() < 0.2:
                    sketch.params(by)["fail"] = {"attempts": source.choice((1, 2))}
                if source.random() < 0.5:
                    sketch.config(by).update({"maxRetries": 2, "retryDelay": 0, "retryJitter": 0})
