"""Messages twice, lost and shuffled, answers lost before and after the commit, leases flushed, workers killed.

Whatever happens, each run ends as it does in process, and every second execution has a cause that is counted.
"""

from __future__ import annotations

import asyncio

import pytest

from flowcraft.blueprint import Node
from flowcraft.results import RunResult

from .conftest import MakeWorld
from .test_flows import FLOWS
from .world import World, blueprint, chain, diamond, fan

MIXED = ["chain", "fan", "diamond", "condition", "values of others", "fallback", "loop", "long retry", "failure"]


async def check_against_in_process(world: World, names: list[str], results: list[RunResult]) -> None:
    for name, result in zip(names, results, strict=True):
        expected = await world.finish(world.runtime().run(FLOWS[name], {"n": 1}))
        assert result.status == expected.status, name
        assert result.nodes == expected.nodes, name
        assert result.outputs == expected.outputs, name


async def run_all(world: World, repeat: int = 2) -> None:
    client = world.processes[0]
    names = MIXED * repeat
    runs = [await world.finish(client.adapter.start_run(FLOWS[name], {"n": 1})) for name in names]
    results = [await world.finish(run.result(), within=7200) for run in runs]
    await check_against_in_process(world, names, results)


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "unbound"])
async def test_every_message_twice_and_shuffled_executes_nothing_twice(make_world: MakeWorld, bound: bool) -> None:
    world = make_world(seed=1, bound=bound, copies=2, blueprints=list(FLOWS.values()))
    for name in "abc":
        await world.process(name).start()
    await run_all(world, repeat=4)
    assert world.duplicates == {}


async def test_lost_messages_cost_time_only(make_world: MakeWorld) -> None:
    world = make_world(seed=2, lose=0.3, blueprints=list(FLOWS.values()))
    for name in "ab":
        await world.process(name).start()
    await run_all(world)
    assert world.duplicates == {}


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "unbound"])
@pytest.mark.parametrize("fault", ["lost_before", "lost_after", "late", "unavailable"])
async def test_unanswered_commits_are_found_out(make_world: MakeWorld, fault: str, bound: bool) -> None:
    world = make_world(seed=3, bound=bound, copies=2, blueprints=list(FLOWS.values()))
    for name in "abc":
        await world.process(name).start()
    setattr(world.faults, fault, 0.35)
    await run_all(world, repeat=4)
    assert world.faults.counts[fault.replace("_", " ")] > 10
    assert world.duplicates == {}, "finding out is not executing again"


async def test_flushed_leases_change_no_result(make_world: MakeWorld) -> None:
    flow = fan(10, "slow", name="slow fan", params={"seconds": 20.0})
    world = make_world(seed=4, copies=2, blueprints=[*FLOWS.values(), flow])
    for name in "abc":
        await world.process(name).start()
    stop = asyncio.Event()

    async def flush() -> None:
        while not stop.is_set():
            world.coordination.flush()
            await world.clock.sleep(world.rng.uniform(0.0, 3.0))

    flushing = asyncio.create_task(flush())
    slow = await world.processes[0].adapter.start_run(flow)
    await run_all(world)
    assert (await world.finish(slow.result())).status == "completed"
    stop.set()
    await world.finish(flushing)
    assert sum(world.duplicates.values()) <= world.coordination.flushes * 30, "each is the work of a flush"


async def test_no_coordination_at_all_for_a_while(make_world: MakeWorld) -> None:
    world = make_world(seed=5, blueprints=list(FLOWS.values()))
    for name in "ab":
        await world.process(name).start()
    for _ in range(2):
        world.coordination.down = not world.coordination.down
        await run_all(world)
    world.coordination.down = False
    assert world.duplicates == {}, "a message that comes once is executed once, lease or not"


@pytest.mark.parametrize("seed", range(12))
async def test_everything_at_once(make_world: MakeWorld, seed: int) -> None:
    """Workers are killed and replaced while messages and answers get lost. Duplicates are at most what was in hand."""
    world = make_world(seed=seed, bound=bool(seed % 2), copies=1 + seed % 3, lose=0.1, blueprints=list(FLOWS.values()))
    faults, rng = world.faults, world.rng
    faults.lost_before = faults.lost_after = faults.late = faults.unavailable = 0.05
    await world.process("client").open()
    alive = [await world.process(f"w{n}").start() for n in range(3)]
    stop = asyncio.Event()
    killed = 0

    async def kill() -> None:
        nonlocal killed
        while not stop.is_set() and killed < 12:
            await world.clock.sleep(rng.uniform(0.1, 2.0))
            alive.pop(rng.randrange(len(alive))).kill()
            killed += 1
            alive.append(world.process(f"w{len(world.processes)}"))
            starting.append(asyncio.create_task(alive[-1].start()))

    starting: list[asyncio.Task[object]] = []
    killing = asyncio.create_task(kill())
    await run_all(world)
    stop.set()
    await world.finish(asyncio.wait({killing}))
    for task in starting:
        await world.finish(task)
    assert killed >= 5
    assert sum(world.duplicates.values()) <= killed * 10, "concurrency bounds what a death repeats"
    completed = [event for run in await all_runs(world) for event in run if event.type == "node:completed"]
    keys = [(event.run_id, event.node, event.visit) for event in completed]
    assert len(set(keys)) == len(keys), "a node completes at most once per visit"


async def all_runs(world: World) -> list[list[object]]:
    page = await world.store.list(limit=1000)
    return [list((await world.store.read_events(row.run_id, 0, 10_000)).items) for row in page.items]


async def test_a_worker_killed_in_the_middle_of_a_visit(make_world: MakeWorld) -> None:
    flow = chain(3, "slow", name="slow chain", params={"seconds": 5.0})
    world = make_world(seed=6, blueprints=[flow])
    first = await world.process("first").start()
    run = await first.adapter.start_run(flow)
    await world.until(lambda: world.executions(node="n1") == 1)
    first.kill()
    second = await world.process("second").start()
    died = world.clock.now
    result = await world.finish(second.adapter.result(run.run_id))
    assert result.status == "completed"
    assert list(world.duplicates.values()) == [1], "only the visit that was cut off"
    assert [e.process for e in world.effects] == ["first", "first", "second", "second"]
    assert world.clock.now - died < 100


async def test_the_whole_fleet_dies_and_comes_back(make_world: MakeWorld) -> None:
    world = make_world(seed=7, blueprints=[fan(20, "slow", name="slow fan", params={"seconds": 5.0})])
    fleet = [await world.process(name).start() for name in "ab"]
    run = await fleet[0].adapter.start_run("slow fan")
    await world.until(lambda: world.executions() > 10)
    for process in fleet:
        process.kill()
    world.clock.now += 24 * 3600.0
    again = await world.process("again").start()
    result = await world.finish(again.adapter.result(run.run_id))
    assert result.status == "completed"
    assert sum(world.duplicates.values()) <= 20


async def test_a_frozen_worker_that_wakes_up_changes_nothing(make_world: MakeWorld) -> None:
    """A zombie: its lease ran out, another worker finished the visit, and then its own outcome arrives."""
    flow = blueprint("zombie", {"a": Node("a", "pausable"), "b": "value"}, ["a>b"])
    world = make_world(blueprints=[flow])
    frozen = asyncio.Event()

    async def pausable(process, ctx):
        if process.name == "zombie":
            world.coordination.flush()  # as if its lease had run out
            await frozen.wait()
        return process.name

    world.behaviours["pausable"] = pausable
    zombie = await world.process("zombie").start()
    run = await zombie.adapter.start_run(flow)
    await world.until(lambda: world.executions(node="a") == 1)
    zombie.link.dead = True  # frozen: it neither renews nor commits …
    other = await world.process("other").start()
    result = await world.finish(other.adapter.result(run.run_id))
    zombie.link.dead = False
    frozen.set()  # … and now it goes on as if nothing had happened
    await world.pass_time(60)
    assert result.output("a") == "other"
    assert (await world.finish(other.adapter.result(run.run_id))).outputs == result.outputs
    assert world.executions(node="b") == 1


async def test_a_value_that_is_too_large_fails_its_own_node_only(make_world: MakeWorld) -> None:
    flow = blueprint(
        "large",
        {"a": "value", "b": Node("b", "big", {"size": 300_000}, fallback="f"), "c": "value", "f": "value",
         "d": "value"},
        ["a>b", "a>c", "b>d", "c>d"],
    )  # fmt: skip
    world = make_world(blueprints=[flow])
    world.store.capabilities = type(world.store.capabilities)(durable=False, history=True, max_commit_bytes=100_000)
    process = await world.process().start()
    result = await world.finish((await process.adapter.start_run(flow)).result())
    assert result.status == "completed", result.failures
    assert result.outputs["b"] == result.outputs["f"]
    events = (await world.store.read_events(result.run_id)).items
    fallback = next(event for event in events if event.type == "node:fallback")
    assert str(fallback.data["error"]).startswith("PayloadTooLarge")


async def test_diamonds_with_joins_raced_by_three_workers(make_world: MakeWorld) -> None:
    world = make_world(seed=8, copies=3, blueprints=[diamond()])
    for name in "abc":
        await world.process(name).start()
    runs = [await world.processes[0].adapter.start_run("diamond", i) for i in range(50)]
    for run in runs:
        await world.finish(run.result())
    assert world.executions(node="d") == 50
    assert world.duplicates == {}
