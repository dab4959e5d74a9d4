"""Starting runs exactly once, waiting for them with and without a bus, and the adapter around it all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from flowcraft.adapter import Adapter, AdapterOptions
from flowcraft.blueprint import Blueprint, Node
from flowcraft.errors import (
    DefinitionError,
    InvalidRequest,
    RunConflict,
    RunFailed,
    RunNotFound,
    SerializationError,
    Unavailable,
    UnknownOutcome,
)
from flowcraft.leases import StoreLeases
from flowcraft.model import Created, NewRun

from .conftest import MakeWorld
from .world import Process, World, blueprint, chain, fan


async def test_the_same_id_and_input_is_the_same_run(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    process = await world.process().start()
    other = await world.process("other").open()
    runs = [
        await p.adapter.start_run("chain", {"n": 1}, run_id="r", context={"a": 1, "b": 2}) for p in (process, other)
    ]
    runs.append(await other.adapter.start_run("chain", {"n": 1}, run_id="r", context={"b": 2, "a": 1}))
    for run in runs:
        assert (await world.finish(run.result())).status == "completed"
    again = await other.adapter.start_run("chain", {"n": 1}, run_id="r", context={"a": 1, "b": 2})
    assert (await world.finish(again.result())).status == "completed", "also after it has ended"
    assert world.executions() == 3


@pytest.mark.parametrize(
    "other",
    [{"input": {"n": 2}}, {"context": {"a": 2}}, {"context": {}}, {"flow": "other"}],
    ids=["input", "context", "no context", "blueprint"],
)
async def test_the_same_id_and_anything_else_is_a_conflict(make_world: MakeWorld, other: dict[str, Any]) -> None:
    world = make_world(blueprints=[chain(3), chain(3, name="other")])
    adapter = (await world.process().open()).adapter
    first = {"flow": "chain", "input": {"n": 1}, "context": {"a": 1}}
    await adapter.start_run(**first, run_id="r")  # type: ignore[arg-type] # keywords of several types
    with pytest.raises(RunConflict):
        await adapter.start_run(**{**first, **other}, run_id="r")


async def test_a_hundred_starts_at_once_make_one_run(make_world: MakeWorld) -> None:
    world = make_world(copies=2, blueprints=[chain(3)])
    process = await world.process().start()
    runs = await asyncio.gather(*(process.adapter.start_run("chain", 7, run_id="r") for _ in range(100)))
    await world.finish(runs[0].result())
    assert world.executions() == 3


@pytest.mark.parametrize("applied", [True, False])
async def test_a_start_whose_answer_is_lost(make_world: MakeWorld, applied: bool) -> None:
    world = make_world(bound=False, blueprints=[chain(3)])
    process = await world.process().start()
    calls = 0
    create = process.store.create

    async def lose(new: NewRun) -> Created:
        nonlocal calls
        calls += 1
        if calls > 3:
            return await create(new)  # type: ignore[no-any-return] # a proxy
        if applied:
            await create(new)
        raise UnknownOutcome("cut")

    process.store.create = lose  # type: ignore[attr-defined] # this is the point
    run = await world.finish(process.adapter.start_run("chain", 1, run_id="r"))
    assert (await world.finish(run.result(), within=20)).status == "completed"
    assert calls == 4
    assert world.executions() == 3
    calls = -1000
    with pytest.raises(UnknownOutcome):
        await world.finish(process.adapter.start_run("chain", 1))


async def test_a_start_that_cannot_be_stored_raises(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    adapter = (await world.process().open()).adapter
    for wrong in ("", "x" * 201, "nul\0", "\ud800"):
        with pytest.raises(DefinitionError):
            await adapter.start_run("chain", run_id=wrong)
    with pytest.raises(DefinitionError):
        await adapter.start_run("no such blueprint")
    with pytest.raises(SerializationError):
        await adapter.start_run("chain", object())
    with pytest.raises(SerializationError):
        await adapter.start_run("chain", context={"x": float("nan")})
    with pytest.raises(DefinitionError):
        await adapter.start_run("chain", context={"": 1})


async def test_strange_ids(make_world: MakeWorld) -> None:
    strange = ["a/b", 'quote"', "' OR 1=1", "ünïcödé 日本", "x\x1fy", "{tag}", "%s", "a b", ".", "ß" * 100]
    flow = Blueprint("odd", tuple(Node(name, "value") for name in strange))
    world = make_world(blueprints=[flow])
    adapter = (await world.process().start()).adapter
    runs = [await adapter.start_run(flow, name, run_id=name) for name in strange]
    for run in runs:
        result = await world.finish(run.result())
        assert set(result.outputs) == set(strange)
    assert world.duplicates == {}


async def test_the_result_of_every_terminal_status(make_world: MakeWorld) -> None:
    failing = blueprint("failing", {"a": "value", "b": "fail"}, ["a>b"])
    world = make_world(blueprints=[chain(2), failing, fan(3)])
    adapter = (await world.process().start()).adapter
    completed = await world.finish((await adapter.start_run("chain", 1, context={"k": [1]})).result())
    assert completed.raise_for_failure() is completed
    assert completed.output() == completed.outputs["n1"]
    assert completed.context == {"k": [1]}
    assert list((await world.finish((await adapter.start_run("fan")).result())).outputs) == [
        "start",
        "end",
        "w0",
        "w1",
        "w2",
    ]
    failed = await world.finish((await adapter.start_run("failing")).result())
    assert failed.errors[0].node_id == "b"
    assert failed.errors[0].errors[0].text == "broken"
    with pytest.raises(RunFailed, match="broken"):
        failed.raise_for_failure()


async def test_a_run_that_is_not_there(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    adapter = (await world.process().open()).adapter
    run = adapter.run("nobody")
    for question in (
        run.result(),
        run.status(),
        run.cancel(),
        run.view(),
        adapter.status("nobody"),
        anext(run.watch()),
    ):
        with pytest.raises(RunNotFound):
            await world.finish(question)


async def test_a_timeout_leaves_the_run_alone(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(1, "slow", params={"seconds": 60.0})])
    adapter = (await world.process().start()).adapter
    run = await adapter.start_run("chain")
    began = world.clock.now
    with pytest.raises(TimeoutError):
        await world.finish(run.result(timeout=10))
    assert 10 <= world.clock.now - began < 11
    assert (await world.finish(run.result(timeout=100))).status == "completed"
    with pytest.raises(TimeoutError):
        await world.finish((await adapter.start_run("chain")).result(timeout=0))


def count_reads(process: Process) -> list[float]:
    """When the store is read from now on."""
    times: list[float] = []
    load = process.world.store.load

    async def counted(*args: Any, **named: Any) -> Any:
        times.append(process.world.clock.now)
        return await load(*args, **named)

    process.store.load = counted  # type: ignore[attr-defined] # to see how often
    return times


async def test_waiting_is_woken_by_the_bus_and_reads_seldom(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(4, "slow", params={"seconds": 25.3})])
    await world.process("worker").start()
    client = await world.process("client").open()
    reads = count_reads(client)
    run = await client.adapter.start_run("chain")
    began = world.clock.now
    await world.finish(run.result())
    assert 101.2 <= world.clock.now - began < 102, "woken at once"
    assert len(reads) <= 102 / 5 + 2
    assert all(b - a >= 5 for a, b in pairwise(reads[:-1]))


@pytest.mark.parametrize("death", ["none", "raises", "silent", "ends"])
async def test_waiting_works_without_a_bus(make_world: MakeWorld, death: str) -> None:
    world = make_world(blueprints=[chain(2, "slow", params={"seconds": 12.0})])
    await world.process("worker").start()
    client = await world.process("client").open()
    run = await client.adapter.start_run("chain")
    access = run._access
    if death == "none":
        object.__setattr__(access, "events", None)
    elif death == "raises":

        def subscribe(**_: object) -> Any:
            raise Unavailable("no bus")

        access.events.subscribe = subscribe  # type: ignore[union-attr,method-assign] # a dead bus
    elif death == "silent":
        world.events.tell = lambda events: None  # type: ignore[method-assign] # a bus that loses everything
    began = world.clock.now
    waiting = asyncio.ensure_future(run.result())
    watching = asyncio.ensure_future(_collect(run))
    await world.pass_time(1)
    if death == "ends":
        await world.events.aclose()
    assert (await world.finish(waiting)).status == "completed"
    assert world.clock.now - began < 35
    events = [event for event in await world.finish(watching) if event.seq]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == "run:completed"


async def _collect(run: Any) -> list[Any]:
    return [event async for event in run.watch()]


async def test_waiting_survives_a_store_that_does_not_answer(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2, "slow", params={"seconds": 20.0})])
    await world.process("worker").start()
    client = await world.process("client").open()
    run = await client.adapter.start_run("chain")
    load, failing = client.store.load, True

    async def flaky(*args: Any, **named: Any) -> Any:
        if failing:
            raise Unavailable("no connection")
        return await load(*args, **named)

    client.store.load = flaky  # type: ignore[attr-defined] # this is the point
    waiting = asyncio.ensure_future(run.result())
    await world.pass_time(60)
    assert not waiting.done()
    failing = False
    assert (await world.finish(waiting)).status == "completed"


async def test_a_slow_watcher_misses_no_stored_event(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[fan(40)])
    world.events._buffer = 3
    process = await world.process().start()
    run = await process.adapter.start_run("fan")
    seen: list[int] = []

    async def watch() -> None:
        async for event in run.watch():
            await world.clock.sleep(0.2)
            if event.seq:
                seen.append(event.seq)

    await world.finish(watch())
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == len(await run.history())


async def test_list_and_get(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2), fan(2)])
    adapter = (await world.process().start()).adapter
    for n in range(5):
        await world.finish((await adapter.start_run("chain", run_id=f"c{n}")).result())
    await adapter.start_run("fan", run_id="f")
    page = await adapter.list(blueprint_id="chain", limit=3)
    rest = await adapter.list(blueprint_id="chain", limit=3, after=page.after)
    assert {row.run_id for row in (*page.items, *rest.items)} == {f"c{n}" for n in range(5)}
    assert [row.run_id for row in (await adapter.list(status="running")).items] in (["f"], [])
    for wrong in (0, 1001):
        with pytest.raises(InvalidRequest):
            await adapter.list(limit=wrong)


async def test_an_adapter_is_open_in_its_block_only(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    process = world.process()
    with pytest.raises(InvalidRequest):
        await process.adapter.start_run("chain")
    async with process.adapter:
        await process.adapter.start_run("chain")
    with pytest.raises(InvalidRequest):
        process.adapter.run("x")


async def test_owned_ports_are_closed_in_order_and_others_are_not(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    closed: list[str] = []

    class Port:
        def __init__(self, name: str) -> None:
            self.name = name

        async def aclose(self) -> None:
            closed.append(self.name)

    adapter = Adapter(world.runtime(), queue=world.queue, store=world.store, owned=[Port("a"), Port("b")])
    async with adapter:
        assert closed == []
    assert closed == ["a", "b"]


async def test_start_and_stop(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    adapter = Adapter(world.runtime(world.process()), queue=world.queue, store=world.store, events=world.events)
    before = asyncio.all_tasks()
    worker = await world.finish(adapter.start())
    with pytest.raises(InvalidRequest):
        await adapter.start()
    run = await world.finish(adapter.start_run("chain"))
    assert (await world.finish(run.result())).status == "completed"
    await world.finish(adapter.stop())
    assert not worker.healthy
    await world.finish(adapter.close())
    assert asyncio.all_tasks() - before == set()


def test_options_are_checked() -> None:
    for wrong in ({"lease_ttl": 0.0}, {"tick": 0.0}, {"retention": -1.0}, {"drain_grace": 0.0}, {"resend_after": 0.0}):
        with pytest.raises(InvalidRequest):
            AdapterOptions(**wrong)  # type: ignore[arg-type] # on purpose


async def test_without_a_coordination_store_the_run_store_keeps_the_leases(make_world: MakeWorld) -> None:
    world: World = make_world(seed=1, copies=2, blueprints=[chain(5), fan(10)])
    adapters: Sequence[Adapter] = [
        Adapter(world.runtime(world.process(name)), queue=world.queue, store=world.store, events=world.events)
        for name in "abc"
    ]
    for adapter in adapters:
        assert isinstance(adapter.coordination, StoreLeases)
        await world.finish(adapter.start())
    runs = [await world.finish(adapters[0].start_run(name, n)) for n in range(10) for name in ("chain", "fan")]
    for run in runs:
        assert (await world.finish(run.result())).status == "completed"
    assert world.duplicates == {}
    await world.pass_time(60)
    assert (await world.store.list(kind="lease")).items == (), "expired leases are removed"
    for adapter in adapters:
        await world.finish(adapter.close())
