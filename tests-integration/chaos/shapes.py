"""The runs of a campaign: hand-made and random workflows, each with all the results that the oracle permits."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from oracle.behaviour import behaviour_of
from oracle.explore import TooManyStates, order_observable, run_randomly
from oracle.generator import Workflow, generate
from oracle.oracle import Oracle
from oracle.views import NotReady, RunView

from flowcraft import Blueprint

from .settings import LONG_SECONDS, Settings

__all__ = ["Order", "allowed_results", "draw", "result_key"]

Json = dict[str, object]
_MOST_STATES = 3_000
_MOST_ATTEMPTS = 40
#: Random workflows of each kind; then they are drawn again, for finding all their results takes long.
_MOST_RANDOM = 40


@dataclass(frozen=True)
class Order:
    """One run to be started. ``allowed`` are keys of the results that it may have (`result_key`)."""

    run_id: str
    shape: str
    blueprint: Blueprint
    input: object
    allowed: frozenset[str]


def draw(settings: Settings) -> list[Order]:
    """The campaign's runs, in the order in which they are started."""
    source = random.Random(settings.seed)
    shapes = [name for name in _HAND_MADE if name != "long"]
    known: dict[str, tuple[Blueprint, frozenset[str]]] = {}
    pools: dict[str, list[tuple[Workflow, frozenset[str]]]] = {"random": [], "random, order shows": []}
    orders: list[Order] = []
    for number in range(settings.runs):
        run_id = f"run-{settings.seed}-{number}"
        kind = source.random()
        if settings.long_nodes and number % 20 == 5:
            name = "long"
        else:
            name = source.choice(shapes) if kind < 0.55 else "random" if kind < 0.85 else "random, order shows"
        value: object = {"n": source.randrange(10), "from": "input"}
        if name in _HAND_MADE:
            key = f"{name} {value}"
            if key not in known:
                blueprint = _HAND_MADE[name]()
                known[key] = (blueprint, allowed_results(_without_delays(blueprint), value))
            orders.append(Order(run_id, name, known[key][0], value, known[key][1]))
        else:
            pool = pools[name]
            drawn = source.choice(pool) if len(pool) == _MOST_RANDOM else _random(source, ordered=name == "random")
            if len(pool) < _MOST_RANDOM:
                pool.append(drawn)
            workflow, allowed = drawn
            orders.append(Order(run_id, name, _named(workflow.blueprint, run_id), workflow.run_input, allowed))
    return orders


# --- what may come of them -----------------------------------------------------------------------------------------


def allowed_results(blueprint: Blueprint, value: object) -> frozenset[str]:
    """Every permitted result: of the one order if none can show, else of all orders, in commits of any size.

    Raises:
        TooManyStates: there are too many orders to look at.
    """
    if not order_observable(blueprint):
        oracle = Oracle(blueprint, behaviour_of(blueprint), value)
        run_randomly(oracle, random.Random(0))
        return frozenset({result_key(oracle.result())})
    todo = [Oracle(blueprint, behaviour_of(blueprint), value)]
    seen, results = {todo[0].key}, set[str]()
    while todo:
        oracle = todo.pop()
        if not oracle.ready():
            results.add(result_key(oracle.result()))
        for after in _after(oracle):
            if after.key not in seen:
                seen.add(after.key)
                todo.append(after)
        if len(seen) > _MOST_STATES:
            raise TooManyStates(f"more than {_MOST_STATES} states")
    return frozenset(results)


def result_key(view: RunView) -> str:
    """Text that is equal for equal results. Whether a cancelled node had begun is not kept, and does not count."""
    nodes = {name: replace(node, visit=0) if node.state == "cancelled" else node for name, node in view.nodes.items()}
    return replace(view, nodes=nodes).key


def _after(oracle: Oracle) -> list[Oracle]:
    """All that can happen next: an outcome, in a commit of its own or with the one before, or a lost loser."""
    found: list[Oracle] = []
    for slot in oracle.ready():
        for together in (False, True):
            if together and slot.node in oracle.new:
                continue  # nobody has heard of it before the commit
            after = oracle.clone()
            after.settle(slot, after.outcome_of(slot), same_commit=together)
            found.append(after)
        after = oracle.clone()
        try:
            after.drop(slot)
        except NotReady:
            continue
        found.append(after)
    return found


def _without_delays(blueprint: Blueprint) -> Blueprint:
    """For the oracle, whose retries do not wait."""
    data = blueprint.to_dict()
    for node in _rows(data["nodes"]):
        config = node.get("config")
        if isinstance(config, dict) and "maxRetries" in config:
            config["retryDelay"] = 0
    return Blueprint.from_dict(data)


def _rows(value: object) -> list[Json]:
    assert isinstance(value, list)
    return value


# --- random ones -----------------------------------------------------------------------------------------------------


def _random(source: random.Random, *, ordered: bool) -> tuple[Workflow, frozenset[str]]:
    """A workflow of the generator in which some nodes run. ``ordered``: no order can show in its result."""
    while True:
        workflow = generate(source, refused=0.0)
        blueprint = workflow.blueprint
        if order_observable(blueprint) == ordered or len(blueprint.nodes) < 3 or (not ordered and _reads(blueprint)):
            continue
        attempts = run_randomly(Oracle(blueprint, behaviour_of(blueprint), workflow.run_input), random.Random(0))
        if not 3 <= len(attempts) <= _MOST_ATTEMPTS:
            continue
        try:
            allowed = allowed_results(blueprint, workflow.run_input)
        except TooManyStates:
            continue
        if ordered or len(allowed) > 1:
            return workflow, allowed


def _reads(blueprint: Blueprint) -> bool:
    """Whether a node reads what it names when it is executed: then more results are permitted than by order alone."""
    texts = [text for edge in blueprint.edges for text in (edge.condition, edge.transform) if text is not None]
    return any(node.inputs is not None for node in blueprint.nodes) or any(
        text.split(".")[0] not in ("input", "result", "1 / 0 == 1") for text in texts
    )


def _named(blueprint: Blueprint, name: str) -> Blueprint:
    return Blueprint.from_dict({**blueprint.to_dict(), "id": name})


# --- hand-made ones --------------------------------------------------------------------------------------------------


def _node(name: str, config: Mapping[str, object] | None = None, *, uses: str = "behave", **params: object) -> Json:
    return {"id": name, "uses": uses, "params": params, "config": dict(config or {})}


def _made(name: str, nodes: list[Json], *edges: str | Json) -> Blueprint:
    rows = [
        dict(zip(("source", "target"), edge.split(">"), strict=True)) if isinstance(edge, str) else edge
        for edge in edges
    ]
    return Blueprint.from_dict({"id": name, "nodes": nodes, "edges": rows})


def _chain() -> Blueprint:
    names = [f"n{i}" for i in range(10)]
    edges = [f"{a}>{b}" for a, b in itertools.pairwise(names)]
    return _made("chain", [_node(n, write=True, ms=0 if i % 3 else 90) for i, n in enumerate(names)], *edges)


def _fan() -> Blueprint:
    names = [f"n{i}" for i in range(30)]
    nodes = [_node("first"), *(_node(name) for name in names), _node("last")]
    return _made("fan", nodes, *(f"first>{n}" for n in names), *(f"{n}>last" for n in names))


def _diamond() -> Blueprint:
    nodes = [_node(name, write=True) for name in "abcdef"]
    return _made(
        "diamond", nodes,
        {"source": "a", "target": "b", "condition": "result.output.n % 2 == 0"},
        {"source": "a", "target": "c", "condition": "result.output.n % 2 != 0"},
        "a>d", "b>e", "c>e", "d>e", {"source": "e", "target": "f", "condition": "result.output.n > 300"},
    )  # fmt: skip


def _retries(delay: int) -> Callable[[], Blueprint]:
    def make() -> Blueprint:
        config = {"maxRetries": 3, "retryDelay": delay, "retryJitter": 0, "retryBackoff": 1}
        flaky = _node("b", config, fail={"attempts": 2}, ms=80)
        hopeless = _node("c", {**config, "maxRetries": 2}, fail={"odd": True}, of="input", ms=40)
        nodes = [_node("a"), flaky, hopeless, _node("d"), _node("e")]
        return _made(f"retries after {delay} ms", nodes, "a>b", "a>c", "b>d", "c>e")

    return make


def _fallback() -> Blueprint:
    nodes = [
        _node("a"),
        _node("b", {"fallback": "f", "maxRetries": 2, "retryDelay": 20}, fail={"attempts": 5}, ms=60),
        _node("c", {"fallback": "g"}, fail={"kind": "final"}, ms=30),
        _node("f", ms=100), _node("g", ms=100), _node("d"),
    ]  # fmt: skip
    return _made("fallback", nodes, "a>b", "a>c", "b>d", "c>d")


def _any() -> Blueprint:
    nodes = [_node("a"), *(_node(n) for n in "bcd"), _node("e", {"joinStrategy": "any"}), _node("f")]
    return _made("any", nodes, "a>b", "a>c", "a>d", "b>e", "c>e", "d>e", "e>f")


def _cycle() -> Blueprint:
    nodes = [
        _node("a"), _node("b", write=True), _node("c"), _node("d"),
        _node("e", actions=[*["again"] * 5, None]), _node("f"),
    ]  # fmt: skip
    again: Json = {"source": "e", "target": "b", "action": "again"}
    return _made("cycle", nodes, "a>b", "b>c", "b>d", "c>e", "d>e", again, "e>f")


def _blocking() -> Blueprint:
    names = "bcde"
    nodes = [_node("a", uses="behave.blocking"), *(_node(n, uses="behave.blocking") for n in names), _node("f")]
    return _made("blocking", nodes, *(f"a>{n}" for n in names), *(f"{n}>f" for n in names))


def _long() -> Blueprint:
    nodes = [_node("a"), _node("b", ms=int(LONG_SECONDS * 1000)), _node("c"), _node("d")]
    return _made("long", nodes, "a>b", "a>c", "b>d", "c>d")


_HAND_MADE: dict[str, Callable[[], Blueprint]] = {
    "chain": _chain, "fan": _fan, "diamond": _diamond, "short retries": _retries(60), "durable retries": _retries(700),
    "fallback": _fallback, "any": _any, "cycle": _cycle, "blocking": _blocking, "long": _long,
}  # fmt: skip
