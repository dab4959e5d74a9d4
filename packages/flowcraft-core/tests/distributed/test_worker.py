"""Workers: shutdown, poison, parking, cancelling, sticky successors, limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from flowcraft.blueprint import ANY, Node, Retry
from flowcraft.errors import InvalidRequest, Misconfigured, Unavailable
from flowcraft.model import Job
from flowcraft.visits import MAX_STEPS
from flowcraft.worker import WorkerOptions

from .conftest import MakeWorld
from .world import SimClock, blueprint, chain, fan


async def test_shutdown_lets_running_visits_finish(make_world: MakeWorld) -> None:
    flow = fan(8, "slow", name="slow fan", params={"seconds": 15.0})
    world = make_world(copies=2, blueprints=[flow])
    first = await world.process("first", worker={"grace": 20.0}).start()
    run = await first.adapter.start_run(flow)
    await world.until(lambda: world.executions() == 9)
    second = await world.process("second").start()
    began = world.clock.now
    await first.stop()
    assert world.clock.now - began < 20
    result = await world.finish(second.adapter.result(run.run_id))
    assert result.status == "completed"
    assert world.duplicates == {}
    assert world.clock.now - began < 30, "nothing had to wait for a lease to expire"


async def test_shutdown_hands_back_what_exceeds_the_grace(make_world: MakeWorld) -> None:
    flow = chain(2, "slow", name="very slow", params={"seconds": 100.0})
    world = make_world(blueprints=[flow])
    first = await world.process("first", worker={"grace": 5.0}).start()
    run = await first.adapter.start_run(flow)
    await world.until(lambda: world.executions() == 1)
    second = await world.process("second").start()
    began = world.clock.now
    await first.stop()
    assert world.clock.now - began < 7
    await world.until(lambda: world.executions() == 2)
    assert world.clock.now - began < 7, "the other worker has it at once"
    assert (await world.finish(second.adapter.result(run.run_id))).status == "completed"
    assert list(world.duplicates.values()) == [1]


async def test_shutdown_hands_back_a_kept_successor(make_world: MakeWorld) -> None:
    """A sticky visit has no message of its own: one is published when it is handed back."""
    flow = blueprint("kept", {"a": "value", "b": Node("b", "slow", {"seconds": 100.0})}, ["a>b"])
    world = make_world(blueprints=[flow])
    first = await world.process("first", worker={"grace": 5.0}).start()
    run = await first.adapter.start_run(flow)
    await world.until(lambda: world.executions(node="b") == 1)
    assert [job.node for job in world.queue.pushed] == ["a"], "b was kept, not published"
    second = await world.process("second").start()
    await first.stop()
    await world.until(lambda: world.executions(node="b") == 2, within=10)
    assert (await world.finish(second.adapter.result(run.run_id))).status == "completed"


async def test_shutdown_hands_back_what_was_received_and_not_begun(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(1)])
    first = await world.process("first").start()
    claiming = asyncio.Event()

    async def claim(keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        await world.coordination.inner.claim(keys, owner, ttl)
        claiming.set()
        return await asyncio.Future()  # its answer never comes

    link: Any = first.adapter.coordination
    link.claim = claim
    run = await first.adapter.start_run("chain")
    await world.until(claiming.is_set)
    second = await world.process("second").start()
    began = world.clock.now
    await first.stop()
    assert (await world.finish(second.adapter.result(run.run_id))).status == "completed"
    assert world.clock.now - began < 10
    assert world.executions() == 1


async def test_a_late_copy_is_not_executed_with_an_old_head_in_hand(make_world: MakeWorld) -> None:
    """Another worker has finished the visit and has no use for its lease any more; here the head is a second old."""
    flow = blueprint(
        "late copy",
        {"a": "value", "b": Node("b", "slow", {"seconds": 30.0}), "c": Node("c", "value", queue="elsewhere")},
        ["a>b", "a>c"],
    )
    world = make_world(blueprints=[flow])
    await world.process("elsewhere", worker={"queues": ["elsewhere"]}).start()
    await world.pass_time(0.5)
    here = await world.process("here").start()
    await here.adapter.start_run(flow)
    await world.until(lambda: world.executions(node="c") == 1)
    [job] = [job for job in world.queue.pushed if job.node == "c"]
    for _ in range(40):
        await world.queue.publish([replace(job, queue="flowcraft-queue")])
        await world.pass_time(0.1)
    assert world.executions(node="c") == 1


async def test_rolling_restarts_execute_nothing_twice(make_world: MakeWorld) -> None:
    world = make_world(seed=3, copies=2, blueprints=[chain(30, "slow", params={"seconds": 0.3}), fan(30)])
    client = await world.process("client").open()
    runs = [await client.adapter.start_run(name, i) for i in range(10) for name in ("chain", "fan")]
    serving = await world.process("w0").start()
    for n in range(1, 8):
        following = await world.process(f"w{n}").start()
        await world.pass_time(1.0)
        await serving.stop()
        serving = following
    for run in runs:
        assert (await world.finish(run.result())).status == "completed"
    assert world.duplicates == {}


async def test_poison_fails_the_node_after_five_deaths(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    flow = blueprint("poison", {"a": "value", "b": "killer", "c": "value"}, ["a>b", "a>c"])
    world = make_world(blueprints=[flow])
    first = await world.process("w0").start()
    run = await first.adapter.start_run(flow)
    for n in range(1, 12):
        if world.processes[-1].link.dead:
            await world.process(f"w{n}").start()
        watched = world.processes[-1]
        await world.until(lambda p=watched: p.link.dead or bool(world.executions(node="b") >= 5), within=900)
        if world.executions(node="b") >= 5 and not watched.link.dead:
            break
    last = world.processes[-1]
    if last.link.dead:
        last = await world.process("last").start()
    result = await world.finish(last.adapter.result(run.run_id), within=3600)
    assert result.status == "failed"
    [failure] = result.errors
    assert failure.errors[0].kind == "Poisoned"
    assert "5 executions" in failure.errors[0].text
    assert world.executions(node="b") == 5
    assert result.nodes["c"] == "completed", "the fleet is alive"


async def test_hand_backs_are_no_deaths(make_world: MakeWorld) -> None:
    flow = chain(1, "slow", name="long", params={"seconds": 50.0})
    world = make_world(blueprints=[flow])
    client = await world.process("client").open()
    run = await client.adapter.start_run(flow)
    for n in range(8):
        worker = await world.process(f"w{n}", worker={"grace": 0.0}).start()
        await world.until(lambda n=n: world.executions() == n + 1, within=20)
        await worker.stop()
    last = await world.process("last").start()
    assert (await world.finish(last.adapter.result(run.run_id))).status == "completed"


async def test_parked_until_a_worker_that_can(make_world: MakeWorld) -> None:
    flow = blueprint("mixed", {"a": "value", "b": "count", "c": "value"}, ["a>b", "b>c"])
    world = make_world(blueprints=[flow])
    old = await world.process("old", uses=["value"]).start()
    run = await old.adapter.start_run(flow)
    await world.pass_time(100)
    view = await world.finish(run.view())
    assert view.status == "running"
    assert view.nodes["b"].state == "parked"
    assert await world.queue.depth("flowcraft-queue") == 0
    pushed = len(world.queue.pushed)
    assert pushed < 5, "it does not go round while nobody can execute it"
    new = await world.process("new").start()
    result = await world.finish(new.adapter.result(run.run_id))
    assert result.status == "completed"
    assert world.duplicates == {}


async def test_parked_in_a_fleet_that_is_mostly_old(make_world: MakeWorld) -> None:
    """A rolling deploy: the worker that can execute it wakes the visit for itself, so that it does not go astray."""
    flow = blueprint("mixed", {"a": "value", **{f"b{n}": "count" for n in range(5)}}, [f"a>b{n}" for n in range(5)])
    world = make_world(blueprints=[flow])
    for n in range(6):
        await world.process(f"old{n}", uses=["value"]).start()
    run = await world.processes[0].adapter.start_run(flow)
    await world.pass_time(60)
    new = await world.process("new").start()
    began = world.clock.now
    assert (await world.finish(new.adapter.result(run.run_id))).status == "completed"
    assert world.clock.now - began < 600
    assert world.duplicates == {}


async def test_a_blueprint_that_only_the_store_knows(make_world: MakeWorld) -> None:
    flow = chain(5)
    world = make_world(blueprints=[flow])
    client = await world.process("client").open()
    world.blueprints.clear()
    worker = await world.process("worker").start()
    assert worker.runtime.graph(flow.content_hash) is None
    run = await client.adapter.start_run(flow)
    assert (await world.finish(run.result())).status == "completed"


async def test_cancel_ends_running_and_waiting_visits(make_world: MakeWorld) -> None:
    flow = blueprint(
        "cancelled",
        {
            "a": "value",
            "b": Node("b", "slow", {"seconds": 500.0}),
            "c": "value",
            "d": Node("d", "slow", {"seconds": 500.0}),
        },
        ["a>b", "a>d", "b>c"],
    )
    world = make_world(blueprints=[flow])
    here = await world.process("here").start()
    client = await world.process("client").open()
    run = await client.adapter.start_run(flow)
    await world.until(lambda: world.executions() == 3)
    began = world.clock.now
    assert await world.finish(client.adapter.cancel(run.run_id, "enough")) is True
    assert await world.finish(run.status()) == "cancelling"
    result = await world.finish(run.result())
    assert result.status == "cancelled"
    assert result.cause == "enough"
    assert world.clock.now - began < 15, "the next heartbeat tells it"
    assert await world.finish(run.cancel()) is False
    assert here.worker is not None
    assert here.worker.in_hand == 0


async def test_cancel_from_the_same_process_is_immediate(make_world: MakeWorld) -> None:
    flow = chain(2, "slow", name="long", params={"seconds": 500.0})
    world = make_world(blueprints=[flow])
    here = await world.process().start()
    run = await here.adapter.start_run(flow)
    await world.until(lambda: world.executions() == 1)
    began = world.clock.now
    await world.finish(run.cancel())
    assert (await world.finish(run.result())).status == "cancelled"
    assert world.clock.now - began < 2


async def test_losers_of_an_any_join_are_cancelled(make_world: MakeWorld) -> None:
    flow = blueprint(
        "race",
        {"a": "value", "b": "value", "c": Node("c", "slow", {"seconds": 500.0}), "j": Node("j", "value", join=ANY)},
        ["a>b", "a>c", "b>j", "c>j"],
    )  # fmt: skip
    world = make_world(blueprints=[flow])
    process = await world.process().start()
    run = await process.adapter.start_run(flow)
    result = await world.finish(run.result())
    assert result.status == "completed"
    assert result.nodes["c"] == "cancelled"


async def test_a_lease_that_another_worker_has_cancels_the_visit(make_world: MakeWorld) -> None:
    flow = chain(1, "slow", name="long", params={"seconds": 100.0})
    world = make_world(blueprints=[flow])
    first = await world.process("first").start()
    run = await first.adapter.start_run(flow)
    await world.until(lambda: world.executions() == 1)
    world.coordination.flush()
    [job] = world.queue.pushed
    await world.coordination.inner.claim([job.claim_key], "somebody else", 1000.0)
    assert first.worker is not None
    await world.until(lambda: first.worker is not None and first.worker.in_hand == 0, within=15)
    assert await world.finish(run.status()) == "running", "a lease decides about work, not about results"


async def test_a_vanished_lease_is_taken_again(make_world: MakeWorld) -> None:
    flow = chain(1, "slow", name="long", params={"seconds": 100.0})
    world = make_world(blueprints=[flow])
    for name in "ab":
        await world.process(name).start()
    run = await world.processes[0].adapter.start_run(flow)
    await world.until(lambda: world.executions() == 1)
    world.coordination.flush()
    await world.pass_time(12)
    [job] = world.queue.pushed
    assert (await world.coordination.inner.holders([job.claim_key]))[0] is not None
    await world.finish(run.result())
    assert world.duplicates == {}


async def test_long_visits_are_kept_alive(make_world: MakeWorld) -> None:
    """Longer than the lease, longer than the queue's visibility, longer than many resend intervals."""
    flow = chain(2, "slow", name="minutes", params={"seconds": 1200.0})
    world = make_world(copies=2, blueprints=[flow])
    for name in "abc":
        await world.process(name).start()
    run = await world.processes[0].adapter.start_run(flow)
    client = await world.process("client").open()
    task = asyncio.ensure_future(client.adapter.result(run.run_id))
    await world.until(task.done, within=20_000, step=5.0)
    assert world.duplicates == {}
    assert len(world.queue.pushed) <= 4


async def test_deliveries_are_kept_as_long_as_the_visit(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(1, "slow", name="long", params={"seconds": 300.0})])
    process = await world.process().start()
    run = await process.adapter.start_run("long")
    for _ in range(20):
        await world.pass_time(10)
        assert world.queue._hidden_live == 1, "it did not come again"
    await world.finish(run.result())


async def test_never_more_in_hand_than_concurrency(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[fan(40, "watched", name="wide"), chain(30, "watched", name="sticky")])
    running, most = set(), 0

    async def watched(process, ctx):
        nonlocal most
        running.add((ctx.run_id, ctx.node_id))
        most = max(most, len(running))
        await world.clock.sleep(0.01)
        running.discard((ctx.run_id, ctx.node_id))

    world.behaviours["watched"] = watched
    world.blueprints.append(blueprint("again", {"a": Node("a", "stubborn", retry=Retry(4, delay=1.0))}, []))

    async def stubborn(process, ctx):
        await watched(process, ctx)
        if ctx.attempt < 4:
            raise RuntimeError("again")

    world.behaviours["stubborn"] = stubborn
    process = await world.process(worker={"concurrency": 3}).start()
    runs = [await process.adapter.start_run(name, i) for i in range(4) for name in ("wide", "sticky", "again")]
    for run in runs:
        await world.finish(run.result())
    assert most == 3


async def test_a_visit_that_the_ticker_woke_counts_too(make_world: MakeWorld) -> None:
    again = blueprint("again", {"a": Node("a", "late", retry=Retry(2, delay=60.0))}, [])
    world = make_world(blueprints=[again, chain(3)])

    async def late(process, ctx):
        if ctx.attempt == 1:
            raise RuntimeError("again")
        await world.clock.sleep(100)

    world.behaviours["late"] = late
    process = await world.process(worker={"concurrency": 1}).start()
    run = await process.adapter.start_run("again")
    await world.until(lambda: world.executions() == 2)
    assert len(world.queue.pushed) == 1, "the worker has it from its ticker, not from the queue"
    other = await process.adapter.start_run("chain")
    began = world.clock.now
    await world.finish(other.result())
    assert world.clock.now - began > 90, "there was no room for it"
    assert (await world.finish(run.status())) == "completed"


async def test_a_chain_is_sticky_and_yet_goes_through_the_queue_now_and_then(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(64)])
    process = await world.process().start()
    run = await process.adapter.start_run("chain")
    world.clock.step = lambda most: None  # no time passes: only the number of steps counts
    await world.finish(run.result())
    assert [job.node for job in world.queue.pushed] == [f"n{n}" for n in range(0, 64, MAX_STEPS)]


async def test_a_node_of_another_queue_is_never_kept(make_world: MakeWorld) -> None:
    flow = blueprint("queues", {"a": "value", "b": Node("b", "value", queue="gpu"), "c": "value"}, ["a>b", "b>c"])
    world = make_world(blueprints=[flow])
    await world.process("cpu").start()
    await world.process("gpu", worker={"queues": ["gpu"]}).start()
    run = await world.processes[0].adapter.start_run(flow)
    await world.finish(run.result())
    assert {e.node: e.process for e in world.effects} == {"a": "cpu", "b": "gpu", "c": "cpu"}


async def test_foreign_and_stale_messages_change_nothing(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    process = await world.process().start()
    run = await process.adapter.start_run("chain")
    before = await world.finish(run.result())
    jobs = [
        Job(run.run_id, "n1", 1, 1, "made up", "flowcraft-queue"),
        Job("no such run", "n1", 1, 1, "x", "flowcraft-queue"),
        Job(run.run_id, "no such node", 1, 1, "x", "flowcraft-queue"), *world.queue.pushed,
    ]  # fmt: skip
    await world.queue.publish(jobs)
    await world.pass_time(5)
    assert await world.queue.depth("flowcraft-queue") == 0
    assert (await world.finish(run.result())).outputs == before.outputs
    assert world.executions() == 3


async def test_a_worker_that_cannot_work_says_so(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain()])
    process = world.process()

    def deliveries(*_: object, **__: object) -> None:
        raise Misconfigured("no such queue")

    await process.open()
    process.adapter.queue.deliveries = deliveries  # type: ignore[assignment,method-assign] # on purpose

    async def work() -> None:
        async with process.adapter.worker() as worker:
            await world.until(lambda: not worker.healthy)
            await worker.wait()

    with pytest.raises(Misconfigured):
        await work()


async def test_healthy_and_stop(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain()])
    process = await world.process().start()
    worker = process.worker
    assert worker is not None
    await world.until(lambda: worker.healthy)
    worker.stop()
    await world.finish(worker.wait())
    assert not worker.healthy


async def test_no_task_outlives_the_block(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(30), fan(30)])
    before = asyncio.all_tasks()
    process = await world.process().start()
    await process.adapter.start_run("chain")
    await process.adapter.start_run("fan")
    await process.stop()
    assert asyncio.all_tasks() - before == set()


def test_options_are_checked() -> None:
    for wrong in ({"concurrency": 0}, {"grace": -1.0}, {"lease_ttl": 0.0}, {"queues": ()}, {"max_deliveries": 0}):
        with pytest.raises(InvalidRequest):
            WorkerOptions(**{"queues": ("q",), **wrong})  # type: ignore[arg-type] # on purpose


async def test_the_log_names_run_and_node(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flowcraft")
    flow = chain(1, "slow", name="long", params={"seconds": 100.0})
    world = make_world(blueprints=[flow])
    first = await world.process(worker={"grace": 0.0}).start()
    run = await first.adapter.start_run(flow)
    await world.until(lambda: world.executions() == 1)
    await first.stop()
    record = next(r for r in caplog.records if r.name == "flowcraft.worker" and "cancelled" in r.getMessage())
    assert (record.__dict__["run_id"], record.__dict__["node_id"]) == (run.run_id, "n0")


class OddClock:
    """The clock of a machine that is not the store's: the date is wrong, and it was booted some other time."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self.sleep = clock.sleep

    def time(self) -> float:
        return self._clock.time() + 5_000.0

    def monotonic(self) -> float:
        return self._clock.monotonic() - 900_000.0


async def test_what_a_fresh_worker_tells_carries_the_time_of_the_store(make_world: MakeWorld) -> None:
    """From the first hint on: before it has committed anything."""
    world = make_world(blueprints=[chain(1)])
    client = await world.process("client").open()
    run = await world.finish(client.adapter.start_run(world.blueprints[0]))
    worker = world.process("worker")
    worker.runtime.clock = OddClock(world.clock)
    began = world.clock.now
    async with world.events.subscribe(run_id=run.run_id) as events:
        await worker.start()
        await world.finish(run.result())
        told = [await world.finish(anext(events)) for _ in range(2)]
    assert [event.type for event in told] == ["node:started", "node:completed"]
    for event in told:
        assert began <= event.at <= world.clock.now


async def test_a_worker_waits_for_a_store_that_does_not_tell_the_time(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(blueprints=[chain(1)])
    client = await world.process("client").open()
    run = await world.finish(client.adapter.start_run(world.blueprints[0]))
    clock, asked = world.store.clock, 0

    async def failing() -> float:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise Unavailable("no answer")
        return await clock()

    world.store.clock = failing  # type: ignore[method-assign] # this world's store fails
    await world.process("worker").start()
    assert (await world.finish(run.result())).status == "completed"
    assert "the queue or the run store does not answer (attempt 1)" in caplog.text
