"""Flows through real workers on virtual time."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from flowcraft import Blueprint, Edge, Flow, Node, NodeContext, Retry
from flowcraft.errors import DefinitionError, NotWaiting, SignalConflict, TooLate
from flowcraft.testing import FlowTest, VirtualClock

Ctx = NodeContext[object, None]


def reminders() -> Flow[None]:
    flow = Flow[None]("reminders")

    @flow.node
    async def ask(ctx: Ctx) -> str:
        return "asked"

    approval = flow.wait("approval", after=ask, timeout="2d")

    @flow.node
    async def approve(ctx: NodeContext[dict[str, str], None]) -> str:
        return f"approved by {ctx.input['by']}"

    @flow.node
    async def remind(ctx: Ctx) -> str:
        return "reminded"

    flow.edge(approval, approve)
    flow.edge(approval, remind, action="timeout")
    nap = flow.sleep("nap", "1h", after=remind)

    @flow.node(after=nap)
    async def escalate(ctx: Ctx) -> str:
        return "escalated"

    return flow


async def test_a_signal_is_taken_and_what_follows_settles() -> None:
    async with FlowTest(reminders()) as t:
        run = await t.start()
        await t.settle()
        assert await run.status() == "awaiting"
        await t.signal(run, "approval", {"by": "Ada"})
        assert await run.status() == "completed"
        result = await t.result(run)
        assert result.output("approve") == "approved by Ada"
        assert t.events.node("remind").types() == ["node:skipped"]


async def test_timers_fire_in_order_at_their_times() -> None:
    async with FlowTest(reminders()) as t:
        began = t.clock.now
        run = await t.start()
        await t.advance(days=2, seconds=-1)
        assert await run.status() == "awaiting"
        await t.advance(1)
        assert (await run.view()).nodes["nap"].state == "waiting"
        await t.advance(hours=1)
        assert await run.status() == "completed"
        at = {event.node: event.at - began for event in t.events.of("node:completed")}
        assert at == {"ask": 0, "approval": 172800, "remind": 172800, "nap": 176400, "escalate": 176400}


async def test_many_days_pass_in_no_time_and_many_timers_in_one_go() -> None:
    async with FlowTest(reminders()) as t:
        runs = [await t.start(run_id=f"run-{i}") for i in range(5)]
        await t.advance(days=400)
        assert [await run.status() for run in runs] == ["completed"] * 5
        assert t.events.of("node:completed").node("escalate").run("run-3").types() == ["node:completed"]


async def test_what_fell_due_without_workers_fires_once_when_there_are_some() -> None:
    async with FlowTest(reminders()) as t:
        run = await t.start()
        await t.settle()
        await t.set_workers(0)
        await t.advance(days=3)
        assert (await run.view()).nodes["approval"].state == "waiting"
        await t.set_workers(3)
        await t.advance()
        assert t.events.of("node:completed").nodes() == ["ask", "approval", "remind"]


async def test_schedules_fire_on_time() -> None:
    async with FlowTest(reminders()) as t:
        began = t.clock.now
        await t.adapter.schedules.create("often", "reminders", every=3600.0)
        await t.advance(hours=5)
        starts = [event.at - began for event in t.events.of("run:started")]
        assert starts == pytest.approx([starts[0] + 3600.0 * i for i in range(5)])


async def test_a_signal_that_nobody_takes_is_an_error() -> None:
    async with FlowTest(reminders()) as t:
        run = await t.start()
        with pytest.raises(NotWaiting):
            await t.signal(run, "remind")
        assert await t.signal(run, "approval", {"by": "Ada"}) == "accepted"
        with pytest.raises((TooLate, SignalConflict)):
            await t.signal(run.run_id, "approval", {"by": "Bob"})


async def test_the_result_of_a_run_that_has_not_ended_is_an_error_with_its_timeline() -> None:
    async with FlowTest(reminders()) as t:
        run = await t.start()
        with pytest.raises(AssertionError, match="approval is waiting") as caught:
            await t.result(run)
        assert "node:completed   ask" in str(caught.value)
        assert (await t.result(run, within=200_000.0)).output("escalate") == "escalated"


async def test_retries_take_virtual_time_only() -> None:
    flow = Flow[None]("retried")

    @flow.node(retries=Retry(attempts=6, delay=0.2, backoff=4.0, jitter=0.0))
    async def flaky(ctx: Ctx) -> int:
        if ctx.attempt < 6:
            raise ValueError(f"attempt {ctx.attempt}")
        return ctx.attempt

    async with FlowTest(flow) as t:
        began = t.clock.now
        run = await t.start()
        await t.settle()
        assert await run.status() == "running"
        result = await t.result(run, within=100.0)
        assert result.output(flaky) == 6
        delays = 0.2 + 0.8 + 3.2 + 12.8 + 51.2
        assert t.clock.now - began == pytest.approx(delays), "exactly as long as it takes"


@dataclass
class Deps:
    clock: VirtualClock
    seen: list[float] = field(default_factory=list)


async def test_dependencies_share_the_clock_and_nodes_may_sleep_on_it() -> None:
    flow = Flow[Deps]("sleeping")

    @flow.node
    async def poll(ctx: NodeContext[object, Deps]) -> int:
        for _ in range(3):
            await asyncio.gather(ctx.deps.clock.sleep(10.0), ctx.deps.clock.sleep(5.0))
            ctx.deps.seen.append(ctx.deps.clock.now)
        return len(ctx.deps.seen)

    clock = VirtualClock(start=1000.0)
    deps = Deps(clock)
    async with FlowTest(flow, deps=deps, clock=clock) as t:
        run = await t.start()
        await t.advance(25.0)
        assert deps.seen == [1010.0, 1020.0]
        assert (await t.result(run)).output(poll) == 3
        assert clock.now == 1030.0


async def test_a_visit_that_sleeps_when_the_block_ends_is_handed_back() -> None:
    flow = Flow[Deps]("left")

    @flow.node
    async def long(ctx: NodeContext[object, Deps]) -> None:
        await ctx.deps.clock.sleep(1e6)

    clock = VirtualClock()
    async with asyncio.timeout(20), FlowTest(flow, deps=Deps(clock), clock=clock) as t:
        run = await t.start()
        await t.settle()
        assert t.events.types() == ["run:started", "node:started"]
        await t.set_workers(0)
        await t.advance(hours=1)
        assert t.events.types() == ["run:started", "node:started"], "without a worker nothing happens"
        await t.set_workers(2)
        await t.settle()
        assert t.events.of("node:started").nodes() == ["long", "long"]
        assert await run.status() == "running"


async def test_blocking_functions_are_waited_for() -> None:
    flow = Flow[None]("blocking")
    let_go = threading.Event()

    @flow.node
    def block(ctx: Ctx) -> bool:
        return let_go.wait(10)

    @flow.node(after=block)
    async def release(ctx: NodeContext[bool, None]) -> bool:
        return ctx.input

    async with FlowTest(flow) as t:
        run = await t.start()
        asyncio.get_running_loop().call_later(0.05, let_go.set)
        await t.settle()
        assert (await t.result(run, within=0)).output(release) is True


async def test_workers_share_the_work() -> None:
    flow = Flow[None]("shared")

    @flow.node
    async def items(ctx: Ctx) -> list[int]:
        return list(range(200))

    async def square(ctx: NodeContext[int, None]) -> int:
        await asyncio.sleep(0)
        return ctx.input**2

    flow.batch("squares", square, after=items)
    async with FlowTest(flow, workers=3) as t:
        result = await t.result(await t.start())
        assert result.output("squares") == [i * i for i in range(200)]
        assert len(t.events.of("item:completed")) == 200


async def test_blueprints_with_a_registry_and_missing_functions() -> None:
    async def double(ctx: NodeContext[int, None]) -> int:
        return 2 * ctx.input

    blueprint = Blueprint("data", (Node("a", "double"), Node("b", "double")), (Edge("a", "b"),))
    async with FlowTest(blueprint, registry={"double": double}) as t:
        assert (await t.result(await t.start(3))).output() == 12
    with pytest.raises(DefinitionError, match="double"):
        FlowTest(blueprint)


async def test_what_the_house_does_on_its_own_stops_nobody() -> None:
    async with FlowTest(reminders()) as t:
        await t.start()
        await t.settle()
        before = t.clock.changes
        await t.advance(days=1)
        assert t.clock.changes - before < 50, "a heartbeat every second would be 86,400"


async def test_a_timeout_is_over_in_virtual_or_in_real_time() -> None:
    flow = Flow[Any]("f")

    @flow.node(timeout=30)
    async def sleeps(ctx: NodeContext[Any, Any]) -> None:
        await t.clock.sleep(40)

    @flow.node(timeout=0.05)
    async def hangs(ctx: NodeContext[Any, Any]) -> None:
        await asyncio.Event().wait()

    async with FlowTest(flow) as t:
        run = await t.start()
        began = t.clock.now
        result = await t.result(run)
        assert {failure.node_id: failure.errors[0].kind for failure in result.failures} == {
            "sleeps": "NodeTimedOut", "hangs": "NodeTimedOut",
        }  # fmt: skip
        assert t.clock.now - began == 30
