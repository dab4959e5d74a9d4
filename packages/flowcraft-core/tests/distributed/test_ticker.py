"""Tickers and the reconciler: what they repair, what they leave alone, and that any number of them is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from flowcraft.blueprint import Node
from flowcraft.model import Job
from flowcraft.ticker import Ticker, TickStats

from .conftest import MakeWorld
from .test_flows import FLOWS
from .world import Process, World, blueprint, chain, fan


async def started(world: World, *flows: str) -> tuple[Process, Ticker]:
    """Runs that nobody works on, and a ticker."""
    process = await world.process().open()
    for flow in flows:
        await world.finish(process.adapter.start_run(flow, run_id=flow))
    return process, process.adapter.ticker(lambda _: True)


async def tick(world: World, ticker: Ticker) -> TickStats:
    stats: TickStats = await world.finish(ticker.run_once())
    return stats


async def test_resends_what_is_ready_and_not_claimed(make_world: MakeWorld) -> None:
    world = make_world(lose=1.0, blueprints=[chain(3)])
    _, ticker = await started(world, "chain")
    assert await tick(world, ticker) == TickStats()
    times = [0.0]
    began = world.clock.now
    while len(times) < 8:
        world.clock.now += 5
        if (await tick(world, ticker)).resent:
            times.append(world.clock.now - began)
    assert [b - a for a, b in pairwise(times)] == [30, 60, 120, 240, 480, 900, 900]
    assert [job.resend for job in world.queue.pushed] == list(range(8))


async def test_never_while_a_lease_lives(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    _, ticker = await started(world, "chain")
    [job] = world.queue.pushed
    for _ in range(20):
        await world.coordination.inner.claim([job.claim_key], "worker", 60.0)
        world.clock.now += 31
        assert (await tick(world, ticker)).resent == 0
    world.clock.now += 91
    assert (await tick(world, ticker)).resent == 1


async def test_looks_seldom_at_a_run_that_is_being_worked_on(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    _, ticker = await started(world, "chain")
    [job] = world.queue.pushed
    await world.coordination.inner.claim([job.claim_key], "worker", 10_000.0)
    looks = 0
    for _ in range(600):
        world.clock.now += 1
        looks += (await tick(world, ticker)).scanned
    assert looks <= 600 / 30


@pytest.mark.parametrize(("node", "seconds"), [(Node("w", "wait"), 30 * 86400.0),
                                               (Node("w", "sleep", {"duration": "7d"}), 7 * 86400.0)])  # fmt: skip
async def test_a_run_that_only_waits_is_not_looked_at_meanwhile(
    make_world: MakeWorld, node: Node, seconds: float
) -> None:
    world = make_world(blueprints=[blueprint("waits", {"a": "value", "w": node, "b": "value"}, ["a>w", "w>b"])])
    worker = await world.process().start()
    run = await worker.adapter.start_run("waits")
    while (await run.status()) != "awaiting":
        await world.pass_time(0.5)
    await worker.stop()
    process, ticker = await started(world)
    began, looks = world.clock.now, 0
    for _ in range(100):
        world.clock.now += 3600.0
        looks += (await tick(world, ticker)).scanned
    assert looks <= 1
    [row] = (await process.adapter.list()).items
    assert row.wake_at is not None
    assert abs(row.wake_at - began - seconds) < 7200.0, "not early, and a timer not late"


async def test_not_while_leases_cannot_be_asked_for(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    _, ticker = await started(world, "chain")
    world.coordination.down = True
    world.clock.now += 1000
    assert (await tick(world, ticker)).resent == 0
    world.coordination.down = False
    world.clock.now += 31
    assert (await tick(world, ticker)).resent == 1


async def test_a_backlog_is_not_made_longer(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    process, ticker = await started(world)
    for n in range(150):
        await world.finish(process.adapter.start_run("chain", run_id=f"r{n}"))
    for _ in range(80):
        world.clock.now += 10
        await tick(world, ticker)
    assert len(world.queue.pushed) == 150, "150 messages wait, so nothing is sent again"
    world.clock.now += 110
    await tick(world, ticker)
    assert len(world.queue.pushed) == 300, "only after the longest interval"


async def test_a_message_that_was_lost_in_a_backlog_is_missed_when_the_backlog_is_gone(make_world: MakeWorld) -> None:
    world = make_world(lose=1.0, blueprints=[chain(3)])
    process, ticker = await started(world, "chain")
    began = world.clock.now
    world.queue.lose = 0.0
    for n in range(150):
        await world.finish(process.adapter.start_run("chain", run_id=f"r{n}"))
    for _ in range(10):
        world.clock.now += 10
        assert (await tick(world, ticker)).resent == 0
    worker = await world.process().start()
    await world.finish(asyncio.gather(*(worker.adapter.result(f"r{n}") for n in range(150))))
    assert (await world.finish(worker.adapter.result("chain"))).status == "completed"
    assert world.clock.now - began < 250, "looked at again when it is twice as old, not after the longest interval"


async def test_a_backlog_does_not_hold_up_what_a_dead_worker_had_kept(make_world: MakeWorld) -> None:
    """A visit that a worker goes on with by itself has no message that could be waiting."""
    second_is_slow = blueprint("pair", {"n0": "value", "n1": Node("n1", "slow", {"seconds": 5.0})}, ["n0>n1"])
    world = make_world(blueprints=[chain(3), second_is_slow])
    first = await world.process("first").start()
    run = await first.adapter.start_run(second_is_slow)
    await world.until(lambda: world.executions(node="n1") == 1)
    first.kill()
    process, ticker = await started(world)
    for n in range(150):
        await world.finish(process.adapter.start_run("chain", run_id=f"r{n}"))
    world.clock.now += 65  # its lease is over, and nobody has begun it
    assert (await tick(world, ticker)).resent == 1
    assert (world.queue.pushed[-1].run_id, world.queue.pushed[-1].node) == (run.run_id, "n1")
    assert world.queue.pushed[-1].resend == 1, "whoever gets it counts that it was begun before"


async def test_two_tickers_do_everything_once(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[fan(3), FLOWS["long retry"]])
    first, one = await started(world, "fan")
    second = await world.process("second").open()
    two = second.adapter.ticker()
    world.clock.now += 31
    await world.finish(asyncio.gather(one.run_once(), two.run_once()))
    assert len(world.queue.pushed) == 2
    assert first is not second


async def test_timers_fire_once_with_many_tickers(make_world: MakeWorld) -> None:
    world = make_world(seed=1, blueprints=[FLOWS["long retry"]])
    workers = [await world.process(f"w{n}").start() for n in range(5)]
    runs = [await workers[0].adapter.start_run("long retry", n) for n in range(5)]
    for run in runs:
        assert (await world.finish(run.result())).status == "completed"
    assert world.duplicates == {}
    assert world.executions(node="a") == 15


async def test_deadlines(make_world: MakeWorld) -> None:
    flow = blueprint("late", {"a": Node("a", "slow", {"seconds": 1000.0}), "b": "value"}, ["a>b"], timeout=60.0)
    world = make_world(blueprints=[flow])
    process = await world.process().start()
    run = await process.adapter.start_run(flow)
    began = world.clock.now
    result = await world.finish(run.result())
    assert result.status == "failed"
    assert "DeadlineExceeded" in result.cause
    assert 60 <= world.clock.now - began < 75


async def test_a_draining_visit_of_a_dead_worker_is_dropped(make_world: MakeWorld) -> None:
    flow = chain(2, "slow", name="slow chain", params={"seconds": 1000.0})
    world = make_world(blueprints=[flow])
    worker = await world.process("worker").start()
    client = await world.process("client", worker={"concurrency": 1}).open()
    run = await client.adapter.start_run(flow)
    await world.until(lambda: world.executions() == 1)
    worker.kill()
    assert await world.finish(client.adapter.cancel(run.run_id))
    ticker = client.adapter.ticker()
    dropped = 0
    for _ in range(100):
        world.clock.now += 1
        dropped += (await tick(world, ticker)).dropped
    assert dropped == 1
    assert (await world.finish(run.result())).status == "cancelled"


async def test_a_worker_that_did_not_hear_of_the_cancellation_is_told_again(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2, "slow", name="slow chain", params={"seconds": 100_000.0})])
    worker = await world.process("worker").start()
    client = await world.process("client").open()
    run = await worker.adapter.start_run("slow chain")
    await world.until(lambda: world.executions() == 1)
    world.coordination.deaf = True  # the one revocation that follows the commit is lost
    assert await world.finish(client.adapter.cancel(run.run_id))
    world.coordination.deaf = False
    began = world.clock.now
    assert (await world.finish(run.result())).status == "cancelled"
    assert world.clock.now - began < 120


async def test_retention(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2), chain(2, "slow", name="slow", params={"seconds": 300.0})])
    process = await world.process(retention=100.0).start()
    run = await process.adapter.start_run("chain", run_id="done")
    going = await process.adapter.start_run("slow", run_id="going")
    await world.finish(run.result())
    await world.pass_time(90)
    assert await world.finish(run.status()) == "completed"
    await world.pass_time(20)
    assert await world.store.load("done") is None
    assert await world.store.read_values("done", space="output") == {}
    assert await world.store.load("going") is not None
    await world.finish(going.result())


async def test_without_retention_runs_stay(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    process = await world.process().start()
    run = await process.adapter.start_run("chain")
    await world.finish(run.result())
    world.clock.now += 1e8
    await world.pass_time(10)
    assert await world.finish(run.status()) == "completed"


async def test_a_run_whose_tick_raises_blocks_nobody(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    process, ticker = await started(world)
    for n in range(30):
        await world.finish(process.adapter.start_run("chain", run_id=f"r{n}"))
    document = world.store._find("run", "r7")
    assert document is not None
    document.head = b"nonsense"
    world.clock.now += 31
    stats = await tick(world, ticker)
    assert (stats.resent, stats.failed) == (29, 1)
    failures = 0
    for _ in range(120):
        world.clock.now += 1
        await tick(world, ticker)
        failures += ticker._quarantine._runs["r7"][0]
    assert ticker._quarantine._runs["r7"][0] <= 6, "less and less often"


async def test_ticks_are_spread_and_survive_the_store(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    process, ticker = await started(world)
    waits: list[float] = []
    sleep = world.clock.sleep

    async def note(seconds: float) -> None:
        waits.append(seconds)
        await sleep(seconds)

    world.clock.sleep = note  # type: ignore[method-assign] # to see how long it waits
    task = asyncio.ensure_future(ticker.run())
    await world.pass_time(100)
    task.cancel()
    assert all(0.5 <= wait <= 1.5 for wait in waits)
    assert len(set(waits)) > 50
    assert process is not None


@pytest.mark.parametrize("unclaimed", [True, False])
async def test_reconciler(make_world: MakeWorld, unclaimed: bool) -> None:
    world = make_world(lose=1.0, blueprints=[chain(3), FLOWS["long retry"]])
    process, _ = await started(world, "chain")
    reconciler = process.adapter.reconciler()
    first = await world.finish(reconciler.run())
    assert (first.scanned, first.stalled_runs, first.reconciled_runs, first.failed_runs) == (1, 0, 0, 0)
    world.clock.now += 301
    [job] = world.queue.pushed
    if not unclaimed:
        await world.coordination.inner.claim([job.claim_key], "worker", 60.0)
    stats = await world.finish(reconciler.run())
    assert (stats.scanned, stats.stalled_runs, stats.reconciled_runs, stats.failed_runs) == (1, unclaimed, unclaimed, 0)
    again = await world.finish(reconciler.run())
    assert again.stalled_runs == 0, "it has just been repaired"


async def test_reconciler_leaves_sleeping_parked_and_ended_runs_alone(make_world: MakeWorld) -> None:
    parked = blueprint("parked", {"a": "count"}, [])
    sleeping = blueprint(
        "sleeping", {"a": Node("a", "flaky", {"failures": 9}, retry=FLOWS["long retry"].nodes[0].retry)}, []
    )
    world = make_world(blueprints=[chain(2), parked, sleeping])
    process = await world.process(uses=["value", "flaky"], worker={"ticker": False}).start()
    for flow in ("chain", "parked", "sleeping"):
        await world.finish(process.adapter.start_run(flow, run_id=flow))
    await world.pass_time(400)
    stats = await world.finish(process.adapter.reconciler().run())
    assert (stats.scanned, stats.stalled_runs, stats.failed_runs) == (2, 0, 0)


async def test_reconciler_counts_what_it_cannot_repair(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    process, _ = await started(world, "chain")
    document: Any = world.store._find("run", "chain")
    document.head = b"nonsense"
    world.clock.now += 301
    stats = await world.finish(process.adapter.reconciler().run())
    assert (stats.scanned, stats.stalled_runs, stats.failed_runs) == (1, 0, 1)


async def test_unconfirmed_jobs_are_left_to_the_ticker(make_world: MakeWorld) -> None:
    world = make_world(bound=False, blueprints=[chain(1)])
    process = await world.process().start()

    async def publish(jobs: Sequence[Job], *, delay: float = 0.0) -> Sequence[Job]:
        return jobs

    link: Any = process.adapter.queue
    link.publish = publish
    run = await process.adapter.start_run("chain")
    del link.publish
    began = world.clock.now
    assert (await world.finish(run.result())).status == "completed"
    assert 30 <= world.clock.now - began < 35
