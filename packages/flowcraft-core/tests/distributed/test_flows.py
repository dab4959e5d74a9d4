"""Flows through real workers give what the same flow gives in process, and execute each node once."""

from __future__ import annotations

import pytest

from flowcraft.blueprint import ANY, Blueprint, Edge, Node, Retry

from .conftest import MakeWorld
from .world import RETRY_LATER, blueprint, chain, diamond, fan

FLOWS: dict[str, Blueprint] = {
    "chain": chain(10),
    "long chain": chain(40, name="long chain"),
    "fan": fan(20),
    "diamond": diamond(),
    "condition": blueprint(
        "condition",
        {"a": Node("a", "choose", {"score": 7}), "b": "value", "c": "value", "d": "value"},
        [Edge("a", "b", condition="result.output.score > 5"), Edge("a", "c", condition="result.output.score <= 5"),
         "b>d", "c>d"],
    ),
    "values of others": blueprint(
        "values of others",
        {"a": Node("a", "choose", {"score": 7}), "b": "write", "c": "value", "d": "value"},
        ["a>b", Edge("b", "c", condition="a.score == 7 and key == null"), Edge("b", "d", transform="a.score + 1")],
    ),
    "action": blueprint(
        "action",
        {"a": Node("a", "choose", {"action": "left"}), "b": "value", "c": "value"},
        [Edge("a", "b", action="left"), Edge("a", "c", action="right")],
    ),
    "context": blueprint("context", {"a": "write", "b": "value", "c": "write", "d": "value"}, ["a>b", "b>c", "c>d"]),
    "short retry": blueprint(
        "short retry", {"a": Node("a", "flaky", {"failures": 2}, retry=Retry(3, delay=0.0)), "b": "value"}, ["a>b"]
    ),
    "long retry": blueprint(
        "long retry", {"a": Node("a", "flaky", {"failures": 2}, retry=RETRY_LATER), "b": "value"}, ["a>b"]
    ),
    "fallback": blueprint(
        "fallback", {"a": Node("a", "fail", fallback="f"), "f": "value", "b": "value"}, ["a>b"]
    ),
    "failure": blueprint(
        "failure", {"a": "value", "b": "fail", "c": "value", "d": "value"}, ["a>b", "a>c", "b>d", "c>d"]
    ),
    "fail fast": blueprint("fail fast", {"a": "value", "b": "fail", "c": "value"}, ["a>b", "b>c"], failure="fail-fast"),
    "any": blueprint(
        "any", {"a": "value", "b": "value", "c": "value", "j": Node("j", "value", join=ANY)},
        ["a>b", Edge("a", "c", condition="false"), "b>j", "c>j"],
    ),
    "loop": blueprint(
        "loop", {"a": "count", "b": "count", "c": "value"},
        ["a>b", Edge("b", "a", condition="result.output < 9"), Edge("b", "c", condition="result.output >= 9")],
    ),
    "inputs": blueprint(
        "inputs",
        {"a": "value", "b": "value", "c": Node("c", "value", inputs={"x": "a", "y": "b.node"})},
        ["a>b", "b>c"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "unbound"])
@pytest.mark.parametrize("name", FLOWS)
async def test_same_as_in_process(make_world: MakeWorld, name: str, bound: bool) -> None:
    flow = FLOWS[name]
    world = make_world(bound=bound, blueprints=[flow])
    expected = await world.finish(world.runtime().run(flow, {"n": 1}, context={"seen": 1}))
    one = await world.process("one").start()
    await world.process("two").start()
    run = await one.adapter.start_run(flow, {"n": 1}, context={"seen": 1})
    result = await world.finish(run.result())
    assert result.status == expected.status
    assert result.nodes == expected.nodes
    assert result.outputs == expected.outputs
    assert result.context == expected.context
    assert result.output() == expected.output()
    assert [f.node_id for f in result.errors] == [f.node_id for f in expected.errors]
    assert not world.duplicates
    await world.until(lambda: not world.queue._hidden_live)
    assert await world.queue.depth("flowcraft-queue") == 0, "every message was acked"


async def test_many_runs_at_once(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(), fan(20), diamond()])
    workers = [await world.process(name).start() for name in "abc"]
    adapter = workers[0].adapter
    runs = [await adapter.start_run(flow, i) for i in range(20) for flow in ("chain", "fan", "diamond")]
    for run in runs:
        assert (await world.finish(run.result())).status == "completed"
    assert not world.duplicates
    assert world.executions() == 20 * (10 + 22 + 4)
    assert len({effect.process for effect in world.effects}) == 3, "all three took part"


async def test_a_long_retry_holds_no_slot_and_costs_a_timer(make_world: MakeWorld) -> None:
    flow = FLOWS["long retry"]
    world = make_world(blueprints=[flow, chain(3)])
    process = await world.process(worker={"concurrency": 1}).start()
    run = await process.adapter.start_run(flow)
    began = world.clock.now
    await world.until(lambda: world.executions() == 1)
    other = await process.adapter.start_run("chain")
    await world.finish(other.result())
    assert world.clock.now - began < 50
    await world.finish(run.result())
    assert 180 <= world.clock.now - began < 190


async def test_history_is_numbered_without_gaps_and_watched_live(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[fan(20)])
    process = await world.process().start()
    run = await process.adapter.start_run("fan")
    seen = []

    async def watch() -> None:
        seen.extend([event async for event in run.watch()])

    await world.finish(watch())
    numbered = [event for event in seen if event.seq]
    assert [event.seq for event in numbered] == list(range(1, len(numbered) + 1))
    assert numbered[0].type == "run:started"
    assert numbered[-1].type == "run:completed"
    assert [(e.seq, e.type) for e in await run.history()] == [(e.seq, e.type) for e in numbered]
    assert sum(event.type == "node:completed" for event in numbered) == 22
    assert sum(event.type == "node:started" for event in seen) > 0, "hints, too"
