"""Random workflows, swarm style: each enables a random subset of the features, so that rare combinations meet.

`generate` draws one from a `random.Random`; `workflows` wraps it for hypothesis. Node ids are a, b, c … in an order in
which plain edges point forwards; all behaviour is in the nodes' params (see `behaviour`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import strategies as st

from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError

from .scopes import plan_of

__all__ = ["CONDITIONS", "FEATURES", "TRANSFORMS", "Workflow", "generate", "workflows"]

FEATURES = (
    "actions", "conditions", "parallel", "any", "least", "losers run", "failures", "retries", "fatal", "fallbacks",
    "shared fallback", "fallback chain", "fallback edges", "fallback entered", "fallback back", "cycles", "nested",
    "several back edges", "entry points", "unguarded", "odd edges", "inputs", "transforms", "fail fast", "few visits",
    "islands", "names",
)  # fmt: skip
_RARE = {
    "fail fast": 0.15,
    "unguarded": 0.1,
    "odd edges": 0.2,
    "few visits": 0.2,
    "islands": 0.3,
    "entry points": 0.4,
    "names": 0.25,
}
CONDITIONS = ("input.n % 2 == 0", "result.output.n > 300", "result.output.n % 3 != 0", "result.action == 'x'")
TRANSFORMS = ("input.n", "input", "input.n + 1")

Row = dict[str, object]


@dataclass(frozen=True)
class Workflow:
    """A blueprint, the input of its run, and what it was made with."""

    blueprint: Blueprint
    run_input: object
    features: frozenset[str]


@dataclass
class _Draft:
    source: random.Random
    features: frozenset[str]
    names: list[str] = field(default_factory=list[str])
    config: dict[str, Row] = field(default_factory=dict[str, Row])
    params: dict[str, Row] = field(default_factory=dict[str, Row])
    inputs: dict[str, object] = field(default_factory=dict[str, object])
    edges: list[Row] = field(default_factory=list[Row])
    fallbacks: set[str] = field(default_factory=set[str])
    hubs: set[str] = field(default_factory=set[str])
    entries: list[str] = field(default_factory=list[str])
    loops: set[str] = field(default_factory=set[str])

    def chance(self, feature: str, probability: float) -> bool:
        return feature in self.features and self.source.random() < probability


def generate(source: random.Random, *, refused: float = 0.03) -> Workflow:
    """One random workflow. About the share ``refused`` may be a graph that the rules refuse."""
    lenient = source.random() < refused
    while True:
        features = frozenset(f for f in FEATURES if source.random() < _RARE.get(f, 0.5))
        if "fail fast" in features and source.random() < 0.5:
            features |= {"any", "failures"}  # joins that have fired, with losers, when the run ends
        draft = _Draft(source, features)
        _draw(draft)
        blueprint = Blueprint.from_dict(_json(draft))
        if not lenient:
            try:
                plan_of(blueprint)
            except DefinitionError:
                continue
        return Workflow(blueprint, {"n": source.randrange(10), "from": "input"}, features)


def workflows() -> st.SearchStrategy[Workflow]:
    """The same for hypothesis, which can make failing examples smaller."""
    return st.randoms(use_true_random=False).map(generate)


def _draw(draft: _Draft) -> None:
    source = draft.source
    size = source.choice((1, 2, 3, 4, 5, 6, 6, 7, 8, 8, 9, 10, 11, 12, 13, 14))
    draft.names = [chr(ord("a") + i) for i in range(size)]
    for name in draft.names:
        draft.config[name], draft.params[name] = {}, {}
    if "fallbacks" in draft.features and size > 1:
        _draw_fallbacks(draft)
    _draw_edges(draft)
    if "any" in draft.features or "least" in draft.features:
        _draw_hubs(draft)
    if "cycles" in draft.features:
        _draw_cycles(draft)
    if "nested" in draft.features and size > 3 and source.random() < 0.4:
        _draw_nest(draft)
    if "fallback back" in draft.features:
        _draw_returns(draft)
    for name in draft.names:
        _draw_node(draft, name)
    _draw_texts(draft)


def _draw_fallbacks(draft: _Draft) -> None:
    source, names = draft.source, draft.names
    count = source.randint(1, min(len(names) - 1, max(2, len(names) // 4)))
    draft.fallbacks = set(source.sample(names[1:], count))
    callers = [n for n in names if n not in draft.fallbacks]
    for fallback in sorted(draft.fallbacks):
        served = source.randint(2, 3) if draft.chance("shared fallback", 0.6) else 1
        for caller in source.sample(callers, min(served, len(callers))):
            draft.config[caller].setdefault("fallback", fallback)
    if "fallback chain" in draft.features and count > 1:
        first, second, *_ = source.sample(sorted(draft.fallbacks), count)
        draft.config[first]["fallback"] = second
    draft.fallbacks = {str(c["fallback"]) for c in draft.config.values() if "fallback" in c}


def _draw_edges(draft: _Draft) -> None:
    source, names = draft.source, draft.names
    density = source.choice((0.8, 1.2, 1.6, 2.2))
    for j, target in enumerate(names[1:], 1):
        if target in draft.fallbacks and not draft.chance("fallback entered", 0.5):
            continue
        if source.random() < (0.3 if "islands" in draft.features else 0.08):
            continue
        for _ in range(max(1, round(source.gauss(density, 0.7)))):
            near = source.random() < 0.6
            start = names[max(0, j - 3) + source.randrange(min(3, j)) if near else source.randrange(j)]
            if start not in draft.fallbacks or draft.chance("fallback edges", 0.7):
                _add(draft, start, target)
    if draft.edges and "parallel" in draft.features:
        for edge in source.sample(draft.edges, min(2, len(draft.edges))):
            draft.edges.append({"source": edge["source"], "target": edge["target"], "parallel": True})


def _draw_hubs(draft: _Draft) -> None:
    """A node or two that several branches lead to, and little else, so that a join has losers."""
    source, names = draft.source, draft.names
    for hub in source.sample(names[1:], min(len(names) - 1, source.randint(1, 2))):
        before = names[: names.index(hub)]
        for start in source.sample(before, min(len(before), source.randint(2, 4))):
            if source.random() < 0.5:
                draft.edges = [e for e in draft.edges if e["source"] != start or e["target"] in draft.hubs]
            _add(draft, start, hub)
        draft.hubs.add(hub)


def _add(draft: _Draft, start: str, target: str, **more: object) -> None:
    if not any(edge["source"] == start and edge["target"] == target for edge in draft.edges):
        draft.edges.append({"source": start, "target": target, **more})


def _draw_cycles(draft: _Draft) -> None:
    """Intervals of the order become bodies: entered at their first node only, with edges from inside back to it."""
    source, names = draft.source, draft.names
    bodies: list[tuple[int, int]] = []
    for _ in range(source.randint(1, 6) if "nested" in draft.features else 1):
        low = source.randrange(len(names))
        high = min(len(names) - 1, low + source.randint(0, 6))
        if all(high < a or low > b or (a < low and high <= b) or (low < a and b <= high) for a, b in bodies):
            bodies.append((low, high))
    for low, high in sorted(bodies):
        body = names[low : high + 1]
        for before, after in pairwise(body):
            if source.random() < 0.6 and after not in draft.fallbacks:
                _add(draft, before, after)
        if source.random() < 0.85:
            _enter_at(draft, low, high)
        for start in source.sample(body, min(len(body), 2 if draft.chance("several back edges", 0.6) else 1)):
            _add(draft, start, body[0], back=True)
        if draft.chance("entry points", 0.4):
            draft.entries.append(source.choice(body) if source.random() < 0.3 else body[0])


def _draw_nest(draft: _Draft) -> None:
    """A loop in a loop, both of which really go round: steady nodes in a row, each body closed by its last node."""
    source = draft.source
    names = [n for n in draft.names if n not in draft.fallbacks]
    if len(names) < 3:
        return
    low = source.randrange(len(names) - 2)
    high = source.randrange(low + 2, min(len(names), low + 7))
    inner_low = source.randrange(low, high)
    inner_high = source.randrange(inner_low, high)
    body = names[low : high + 1]
    for start, end in ((low, high), (inner_low, inner_high)):
        inside = names[start : end + 1]
        draft.edges = [e for e in draft.edges if e["target"] not in inside[1:] or e["source"] in inside]
    draft.edges = [
        e
        for e in draft.edges
        if e["source"] not in body
        or e["target"] not in body
        or draft.names.index(str(e["source"])) < draft.names.index(str(e["target"]))
    ]
    for before, after in pairwise(body):
        _add(draft, before, after)
    for start, end in ((low, high), (inner_low, inner_high)):
        if names[end] not in draft.loops:
            _add(draft, names[end], names[start], back=True)
            draft.loops.add(names[end])


def _enter_at(draft: _Draft, low: int, high: int) -> None:
    body = draft.names[low : high + 1]
    for edge in draft.edges:
        if edge["target"] in body[1:] and edge["source"] not in body:
            edge["target"] = body[0]


def _draw_returns(draft: _Draft) -> None:
    """Edges from a fallback back to the node it serves, or to one before it."""
    for name in draft.names:
        fallback = draft.config[name].get("fallback")
        if fallback is not None and draft.source.random() < 0.4:
            before = draft.names[: draft.names.index(name) + 1]
            _add(draft, str(fallback), name if draft.source.random() < 0.6 else draft.source.choice(before), back=True)


def _draw_node(draft: _Draft, name: str) -> None:
    source, config, params = draft.source, draft.config[name], draft.params[name]
    sources = {edge["source"] for edge in draft.edges if edge["target"] == name}
    often = 0.8 if name in draft.hubs else 0.2
    if sources and draft.chance("any", often):
        config["joinStrategy"] = "any"
    elif sources and draft.chance("least", often):
        config["joinStrategy"] = {"atLeast": source.randint(2, len(sources) + 1)}
    if "joinStrategy" in config and draft.chance("losers run", 0.3):
        config["losers"] = "run"
    rarely = 0.05 if draft.loops else 0.2
    if draft.chance("failures", rarely) or ("fallback" in config and source.random() < 0.7):
        params["fail"] = _failure(draft, name)
    if draft.chance("retries", 0.4):
        config |= {"maxRetries": source.randint(2, 3), "retryDelay": 0, "retryJitter": 0}
    if name in draft.fallbacks:
        params |= {"of": source.choice(("input", "nothing")), "by": "input"}
    elif source.random() < 0.3:
        params["of"] = "input"
    _draw_actions(draft, name)


def _failure(draft: _Draft, name: str) -> Row:
    source, fail = draft.source, Row()
    if draft.chance("fatal", 0.2):
        fail["kind"] = source.choice(("fatal", "final"))
    if source.random() < 0.4:
        fail["attempts"] = source.randint(1, 3)
    if source.random() < 0.5:
        fail |= {"odd": True} if name in draft.fallbacks else {"visits": source.choice(([1], [2], [1, 2], [1, 3]))}
    return fail


def _draw_actions(draft: _Draft, name: str) -> None:
    """Back edges go round a few times; other edges get actions at random."""
    source, params = draft.source, draft.params[name]
    out = [edge for edge in draft.edges if edge["source"] == name]
    back = [edge for edge in out if edge.get("back")]
    if name in draft.loops and back:
        params["actions"] = ["again"] * source.randint(1, 2) + [None]
        back[-1]["action"] = "again"
    elif back and not draft.chance("unguarded", 0.5):
        if source.random() < 0.7:
            rounds = source.randint(1, 3)
            params["actions"] = [*["again"] * rounds, source.choice(("done", None, "x"))]
            for edge in back:
                edge["action"] = "again"
        else:
            for edge in back:
                edge["condition"] = source.choice(("input.n % 2 == 0", "result.output.n % 3 != 0"))
    elif out and draft.chance("actions", 0.4):
        params["actions"] = source.sample(("x", "y", None, "z"), source.randint(1, 3))
    for edge in out:
        if not edge.get("back") and name not in draft.loops and draft.chance("actions", 0.25):
            edge["action"] = source.choice(("x", "y", "done", "again"))
    if params.get("of") == "nothing" and name in draft.fallbacks and source.random() < 0.5:
        params["actions"] = [source.choice(("x", "again", None))]


def _draw_texts(draft: _Draft) -> None:
    source = draft.source
    for edge in draft.edges:
        if draft.chance("conditions", 0.05 if draft.loops else 0.2):
            text = f"{source.choice(draft.names)}.n > 300" if draft.chance("names", 0.4) else source.choice(CONDITIONS)
            edge.setdefault("condition", "1 / 0 == 1" if source.random() < 0.06 else text)
    for name in draft.names:
        into = [edge for edge in draft.edges if edge["target"] == name]
        if into and "joinStrategy" not in draft.config[name] and draft.chance("inputs", 0.3):
            draft.inputs[name] = _inputs(source, [str(edge["source"]) for edge in into])
            if isinstance(draft.inputs[name], list):
                continue  # what a transform does to alternatives is not said
        if draft.chance("transforms", 0.7 if name in draft.inputs else 0.3):
            for edge in into:
                if source.random() < 0.8:
                    other = f"{source.choice(draft.names)}.n"
                    edge["transform"] = other if draft.chance("names", 0.3) else source.choice(TRANSFORMS)


def _inputs(source: random.Random, names: list[str]) -> object:
    def pick() -> str:
        return source.choice(names) + source.choice(("", "", ".n", ".nothing"))

    return source.choice((pick(), {"first": pick(), "second": [pick(), pick()]}, [pick(), pick()]))


def _json(draft: _Draft) -> Mapping[str, object]:
    names = list(draft.names)
    if "odd edges" in draft.features:
        draft.source.shuffle(names)
        draft.source.shuffle(draft.edges)
    nodes: list[Row] = []
    for name in names:
        node: Row = {"id": name, "uses": "behave", "params": draft.params[name], "config": draft.config[name]}
        if name in draft.inputs:
            node["inputs"] = draft.inputs[name]
        nodes.append(node)
    edges = [{k: v for k, v in edge.items() if k not in ("back", "parallel")} for edge in draft.edges]
    few = draft.features & {"few visits", "nested"}
    most = 8 if not few else draft.source.randint(1, 3) if not draft.loops else draft.source.randint(2, 5)
    metadata: Row = {"maxVisits": most}
    if "fail fast" in draft.features:
        metadata["failure"] = "fail-fast"
    if draft.entries:
        metadata["cycleEntryPoints"] = draft.entries
    return {"id": "generated", "nodes": nodes, "edges": edges, "metadata": metadata}
