"""One visit at a time, forward, back, and forward again differently."""

from __future__ import annotations

import asyncio

import pytest

from flowcraft import Flow, NodeContext, Result, Retry
from flowcraft.errors import InvalidRequest
from flowcraft.testing import Step, Stepper

Ctx = NodeContext[object, None]


def review() -> Flow[None]:
    flow = Flow[None]("review")

    @flow.node
    async def score(ctx: NodeContext[int, None]) -> int:
        await ctx.context.set("scored", ctx.input)
        return ctx.input

    @flow.node
    async def accept(ctx: NodeContext[int, None]) -> str:
        return f"accepted {ctx.input}"

    @flow.node
    async def reject(ctx: NodeContext[int, None]) -> str:
        await ctx.context.set("rejected", True)
        return f"rejected {ctx.input}"

    flow.edge(score, accept, condition="result.output >= 5")
    flow.edge(score, reject, condition="result.output < 5")
    return flow


async def test_forward_to_the_end() -> None:
    async with Stepper(review(), 7) as s:
        assert s.state == {"score": "ready", "accept": "pending", "reject": "pending"}
        assert await s.forward() == Step("score", output=7)
        assert s.state == {"score": "completed", "accept": "ready", "reject": "skipped"}
        assert s.ready == ("accept",)
        assert not s.done
        assert await s.forward() == Step("accept", output="accepted 7")
        assert s.done
        assert s.status == "completed"
        assert s.result.output() == "accepted 7"
        assert await s.forward() is None


async def test_back_and_forward_again_differently() -> None:
    async with Stepper(review(), 7) as s:
        await s.forward()
        await s.forward()
        s.back(2)
        assert s.state["score"] == "ready"
        assert s.context == {}
        assert s.steps == ()
        await s.forward(returns=2)
        assert s.ready == ("reject",)
        await s.forward()
        assert s.context == {"rejected": True}, "what was not executed wrote nothing"
        assert s.result.output() == "rejected 2"
        s.back()
        assert not s.done
        assert s.context == {}
        assert [step.node for step in s.steps] == ["score"]
        await s.forward(raises=RuntimeError("no"))
        assert s.status == "failed"
        assert s.steps[-1].error == "RuntimeError: no"
        s.reset()
        assert s.state == {"score": "ready", "accept": "pending", "reject": "pending"}
        with pytest.raises(InvalidRequest, match="0 steps behind"):
            s.back()


async def test_the_order_of_nodes_can_be_chosen() -> None:
    flow = Flow[None]("any")
    seen: list[str] = []

    @flow.node
    async def a(ctx: Ctx) -> str:
        seen.append("a")
        return "a"

    @flow.node
    async def b(ctx: Ctx) -> str:
        seen.append("b")
        return "b"

    @flow.node(after=[a, b], join="any")
    async def first(ctx: Ctx) -> object:
        return ctx.input

    async with Stepper(flow) as s:
        assert s.ready == ("a", "b")
        await s.forward("b")
        assert s.ready == ("first",), "the loser had not begun"
        assert s.state["a"] == "cancelled"
        s.back()
        await s.forward("a")
        await s.forward()
        assert s.result.output() == "a"
        assert seen == ["b", "a"], "effects stay"
        s.reset()
        with pytest.raises(InvalidRequest, match="'first' is not ready; ready: a, b"):
            await s.forward("first")


async def test_time_passes_for_timers_and_comes_back() -> None:
    flow = Flow[None]("slow")

    @flow.node(retries=Retry(attempts=3, delay=30.0, backoff=2.0, jitter=0.0))
    async def flaky(ctx: Ctx) -> int:
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.attempt

    flow.sleep("nap", "1d", after=flaky)

    @flow.node(after="nap")
    async def end(ctx: Ctx) -> object:
        return ctx.input

    async with Stepper(flow) as s:
        began = s.clock.now
        await s.forward()
        assert s.state["flaky"] == "retrying"
        await s.forward()
        assert s.clock.now - began == 30.0
        await s.forward()
        assert s.clock.now - began == 90.0
        assert s.state == {"flaky": "completed", "nap": "waiting", "end": "pending"}
        await s.forward()
        assert s.clock.now - began == 90.0 + 86400.0
        assert s.result.output() == 3
        s.back(3)
        assert s.clock.now - began == 0.0
        assert s.state["flaky"] == "retrying"
        assert (await s.forward()) == Step("flaky", attempt=2, error="ValueError: not yet")


async def test_waits_loops_batches_and_subflows() -> None:
    child = Flow[None]("child")

    @child.node
    async def twice(ctx: NodeContext[int, None]) -> int:
        return 2 * ctx.input

    child.sleep("rest", "1h", after=twice)

    flow = Flow[None]("parent")
    answer = flow.wait("answer")

    @flow.node
    async def down(ctx: NodeContext[int, None]) -> int:
        return ctx.input - 1

    flow.loop("countdown", condition="input > 0", start=down, end=down, after=answer)
    flow.subflow("child", child, after="countdown")

    @flow.node(after="child")
    async def items(ctx: NodeContext[int, None]) -> list[int]:
        return [ctx.input, 1, 2]

    async def plus(ctx: NodeContext[int, None]) -> int:
        await asyncio.sleep(0)
        return ctx.input + 10

    flow.batch("sums", plus, after=items, concurrency=2)

    async with Stepper(flow) as s:
        assert await s.forward() is None, "it waits"
        assert s.status == "awaiting"
        with pytest.raises(InvalidRequest, match="does not wait"):
            s.signal("down", 1)
        s.signal("answer", 2)
        assert [(await s.forward()) for _ in range(2)] == [Step("down", 1, output=1), Step("down", 2, output=0)]
        assert s.ready == ("child",)
        assert await s.forward() == Step("child", output=0)
        await s.forward()
        await s.forward()
        assert s.ready == ("sums:items", "sums:items"), "two items at a time"
        assert await s.forward() == Step("sums:items", item=0, output=10)
        while await s.forward() is not None:
            pass
        assert s.result.output() == [10, 11, 12]
        count = len(s.steps)
        s.back(3)
        assert len(s.steps) == count - 3
        while await s.forward() is not None:
            pass
        assert s.result.output() == [10, 11, 12]
        s.reset()
        s.signal("answer", 0)
        s.back()
        assert s.status == "awaiting"


async def test_an_action_can_be_chosen_instead_of_executing() -> None:
    flow = Flow[None]("acts")

    @flow.node
    async def choose(ctx: Ctx) -> Result[int]:
        raise AssertionError("it is not executed")

    @flow.node
    async def left(ctx: NodeContext[int, None]) -> int:
        return ctx.input

    flow.edge(choose, left, action="left")
    async with Stepper(flow) as s:
        await s.forward(returns=Result(4, "left"))
        await s.forward()
        assert s.result.output() == 4


async def test_it_must_be_opened() -> None:
    with pytest.raises(InvalidRequest, match="not open"):
        await Stepper(review(), 1).forward()
