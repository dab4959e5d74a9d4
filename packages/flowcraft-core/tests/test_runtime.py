"""Runs in process: routes, joins, values, dependencies, events; and what happens when something goes wrong."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import enum
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flowcraft import (
    ANY,
    Blueprint,
    Edge,
    FatalError,
    Flow,
    FlowRuntime,
    Join,
    JsonCodec,
    Node,
    NodeContext,
    Result,
    Retry,
    RunResult,
)
from flowcraft.errors import DefinitionError, SerializationError
from flowcraft.model import Event

from .ports.virtual_clock import VirtualClock

Ctx = NodeContext[Any, Any]
Function = Callable[[Ctx], Any]


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncGenerator[None]:
    yield
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith("flowcraft")]
    assert left == []


async def name(ctx: Ctx) -> str:
    return ctx.node_id


async def echo(ctx: Ctx) -> Any:
    return ctx.input


async def fails(ctx: Ctx) -> None:
    raise ValueError(ctx.node_id)


def edges_of(text: str) -> tuple[Edge, ...]:
    """``a-b b-c:action b-d?condition``."""
    found = []
    for part in text.split():
        ends, _, condition = part.partition("?")
        ends, _, action = ends.partition(":")
        source, target = ends.split("-")
        found.append(Edge(source, target, action or None, condition or None))
    return tuple(found)


def flow_of(text: str, *edges: Edge, nodes: dict[str, dict[str, Any]] | None = None, **settings: Any) -> Blueprint:
    """A blueprint whose nodes use the functions of their ids, or else ``name``."""
    made, options = (*edges_of(text), *edges), nodes or {}
    ids = dict.fromkeys([*options, *(end for edge in made for end in (edge.source, edge.target))])
    return Blueprint("flow", tuple(Node(i, i, **options.get(i, {})) for i in ids), made, **settings)


async def run(
    blueprint: Blueprint, functions: dict[str, Function] | None = None, input: object = None, **options: Any
) -> RunResult:
    settings = {key: options.pop(key) for key in ("context", "concurrency", "run_id") if key in options}
    known = {node.uses: (functions or {}).get(node.uses, name) for node in blueprint.nodes}
    return await FlowRuntime(registry=known, **options).run(blueprint, input, **settings)


# Routes.


async def test_a_chain_hands_on_its_outputs() -> None:
    async def add(ctx: Ctx) -> int:
        return int(ctx.input) + 1

    result = await run(flow_of("a-b b-c"), dict.fromkeys("abc", add), 1)
    assert (result.status, result.outputs, result.output()) == ("completed", {"a": 2, "b": 3, "c": 4}, 4)


async def test_a_long_chain_needs_no_recursion() -> None:
    edges = tuple(Edge(f"n{i}", f"n{i + 1}") for i in range(5000))
    result = await run(flow_of("", *edges))
    assert result.output() == "n5000"


async def test_a_fan_and_a_diamond_collect_by_source() -> None:
    result = await run(flow_of("s-c s-a s-b b-j a-j c-j"), {"j": echo})
    assert result.output() == {"b": "b", "a": "a", "c": "c"}
    assert list(result.output()) == ["b", "a", "c"], "in the blueprint's order of edges"


@pytest.mark.parametrize(
    ("value", "taken"), [(3, {"small"}), (30, {"large"}), (300, {"large", "huge"}), (None, {"default"})]
)
async def test_conditions(value: object, taken: set[str]) -> None:
    blueprint = flow_of(
        "",
        Edge("s", "small", condition="result.output < 10"),
        Edge("s", "large", condition="result.output >= 10 && result.action === null"),
        Edge("s", "huge", condition="s > 100"),
        Edge("s", "default", condition="result.output == null"),
    )
    result = await run(blueprint, {"s": echo}, value)
    assert {node for node, state in result.nodes.items() if state == "completed"} == {"s"} | taken
    assert {node for node, state in result.nodes.items() if state == "skipped"} == {*result.nodes} - {"s"} - taken
    assert result.status == "completed"


@pytest.mark.parametrize(
    ("action", "taken"),
    [("x", {"x"}), ("y", {"y"}), ("z", {"other"}), (None, {"other"}), ("", {"other"}), ("never", set())],
)
async def test_actions(action: str | None, taken: set[str]) -> None:
    async def act(ctx: Ctx) -> Result[int]:
        return Result(1, action)

    result = await run(flow_of("s-x:x s-y:y s-n:never?false s-other"), {"s": act})
    assert {node for node, state in result.nodes.items() if state == "completed"} == {"s"} | taken


async def test_an_enumeration_as_action() -> None:
    class Way(enum.StrEnum):
        LEFT = "left"

    async def act(ctx: Ctx) -> Result[int]:
        return Result(1, action=Way.LEFT)

    result = await run(flow_of("s-x:left s-y"), {"s": act})
    assert result.nodes == {"s": "completed", "x": "completed", "y": "skipped"}


async def test_dead_paths_reach_joins() -> None:
    blueprint = flow_of("s-a:a s-b:b a-j b-c c-j")

    async def act(ctx: Ctx) -> Result[None]:
        return Result(None, action="a")

    result = await run(blueprint, {"s": act, "j": echo})
    assert result.nodes == {"s": "completed", "a": "completed", "b": "skipped", "j": "completed", "c": "skipped"}
    assert result.output() == {"a": "a"}, "of two predecessors one came"


@pytest.mark.parametrize(
    ("join", "failing", "state", "output"),
    [
        (Join(), "", "completed", {"x": "x", "y": "y", "z": "z"}),
        (Join(), "y", "skipped", None),
        (ANY, "", "completed", "x"),
        (ANY, "x", "completed", "y"),
        (ANY, "xyz", "skipped", None),
        (Join(2), "", "completed", {"x": "x", "y": "y"}),
        (Join(2), "x", "completed", {"y": "y", "z": "z"}),
        (Join(2), "xy", "skipped", None),
        (Join(4), "", "skipped", None),
    ],
)
async def test_joins(join: Join, failing: str, state: str, output: object) -> None:
    blueprint = flow_of("x-j y-j z-j", nodes={"j": {"join": join}})
    result = await run(blueprint, {**dict.fromkeys(failing, fails), "j": echo})
    assert (result.nodes["j"], result.outputs.get("j")) == (state, output)
    assert result.status == ("failed" if failing and state == "skipped" else "completed")


async def test_a_condition_that_cannot_be_evaluated_fails_its_node() -> None:
    blueprint = flow_of("", Edge("s", "a", condition="result.output > 'x'"), nodes={"s": {"fallback": "f"}, "f": {}})
    result = await run(blueprint, {"s": echo}, 5)
    assert (result.status, result.nodes) == ("failed", {"s": "failed", "f": "skipped", "a": "skipped"})
    assert result.output("s") == 5, "the output is kept"
    assert result.errors[0].errors[0].kind == "ConditionError"
    assert "edge s -> a" in result.errors[0].errors[0].text


async def test_a_cycle_goes_round_until_its_action_says_so() -> None:
    async def count(ctx: Ctx) -> Result[int]:
        seen = await ctx.context.get("seen", [])
        await ctx.context.set("seen", [*seen, (ctx.visit, ctx.input)])
        return Result(ctx.visit, action="again" if ctx.visit < 3 else "done")

    result = await run(flow_of("s-c c-b:again b-c c-e:done"), {"c": count, "b": echo, "e": echo}, 0)
    assert result.context == {"seen": [(1, "s"), (2, 1), (3, 2)]}
    assert result.output() == 3


# Values.


async def test_none_is_a_value() -> None:
    async def none(ctx: Ctx) -> None:
        await ctx.context.set("key", None)

    async def look(ctx: Ctx) -> list[Any]:
        found: list[Any] = [ctx.input]
        for key in ("key", "other"):
            found += [await ctx.context.has(key), await ctx.context.get(key, 5)]
        return found

    result = await run(flow_of("a-b"), {"a": none, "b": look})
    assert result.output() == [None, True, None, False, 5]
    assert (result.context, result.output("a")) == ({"key": None}, None)


async def test_inputs_of_every_form() -> None:
    async def make(ctx: Ctx) -> Any:
        return {"total": 5, "items": [{"id": 7}], "none": None}

    forms: dict[str, Any] = {
        "name": "a",
        "path": "a.total",
        "deep": "a.items[0].id",
        "missing": "a.nothing.at.all",
        "key": "shared",
        "key_path": "shared.deep",
        "mapping": {"x": "a.total", "y": "shared.deep", "z": "nobody"},
        "alternatives": ["nobody", "shared", "a"],
        "in_mapping": {"x": ["nobody", "a.total"]},
        "none": "a.none",
        "outputs": "_outputs.a.total",
    }
    blueprint = flow_of(" ".join(f"a-{form}" for form in forms), nodes={f: {"inputs": i} for f, i in forms.items()})
    result = await run(blueprint, {**dict.fromkeys(forms, echo), "a": make}, context={"shared": {"deep": 1}})
    result.raise_for_failure()
    assert {form: result.outputs[form] for form in forms} == {
        "name": {"total": 5, "items": [{"id": 7}], "none": None},
        "path": 5,
        "deep": 7,
        "missing": None,
        "key": {"deep": 1},
        "key_path": 1,
        "mapping": {"x": 5, "y": 1, "z": None},
        "alternatives": {"deep": 1},
        "in_mapping": {"x": 5},
        "none": None,
        "outputs": 5,
    }


async def test_transforms() -> None:
    async def make(ctx: Ctx) -> Any:
        return {"items": [1, 2, 3]}

    edges = (
        Edge("a", "len", transform="len(input.items)"),
        Edge("a", "list", transform="[input.items[0], context.key]"),
        Edge("a", "named", transform="input + 1"),
        Edge("a", "j", transform="input.items[2]"),
        Edge("b", "j"),
    )
    result = await run(
        flow_of("", *edges, nodes={"named": {"inputs": "key"}}),
        {**dict.fromkeys(("len", "list", "named", "j"), echo), "a": make},
        context={"key": 9},
    )
    assert result.raise_for_failure().outputs == {
        "a": {"items": [1, 2, 3]}, "b": "b", "len": 3, "list": [1, 9], "named": 10, "j": {"a": 3, "b": "b"}
    }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Order:
    number: int
    tags: list[str] = dataclasses.field(default_factory=list[str])


@dataclasses.dataclass
class Box:
    orders: list[Order]


async def test_dataclasses_of_annotations_travel() -> None:
    async def make(ctx: NodeContext[Order, None]) -> Box:
        return Box([ctx.input])

    async def take(ctx: NodeContext[Box, None]) -> Order:
        assert type(ctx.input) is Box
        return ctx.input.orders[0]

    runtime = FlowRuntime(registry={"a": make, "b": take})
    result = await runtime.run(flow_of("a-b"), {"number": 5, "tags": ["x"]})
    assert result.raise_for_failure().output() == Order(5, ["x"])
    assert (await runtime.run(flow_of("a-b"), Order(6))).output() == Order(6)


async def test_an_input_of_another_type_fails_the_node_once() -> None:
    async def take(ctx: NodeContext[Order, None]) -> None:
        raise AssertionError("never called")

    result = await run(flow_of("", nodes={"a": {"retry": Retry(attempts=3, delay=0.0)}}), {"a": take}, {"number": "x"})
    assert "$.number" in str(result.errors[0])
    assert result.errors[0].errors[0].kind == "SerializationError"


async def test_nobody_sees_what_another_node_does_to_a_value() -> None:
    async def make(ctx: Ctx) -> Any:
        made = {"list": [1]}
        await ctx.context.set("key", made)
        made["list"].append("late")
        return {"list": [1], "order": Order(1)}

    async def spoil(ctx: Ctx) -> Any:
        for value in (ctx.input, await ctx.context.get("key"), (await ctx.context.to_dict())["key"], ctx.params):
            value["list"].append("spoilt")
        ctx.params["other"] = 1
        ctx.input["order"].tags.append("spoilt")
        return [ctx.input["list"], await ctx.context.get("key")]

    blueprint = flow_of("a-b a-c b-d c-d", nodes={name: {"params": {"list": [1]}} for name in "bcd"} | {"d": {
        "params": {"list": [1]}, "inputs": "a"}})  # fmt: skip
    runtime = FlowRuntime(registry={"a": make, **dict.fromkeys("bcd", spoil)}, codec=JsonCodec(types=[Order]))
    given = {"list": [0]}
    for _ in range(2):
        result = (await runtime.run(blueprint, given)).raise_for_failure()
        for node in "bcd":
            assert result.outputs[node] == [[1, "spoilt"], {"list": [1]}], node
        assert result.output("a") == {"list": [1], "order": Order(1)}
        assert result.context == {"key": {"list": [1]}}
    assert blueprint.node("b").params == {"list": [1]}
    assert given == {"list": [0]}


async def test_what_an_attempt_did_to_its_input_the_next_does_not_see() -> None:
    async def spoil(ctx: Ctx) -> Any:
        ctx.input.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError
        return ctx.input

    result = await run(flow_of("", nodes={"a": {"retry": Retry(attempts=3, delay=0.0)}}), {"a": spoil}, [0])
    assert result.output() == [0, 3]


async def test_a_failed_attempt_leaves_no_writes() -> None:
    async def write(ctx: Ctx) -> None:
        shared = ctx.context
        assert await shared.get("kept") == 0
        await shared.set("kept", ctx.attempt)
        await shared.set(f"attempt-{ctx.attempt}", True)
        await shared.delete("given")
        assert not await shared.has("given")
        if ctx.attempt < 3:
            raise ValueError

    blueprint = flow_of("a-b", nodes={"a": {"retry": Retry(attempts=3, delay=0.0)}, "b": {}})
    result = await run(blueprint, {"a": write, "b": fails}, context={"kept": 0, "given": 1, "other": 2})
    assert result.context == {"kept": 3, "attempt-3": True, "other": 2}


async def test_the_context_of_a_visit() -> None:
    async def use(ctx: Ctx) -> list[Any]:
        shared = ctx.context
        assert shared is ctx.context
        before = await shared.to_dict()
        await shared.set("new", {"x": (1, 2)})
        told = [await shared.delete("given"), await shared.delete("given"), await shared.delete("never")]
        return [before, told, await shared.get("new"), await shared.get("given", "gone"), await shared.to_dict()]

    result = await run(flow_of("", nodes={"a": {}}), {"a": use}, context={"given": 1})
    assert result.output() == [{"given": 1}, [True, False, False], {"x": (1, 2)}, "gone", {"new": {"x": (1, 2)}}]


async def test_what_one_node_wrote_the_next_reads_and_the_last_commit_wins() -> None:
    first, second = asyncio.Event(), asyncio.Event()

    async def slow(ctx: Ctx) -> None:
        await ctx.context.set("key", "slow")
        first.set()
        await second.wait()

    async def quick(ctx: Ctx) -> None:
        await first.wait()
        assert await ctx.context.get("key") is None, "not before it is committed"
        await ctx.context.set("key", "quick")

    async def then(ctx: Ctx) -> Any:
        second.set()
        return await ctx.context.get("key")

    result = await run(flow_of("quick-then", nodes={"slow": {}}), {"slow": slow, "quick": quick, "then": then})
    assert (result.output("then"), result.context) == ("quick", {"key": "slow"})


async def test_what_a_node_knows_of_itself() -> None:
    clock = VirtualClock(1000.0)

    async def tell(ctx: Ctx) -> list[Any]:
        return [ctx.run_id, ctx.node_id, ctx.visit, ctx.attempt, ctx.last_attempt, ctx.deadline, ctx.params, ctx.deps,
                ctx.cancelled, ctx.idempotency_key]  # fmt: skip

    options = {"params": {"x": 1}, "timeout": 5, "retry": Retry(attempts=2)}
    result = await run(flow_of("", nodes={"a": options}), {"a": tell}, clock=clock, deps="deps", run_id="r")
    assert result.output() == ["r", "a", 1, 1, False, 1005.0, {"x": 1}, "deps", False, "r/a/1"]


async def test_a_run_without_an_id_gets_one() -> None:
    ids = {(await run(flow_of("a-b"))).run_id for _ in range(3)}
    assert len(ids) == 3


# Failures.


async def test_independent_branches_finish_before_the_run_fails() -> None:
    result = await run(flow_of("s-a a-b s-c c-d"), {"a": fails})
    assert result.nodes == {"s": "completed", "a": "failed", "b": "skipped", "c": "completed", "d": "completed"}
    assert result.status == "failed"


async def test_a_fallback_stands_in_and_routes_both() -> None:
    async def rescue(ctx: Ctx) -> Result[Any]:
        return Result(ctx.input, action="rescued")

    blueprint = flow_of("a-x:rescued a-y f-z:rescued f-w", nodes={"a": {"fallback": "f"}})
    result = await run(blueprint, {"a": fails, "f": rescue, "x": echo, "z": echo}, 5)
    assert result.status == "completed"
    assert [node for node, state in result.nodes.items() if state == "skipped"] == ["y", "w"]
    got = result.output("x")
    assert (got["input"], got["error"]["kind"], got["error"]["message"]) == (5, "ValueError", "a")
    assert result.output("z") == result.output("a") == got


async def test_a_fatal_error_skips_retries_and_the_fallback() -> None:
    calls: list[int] = []

    async def fatal(ctx: Ctx) -> None:
        calls.append(ctx.attempt)
        raise FatalError("enough")

    blueprint = flow_of("", nodes={"a": {"fallback": "f", "retry": Retry(attempts=5, delay=0.0)}, "f": {}})
    result = await run(blueprint, {"a": fatal})
    assert (calls, result.nodes) == ([1], {"a": "failed", "f": "skipped"})


async def test_errors_that_never_retry_go_to_the_fallback_at_once() -> None:
    flow, calls = Flow[Any]("flow"), []

    @flow.node(retries=Retry(attempts=5, delay=0.0), never_retry=[LookupError], fallback="rescue")
    async def work(ctx: Ctx) -> None:
        calls.append(ctx.attempt)
        if ctx.attempt == 2:
            raise KeyError("no use")
        raise ValueError("again")

    @flow.node
    async def rescue(ctx: Ctx) -> Any:
        return ctx.input["error"]["kind"]

    result = await FlowRuntime([flow]).run(flow)
    assert (calls, result.output()) == ([1, 2], "KeyError")


async def wait_until(condition: Callable[[], object]) -> None:
    """Let others run until it holds; the test's time limit is the limit."""
    while not condition():  # noqa: ASYNC110 - it is a condition of several tasks together
        await asyncio.sleep(0)


async def test_retries_wait_as_long_as_their_policy_says() -> None:
    clock, times = VirtualClock(0.0), []

    async def flaky(ctx: Ctx) -> str:
        times.append((ctx.attempt, clock.time()))
        if ctx.attempt < 5:
            raise ValueError
        return "done"

    retry = Retry(attempts=5, delay=0.25, backoff=4.0, max_delay=10.0, jitter=0.0)
    running = asyncio.ensure_future(run(flow_of("", nodes={"a": {"retry": retry}}), {"a": flaky}, clock=clock))
    for _ in range(100):
        if running.done():
            break
        await clock.advance(0.25)
    assert (await running).output() == "done"
    assert times == [(1, 0.0), (2, 0.25), (3, 1.25), (4, 5.25), (5, 15.25)]


async def test_an_earlier_retry_does_not_wait_for_a_later_one() -> None:
    clock, again = VirtualClock(0.0), []

    async def flaky(ctx: Ctx) -> None:
        again.append((ctx.node_id, clock.time()))
        if ctx.attempt < 2:
            raise ValueError

    delays = {"late": 60.0, "early": 2.0, "middle": 30.0}
    nodes = {name: {"retry": Retry(attempts=2, delay=delay, jitter=0.0)} for name, delay in delays.items()}
    running = asyncio.ensure_future(
        run(flow_of("", nodes=nodes, timeout=100), dict.fromkeys(delays, flaky), clock=clock)
    )
    await clock.advance(70.0)
    assert (await running).status == "completed"
    assert again[3:] == [("early", 2.0), ("middle", 30.0), ("late", 60.0)]


async def test_a_retry_holds_no_place() -> None:
    clock, order = VirtualClock(0.0), []

    async def flaky(ctx: Ctx) -> None:
        order.append(ctx.node_id)
        if ctx.attempt < 2:
            raise ValueError

    blueprint = flow_of("b-c", nodes={"a": {"retry": Retry(attempts=2, delay=60.0, jitter=0.0)}})
    running = asyncio.ensure_future(run(blueprint, dict.fromkeys("abc", flaky), clock=clock, concurrency=1))
    await clock.advance(30.0)
    assert order == ["a", "b"], "while a waits"
    await clock.advance(31.0)
    assert (await running).errors[0].node_id == "b"
    assert order == ["a", "b", "a"]


async def test_a_run_past_its_deadline() -> None:
    clock, stopped = VirtualClock(0.0), []

    async def slow(ctx: Ctx) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(ctx.node_id)

    blueprint = flow_of("s-a s-b b-c", nodes={"r": {"retry": Retry(attempts=2, delay=500.0)}}, timeout=100)
    running = asyncio.ensure_future(run(blueprint, {"a": slow, "b": slow, "r": fails}, clock=clock))
    await clock.advance(99.0)
    assert not running.done()
    await clock.advance(1.0)
    result = await running
    assert (result.status, result.cause) == ("failed", "DeadlineExceeded: the run did not end in time")
    assert sorted(stopped) == ["a", "b"]
    assert result.nodes == {"r": "cancelled", "s": "completed", "a": "cancelled", "b": "cancelled", "c": "cancelled"}


async def test_a_deadline_that_is_met_leaves_no_timer() -> None:
    clock = VirtualClock(0.0)
    assert (await run(flow_of("a-b", timeout=100), clock=clock)).status == "completed"


async def test_fail_fast_cancels_what_runs_and_starts_nothing() -> None:
    started, stopped = asyncio.Event(), []

    async def slow(ctx: Ctx) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(ctx.node_id)

    async def fails_then(ctx: Ctx) -> None:
        await started.wait()
        raise ValueError("now")

    result = await run(flow_of("s-a s-b a-c b-c", failure="fail-fast"), {"a": slow, "b": fails_then})
    assert (result.status, stopped) == ("failed", ["a"])
    assert result.nodes == {"s": "completed", "a": "cancelled", "b": "failed", "c": "cancelled"}
    assert [failure.node_id for failure in result.errors] == ["b"]


# Losers.


class Race:
    """``slow`` -> any join <- ``quick``, with all that one may want to know of the slow one."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ends: list[str] = []

    async def quick(self, ctx: Ctx) -> str:
        await self.started.wait()
        return "quick"

    async def slow(self, ctx: Ctx) -> str:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise
        finally:
            self.ends.append("finally")
        return "slow"

    async def run(self, functions: dict[str, Function] | None = None, more: str = "", **node: Any) -> RunResult:
        blueprint = flow_of(f"quick-j slow-j {more}", nodes={"j": {"join": ANY}, "slow": node})
        return await run(blueprint, {"quick": self.quick, "slow": self.slow, "j": echo, **(functions or {})})


async def test_a_loser_is_really_cancelled() -> None:
    race = Race()
    result = await race.run()
    assert race.ends == ["cancelled", "finally"]
    assert result.nodes == {"j": "completed", "slow": "cancelled", "quick": "completed"}
    assert (result.status, result.output()) == ("completed", "quick")


async def test_a_loser_that_nobody_waits_for_any_more_is_not_retried() -> None:
    race, attempts = Race(), []

    async def stubborn(ctx: Ctx) -> None:
        attempts.append(ctx.attempt)
        try:
            await race.slow(ctx)
        except asyncio.CancelledError:
            raise RuntimeError("as some libraries do") from None

    result = await race.run({"slow": stubborn}, retry=Retry(attempts=5, delay=0.0), fallback="f", more="f-x")
    assert attempts == [1]
    assert (result.status, result.nodes["slow"], result.nodes["f"]) == ("completed", "failed", "skipped")
    assert [(failure.node_id, failure.absolved) for failure in result.failures] == [("slow", True)]


async def test_a_loser_that_swallows_its_cancellation_is_recorded_and_routes_nothing() -> None:
    race = Race()

    async def stubborn(ctx: Ctx) -> str:
        try:
            return await race.slow(ctx)
        except asyncio.CancelledError:
            return "slow all the same"

    async def late(ctx: Ctx) -> None:
        raise AssertionError("a route of a loser")

    result = await race.run({"slow": stubborn})
    assert (result.status, result.nodes["slow"], result.output("slow")) == (
        "completed",
        "completed",
        "slow all the same",
    )
    assert result.output() == "quick"


async def test_losers_may_be_left_to_finish() -> None:
    gate, done = asyncio.Event(), []

    async def slow(ctx: Ctx) -> str:
        await gate.wait()
        done.append("slow")
        return "slow"

    async def after(ctx: Ctx) -> Any:
        gate.set()
        return ctx.input

    blueprint = flow_of("quick-j slow-j", nodes={"j": {"join": Join(1, losers="run")}})
    result = await run(blueprint, {"slow": slow, "j": after})
    assert (done, result.nodes["slow"], result.output()) == (["slow"], "completed", "quick")


async def test_a_loser_in_its_retry_is_cancelled_too() -> None:
    clock = VirtualClock(0.0)
    nodes = {"j": {"join": ANY}, "slow": {"retry": Retry(attempts=2, delay=1000.0)}}
    gate = asyncio.Event()

    async def quick(ctx: Ctx) -> None:
        await gate.wait()

    running = asyncio.ensure_future(
        run(flow_of("quick-j slow-j", nodes=nodes), {"slow": fails, "quick": quick}, clock=clock)
    )
    await clock.advance(1.0)
    gate.set()
    result = await running
    assert (result.status, result.nodes["slow"], result.failures) == ("completed", "cancelled", ())
    assert clock.time() == 1.0


# Cancelling.


async def test_a_cancelled_caller_leaves_nothing_behind() -> None:
    started, ends, closed = asyncio.Event(), [], []

    async def slow(ctx: Ctx) -> None:
        if ctx.node_id == "c":
            started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(ctx.node_id)

    @asynccontextmanager
    async def deps() -> AsyncIterator[str]:
        try:
            yield "open"
        finally:
            closed.append(sorted(ends))

    before = asyncio.all_tasks()
    blueprint = flow_of("s-a s-b s-c a-d", nodes={"r": {"retry": Retry(attempts=2, delay=500.0)}}, timeout=1000)
    running = asyncio.ensure_future(run(blueprint, {**dict.fromkeys("abc", slow), "r": fails}, deps=deps))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(ends) == ["a", "b", "c"]
    assert closed == [["a", "b", "c"]], "closed once, after the nodes have ended"
    assert asyncio.all_tasks() == before


async def test_a_cancelled_run_starts_nothing_more_even_if_a_node_swallows_it() -> None:
    started, ran = asyncio.Event(), []

    async def stubborn(ctx: Ctx) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ran.append("swallowed")

    async def after(ctx: Ctx) -> None:
        ran.append(ctx.node_id)

    running = asyncio.ensure_future(run(flow_of("a-b b-c"), {"a": stubborn, "b": after, "c": after}))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ran == ["swallowed"]


async def test_a_caller_with_a_time_limit() -> None:
    async def slow(ctx: Ctx) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run(flow_of("a-b"), {"b": slow})


# Odd nodes: a lane that they ran on is as good as new for the next node.


async def swallow(ctx: Ctx) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return "swallowed"
    return "not cancelled"


async def cancels_late(ctx: Ctx) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "returned"


async def cancels_itself(ctx: Ctx) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()


async def raises_cancelled(ctx: Ctx) -> None:
    raise asyncio.CancelledError("by itself")


async def awaits_cancelled(ctx: Ctx) -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


async def times_out(ctx: Ctx) -> None:
    async with asyncio.timeout(0):
        await asyncio.Event().wait()


async def uses_timeout(ctx: Ctx) -> str:
    try:
        await times_out(ctx)
    except TimeoutError:
        return "timeout"
    return "none"


async def uses_group(ctx: Ctx) -> list[int]:
    async def child(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(child(n)) for n in range(3)]
    return [task.result() for task in tasks]


async def group_fails(ctx: Ctx) -> None:
    async def child() -> None:
        raise ValueError("child")

    async with asyncio.TaskGroup() as group:
        group.create_task(child())
        await asyncio.Event().wait()


async def exits(ctx: Ctx) -> None:
    raise SystemExit(3)


async def stops(ctx: Ctx) -> None:
    raise StopAsyncIteration("no more")


ODD: dict[Function, tuple[str, str]] = {
    swallow: ("completed", "swallowed"),
    cancels_late: ("completed", "returned"),
    cancels_itself: ("failed", "NodeFailed: node 'odd' was cancelled by its own code"),
    raises_cancelled: ("failed", "NodeFailed: node 'odd' was cancelled by its own code"),
    awaits_cancelled: ("failed", "NodeFailed: node 'odd' was cancelled by its own code"),
    times_out: ("failed", "TimeoutError"),
    uses_timeout: ("completed", "timeout"),
    uses_group: ("completed", "[0, 1, 2]"),
    group_fails: ("failed", "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)"),
    exits: ("failed", "SystemExit: 3"),
    stops: ("failed", "StopAsyncIteration: no more"),
}


@pytest.mark.parametrize("following", ODD, ids=lambda f: f.__name__)
@pytest.mark.parametrize("odd", ODD, ids=lambda f: f.__name__)
async def test_an_odd_node_ends_alone(odd: Function, following: Function) -> None:
    async def other(ctx: Ctx) -> Any:
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return await following(ctx)

    blueprint = flow_of("odd-x?true next-y", nodes={"odd": {}, "next": {}})
    result = await run(blueprint, {"odd": odd, "next": other}, concurrency=1)
    for node, function in (("odd", odd), ("next", following)):
        state, told = ODD[function]
        assert result.nodes[node] == state
        if state == "completed":
            assert str(result.output(node)) == told
        else:
            failure = next(f for f in result.errors if f.node_id == node)
            assert str(failure.errors[0]) == told.replace("'odd'", repr(node))
    assert result.nodes["x"] == ("completed" if ODD[odd][0] == "completed" else "skipped")


async def test_a_node_that_cancels_itself_may_be_retried() -> None:
    async def once(ctx: Ctx) -> str:
        if ctx.attempt == 1:
            await cancels_itself(ctx)
        return "second"

    result = await run(flow_of("", nodes={"a": {"retry": Retry(attempts=2, delay=0.0)}}), {"a": once})
    assert result.output() == "second"


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_forgotten_await_is_named() -> None:
    async def forgot(ctx: Ctx) -> Any:
        return name(ctx)

    result = await run(flow_of("", nodes={"a": {}}), {"a": forgot})
    assert "a coroutine cannot be stored" in str(result.errors[0])


async def test_keyboard_interrupts_are_not_failures() -> None:
    class Stop(BaseException):
        pass

    async def interrupted(ctx: Ctx) -> None:
        raise Stop

    ends: list[str] = []

    async def slow(ctx: Ctx) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("slow")

    with pytest.raises(Stop):
        await run(flow_of("s-a s-b"), {"a": slow, "b": interrupted})
    assert ends == ["slow"]


VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


async def test_context_variables_do_not_leak_between_nodes() -> None:
    seen: dict[str, str] = {}

    async def at_once(ctx: Ctx) -> None:
        seen[ctx.node_id] = VARIABLE.get()
        VARIABLE.set(ctx.node_id)

    async def later(ctx: Ctx) -> None:
        seen[ctx.node_id] = VARIABLE.get()
        token = VARIABLE.set(ctx.node_id)
        for _ in range(3):
            await asyncio.sleep(0)
            assert VARIABLE.get() == ctx.node_id
        VARIABLE.reset(token)
        VARIABLE.set(ctx.node_id)

    VARIABLE.set("caller")
    functions = {"a": at_once, "b": later, "c": at_once, "d": later, "e": at_once, "f": later}
    await run(flow_of("a-b b-c c-d c-e c-f"), functions)
    assert seen == dict.fromkeys("abcdef", "caller")
    assert VARIABLE.get() == "caller"


async def test_tasks_of_a_node_see_its_variables() -> None:
    async def parent(ctx: Ctx) -> str:
        VARIABLE.set("mine")

        async def child() -> str:
            return VARIABLE.get()

        return await asyncio.create_task(child())

    assert (await run(flow_of("", nodes={"a": {}}), {"a": parent})).output() == "mine"


# Concurrency.


class Gauge:
    """Nodes that wait to be let go, one by one."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.waiting: list[asyncio.Event] = []

    async def __call__(self, ctx: Ctx) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        gate = asyncio.Event()
        self.waiting.append(gate)
        await gate.wait()
        self.running -= 1


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_the_concurrency_limit_is_used_and_never_exceeded(limit: int) -> None:
    gauge = Gauge()
    blueprint = flow_of(" ".join(f"s-n{i}" for i in range(20)))
    running = asyncio.ensure_future(run(blueprint, {f"n{i}": gauge for i in range(20)}, concurrency=limit))
    for done in range(20):
        wanted = min(done + limit, 20), min(limit, 20 - done)
        await wait_until(lambda: (len(gauge.waiting), gauge.running) == wanted)  # noqa: B023 - awaited at once
        gauge.waiting[done].set()
    assert (await running).status == "completed"
    assert gauge.most == limit


async def test_a_place_is_free_as_soon_as_a_branch_has_ended() -> None:
    """One lane ends in the same turn of the loop in which another one gets two nodes to run."""
    gate, both, arrived = asyncio.Event(), asyncio.Event(), []

    async def opened(ctx: Ctx) -> None:
        await gate.wait()

    async def meet(ctx: Ctx) -> None:
        arrived.append(ctx.node_id)
        if len(arrived) == 2:
            both.set()
        await both.wait()

    functions = {"a": opened, "b": opened, "x": meet, "y": meet}
    running = asyncio.ensure_future(run(flow_of("b-x b-y", nodes={"a": {}}), functions, concurrency=2))
    for _ in range(10):
        await asyncio.sleep(0)
    gate.set()
    assert (await running).status == "completed"


async def test_runs_share_a_runtime() -> None:
    async def work(ctx: Ctx) -> list[Any]:
        await asyncio.sleep(0)
        await ctx.context.set("mine", ctx.input)
        return [ctx.input, ctx.run_id]

    runtime = FlowRuntime(registry={"a": work, "b": echo})
    results = await asyncio.gather(*(runtime.run(flow_of("a-b"), n, run_id=f"r{n}") for n in range(20)))
    assert [result.output() for result in results] == [[n, f"r{n}"] for n in range(20)]
    assert [result.context for result in results] == [{"mine": n} for n in range(20)]


async def test_quick_nodes_let_others_run() -> None:
    turns = 0

    async def ticker() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(ticker())
    await run(flow_of("", *(Edge(f"n{i}", f"n{i + 1}") for i in range(2000))))
    task.cancel()
    assert turns >= 10


# Dependencies.


class Deps:
    def __init__(self) -> None:
        self.log: list[str] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Deps]:
        self.log.append("open")
        try:
            yield self
        except BaseException as error:
            self.log.append(type(error).__name__)
            raise
        finally:
            self.log.append("close")


async def test_dependencies_are_opened_once_and_closed() -> None:
    deps = Deps()

    async def use(ctx: Ctx) -> None:
        assert ctx.deps is deps
        deps.log.append(ctx.node_id)

    runtime = FlowRuntime(registry=dict.fromkeys("abc", use), deps=deps.open)
    assert deps.log == [], "nothing is opened before something runs"
    for _ in range(2):
        await runtime.run(flow_of("a-b a-c"))
    assert deps.log == ["open", "a", "b", "c", "close"] * 2


async def test_dependencies_are_closed_after_a_failure_and_after_a_crash() -> None:
    deps = Deps()

    class Crash(BaseException):
        pass

    async def crash(ctx: Ctx) -> None:
        raise Crash

    assert (await run(flow_of("a-b"), {"a": fails}, deps=deps.open)).status == "failed"
    assert deps.log == ["open", "close"]
    with pytest.raises(Crash):
        await run(flow_of("a-b"), {"a": crash}, deps=deps.open)
    assert deps.log[2:] == ["open", "Crash", "close"]


async def test_dependencies_that_do_not_open_start_nothing() -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    async def never(ctx: Ctx) -> None:
        raise AssertionError

    with pytest.raises(ConnectionError, match="no database"):
        await run(flow_of("a-b"), {"a": never}, deps=broken)


async def test_dependencies_may_be_the_object_itself() -> None:
    async def use(ctx: Ctx) -> Any:
        return ctx.deps["x"]

    assert (await run(flow_of("", nodes={"a": {}}), {"a": use}, deps={"x": 5})).output() == 5


# Events.


def kinds(events: list[Event]) -> list[str]:
    return [f"{event.type} {event.node}" if event.node else event.type for event in events]


async def test_events_tell_the_run_in_order_and_without_gaps() -> None:
    clock, events, again = VirtualClock(50.0), [], []

    async def work(ctx: Ctx) -> Result[int]:
        ctx.progress(0.5, "half")
        ctx.progress(7, "x" * 1000)
        return Result(1, action="left")

    blueprint = flow_of("a-b:left a-c:right b-d", nodes={"b": {"fallback": "f"}, "f": {}})
    result = await run(
        blueprint, {"a": work, "b": fails}, clock=clock, listeners=[events.append, again.append], run_id="r"
    )
    assert result.status == "completed"
    assert events == again, "every listener hears everything"
    assert kinds(events) == [
        "run:started", "node:started a", "node:progress a", "node:progress a", "node:completed a", "node:skipped c",
        "node:started b", "node:fallback b", "node:started f", "node:completed b", "node:started d", "node:completed d",
        "run:completed",
    ]  # fmt: skip
    numbered = [event.seq for event in events if event.seq]
    assert numbered == list(range(1, len(numbered) + 1))
    assert all((event.seq == 0) == (event.type in ("node:started", "node:progress")) for event in events)
    assert {event.run_id for event in events} == {"r"}
    assert {event.at for event in events} == {50.0}
    progress = [event.data for event in events if event.type == "node:progress"]
    assert progress == [{"share": 0.5, "text": "half"}, {"share": 1.0, "text": "x" * 500}]
    assert next(e.data for e in events if e.type == "node:fallback")["fallback"] == "f"
    for event in events:
        assert Event.from_json("r", event.seq, event.to_json()) == event


async def test_events_of_retries_and_failures() -> None:
    events: list[Event] = []
    nodes = {"a": {"retry": Retry(attempts=3, delay=0.0)}}
    result = await run(flow_of("a-b", nodes=nodes), {"a": fails}, listeners=[events.append])
    assert result.status == "failed"
    assert kinds(events) == [
        "run:started", "node:started a", "node:retry a", "node:retry a", "node:failed a", "node:skipped b", "run:failed"
    ]  # fmt: skip
    assert [event.data["attempt"] for event in events if event.type == "node:retry"] == [1, 2]


async def test_events_of_losers_and_of_a_deadline() -> None:
    clock, events = VirtualClock(0.0), []

    async def slow(ctx: Ctx) -> None:
        await asyncio.Event().wait()

    blueprint = flow_of("quick-j slow-j j-hang", nodes={"j": {"join": ANY}}, timeout=10)
    running = asyncio.ensure_future(
        run(blueprint, {"slow": slow, "hang": slow}, clock=clock, listeners=[events.append])
    )
    await clock.advance(20)
    assert (await running).status == "failed"
    told = kinds([event for event in events if event.seq])
    assert told[-4:] == ["run:failing", "node:draining hang", "node:cancelled hang", "run:failed"]
    assert "node:cancelled slow" in told
    assert [event.seq for event in events if event.seq] == list(range(1, len(told) + 1))


async def test_a_listener_that_raises_ends_the_run_and_leaves_nothing() -> None:
    def listener(event: Event) -> None:
        if event.type == "node:completed":
            raise LookupError("listener")

    with pytest.raises(LookupError, match="listener"):
        await run(flow_of("a-b"), listeners=[listener])


# Blueprints and flows.


async def test_running_by_id_blueprint_or_flow() -> None:
    flow = Flow[Any]("by-flow")
    flow.node(id="a")(name)
    other = Blueprint("by-blueprint", (Node("a", "f"),))
    runtime = FlowRuntime([flow], blueprints={"by-blueprint": other}, registry={"f": name})
    for reference in (flow, flow.blueprint, "by-flow", other, "by-blueprint"):
        assert (await runtime.run(reference)).output() == "a"
    assert (await runtime.run(Blueprint("unheard-of", (Node("x", "f"),)))).output() == "x"


async def test_a_flow_that_grew_is_run_as_it_is_now() -> None:
    flow = Flow[Any]("flow")
    flow.node(id="a")(name)
    runtime = FlowRuntime([flow])
    assert (await runtime.run(flow)).output() == "a"

    @flow.node(after="a")
    async def b(ctx: Ctx) -> str:
        return f"{ctx.input}b"

    assert (await runtime.run(flow)).output(b) == "ab"
    assert (await runtime.run("flow")).output() == "ab"


async def test_two_flows_of_one_id_with_other_functions() -> None:
    def make(answer: str) -> Flow[Any]:
        flow = Flow[Any]("flow")

        @flow.node
        async def work(ctx: Ctx) -> str:
            return answer

        return flow

    first, second = make("first"), make("second")
    with pytest.raises(DefinitionError, match=r"two different functions are registered as 'flow.work'"):
        FlowRuntime([first, second])
    runtime = FlowRuntime([first])
    with pytest.raises(DefinitionError, match=r"two different functions are registered as 'flow.work'"):
        await runtime.run(second)
    assert (await runtime.run("flow")).output() == "first", "the refusal changed nothing"


async def test_strict_applies_to_every_blueprint() -> None:
    endless = flow_of("s-a a-b b-a")
    runtime = FlowRuntime(registry=dict.fromkeys("sab", name), strict=True)
    with pytest.raises(DefinitionError, match="can never end"):
        await runtime.run(endless)
    result = await FlowRuntime(registry=dict.fromkeys("sab", name)).run(endless)
    assert result.status == "completed", "its back edges are ignored elsewhere"


async def test_values_are_checked_in_process_as_on_any_backend() -> None:
    class Plain:
        pass

    async def make(ctx: Ctx) -> Any:
        return Plain()

    result = await run(flow_of("a-b"), {"a": make})
    assert (result.status, result.errors[0].errors[0].kind) == ("failed", "SerializationError")
    with pytest.raises(SerializationError):
        await run(flow_of("a-b"), None, Plain())


async def test_results_do_not_share_with_the_run() -> None:
    kept: list[Any] = []

    async def make(ctx: Ctx) -> Any:
        made = {"list": [1]}
        kept.append(made)
        return made

    result = await run(flow_of("", nodes={"a": {}}), {"a": make})
    kept[0]["list"].append(2)
    assert result.output() == {"list": [1]}
