"""What workers give up becomes a dead letter, and what is replayed meets the head."""

from __future__ import annotations

import logging

import pytest

from flowcraft.blueprint import Node
from flowcraft.deadletters import record_poisoned
from flowcraft.errors import NotReplayable, Unavailable
from flowcraft.model import Job

from .conftest import MakeWorld
from .world import Process, World, blueprint, chain


async def poisoned(world: World, run_id: str = "run") -> Process:
    """Let a run kill its workers until one gives up; returns a process that is alive."""
    process = await world.process("w0").start()
    await process.adapter.start_run(world.blueprints[0], run_id=run_id)
    deaths = 0
    while world.executions(node="b") < 5:
        deaths += 1
        assert deaths < 20
        await world.until(lambda p=process: p.link.dead, within=900)
        process = await world.process(f"w{deaths}").start()
    return process


async def test_a_visit_that_kills_its_workers_becomes_a_letter(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[blueprint("poison", {"a": "value", "b": "killer"}, ["a>b"])])
    process = await poisoned(world)
    assert (await world.finish(process.adapter.result("run"), within=3600)).status == "failed"
    (letter,) = (await world.finish(process.adapter.dead_letters.list())).items
    assert letter.job is not None
    assert (letter.job.run_id, letter.job.node, letter.job.visit) == ("run", "b", 1)
    assert (letter.kind, letter.deaths) == ("poisoned", 5)
    assert letter.at is not None
    assert 1_000_000 < letter.at <= world.clock.now


async def test_a_visit_is_not_begun_again_because_its_letter_could_not_be_written(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """The count of its deaths is kept, and the next one that gets it gives it up again."""
    world = make_world(blueprints=[blueprint("poison", {"a": "value", "b": "killer"}, ["a>b"])])
    create, refused = world.store.create, 0

    async def failing(new: object) -> object:
        nonlocal refused
        if getattr(new, "kind", "") == "dead" and refused < 3:
            refused += 1
            raise Unavailable("no room")
        return await create(new)  # type: ignore[arg-type] # as it came

    world.store.create = failing  # type: ignore[method-assign, assignment] # this world's store fails
    with caplog.at_level(logging.CRITICAL, "flowcraft"):
        process = await poisoned(world)
        assert (await world.finish(process.adapter.result("run"), within=7200)).status == "failed"
    assert refused == 3
    assert world.executions(node="b") == 5, "nobody was killed once more"
    assert len((await world.finish(process.adapter.dead_letters.list())).items) == 1


async def test_a_poisoned_visit_is_replayed_in_its_run(make_world: MakeWorld) -> None:
    """Once whatever killed its workers is mended, only it and what follows from it is executed."""
    flow = blueprint("poison", {"a": "value", "b": "killer", "c": "value"}, ["a>b", "b>c"])
    world = make_world(blueprints=[flow])
    process = await poisoned(world)
    letters = process.adapter.dead_letters
    assert (await world.finish(process.adapter.result("run"), within=3600)).status == "failed"
    (letter,) = (await world.finish(letters.list())).items
    world.behaviours["killer"] = world.behaviours["value"]
    assert await world.finish(letters.replay(letter.id)) == letter
    assert (await world.finish(process.adapter.result("run"))).status == "completed"
    assert [world.executions(node=node) for node in "abc"] == [1, 6, 1]
    assert (await world.finish(letters.list())).items == ()


@pytest.mark.parametrize(
    ("node", "told"), [("b", "running"), ("b", "completed"), ("b", "cancelled"), ("a", "failed"), ("gone", "failed")]
)
async def test_what_did_not_make_its_run_fail_is_not_retried(make_world: MakeWorld, node: str, told: str) -> None:
    uses = {"running": "slow", "completed": "value", "cancelled": "fail", "failed": "fail"}[told]
    other = Node("other", "slow", {"seconds": 10.0})
    flow = blueprint("b", {"a": "value", "b": Node("b", uses, {"seconds": 50.0}), "other": other}, ["a>b"])
    world = make_world(blueprints=[flow])
    process = await world.process().start()
    await world.finish(process.adapter.start_run(world.blueprints[0], run_id="run"))
    await world.until(lambda: world.executions() == 3)
    if told == "cancelled":
        await world.pass_time(2)
        await world.finish(process.adapter.cancel("run"))
    if told != "running":
        await world.finish(process.adapter.result("run"))
    assert await world.finish(process.adapter.status("run")) == told
    await record_poisoned(world.store, Job("run", node, 1, 1, "nonce", "q"), 5, "deaths")
    letters = process.adapter.dead_letters
    (letter,) = (await world.finish(letters.list())).items
    with pytest.raises(NotReplayable, match=f"because of node '{node}'"):
        await world.finish(letters.replay(letter.id))
    assert (await world.finish(letters.list())).items == (letter,), "it stays"
    assert (await world.finish(process.adapter.result("run"))).status == (told if told != "running" else "completed")
    assert world.executions() == 3, "nothing was executed again"


async def test_a_replayed_message_of_a_settled_visit_repeats_nothing(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    process = await world.process("w").start()
    run = await process.adapter.start_run(world.blueprints[0])
    await world.finish(run.result())
    (first,) = [job for job in world.queue.pushed if job.node == "n0"]
    await world.queue.publish_bytes("aside", first.to_bytes())
    async with world.queue.deliveries(["aside"], prefetch=1) as batches:
        await (await anext(batches))[0].reject("a mistake")
    await world.queue.publish_bytes(first.queue, b"garbage")
    (letter, *_) = (await world.finish(process.adapter.dead_letters.list())).items
    await world.finish(process.adapter.dead_letters.replay(letter.id))
    async with world.queue.deliveries(["aside"], prefetch=1) as batches:
        again = (await anext(batches))[0]
        assert again.job.nonce == first.nonce
        await again.retry()
    served = await world.process("aside", worker={"queues": ["aside"]}).start()
    await world.until(lambda: not world.queue._depth.get("aside"), within=60)
    assert served.worker is not None
    await world.pass_time(5)
    assert world.executions() == 2
    assert await world.queue.depth("aside") == 0
