"""Many runs that are due at once: tickers share them, and the worker beside a ticker takes what it has room for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Node
from flowcraft.model import Change, Committed, StoredHead
from flowcraft.runs import RunHandle
from flowcraft.ticker import Ticker, TickStats

from .conftest import MakeWorld
from .world import Process, World, blueprint, chain

RUNS = 1000
SLEEPER = blueprint("sleeper", {"nap": Node("nap", "sleep", {"duration": "60s"}), "after": "value"}, ["nap>after"])


def followed_by_work(seconds: float) -> Blueprint:
    work = Node("after", "slow", {"seconds": seconds})
    return blueprint("sleeper", {"nap": Node("nap", "sleep", {"duration": "60s"}), "after": work}, ["nap>after"])


def counted(world: World) -> Counter[str]:
    """How often runs are loaded from now on, and how many of their commits are in conflict."""
    counts = Counter[str]()
    load, commit = world.store.load, world.store.commit

    async def loads(run_id: str, *, want: Collection[Any] = (), kind: str = "run") -> StoredHead | None:
        counts["loads"] += kind == "run"
        return await load(run_id, want=want, kind=kind)

    async def commits(changes: Sequence[Change]) -> Sequence[Committed]:
        results = await commit(changes)
        counts["conflicts"] += sum(not result.applied for result in results)
        return results

    world.store.load, world.store.commit = loads, commits  # type: ignore[method-assign]
    return counts


async def all_due(world: World, adapter: Adapter, count: int = RUNS) -> Counter[str]:
    """So many runs whose sleep is over, and nobody has looked at them yet."""
    for number in range(count):
        await world.finish(adapter.start_run("sleeper", run_id=f"run-{number}"))
    world.clock.now += 61
    return counted(world)


def ticker_of(process: Process) -> Ticker:
    ticker = process.adapter.ticker(lambda _: True)
    ticker._spread = process.world.rng.random
    return ticker


async def tick_together(world: World, tickers: Sequence[Ticker]) -> Sequence[TickStats]:
    stats: Sequence[TickStats] = await world.finish(asyncio.gather(*(ticker.run_once() for ticker in tickers)))
    assert len(world.queue.pushed) == len({job.run_id for job in world.queue.pushed}) == RUNS, "each is woken, and once"
    assert sum(one.woken for one in stats) == RUNS
    return stats


async def test_tickers_of_one_process_look_at_each_due_run_once(make_world: MakeWorld) -> None:
    world = make_world(seed=1, blueprints=[SLEEPER])
    process = await world.process().open()
    counts = await all_due(world, process.adapter)
    stats = await tick_together(world, [ticker_of(process) for _ in range(4)])
    assert counts == {"loads": RUNS, "conflicts": 0}
    assert sum(one.scanned for one in stats) == RUNS
    assert min(one.woken for one in stats) > RUNS / 8, "all of them have a share"


@pytest.mark.parametrize("seed", range(3))
async def test_tickers_of_different_processes_seldom_meet(make_world: MakeWorld, seed: int) -> None:
    """Without anything to tell them of each other it would be four loads, and three conflicts, for each run."""
    world = make_world(seed=seed, blueprints=[SLEEPER])
    processes = [await world.process(f"p{number}").open() for number in range(4)]
    counts = await all_due(world, processes[0].adapter)
    stats = await tick_together(world, [ticker_of(process) for process in processes])
    assert counts["loads"] < 1.5 * RUNS, counts
    assert counts["conflicts"] < 0.3 * RUNS, counts
    assert min(one.woken for one in stats) > RUNS / 8, "all of them have a share"


async def test_a_run_that_a_ticker_cannot_serve_is_left_to_its_neighbours(make_world: MakeWorld) -> None:
    """What a ticker has looked at and not changed is nobody's: the next one looks at it at once."""
    world = make_world(blueprints=[chain(2, "slow")])
    worker = await world.process("poor", uses=["value"]).start()
    run = await worker.adapter.start_run("chain")
    while not await parked(run):
        await world.pass_time(0.5)
    await worker.stop()
    process = await world.process().open()
    world.clock.now += 10
    cannot, can = process.adapter.ticker(lambda _: False), process.adapter.ticker(lambda _: True)
    assert (await world.finish(cannot.run_once())) == TickStats(scanned=1)
    assert (await world.finish(can.run_once())).woken == 1


async def parked(run: RunHandle) -> bool:
    return any(event.type == "node:parked" for event in await run.history())


async def test_the_worker_beside_a_ticker_goes_on_with_what_it_wakes(make_world: MakeWorld) -> None:
    world = make_world(seed=1, blueprints=[followed_by_work(0.02)])
    client = await world.process("client").open()
    counts = await all_due(world, client.adapter)
    await world.process("worker", worker={"concurrency": 50}).start()
    await world.until(lambda: world.executions(node="after") == RUNS, within=30.0, step=0.01)
    assert not world.duplicates
    assert len(world.queue.pushed) < RUNS / 4, "it wakes no more than it has room for"
    assert counts["loads"] < 1.1 * RUNS, counts


async def test_a_worker_that_is_slow_does_not_hold_up_what_is_due(make_world: MakeWorld) -> None:
    world = make_world(seed=1, blueprints=[followed_by_work(1000.0)])
    client = await world.process("client").open()
    await all_due(world, client.adapter)
    began = world.clock.now
    await world.process("worker", worker={"concurrency": 50}).start()
    await world.until(lambda: len(world.queue.pushed) >= RUNS - 50, within=30.0, step=0.01)
    assert world.clock.now - began < 2.0, "the first tick comes within 1.5 s, and waits once, not for each portion"
    await world.until(lambda: world.executions() == 50)  # the others are in the queue, for other workers
