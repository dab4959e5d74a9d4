"""Bad input: each piece is refused with a typed error that names the thing, and nothing else is harmed by it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft import Blueprint, Edge, Flow, FlowRuntime, Join, Node, NodeContext, Result, Retry
from flowcraft.blueprint import MAX_BLUEPRINT_BYTES, check_id
from flowcraft.errors import (
    DefinitionError,
    ExpressionError,
    FlowcraftError,
    InvalidRequest,
    PayloadTooLarge,
    SerializationError,
)
from flowcraft.graph import compile_graph

Ctx = NodeContext[Any, Any]
MEGABYTE = 1 << 20


async def echo(ctx: Ctx) -> Any:
    return ctx.input


def blueprint(*nodes: dict[str, Any], edges: Any = (), **more: Any) -> Blueprint:
    return Blueprint.from_dict({"id": "b", "nodes": list(nodes), "edges": list(edges), **more})


def two(**edge: Any) -> Blueprint:
    """a -> b."""
    nodes = {"id": "a", "uses": "echo"}, {"id": "b", "uses": "echo"}
    return blueprint(*nodes, edges=[{"source": "a", "target": "b", **edge}])


async def still_works(runtime: FlowRuntime) -> None:
    """Nothing was lost: what ran before runs again."""
    result = await runtime.run(Blueprint("works", (Node("a", "echo"),)), 7)
    assert (result.status, result.output()) == ("completed", 7)


@pytest.fixture
def runtime() -> FlowRuntime:
    return FlowRuntime(registry={"echo": echo})


# Blueprints.


@pytest.mark.parametrize(
    ("data", "told", "subject"),
    [
        (None, "the blueprint must be an object, not NoneType", "the blueprint"),
        ([], "the blueprint must be an object, not list", "the blueprint"),
        ({}, "blueprint id must be a string, not NoneType", "blueprint id"),
        ({"id": "b"}, "blueprint 'b' has no nodes", "b"),
        ({"id": "b", "nodes": []}, "blueprint 'b' has no nodes", "b"),
        ({"id": "b", "nodes": "a"}, "nodes must be a list or an object, not str", "nodes"),
        ({"id": "b", "nodes": [5]}, "a node must be an object, not int", "a node"),
        ({"id": "b", "nodes": {"x": None}}, "node 'x' must be an object, not NoneType", "node 'x'"),
        ({"id": "b", "nodes": [{"uses": "f"}]}, "node id must be a string, not NoneType", "node id"),
        ({"id": "b", "nodes": [{"id": "a"}]}, "'uses' of node 'a' must be a string", "'uses' of node 'a'"),
        ({"id": "b", "nodes": [{"id": "a", "uses": "f"}] * 2}, "two nodes have the id 'a'", "a"),
        ({"id": "b", "nodes": {"x": {"id": "a", "uses": "f"}, "a": {"uses": "g"}}}, "two nodes have the id 'a'", "a"),
        ({"id": "b", "nodes": [{"id": "a", "uses": "f"}], "edges": 5}, "edges must be a list or an object", "edges"),
        (
            {"id": "b", "nodes": [{"id": "a", "uses": "f"}], "edges": ["x"]},
            "edge 0 must be an object, not str",
            "edge 0",
        ),
        ({"id": "b", "nodes": [{"id": "a", "uses": "f"}], "metadata": [1]}, "metadata must be an object", "metadata"),
    ],
)
def test_shapes(data: Any, told: str, subject: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Blueprint.from_dict(data)
    assert told in str(caught.value)
    assert caught.value.subject == subject


@pytest.mark.parametrize(
    ("edge", "told"),
    [
        ({"source": "a", "target": "nowhere"}, "edge a -> nowhere has a target that does not exist: 'nowhere'"),
        ({"source": "nowhere", "target": "a"}, "edge nowhere -> a has a source that does not exist: 'nowhere'"),
        ({"target": "a"}, "source of edge 0 must be a string"),
        ({"source": "a", "target": 5}, "target of edge 0 must be a string, not int"),
        ({"source": "a", "target": "a", "action": 5}, "action of edge a -> a must be text, not int"),
        ({"source": "a", "target": "a", "condition": True}, "condition of edge a -> a must be text, not bool"),
        ({"source": "a", "target": "a", "transform": ["x"]}, "transform of edge a -> a must be text, not list"),
        ({"source": "a", "target": "a", "condition": "x == '\ud800'"}, "condition of edge a -> a .* lone surrogate"),
        ({"source": "a", "target": "a", "action": "x" * 201}, "action of edge a -> a .* has 201 bytes"),
    ],
)
def test_edges(edge: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        blueprint({"id": "a", "uses": "f"}, edges=[edge])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ([1], "config of node 'a' must be an object"),
        ({"fallback": "gone"}, "the fallback 'gone' of node 'a' does not exist"),
        ({"fallback": 5}, "fallback of node 'a' must be text"),
        ({"maxRetries": -1}, "node 'a': attempts must be at least 1, not -1"),
        ({"maxRetries": 1.5}, "node 'a': attempts must be a whole number, not 1.5"),
        ({"maxRetries": True}, "node 'a': attempts must be a whole number, not True"),
        ({"maxRetries": 10**400}, "node 'a': attempts must be at most"),
        ({"retryDelay": "5"}, "node 'a': retryDelay must be a number, not '5'"),
        ({"retryDelay": -1}, "node 'a': retryDelay must be at least 0, not -1"),
        ({"retryBackoff": 0.5}, "node 'a': backoff must be at least 1, not 0.5"),
        ({"retryJitter": 2}, "node 'a': jitter is a share between 0 and 1, not 2"),
        ({"retryMaxDelay": None, "retryJitter": "x"}, "node 'a': retryJitter must be a number, not 'x'"),
        ({"timeout": 0}, "timeout of node 'a' must be above 0"),
        ({"timeout": math.nan}, "node 'a': timeout must be finite"),
        ({"timeout": 10**400}, "node 'a': timeout must be at most"),
        ({"joinStrategy": "some"}, "node 'a': joinStrategy is 'all', 'any' or"),
        ({"joinStrategy": {"atLeast": 0}}, "node 'a': the number of predecessors that a join needs must be at least 1"),
        ({"joinStrategy": {"atLeast": "2"}}, "node 'a': the number of predecessors .* must be a whole number"),
        ({"joinStrategy": {"atLeast": 1, "more": 2}}, "node 'a': joinStrategy is"),
        ({"losers": "kill"}, "node 'a': losers is 'cancel' or 'run', not 'kill'"),
        ({"losers": []}, "node 'a': losers is"),
        ({"queue": ""}, "queue of node 'a' must not be empty"),
        ({"queue": "q" * 201}, "queue of node 'a' .* the limit is 200"),
        ({"priority": "high"}, "priority of node 'a' must be a whole number, not 'high'"),
        ({"priority": 10**30}, "priority of node 'a' must be at most"),
    ],
)
def test_settings_of_a_node(config: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        blueprint({"id": "a", "uses": "f", "config": config})


@pytest.mark.parametrize("inputs", [5, [], [5], [""], {"x": 5}, {"x": {"y": "z"}}, {"x": []}, {"x": None}, {"x": ""}])
def test_inputs(inputs: object) -> None:
    with pytest.raises(DefinitionError, match="inputs of node 'a' must be a name"):
        blueprint({"id": "a", "uses": "f", "inputs": inputs})
    with pytest.raises(DefinitionError, match="inputs of node 'a' must be a name"):
        Node("a", "f", inputs=inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"version": ["1"]}, "metadata.version must be text"),
        ({"version": True}, "metadata.version must be text"),
        ({"cycleEntryPoints": "a"}, "metadata.cycleEntryPoints must be a list of node ids"),
        ({"cycleEntryPoints": [5]}, "cycle entry point must be a string"),
        ({"cycleEntryPoints": ["gone"]}, "the cycle entry point 'gone' does not exist"),
        ({"failure": "explode"}, "failure is 'continue' or 'fail-fast', not 'explode'"),
        ({"timeout": -5}, "metadata.timeout must be at least 0, not -5"),
        ({"timeout": 0}, "timeout of blueprint 'b' must be above 0"),
        ({"maxVisits": 0}, "maxVisits of blueprint 'b' must be at least 1, not 0"),
        ({"maxVisits": 2.0}, "maxVisits of blueprint 'b' must be a whole number"),
        ({"x": math.inf}, "metadata.x is inf, which is not JSON"),
    ],
)
def test_settings_of_a_blueprint(metadata: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        blueprint({"id": "a", "uses": "f"}, metadata=metadata)


def test_settings_may_not_hide_in_metadata() -> None:
    with pytest.raises(DefinitionError, match="metadata of blueprint 'b' has 'timeout', which is a setting"):
        Blueprint("b", (Node("a", "f"),), metadata={"timeout": 5})


def recursive_list() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, r"params of node 'a'\.x is nan, which is not JSON"),
        (-math.inf, r"params of node 'a'\.x is -inf, which is not JSON"),
        ({1, 2}, r"params of node 'a'\.x is a set, which is not JSON"),
        (b"x", r"params of node 'a'\.x is a bytes, which is not JSON"),
        ([1, {"y": ["\ud800"]}], r"params of node 'a'\.x\[1\]\.y\[0\] '\\ud800' holds a lone surrogate"),
        ({5: "x"}, r"a key of params of node 'a'\.x must be text, not int"),
        ({"\ud800": "x"}, r"a key of params of node 'a'\.x '\\ud800' holds a lone surrogate"),
        (1 << 5000, r"params of node 'a'\.x is an integer of more than 2048 bits"),
        (recursive_list(), r"nested more than 100 levels deep"),
    ],
)
def test_parameters(value: object, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        Node("a", "f", params={"x": value})
    with pytest.raises(DefinitionError, match=told.replace("params of node 'a'", "metadata")):
        Blueprint("b", (Node("a", "f"),), metadata={"x": value})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Retry(attempts=0), "attempts must be at least 1"),
        (lambda: Retry(delay=math.nan), "delay must be finite"),
        (lambda: Retry(delay=10**5000), "delay must be at most 1e\\+10, not a value of type int"),
        (lambda: Retry(backoff=0.9), "backoff must be at least 1"),
        (lambda: Retry(jitter=1.1), "jitter is a share"),
        (lambda: Retry(jitter=True), "jitter must be a number"),
        (lambda: Join(at_least=True), "must be a whole number"),
        (lambda: Join(losers="x"), "losers is"),  # type: ignore[arg-type]
        (lambda: Node("a", "f", params=5), "params of node 'a' must be an object"),  # type: ignore[arg-type]
        (lambda: Edge("a", "b", action=""), "action of edge a -> b must not be empty"),
        (lambda: Edge("a", "b", condition=""), "condition of edge a -> b must not be empty"),
        (lambda: Blueprint("b", ()), "blueprint 'b' has no nodes"),
    ],
)
def test_parts_made_in_python(make: Callable[[], object], told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        make()


# JSON text.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "malformed JSON at line 1, column 1"),
        ('{"id": "b",\n  "nodes": [}', "malformed JSON at line 2, column 13"),
        ('{"id": "b"} x', "malformed JSON at line 1, column 13: Extra data"),
        ('{"id": "b", "nodes": [{"id": "a", "uses": "f", "params": {"x": NaN}}]}', "holds NaN, which is not JSON"),
        ('{"id": "b", "nodes": [{"id": "a", "uses": "f", "params": {"x": -Infinity}}]}', "holds -Infinity"),
        ('{"id": "b", "nodes": [{"id": "a", "uses": "f", "params": {"x": 1e999}}]}', "x is inf, which is not JSON"),
        ('{"id": "b", "nodes": [{"id": "a", "uses": "f", "params": {"x": "\\ud800"}}]}', "lone surrogate"),
        ('{"id": "b\\ud800", "nodes": [{"id": "a", "uses": "f"}]}', "blueprint id .* lone surrogate"),
        (
            '{"id": "b", "nodes": [{"id": "a", "uses": "f", "params": {"x": ' + "1" * 5000 + "}}]}",
            "number that is too long",
        ),
        ('{"id": "b", "nodes": {"a": {"uses": "f"}, "a": {"uses": "g"}}}', "has the key 'a' twice"),
        ('{"id": "b", "nodes": ' + "[" * 100_000, "nested too deeply"),
        (b'{"id": "\xff"}', "not UTF-8 text"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        ("null", "the blueprint must be an object"),
    ],
)
def test_json_text(text: str | bytes, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        Blueprint.from_json(text)


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_garbage_is_always_a_definition_error(garbage: str | bytes) -> None:
    with pytest.raises(DefinitionError):
        Blueprint.from_json(garbage)


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = {
    "blueprint": ["id", "nodes", "edges", "metadata"],
    "node": ["id", "uses", "params", "inputs", "config"],
    "edge": ["source", "target", "action", "condition", "transform"],
    "config": ["maxRetries", "retryDelay", "retryBackoff", "retryMaxDelay", "retryJitter", "timeout", "fallback",
               "joinStrategy", "losers", "queue", "priority"],
    "metadata": ["version", "cycleEntryPoints", "failure", "timeout", "maxVisits", "other"],
}  # fmt: skip


@given(st.sampled_from([(part, key) for part, keys in PLACES.items() for key in keys]), json_data)
def test_any_data_anywhere_loads_or_is_a_definition_error(place: tuple[str, str], value: Any) -> None:
    parts: dict[str, dict[str, Any]] = {
        "config": {}, "metadata": {}, "edge": {"source": "a", "target": "a"}, "node": {"id": "a", "uses": "f"}
    }  # fmt: skip
    parts["node"]["config"] = parts["config"]
    parts["blueprint"] = {
        "id": "b", "nodes": [parts["node"]], "edges": [parts["edge"]], "metadata": parts["metadata"]
    }  # fmt: skip
    part, key = place
    parts[part][key] = value
    try:
        loaded = Blueprint.from_dict(parts["blueprint"])
        assert Blueprint.from_json(loaded.to_json()) == loaded
        compile_graph(loaded)
    except DefinitionError as error:
        assert len(str(error)) < 5000  # noqa: PT017 - an error is one of two allowed ends


def test_a_blueprint_beyond_the_limit(runtime: FlowRuntime) -> None:
    large = {"text": "x" * (9 * MEGABYTE)}
    text = json.dumps({"id": "b", "nodes": [{"id": "a", "uses": "echo", "params": large}]})
    with pytest.raises(DefinitionError, match=f"has {len(text)} bytes, the limit is {MAX_BLUEPRINT_BYTES}"):
        Blueprint.from_json(text)
    with pytest.raises(
        DefinitionError, match=f"blueprint 'b' has .* bytes as JSON, the limit is {MAX_BLUEPRINT_BYTES}"
    ):
        runtime.register(Blueprint("b", (Node("a", "echo", params=large),)))


# What depends on the graph, and on what is registered.


def test_a_cycle_that_can_never_end_is_refused_where_none_is_allowed() -> None:
    nodes = [{"id": name, "uses": "echo"} for name in "sab"]
    edges = [{"source": "s", "target": "a"}, {"source": "a", "target": "b"}, {"source": "b", "target": "a"}]
    with pytest.raises(DefinitionError, match="the cycle closed by b -> a can never end") as caught:
        FlowRuntime(blueprints=[blueprint(*nodes, edges=edges)], registry={"echo": echo}, strict=True)
    assert caught.value.subject == "a"
    FlowRuntime(blueprints=[blueprint(*nodes, edges=edges)], registry={"echo": echo})


def test_a_cycle_entered_at_several_nodes() -> None:
    nodes = [{"id": name, "uses": "echo"} for name in "stab"]
    ends = ["sa", "tb", "ab", "ba"]
    edges = [{"source": source, "target": target, "condition": "true"} for source, target in ends]
    with pytest.raises(DefinitionError, match=r"a cycle is entered at several nodes \('a', 'b'\)"):
        FlowRuntime(blueprints=[blueprint(*nodes, edges=edges)])


def test_a_circle_of_fallbacks() -> None:
    nodes = [{"id": a, "uses": "echo", "config": {"fallback": b}} for a, b in ("ab", "bc", "cb")]
    with pytest.raises(DefinitionError, match="the fallbacks of 'b' form a circle") as caught:
        FlowRuntime(blueprints=[blueprint(*nodes)])
    assert caught.value.subject == "b"


async def test_a_node_without_an_implementation(runtime: FlowRuntime) -> None:
    ran: list[str] = []

    async def mark(ctx: Ctx) -> None:
        ran.append(ctx.node_id)

    mixed = FlowRuntime(registry={"echo": mark})
    with pytest.raises(DefinitionError, match=r"1 node\(s\) of blueprint 'b' .* 'late' uses 'gone@2'") as caught:
        await mixed.run(blueprint({"id": "a", "uses": "echo"}, {"id": "late", "uses": "gone@2"}))
    assert caught.value.subject == "late"
    assert ran == [], "refused before anything runs"
    await still_works(runtime)


async def test_unknown_and_ambiguous_blueprints(runtime: FlowRuntime) -> None:
    with pytest.raises(DefinitionError, match=r"there is no blueprint 'nope' here \(known: none\)"):
        await runtime.run("nope")
    with pytest.raises(DefinitionError, match="two blueprints have the id 'b'"):
        FlowRuntime(blueprints=[blueprint({"id": "a", "uses": "f"}), blueprint({"id": "a", "uses": "g"})])
    await still_works(runtime)


# Ids.

ODD_IDS = ["it's", 'say "hi"', "a/b\\c", "日本語", "emoji 😀", "a\nb\t", "%s {x}", "../..", "'; DROP TABLE", "a.b",
           "_outputs", "constructor", "$fc:dict", " ", "x" * 200, "é" * 100, "-1", "5", "None"]  # fmt: skip


@pytest.mark.parametrize("odd", ODD_IDS)
async def test_odd_ids_are_fine(odd: str) -> None:
    made = Blueprint(odd, (Node(odd, odd, params={odd: odd}), Node("end", "end")), (Edge(odd, "end", action=odd),))
    assert Blueprint.from_json(made.to_json()) == made

    async def start(ctx: Ctx) -> Result[Any]:
        await ctx.context.set(odd, ctx.params)
        return Result(ctx.input, action=odd)

    async def end(ctx: Ctx) -> Any:
        return [ctx.input, await ctx.context.get(odd)]

    result = await FlowRuntime(blueprints=[made], registry={odd: start, "end": end}).run(odd, 1, run_id=odd)
    assert result.raise_for_failure().output() == [1, {odd: odd}]
    assert (result.run_id, result.output(odd)) == (odd, 1)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("", "must not be empty"),
        ("x" * 201, "has 201 bytes, the limit is 200"),
        ("é" * 101, "has 202 bytes, the limit is 200"),
        ("x" * 10 * MEGABYTE, "has 10485760 bytes, the limit is 200"),
        ("a\0b", "holds a NUL character"),
        ("a\ud800", "holds a lone surrogate"),
        (5, "must be a string, not int"),
        (None, "must be a string, not NoneType"),
        (b"a", "must be a string, not bytes"),
    ],
)
async def test_ids_that_cannot_be(bad: Any, told: str, runtime: FlowRuntime) -> None:
    def refused(what: str, error: type[FlowcraftError] = DefinitionError) -> Any:
        return pytest.raises(error, match=f"{what}.*{told}")

    with refused("a thing"):
        check_id(bad, "a thing")
    with refused("node id"):
        Node(bad, "f")
    with refused("'uses' of node 'a'"):
        Node("a", bad)
    with refused("blueprint id"):
        Blueprint(bad, (Node("a", "f"),))
    with refused("flow id"):
        Flow[None](bad)
    with refused("uses"):
        FlowRuntime(registry={bad: echo})
    with refused("context key", InvalidRequest):
        await runtime.run(blueprint({"id": "a", "uses": "echo"}), context={bad: 1})
    if bad is not None:
        with refused("run id", InvalidRequest):
            await runtime.run(blueprint({"id": "a", "uses": "echo"}), run_id=bad)
    await still_works(runtime)

    async def write(ctx: Ctx) -> None:
        with pytest.raises(SerializationError, match=f"context key.*{told}"):
            await ctx.context.get(bad)
        await ctx.context.set(bad, 1)

    result = await FlowRuntime(registry={"write": write}).run(Blueprint("b", (Node("a", "write"),)))
    assert result.status == "failed"
    assert result.errors[0].errors[0].kind == "SerializationError"
    assert result.context == {}


@pytest.mark.parametrize("bad", ["x" * 201, "a\0b", "a\ud800", 5, ["x"]])
async def test_actions_that_cannot_be(bad: Any) -> None:
    async def act(ctx: Ctx) -> Result[int]:
        return Result(1, action=bad)

    result = await FlowRuntime(registry={"act": act}).run(Blueprint("b", (Node("a", "act"),)))
    assert result.status == "failed"
    assert "the action of a Result" in result.errors[0].errors[0].text


# Values.


class Unknown:
    """A class that no codec knows."""


def recursive_dict() -> dict[str, Any]:
    found: dict[str, Any] = {"a": [1]}
    found["a"].append(found)
    return found


def deep_list() -> Any:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    return value


REFUSED: list[tuple[Any, type[SerializationError]]] = [
    (math.nan, SerializationError),
    ([1, {"x": math.inf}], SerializationError),
    ("\ud800", SerializationError),
    ({"\ud800": 1}, SerializationError),
    ({5: 1}, SerializationError),
    (recursive_dict(), SerializationError),
    (deep_list(), SerializationError),
    ({1, 2}, SerializationError),
    (Unknown(), SerializationError),
    (Unknown, SerializationError),
    (echo, SerializationError),
    ("x" * (10 * MEGABYTE), PayloadTooLarge),
    (b"x" * (10 * MEGABYTE), PayloadTooLarge),
    (["x" * 1000] * 10_000, PayloadTooLarge),
]


@pytest.mark.parametrize(("value", "error"), REFUSED, ids=range(len(REFUSED)))
async def test_values_that_cannot_be_stored(value: Any, error: type[SerializationError], runtime: FlowRuntime) -> None:
    plain = blueprint({"id": "a", "uses": "echo"})
    with pytest.raises(error, match=r"^\$"):
        await runtime.run(plain, value)
    with pytest.raises(error, match=r"^\$"):
        await runtime.run(plain, context={"key": value})
    await still_works(runtime)


@pytest.mark.parametrize(("value", "error"), REFUSED, ids=range(len(REFUSED)))
async def test_a_node_that_makes_one_fails_alone(value: Any, error: type[SerializationError]) -> None:
    calls: list[str] = []

    async def good(ctx: Ctx) -> int:
        await ctx.context.set("kept", 1)
        return 1

    async def returns(ctx: Ctx) -> Any:
        calls.append(ctx.node_id)
        await ctx.context.set("lost", 1)
        return value

    async def writes(ctx: Ctx) -> None:
        calls.append(ctx.node_id)
        await ctx.context.set("lost", value)

    nodes = [Node(name, name, retry=Retry(attempts=3, delay=0.0)) for name in ("good", "returns", "writes")]
    runtime = FlowRuntime(registry={"good": good, "returns": returns, "writes": writes})
    result = await runtime.run(Blueprint("b", tuple(nodes)))
    assert result.status == "failed"
    assert {failure.node_id: failure.errors[0].kind for failure in result.errors} == {
        "returns": error.__name__, "writes": error.__name__
    }  # fmt: skip
    assert calls == ["returns", "writes"], "what cannot be stored is never tried again"
    assert (result.outputs, result.context) == ({"good": 1}, {"kept": 1})


async def test_a_missing_result_is_told_by_name(runtime: FlowRuntime) -> None:
    async def lost(ctx: Ctx) -> Any:
        return [].copy  # forgotten parentheses

    result = await FlowRuntime(registry={"lost": lost}).run(Blueprint("b", (Node("a", "lost"),)))
    assert "builtin_function_or_method cannot be stored" in str(result.errors[0])


# Expressions.


@pytest.mark.parametrize("place", ["condition", "transform"])
@pytest.mark.parametrize(
    "source",
    ["x" * MEGABYTE, "(" * 10_000 + "1" + ")" * 10_000, "[" * 10_000, "!" * 4000 + "1", "1 +", "x ==== 1", "'open",
     "__import__('os')", "a; b", "1 +\n\n) "],
)  # fmt: skip
async def test_expressions_that_cannot_be(place: str, source: str, runtime: FlowRuntime) -> None:
    with pytest.raises(ExpressionError, match=f"the {place} of edge a -> b does not parse") as caught:
        await runtime.run(two(**{place: source}))
    assert caught.value.subject == "a -> b"
    assert caught.value.source == source
    assert 0 <= caught.value.position <= len(source)
    assert len(str(caught.value)) < 1000
    await still_works(runtime)


@pytest.mark.parametrize(
    "source", ["a" * MEGABYTE, "a." + "x." * 5000 + "y", "a.[", "a.x y", "_outputs.", "a" + "." * 10]
)
def test_names_of_inputs_that_cannot_be(source: str) -> None:
    with pytest.raises(ExpressionError, match="inputs of node 'n' do not parse") as caught:
        compile_graph(Blueprint("b", (Node("a", "f"), Node("n", "f", inputs=source))))
    assert caught.value.subject == "n"
    assert len(str(caught.value)) < 1000


# The builder and the runtime.


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "5"])
async def test_concurrency_that_cannot_be(concurrency: Any, runtime: FlowRuntime) -> None:
    with pytest.raises(InvalidRequest, match="concurrency must be a whole number of at least 1"):
        FlowRuntime(concurrency=concurrency)
    with pytest.raises(InvalidRequest, match="concurrency must be a whole number of at least 1"):
        await runtime.run(two(), concurrency=concurrency)


class Needy:
    def __init__(self, what: int) -> None:
        self.what = what


async def no_parameter() -> None: ...
async def two_parameters(a: Ctx, b: int) -> None: ...
async def keyword_parameter(a: Ctx, *, b: int) -> None: ...
def plain_stream(ctx: Ctx) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("implementation", "told"),
    [
        (5, "what is registered as 'f' is not callable: 5"),
        (None, "is not callable"),
        (Needy, "Needy is not a ClassNode"),
        (no_parameter, "the function of 'f' must take one argument: its context"),
        (two_parameters, "the function of 'f' must take one argument: its context"),
        (keyword_parameter, "the function of 'f' must take one argument: its context"),
        (plain_stream, "the function of 'f' is a generator"),
    ],
)
def test_implementations_that_cannot_be(implementation: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        FlowRuntime(registry={"f": implementation})
    flow = Flow[Any]("flow")
    with pytest.raises(DefinitionError):
        flow.node(uses="f", id="a")(implementation)
    with pytest.raises(DefinitionError, match="has no nodes"):
        _ = flow.blueprint


@pytest.mark.parametrize("deps", [dict, lambda: 5, lambda: iter(())])
async def test_dependencies_that_cannot_be_opened(deps: Any) -> None:
    runtime = FlowRuntime(registry={"echo": echo}, deps=deps)
    with pytest.raises(InvalidRequest, match="deps must be a function that returns an async context manager"):
        await runtime.run(two())


@pytest.mark.parametrize("uses", ["wait", "sleep", "subflow"])
def test_a_function_that_would_never_be_executed_is_refused(uses: str) -> None:
    async def mine(ctx: NodeContext[Any, Any]) -> None: ...

    with pytest.raises(DefinitionError, match=f"registered as '{uses}' would never be executed") as caught:
        FlowRuntime(registry={uses: mine})
    assert caught.value.subject == uses
    flow = Flow[None]("f")
    flow.node(mine, uses=uses)
    with pytest.raises(DefinitionError, match=f"registered as '{uses}'"):
        FlowRuntime([flow])


@pytest.mark.parametrize("uses", ["webhook", "loop-controller"])
async def test_what_can_stand_in_for_a_built_in_node_still_may(uses: str) -> None:
    async def mine(ctx: NodeContext[Any, Any]) -> list[int]:
        return [7]

    runtime = FlowRuntime(blueprints=[Blueprint("b", (Node("n", uses),))], registry={uses: mine})
    assert (await runtime.run("b")).output() == [7]
