"""Many sleeping runs: they hold no worker, all wake on time, and once, also if nobody was there when they fell due."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from flowcraft import Flow, NodeContext
from flowcraft.testing import FlowTest

from .places import StoredPlace

Ctx = NodeContext[Any, Any]
SLEEPERS = 10_000


def a_sleeper(woken: Counter[str], length: Any) -> Flow[Any]:
    flow = Flow[Any]("sleeper")

    @flow.node
    async def before(ctx: Ctx) -> Any:
        return ctx.input

    flow.sleep("nap", length, after=before)

    @flow.node(after="nap")
    async def after(ctx: Ctx) -> Any:
        woken[ctx.run_id] += 1
        return ctx.input

    return flow


@pytest.mark.timeout(170)
async def test_ten_thousand_sleeping_runs_hold_no_worker_and_wake_on_time() -> None:
    woken = Counter[str]()
    flow, other = a_sleeper(woken, "1d"), Flow[Any]("other")

    @other.node
    async def quick(ctx: Ctx) -> str:
        return "quick"

    async with FlowTest(flow, flows=[other], workers=2) as t:
        began = t.clock.now
        for number in range(SLEEPERS):
            await t.start(number, run_id=f"run-{number}")
        await t.settle()
        assert len(t.events.of("node:waiting")) == SLEEPERS
        assert [worker.in_hand for worker, _ in t._workers] == [0, 0]
        assert (await t.result(await t.start(flow=other), within=0)).output() == "quick"
        await t.advance(hours=23, minutes=59)
        assert not woken
        await t.advance(minutes=1)
        assert woken == {f"run-{number}": 1 for number in range(SLEEPERS)}
        late = [event.at - began - 86400.0 for event in t.events.node("nap").of("node:completed")]
        assert (len(late), min(late), max(late)) == (SLEEPERS, 0.0, 0.0)


async def test_what_fell_due_while_all_workers_were_down_fires_once_each(stored: StoredPlace) -> None:
    woken = Counter[str]()
    flow = a_sleeper(woken, "3d")
    first = await stored.process([flow], worker=False)
    async with first.worker(grace=0.0):
        for number in range(100):
            await stored.start(flow, number, run_id=f"run-{number}")
        await stored.happened("node:waiting", "nap", 100)
    assert not woken
    stored.clock.now += 4 * 86400.0  # everybody is away
    for _ in range(3):
        await stored.process([flow])
    await stored.happened("run:completed", count=100)
    await stored.pass_time(10.0)
    assert woken == {f"run-{number}": 1 for number in range(100)}
    assert len(stored.events.node("nap").of("node:completed")) == 100
    assert len(stored.events.of("run:completed")) == 100
