"""The builder: Python functions and classes become a blueprint, and the functions behind it."""

from __future__ import annotations

import functools
import threading
from typing import Any

import pytest

from flowcraft import (
    ALL,
    ANY,
    Blueprint,
    ClassNode,
    Edge,
    Flow,
    FlowRuntime,
    Join,
    Node,
    NodeContext,
    Result,
    Retry,
    job,
)
from flowcraft.errors import DefinitionError

Ctx = NodeContext[Any, Any]


async def one(ctx: Ctx) -> Any:
    return [*(ctx.input or ()), 1]


async def two(ctx: Ctx) -> Any:
    return [*(ctx.input or ()), 2]


class Three(ClassNode[Any, Any, Any]):
    async def exec(self, prepared: Any, ctx: Ctx) -> Any:
        return [*(prepared or ()), 3]


def test_bare_and_with_arguments() -> None:
    flow = Flow[Any]("order")

    @flow.node
    async def fetch(ctx: Ctx) -> int:
        return 1

    @flow.node()
    async def check(ctx: Ctx) -> int:
        return 1

    @flow.node(
        after=[fetch, "check"], id="pay", uses="bank.pay", version=2, params={"currency": "EUR"},
        inputs={"order": "fetch"}, retries=Retry(attempts=5), never_retry=(KeyError,), timeout=30, fallback="check",
        join="any", losers="run", queue="slow", priority=3,
    )  # fmt: skip
    async def charge(ctx: Ctx) -> int:
        return 1

    assert flow.blueprint == Blueprint(
        "order",
        (
            Node("fetch", "order.fetch"),
            Node("check", "order.check"),
            Node(
                "pay", "bank.pay@2", params={"currency": "EUR"}, inputs={"order": "fetch"}, retry=Retry(attempts=5),
                timeout=30, fallback="check", join=Join(1, "run"), queue="slow", priority=3,
            ),
        ),
        (Edge("fetch", "pay"), Edge("check", "pay")),
    )  # fmt: skip
    assert sorted(flow.functions) == ["bank.pay@2", "order.check", "order.fetch"]
    assert flow.functions["bank.pay@2"].never_retry == (KeyError,)
    assert charge.__name__ == "charge", "a function stays the function that it was"


async def test_a_decorated_function_can_be_called_as_it_is() -> None:
    flow = Flow[Any]("order")
    assert flow.node(one) is one
    assert flow.node(id="again")(one) is one
    assert flow.node(Three) is Three


def test_options_of_a_flow() -> None:
    flow = Flow[Any](
        "order", version="3", failure="fail-fast", timeout=60, cycle_entry_points=[two], max_visits=5, metadata={"a": 1}
    )
    flow.node(one)
    flow.node(after="one")(two)
    assert flow.blueprint == Blueprint(
        "order",
        (Node("one", "order.one"), Node("two", "order.two")),
        (Edge("one", "two"),),
        version="3",
        failure="fail-fast",
        timeout=60,
        cycle_entry_points=("two",),
        max_visits=5,
        metadata={"a": 1},
    )


@pytest.mark.parametrize(
    ("options", "join"),
    [
        ({}, ALL),
        ({"join": "all"}, ALL),
        ({"join": "all", "losers": "run"}, Join(None, "run")),
        ({"join": "any"}, ANY),
        ({"join": 1}, ANY),
        ({"join": 3}, Join(3)),
        ({"join": 3, "losers": "run"}, Join(3, "run")),
        ({"join": Join(2, "run")}, Join(2, "run")),
    ],
)
def test_joins(options: dict[str, Any], join: Join) -> None:
    flow = Flow[Any]("flow")
    flow.node(**options)(one)
    assert flow.blueprint.nodes[0].join == join


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"join": "some"}, "join is 'all', 'any' or how many predecessors are needed, not 'some'"),
        ({"join": 0}, "the number of predecessors that a join needs must be at least 1"),
        ({"retries": 0}, "attempts must be at least 1"),
        ({"timeout": 0}, "timeout of node 'one' must be above 0"),
        ({"id": "x" * 201}, "node id .* the limit is 200"),
        ({"params": {"x": {1}}}, "params of node 'one'.x is a set"),
        ({"inputs": 5}, "inputs of node 'one' must be a name"),
        ({"queue": ""}, "queue of node 'one' must not be empty"),
        ({"version": "\ud800"}, "lone surrogate"),
    ],
)
def test_options_that_cannot_be_leave_no_trace(options: dict[str, Any], told: str) -> None:
    flow = Flow[Any]("flow")
    flow.node(two)
    with pytest.raises(DefinitionError, match=told):
        flow.node(**options)(one)
    assert [node.id for node in flow.blueprint.nodes] == ["two"]
    assert list(flow.functions) == ["flow.two"]
    with pytest.raises(DefinitionError):
        flow.id_of(one)


def test_retries_as_a_number_are_the_attempts() -> None:
    flow = Flow[Any]("flow")
    flow.node(retries=4)(one)
    assert flow.blueprint.nodes[0].retry == Retry(attempts=4)


async def test_after_in_every_form() -> None:
    flow = Flow[Any]("flow")
    flow.node(one)
    flow.node(after=one)(Three)
    flow.node(after=Three, id="by-class")(two)
    flow.node(after="by-class", id="by-id")(one)
    flow.node(after=[one, Three, "by-id"], id="by-list")(two)
    flow.node(after=("by-id", "by-list"), id="by-tuple")(two)
    assert [str(edge) for edge in flow.blueprint.edges] == [
        "one -> Three", "Three -> by-class", "by-class -> by-id",
        "one -> by-list", "Three -> by-list", "by-id -> by-list", "by-id -> by-tuple", "by-list -> by-tuple",
    ]  # fmt: skip
    result = await FlowRuntime([flow]).run(flow)
    assert result.output("by-id") == [1, 3, 2, 1]


async def test_a_function_under_several_ids() -> None:
    flow = Flow[Any]("flow")
    flow.node(one)
    flow.node(id="second", after=one)(one)
    flow.node(id="third", after="second")(one)
    assert {node.uses for node in flow.blueprint.nodes} == {"flow.one"}
    assert flow.id_of(one) == "one", "by reference the first of them"
    result = await FlowRuntime([flow]).run(flow)
    assert result.output(one) == [1]
    assert result.output("third") == [1, 1, 1]


def test_one_decorator_used_twice_keeps_its_options() -> None:
    flow = Flow[Any]("flow")
    flow.node(id="start")(one)
    slow = flow.node(after="start", retries=3, timeout=5, queue="slow")
    slow(one)
    slow(two)
    first, second = flow.blueprint.nodes[1:]
    assert (first.retry, first.timeout, first.queue) == (second.retry, second.timeout, second.queue)
    assert [str(edge) for edge in flow.blueprint.edges] == ["start -> one", "start -> two"]


def test_duplicate_ids_are_refused_at_once() -> None:
    flow = Flow[Any]("flow")
    flow.node(one)
    with pytest.raises(DefinitionError, match="flow 'flow' has a node 'one' already") as caught:
        flow.node(one)
    assert caught.value.subject == "one"
    with pytest.raises(DefinitionError, match="has a node 'one' already"):
        flow.node(id="one")(two)
    assert len(flow.blueprint.nodes) == 1


def test_two_functions_of_one_name_need_names_of_their_own() -> None:
    def make() -> Any:
        async def step(ctx: Ctx) -> None: ...

        return step

    first, second = make(), make()
    flow = Flow[Any]("flow")
    flow.node(first)
    with pytest.raises(DefinitionError, match=r"has another function as 'flow.step': give one of them uses=…"):
        flow.node(id="other")(second)
    flow.node(id="other", uses="flow.other")(second)
    flow.node(id="newer", version=2)(second)
    assert sorted(flow.functions) == ["flow.other", "flow.step", "flow.step@2"]

    class Step(ClassNode[Any, Any, Any]):
        async def exec(self, prepared: Any, ctx: Ctx) -> None: ...

    with pytest.raises(DefinitionError, match=r"has another function as 'flow\.step'"):
        flow.node(id="class", uses="flow.step")(Step)


def test_never_retry_belongs_to_a_name_not_to_a_node() -> None:
    flow = Flow[Any]("flow")
    flow.node(never_retry=[KeyError])(one)
    with pytest.raises(DefinitionError, match=r"the same function with another never_retry as 'flow\.one'"):
        flow.node(id="other")(one)
    flow.node(id="same", never_retry=[KeyError])(one)
    flow.node(id="other", uses="flow.patient")(one)
    assert flow.functions["flow.one"].never_retry == (KeyError,)
    assert flow.functions["flow.patient"].never_retry == ()


async def test_edges_may_be_added_before_their_nodes() -> None:
    flow = Flow[Any]("flow")
    flow.edge("one", "two", condition="len(result.output) > 0", transform="[9]")
    flow.edge("two", Three, action="more")
    flow.edge(two, "end")
    for function in (two, one, Three):
        flow.node(function)
    with pytest.raises(DefinitionError, match="flow 'flow' has no node 'end'") as caught:
        _ = flow.blueprint
    assert caught.value.subject == "'end'"
    flow.node(id="end")(one)
    assert flow.blueprint.edges == (
        Edge("one", "two", condition="len(result.output) > 0", transform="[9]"),
        Edge("two", "Three", action="more"),
        Edge("two", "end"),
    )
    assert (await FlowRuntime([flow]).run(flow)).output("end") == [9, 2, 1]


@pytest.mark.parametrize("where", ["after", "edge", "fallback", "entry"])
def test_references_to_no_node_are_named(where: str) -> None:
    flow = Flow[Any]("flow", cycle_entry_points=[two] if where == "entry" else [])
    flow.node(after=two if where == "after" else None, fallback=two if where == "fallback" else None)(one)
    if where == "edge":
        flow.edge("one", two)  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="flow 'flow' has no node two"):
        _ = flow.blueprint


def test_a_flow_without_nodes() -> None:
    with pytest.raises(DefinitionError, match="blueprint 'flow' has no nodes"):
        _ = Flow[Any]("flow").blueprint


def test_a_fallback_by_reference_or_id_even_before_it_exists() -> None:
    flow = Flow[Any]("flow")
    flow.node(fallback="two")(one)
    flow.node(two)
    flow.node(fallback=two)(Three)
    assert [node.fallback for node in flow.blueprint.nodes] == ["two", None, "two"]


def test_a_blueprint_does_not_change_when_the_flow_grows() -> None:
    params = {"list": [1]}
    flow = Flow[Any]("flow", metadata=params)
    flow.node(params=params)(one)
    before = flow.blueprint
    assert flow.blueprint is before
    content = before.content_hash
    flow.node(after=one)(two)
    params["list"].append(2)
    assert (len(before.nodes), before.edges, before.content_hash) == (1, (), content)
    assert before.nodes[0].params == {"list": [1]}
    assert flow.blueprint is not before
    with pytest.raises(TypeError):
        flow.functions["x"] = flow.functions["flow.one"]  # type: ignore[index]


def test_the_content_is_the_same_in_every_process() -> None:
    def make() -> Flow[Any]:
        flow = Flow[Any]("flow")
        flow.node(one)
        flow.node(after=one, retries=3)(two)
        return flow

    assert make().blueprint.content_hash == make().blueprint.content_hash


class Service:
    """Methods as nodes: a bound method is another object at every look."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def first(self, ctx: Ctx) -> str:
        return self.name

    async def second(self, ctx: Ctx) -> str:
        return f"{ctx.input} {self.name}"


async def test_methods_are_nodes() -> None:
    a, b = Service("a"), Service("b")
    flow = Flow[Any]("flow")
    flow.node(a.first)
    flow.node(after=a.first, id="again")(a.first)
    flow.node(after=a.first)(a.second)
    with pytest.raises(DefinitionError, match=r"another function as 'flow\.first'"):
        flow.node(id="b")(b.first)
    flow.node(id="b", uses="b.second", after=a.second)(b.second)
    result = await FlowRuntime([flow]).run(flow)
    assert result.output("b") == "a a b"
    assert result.output(a.second) == "a a"
    with pytest.raises(DefinitionError, match="has no node first"):
        flow.id_of(b.first)


class CallableStep:
    async def __call__(self, ctx: Ctx) -> str:
        return "object"


async def test_partials_objects_lambdas_and_blocking_functions() -> None:
    async def with_name(name: str, ctx: Ctx) -> str:
        return name

    def blocking(ctx: Ctx) -> bool:
        return threading.current_thread() is not threading.main_thread()

    @functools.wraps(one)
    def wrapper(ctx: Ctx) -> Any:
        return one(ctx)

    flow = Flow[Any]("flow")
    flow.node(id="partial", uses="p")(functools.partial(with_name, "partial"))
    flow.node(id="object")(CallableStep())
    flow.node(id="lambda")(lambda ctx: "lambda")
    flow.node()(blocking)
    flow.node(id="wrapper")(wrapper)
    result = (await FlowRuntime([flow]).run(flow)).raise_for_failure()
    assert result.outputs == {
        "partial": "partial", "object": "object", "lambda": "lambda", "blocking": True, "wrapper": [1]
    }  # fmt: skip


async def test_versions_name_the_function_that_runs() -> None:
    async def new(ctx: Ctx) -> str:
        return "new"

    flow = Flow[Any]("flow")
    flow.node(id="old", uses="step")(one)
    flow.node(id="new", uses="step", version="2b")(new)
    assert [node.uses for node in flow.blueprint.nodes] == ["step", "step@2b"]
    assert (await FlowRuntime([flow]).run(flow)).outputs == {"old": [1], "new": "new"}


async def test_results_choose_edges() -> None:
    flow = Flow[Any]("flow")

    @flow.node
    async def decide(ctx: Ctx) -> Result[int]:
        return Result(5, action="large")

    flow.node(id="large")(two)
    flow.node(id="small")(one)
    flow.edge("decide", "large", action="large", transform="[input]")
    flow.edge("decide", "small", action="small")
    result = await FlowRuntime([flow]).run(flow)
    assert (result.output(), result.nodes["small"]) == ([5, 2], "skipped")


async def test_a_job_is_a_flow_of_one_node() -> None:
    runtime = FlowRuntime()
    for given, made in ((None, [1]), ([0], [0, 1])):
        result = await runtime.run(job(one), given)
        assert (result.output(), result.output(one), dict(result.nodes)) == (made, made, {"one": "completed"})
    assert (await runtime.run(job(Three))).output(Three) == [3]
    assert job(one).blueprint == job(one).blueprint


async def test_a_job_takes_the_options_of_a_node() -> None:
    (node,) = job(one, id="first", retries=3, timeout=5, version=2, params={"a": 1}).blueprint.nodes
    assert node == Node("first", "first.one@2", {"a": 1}, retry=Retry(3), timeout=5)
    assert job(one, id="first").blueprint.id == "first"
    with pytest.raises(DefinitionError):
        job(one, retries=0)
