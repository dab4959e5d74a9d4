"""Subflows: in process, on memory and on SQLite; and with messages between parent and child lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowcraft import Flow, NodeContext, Retry
from flowcraft.subflows import MAX_DEPTH

from .places import Place, StoredPlace, signal

Ctx = NodeContext[Any, Any]


def a_child(**options: Any) -> Flow[Any]:
    child = Flow[Any]("child", **options)

    @child.node
    async def work(ctx: Ctx) -> Any:
        return {"got": ctx.input, "key": await ctx.context.get("key")}

    return child


def a_parent(child: Flow[Any], **options: Any) -> Flow[Any]:
    flow = Flow[Any]("parent")

    @flow.node
    async def before(ctx: Ctx) -> Any:
        await ctx.context.set("kept", "in the parent")
        return ctx.input

    flow.subflow("sub", child, after=before, **options)

    @flow.node(after="sub")
    async def end(ctx: Ctx) -> Any:
        return ctx.input

    return flow


async def test_a_child_gets_the_input_and_gives_its_output(place: Place) -> None:
    result = await place.run(a_parent(a_child()), 7)
    assert result.output("end") == {"got": 7, "key": None}
    assert result.output("sub") == {"got": 7, "key": None}


async def test_inputs_and_outputs_are_mapped(place: Place) -> None:
    child = Flow[Any]("child")

    @child.node
    async def work(ctx: Ctx) -> Any:
        await ctx.context.set("made", [await ctx.context.get("key"), ctx.input["n"]])
        return "output"

    flow = a_parent(child, inputs={"key": "kept", "n": "before"}, outputs={"a": "work", "b": "made", "c": "nothing"})
    result = await place.run(flow, 7)
    assert result.output("sub") == "output"
    assert result.context == {"kept": "in the parent", "a": "output", "b": ["in the parent", 7]}


async def test_a_child_that_fails_fails_the_node(place: Place) -> None:
    child = Flow[Any]("child")

    @child.node
    async def work(ctx: Ctx) -> Any:
        raise ValueError("in the child")

    result = await place.run(a_parent(child))
    assert result.status == "failed"
    assert [failure.node_id for failure in result.errors] == ["sub"]
    assert "SubflowFailed" in str(result.errors[0])
    assert "in the child" in str(result.errors[0])
    assert result.nodes["end"] == "skipped"


@pytest.mark.parametrize("delay", [0.1, 20.0])
async def test_each_attempt_is_another_child(place: Place, delay: float) -> None:
    children: list[str] = []
    child = Flow[Any]("child")

    @child.node
    async def work(ctx: Ctx) -> Any:
        children.append(ctx.run_id)
        if len(children) < 3:
            raise ValueError("not yet")
        return ctx.input

    result = await place.run(a_parent(child, retries=Retry(attempts=3, delay=delay, jitter=0.0)), 5)
    assert result.output("end") == 5
    assert len(set(children)) == 3
    assert result.run_id not in children


async def test_nested_three_deep(place: Place) -> None:
    flows = [a_child()]
    for depth in range(3):
        flow = Flow[Any](f"depth {depth}")
        flow.subflow("sub", flows[-1])

        @flow.node(after="sub")
        async def end(ctx: Ctx) -> Any:
            return {"deeper": ctx.input}

        flows.append(flow)
    result = await place.run(flows[-1], 1)
    assert result.output() == {"deeper": {"deeper": {"deeper": {"got": 1, "key": None}}}}


async def test_too_deep(place: Place) -> None:
    flow = Flow[Any]("endless")
    deepest = 0

    @flow.node
    async def count(ctx: Ctx) -> int:
        nonlocal deepest
        deepest = max(deepest, ctx.input)
        return int(ctx.input) + 1

    flow.subflow("deeper", "endless", after=count)
    result = await place.run(flow, 0)
    assert result.status == "failed"
    assert deepest == MAX_DEPTH
    assert "SubflowTooDeep" in str(result.errors[0])


async def test_subflows_in_a_loop_and_beside_each_other(place: Place) -> None:
    child = Flow[Any]("child")

    @child.node
    async def plus(ctx: Ctx) -> int:
        return int(ctx.input) + 1

    flow = Flow[Any]("parent")

    @flow.node
    async def begin(ctx: Ctx) -> Any:
        return ctx.input

    flow.subflow("one", child, after=begin)
    flow.subflow("two", child, after=begin)

    @flow.node(after=["one", "two"])
    async def add(ctx: Ctx) -> int:
        return int(ctx.input["one"] + ctx.input["two"])

    flow.loop("until ten", condition="input < 10", start=begin, end=add)

    @flow.node(after="until ten")
    async def end(ctx: Ctx) -> Any:
        return ctx.input

    assert (await place.run(flow, 1)).output("end") == 10


async def test_a_child_that_sleeps_holds_no_worker(stored: StoredPlace) -> None:
    child, other = Flow[Any]("child"), Flow[Any]("other")
    child.sleep("nap", "1d")

    @other.node
    async def quick(ctx: Ctx) -> str:
        return "quick"

    flow = a_parent(child)
    await stored.process([flow, other], concurrency=1)
    run = await stored.start(flow, 1)
    await stored.happened("node:waiting", "nap")
    assert (await stored.run(other)).output() == "quick"
    assert await run.status() == "running", "a run that waits for a subflow only is running"
    stored.clock.now += 86400.0
    assert (await stored.result(run)).output("end") == 1


async def test_a_child_that_waits_for_a_signal(stored: StoredPlace) -> None:
    child = Flow[Any]("child")
    child.wait("answer")
    run = await stored.start(a_parent(child))
    await stored.happened("node:waiting", "answer")
    [waiting] = stored.events.node("answer").of("node:waiting")
    inner = stored.adapters[0].run(waiting.run_id)
    await stored.reach(inner, "awaiting")
    assert await stored.finish(signal(inner, "answer", 42)) == "accepted"
    assert (await stored.result(run)).output("end") == 42


async def test_cancelling_goes_down_and_the_parent_ends_last(stored: StoredPlace) -> None:
    began = asyncio.Event()
    grandchild, child = Flow[Any]("grandchild"), Flow[Any]("child")

    @grandchild.node
    async def endless(ctx: Ctx) -> None:
        began.set()
        await asyncio.Event().wait()

    child.subflow("deeper", grandchild)
    run = await stored.start(a_parent(child))
    await stored.until(began.is_set)
    assert await stored.finish(run.cancel("enough"))
    assert (await stored.result(run)).status == "cancelled"
    runs = (await stored.finish(stored.adapters[0].list())).items
    assert {row.blueprint_id: row.status for row in runs} == dict.fromkeys(
        ("parent", "child", "grandchild"), "cancelled"
    )
    ends = [event.run_id for event in stored.events.of("run:cancelled")]
    assert len(ends) == 3
    assert ends[-1] == run.run_id


async def test_a_child_that_is_cancelled_is_not_tried_again(stored: StoredPlace) -> None:
    child = Flow[Any]("child")
    child.wait("never")
    run = await stored.start(a_parent(child, retries=5))
    await stored.happened("node:waiting", "never")
    [waiting] = stored.events.node("never").of("node:waiting")
    assert await stored.finish(stored.adapters[0].run(waiting.run_id).cancel())
    result = await stored.result(run)
    assert result.status == "failed"
    assert "cancelled" in str(result.errors[0])
    assert len((await stored.finish(stored.adapters[0].list(blueprint_id="child"))).items) == 1
