"""A run in process that waits and is told to go on."""

from __future__ import annotations

import asyncio
from typing import Any

from flowcraft import Blueprint, Edge, FlowRuntime, Node, NodeContext
from flowcraft.engine.events import Signal
from flowcraft.local import LocalRun, Surroundings

from .ports.virtual_clock import VirtualClock

Ctx = NodeContext[Any, Any]


async def test_a_run_that_goes_on_ends_at_its_deadline() -> None:
    """While it waited there was no task of it, not even one that watches the clock."""
    clock = VirtualClock()

    async def slow(ctx: Ctx) -> None:
        await clock.sleep(1000.0)

    blueprint = Blueprint("b", (Node("w", "wait"), Node("slow", "slow")), (Edge("w", "slow"),), timeout=60.0)
    runtime = FlowRuntime(registry={"slow": slow}, clock=clock)
    graph = runtime.resolve(blueprint)
    async with runtime.open_executor(runtime.snapshot) as executor:
        around = Surroundings(executor, clock, 10, runtime.snapshot, runtime.resolve, runtime.names_of)
        run = LocalRun(graph, "r", around)
        before = asyncio.all_tasks()
        await run.run(None, {})
        assert run.result().status == "awaiting"
        assert asyncio.all_tasks() == before
        assert run.tell(Signal(graph.index["w"], "go", None, "s1"))
        going = asyncio.create_task(run.go_on())
        await clock.advance(59.0)
        assert not going.done()
        await clock.advance(2.0)
        await asyncio.wait_for(going, 5)
        assert run.result().status == "failed"
        assert run.result().outputs == {"w": "go"}
        assert asyncio.all_tasks() == before


async def test_a_long_loop_keeps_the_latest_outputs_only() -> None:
    """Of each node, and what sent its header round; in process nothing else is remembered of earlier rounds."""
    rounds = 20

    async def count(ctx: Ctx) -> int:
        return ctx.input + 1

    async def turn(ctx: Ctx) -> int:
        return ctx.input

    edges = (Edge("count", "turn"), Edge("turn", "count", condition=f"result.output < {rounds}"), Edge("turn", "end"))
    blueprint = Blueprint("b", (Node("count", "count"), Node("turn", "turn"), Node("end", "turn")), edges)
    runtime = FlowRuntime(registry={"count": count, "turn": turn})
    graph = runtime.resolve(blueprint)
    async with runtime.open_executor(runtime.snapshot) as executor:
        around = Surroundings(executor, VirtualClock(), 10, runtime.snapshot, runtime.resolve, runtime.names_of)
        run = LocalRun(graph, "r", around)
        await asyncio.wait_for(run.run(0, {}), 5)
    assert run.result().status == "completed"
    kept = sorted((key.name, key.visit) for key in run.values if key.space == "output" and key.name != "")
    assert kept == [("count", rounds), ("end", rounds), ("turn", rounds - 1), ("turn", rounds)]
    assert not run.draft.deleted
