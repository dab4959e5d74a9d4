"""Constructs when messages are lost or doubled, commits are cut off, and processes die between parent and child."""

from __future__ import annotations

from typing import Any

import pytest

from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.engine.events import Patch

from .conftest import MakeWorld
from .world import blueprint

CHILD = blueprint("child", {"a": "value", "b": "value"}, ["a>b"])
PARENT = blueprint(
    "parent",
    {"p": "value", "one": Node("one", "subflow", {"blueprintId": "child"}),
     "two": Node("two", "subflow", {"blueprintId": "child"}), "q": "value"},
    ["p>one", "p>two", "one>q", "two>q"],
)  # fmt: skip
LIST = Blueprint(
    "list",
    (
        Node("all_scatter", "batch-scatter", {"workerUsesKey": "value", "gatherNodeId": "all", "concurrency": 4}),
        Node("all", "batch-gather"),
        Node("end", "value"),
    ),
    (Edge("all_scatter", "all"), Edge("all", "end")),
)
SLEEPS = blueprint("sleeps", {"a": "value", "s": Node("s", "sleep", {"duration": "90s"}), "b": "value"}, ["a>s", "s>b"])
INPUTS: dict[str, object] = {"parent": 1, "list": list(range(20)), "sleeps": 2}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", INPUTS)
async def test_lost_and_doubled_messages_and_commits_cut_off(make_world: MakeWorld, name: str, seed: int) -> None:
    world = make_world(seed=seed, copies=2, lose=0.3, blueprints=[PARENT, CHILD, LIST, SLEEPS])
    expected = (await world.finish(world.runtime().run(name, INPUTS[name]))).outputs
    for process in "ab":
        await world.process(process).start()
    world.faults.lost_before = world.faults.lost_after = world.faults.unavailable = 0.1
    run = await world.finish(world.processes[0].adapter.start_run(name, INPUTS[name]))
    result = await world.finish(run.result(), within=20_000.0)
    assert result.status == "completed"
    assert dict(result.outputs) == dict(expected)
    world.faults.lost_before = world.faults.lost_after = world.faults.unavailable = 0.0
    once = [effect for effect in world.effects if effect.node != "all:items"]
    assert len({effect.key for effect in once}) == len(once), "no process died: nothing was executed twice"
    assert len(world.effects) - len(once) == (20 if name == "list" else 0)


async def test_the_ticker_tells_a_parent_whose_child_ended_while_nobody_could_say_so(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[PARENT, CHILD])
    first = await world.process("first").start()
    run = await first.adapter.start_run("parent", 1)
    ended: list[str] = []
    assert first.adapter._committer is not None
    first.adapter._committer.on_ended = (
        ended.append
    )  # the process hears of the end of a child, and dies before it tells
    await world.until(lambda: len(ended) == 2)
    first.kill()
    [stored] = [row for row in (await world.store.list()).items if row.run_id == run.run_id]
    assert stored.status == "running"
    began = world.clock.now
    second = await world.process("second").start()
    result = await world.finish(second.adapter.run(run.run_id).result())
    assert result.status == "completed"
    assert world.clock.now - began < 120.0
    assert world.executions(node="a") == 2, "the children were not executed again"


@pytest.mark.parametrize("changed", [False, True], ids=["the same", "changed"])
async def test_a_process_dies_after_it_made_a_child_and_before_it_said_so(make_world: MakeWorld, changed: bool) -> None:
    """What the child was given counts, also if it would be given something else now."""
    reads = Node("one", "subflow", {"blueprintId": "child", "inputs": {"x": "key"}, "outputs": {"given": "x"}})
    world = make_world(blueprints=[blueprint("parent", {"one": reads}, []), CHILD])
    first = await world.process("first").start()
    client = first.adapter._client
    assert client is not None
    made = client.start_child

    async def and_die(*args: Any, **named: Any) -> Any:
        await made(*args, **named)
        first.kill()
        await first.link.check()

    client.start_child = and_die  # type: ignore[method-assign] # of this process only
    run = await first.adapter.start_run("parent", 1, context={"key": "before"})
    await world.until(lambda: first.link.dead)
    second = await world.process("second").open()
    if changed:
        patch = Patch({"key": second.runtime.codec.encode("after")})
        assert second.adapter._committer is not None
        await world.finish(second.adapter._committer.submit(run.run_id, patch))
    await world.process("third").start()
    result = await world.finish(second.adapter.run(run.run_id).result())
    assert result.status == "completed"
    assert result.context == {"key": "after" if changed else "before", "given": "before"}
    rows = (await world.finish(second.adapter.list(blueprint_id="child"))).items
    assert len(rows) == 1, "the child that was there was found"


async def test_a_child_that_was_made_after_its_parent_had_given_it_up_does_not_go_on(make_world: MakeWorld) -> None:
    """Its worker stood still until nobody waited any more, made it then, and died before it could look."""
    waits = blueprint("child", {"w": Node("w", "wait"), "b": "value"}, ["w>b"])
    parent = blueprint("parent", {"one": Node("one", "subflow", {"blueprintId": "child"})}, [])
    world = make_world(blueprints=[parent, waits])
    first = await world.process("first").start()
    client = first.adapter._client
    assert client is not None
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def stand_still(*args: Any, **named: Any) -> Any:
        asked.append((args, named))
        first.kill()
        await first.link.check()

    client.start_child = stand_still  # type: ignore[method-assign] # of this process only
    run = await first.adapter.start_run("parent", 1)
    await world.until(lambda: bool(asked))
    second = await world.process("second").start()
    handle = second.adapter.run(run.run_id)
    await world.finish(handle.cancel())
    assert (await world.finish(handle.result())).status == "cancelled"
    [(args, named)] = asked
    assert second.adapter._client is not None
    child = await world.finish(second.adapter._client.start_child(*args, **named))  # what the first one does at last
    began = world.clock.now
    assert (await world.finish(child.result(), within=300.0)).status == "cancelled"
    assert world.clock.now - began < 60.0
    assert world.executions(node="b") == 0


async def test_a_child_that_waits_for_long_is_left_alone(make_world: MakeWorld) -> None:
    """Also if its parent has not heard of it yet, is paused, or has been moved on by other branches."""
    waits = blueprint("child", {"w": Node("w", "wait"), "s": Node("s", "sleep", {"duration": "1h"})}, ["w>s"])
    items = Blueprint(
        "parent",
        (
            Node("all_scatter", "batch-scatter", {"workerUsesKey": "value", "gatherNodeId": "all"}),
            Node("all", "batch-gather"), Node("one", "subflow", {"blueprintId": "child"}),
        ),
        (Edge("all_scatter", "all"),),
    )  # fmt: skip
    world = make_world(blueprints=[items, waits])
    process = await world.process("one").start()
    run = await process.adapter.start_run("parent", [1, 2])
    await world.pass_time(100.0)
    await world.finish(run.pause())
    await world.pass_time(2000.0)
    [child] = (await world.finish(process.adapter.list(blueprint_id="child"))).items
    assert child.status == "awaiting"
    await world.finish(process.adapter.signal(child.run_id, "w", "at last"))
    await world.finish(run.resume())
    result = await world.finish(run.result(), within=10_000.0)
    assert (result.status, result.output("one")) == ("completed", "at last")


async def test_a_subflow_stands_in_for_a_subflow(make_world: MakeWorld) -> None:
    """Both are attempt 1 of visit 1 in one place: their runs are two runs all the same, here as in process."""
    nodes = (
        Node("one", "subflow", {"blueprintId": "broken"}, fallback="spare"),
        Node("spare", "subflow", {"blueprintId": "child"}),
    )
    parent, broken = Blueprint("parent", nodes), blueprint("broken", {"a": "fail"}, [])
    world = make_world(blueprints=[parent, broken, CHILD])
    expected = await world.finish(world.runtime().run("parent", 1))
    assert expected.status == "completed"
    process = await world.process("one").start()
    run = await process.adapter.start_run("parent", 1)
    result = await world.finish(run.result())
    assert (result.status, dict(result.nodes)) == ("completed", dict(expected.nodes))
    assert result.outputs.keys() == expected.outputs.keys() == {"one", "spare"}
    children = [row.blueprint_id for row in (await world.store.list()).items if row.run_id != run.run_id]
    assert sorted(children) == ["broken", "child"]
