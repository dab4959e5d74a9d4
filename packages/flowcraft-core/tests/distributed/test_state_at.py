"""A run as it was: `RunHandle.state_at`, and that what makes it possible is not told to anybody."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from flowcraft.blueprint import Edge
from flowcraft.errors import InvalidRequest, RunNotFound, SerializationError
from flowcraft.model import Event

from .conftest import MakeWorld
from .world import RETRY_LATER, World, blueprint, chain


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


async def _finished(world: World, flow: Any, run_input: Any = 0) -> Any:
    process = await world.process().start()
    handle = await world.finish(process.adapter.start_run(flow, run_input, run_id="r"))
    await world.finish(handle.result())
    return handle


async def test_states_status_and_failures_as_they_were(world: World) -> None:
    flow = blueprint("flow", {"a": "value", "b": "fail", "c": "value"}, ["a>b", "b>c"])
    handle = await _finished(world, flow)
    events = await world.finish(handle.history())
    views = [await world.finish(handle.state_at(event.seq)) for event in events]
    seen = {"".join(view.nodes[n].state[0] for n in "abc"): view for view in views}
    assert list(seen) == ["rpp", "crp", "cfs"]
    assert (seen["rpp"].status, seen["crp"].status, seen["cfs"].status) == ("running", "running", "failed")
    assert [failure.node_id for failure in seen["cfs"].failures] == ["b"]
    assert seen["crp"].failures == ()
    assert seen["rpp"].nodes["a"].output is None
    assert seen["crp"].nodes["a"].output is not None
    assert views[-1].status == (await world.finish(handle.view())).status


async def test_an_output_that_was_replaced_is_not_named(world: World) -> None:
    flow = blueprint("loop", {"a": "count", "b": "count"}, ["a>b", Edge("b", "a", condition="input < 8")])
    handle = await _finished(world, flow)
    events = await world.finish(handle.history())
    ends = [event.seq for event in events if event.type == "node:completed" and event.node == "a"]
    outputs = [(await world.finish(handle.state_at(seq))).nodes["a"].output for seq in ends]
    assert [output is None for output in outputs] == [True, True, True, False]


async def test_numbers_that_are_none(world: World) -> None:
    handle = await _finished(world, chain(3))
    last = (await world.finish(handle.history()))[-1].seq
    for seq in (-1, 0, last + 1):
        with pytest.raises(InvalidRequest, match=f"no event number {seq}"):
            await world.finish(handle.state_at(seq))
    with pytest.raises(RunNotFound):
        await world.finish(world.processes[0].adapter.run("nobody").state_at(1))


async def test_a_store_without_history_says_so(world: World) -> None:
    world.store.capabilities = replace(world.store.capabilities, history=False)
    handle = await _finished(world, chain(3))
    with pytest.raises(InvalidRequest, match="keeps no history"):
        await world.finish(handle.state_at(1))
    assert all(not event.head for event in (await world.store.read_events("r")).items)


async def test_a_history_of_an_earlier_version_says_so(world: World) -> None:
    handle = await _finished(world, chain(3))
    document = world.store._find("run", "r")
    assert document is not None
    for seq, row in document.events.items():
        event = row if isinstance(row, Event) else Event.from_json("r", seq, row)
        document.events[seq] = event.told()
    with pytest.raises(SerializationError, match="an earlier version"):
        await world.finish(handle.state_at(2))


async def test_nobody_is_told(world: World) -> None:
    process = await world.process().start()
    heard: list[Event] = []

    async def listen() -> None:
        async with world.events.subscribe() as events:
            async for event in events:
                heard.append(event)  # noqa: PERF401 - it is looked at while it grows

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    handle = await world.finish(process.adapter.start_run(chain(5), run_id="r"))

    async def watch() -> list[Event]:
        return [event async for event in handle.watch()]

    watched = await world.finish(watch())
    told = [*heard, *watched, *(await world.finish(handle.history()))]
    listening.cancel()
    assert len(heard) > 5
    assert len(watched) > 5
    assert not any(event.head for event in told)
    assert any(event.head for event in (await world.store.read_events("r")).items)


async def test_what_tells_nothing_else_is_one_event(world: World) -> None:
    """A timer that fires changes the head, and every change has a number."""
    flow = blueprint("later", {"a": replace(chain(1).nodes[0], id="a", uses="flaky", retry=RETRY_LATER)}, [])
    handle = await _finished(world, flow)
    events = await world.finish(handle.history())
    assert [event.type for event in events] == [
        "run:started", "node:retrying", "run:updated", "node:completed", "run:completed",
    ]  # fmt: skip
    states = [(await world.finish(handle.state_at(event.seq))).nodes["a"].state for event in events]
    assert states == ["ready", "retrying", "ready", "completed", "completed"]
