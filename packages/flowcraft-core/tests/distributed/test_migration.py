"""A run that is moved to another blueprint while workers have it in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.clock import SystemClock
from flowcraft.engine.head import PARKED, RETRYING
from flowcraft.errors import DefinitionError, MigrationRefused, RunNotFound, UnknownOutcome
from flowcraft.model import Change, Committed
from flowcraft.nodes import NodeContext
from flowcraft.runtime import FlowRuntime
from flowcraft.sqlite import SqliteAdapter

from .conftest import MakeWorld
from .world import RETRY_LATER, Process, World, blueprint, chain


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


async def _state(process: Process, run_id: str = "r") -> Any:
    committer = process.adapter._committer
    assert committer is not None
    return await process.world.finish(committer.load(run_id))


def _two_versions() -> tuple[Blueprint, Blueprint]:
    """Of the second node's function there is only one version where the test runs, and a third node in the new one."""
    old = blueprint("flow", {"a": "value", "b": "gone@1"}, ["a>b"], version="1")
    new = blueprint("flow", {"c": "value", "b": "value", "a": "value"}, ["a>b", "b>c"], version="2")
    return old, new


async def test_a_run_that_is_parked_finishes_on_the_new_blueprint(world: World) -> None:
    old, new = _two_versions()
    process = await world.process().start()
    handle = await world.finish(process.adapter.start_run(old, 1, run_id="r"))

    async def parked() -> bool:
        state = await _state(process)
        return PARKED in state.committed().states

    while not await parked():
        await world.pass_time(0.5)
    assert await world.finish(process.adapter.migrate_run("r", new)) is True
    before = world.clock.now
    result = await world.finish(handle.result())
    assert result.status == "completed"
    assert dict(result.nodes) == {"a": "completed", "b": "completed", "c": "completed"}
    assert world.executions() == 3, "nothing is executed again"
    assert world.clock.now - before < 5, "it did not wait for its back-off"
    (row,) = (await world.finish(process.adapter.list())).items
    assert (row.blueprint_id, row.blueprint_hash) == ("flow", new.content_hash)
    assert await world.finish(process.adapter.migrate_run("r", new)) is False, "it is there already"


async def test_the_history_goes_on_across_the_move(world: World) -> None:
    old, new = _two_versions()
    process = await world.process().start()
    handle = await world.finish(process.adapter.start_run(old, 1, run_id="r"))
    await world.until(lambda: world.executions() == 1)
    await world.pass_time(0.5)
    await world.finish(process.adapter.migrate_run("r", new))
    await world.finish(handle.result())
    events = await world.finish(handle.history())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    (moved,) = (event for event in events if event.type == "run:migrated")
    assert dict(moved.data) == {"old": old.content_hash, "new": new.content_hash}
    before, after = [await world.finish(handle.state_at(moved.seq + step)) for step in (-1, 0)]
    assert (list(before.nodes), list(after.nodes)) == (["a", "b"], ["c", "b", "a"])
    assert before.nodes["a"] == after.nodes["a"]


async def test_a_run_that_waits_for_its_next_attempt_finishes(world: World) -> None:
    old = blueprint("flow", {"a": Node("a", "flaky", retry=RETRY_LATER), "z": "value"}, ["a>z"])
    new = blueprint("flow", {"z": "value", "y": "value", "a": Node("a", "flaky", retry=RETRY_LATER)}, ["a>y", "y>z"])
    process = await world.process().start()
    handle = await world.finish(process.adapter.start_run(old, 1, run_id="r"))
    await world.until(lambda: world.executions() == 1)
    await world.pass_time(1.0)
    assert RETRYING in (await _state(process)).committed().states
    await world.finish(process.adapter.migrate_run("r", new))
    result = await world.finish(handle.result())
    assert (result.status, world.executions(node="a"), world.executions(node="y")) == ("completed", 2, 1)


@pytest.mark.parametrize("uses", ["sleep", "wait"])
async def test_a_run_that_waits_finishes(world: World, uses: str) -> None:
    """It sleeps, or waits for a signal until its time is over."""
    params = {"duration": "1h"} if uses == "sleep" else {"timeout": "1h"}
    action = None if uses == "sleep" else "timeout"
    nap = Node("nap", uses, params=params)
    old = blueprint("flow", {"nap": nap, "z": "value"}, [Edge("nap", "z", action=action)])
    new = blueprint("flow", {"z": "value", "y": "value", "nap": nap}, [Edge("nap", "z", action=action), "z>y"])
    process = await world.process().start()
    handle = await world.finish(process.adapter.start_run(old, 1, run_id="r"))
    await world.pass_time(60.0)
    assert (await world.finish(handle.view())).nodes["nap"].state == "waiting"
    began = world.clock.now
    await world.finish(process.adapter.migrate_run("r", new))
    result = await world.finish(handle.result(), within=7200)
    assert (result.status, dict(result.nodes)) == ("completed", dict.fromkeys(("nap", "y", "z"), "completed"))
    assert 3500 < world.clock.now - began < 3700, "it waited for its time, not for that of the move"
    with pytest.raises(MigrationRefused):
        await world.finish(process.adapter.migrate_run("r", old))


async def test_a_loop_that_the_new_blueprint_begins_with_is_decided_on_stored_values(world: World) -> None:
    """Its condition asks for what was completed before, which the move has to read."""
    old = blueprint("flow", {"a": Node("a", "choose", params={"score": 3}), "b": "gone@1"}, ["a>b"])
    loop = Node("loop", "loop-controller", params={"condition": "a.score > 5"})
    edges = ["a>b", "a>loop", Edge("loop", "body", action="continue"), "body>loop", Edge("loop", "out", action="break")]
    nodes = {"a": old.nodes[0], "b": "value", "loop": loop, "body": "value", "out": "value"}
    process = await world.process().start()
    handle = await world.finish(process.adapter.start_run(old, 1, run_id="r"))
    await world.pass_time(5.0)
    await world.finish(process.adapter.migrate_run("r", blueprint("flow", nodes, edges)))
    result = await world.finish(handle.result())
    assert result.status == "completed"
    assert (result.nodes["out"], result.nodes["body"]) == ("completed", "skipped")


def _fan(order: Sequence[str], uses: str = "hold") -> Blueprint:
    nodes = {name: Node(name, "value" if name in ("s", "e") else uses) for name in order}
    middle = [name for name in order if name not in ("s", "e")]
    return blueprint("fan", dict(nodes), [e for n in sorted(middle) for e in (f"s>{n}", f"{n}>e")])


class _Held:
    """Nodes that wait until they are let go, and then return their own id."""

    def __init__(self, world: World) -> None:
        self.running: set[str] = set()
        self.gates: dict[str, asyncio.Event] = {}
        world.behaviours["hold"] = self._hold

    async def _hold(self, _: Process, ctx: NodeContext[Any, Any]) -> Any:
        self.running.add(ctx.node_id)
        await self.gates.setdefault(ctx.node_id, asyncio.Event()).wait()
        return f"of {ctx.node_id}"

    def let(self, *names: str) -> None:
        for name in names:
            self.gates.setdefault(name, asyncio.Event()).set()


@pytest.mark.parametrize("by", ["the worker's process", "another process"])
async def test_an_outcome_of_the_old_numbering_is_its_nodes(world: World, by: str) -> None:
    """a and b became READY by one commit: they share a nonce, and in the new blueprint they have changed places."""
    held = _Held(world)
    worker = await world.process("worker").start()
    other = await world.process("other").open()
    mover = worker if by == "the worker's process" else other
    handle = await world.finish(worker.adapter.start_run(_fan("sabe"), 1, run_id="r"))
    await world.until(lambda: held.running == {"a", "b"})
    await world.finish(mover.adapter.migrate_run("r", _fan("esba")))
    held.let("a")
    await world.pass_time(1.0)
    view = await world.finish(handle.view())
    assert {n: node.state for n, node in view.nodes.items()} == {
        "s": "completed", "a": "completed", "b": "ready", "e": "pending",
    }  # fmt: skip
    held.let("b")
    result = await world.finish(handle.result())
    assert (result.outputs["a"], result.outputs["b"]) == ("of a", "of b")
    assert result.status == "completed"
    assert not world.duplicates


async def test_an_outcome_that_waits_for_its_commit_is_renumbered_too(world: World) -> None:
    """The conflict is found while both outcomes are being folded, or wait behind."""
    held = _Held(world)
    worker = await world.process("worker").start()
    other = await world.process("other").open()
    handle = await world.finish(worker.adapter.start_run(_fan("sabcde"), 1, run_id="r"))
    await world.until(lambda: held.running == set("abcd"))
    moved: list[bool] = []
    commit = worker.store.commit

    async def after_the_move(changes: Sequence[Change]) -> Sequence[Committed]:
        if not moved:
            moved.append(True)
            moved[0] = await other.adapter.migrate_run("r", _fan("dceabs"))
            held.let("b", "d")
        return await commit(changes)

    worker.store.commit = after_the_move  # type: ignore[method-assign]
    held.let("a", "c")
    result = await world.finish(handle.result())
    assert moved == [True]
    assert {n: result.outputs[n] for n in "abcd"} == {n: f"of {n}" for n in "abcd"}
    assert not world.duplicates


async def test_a_commit_of_unknown_outcome_before_the_move(world: World) -> None:
    """It was applied, and then the run was moved before its process could look for it."""
    held = _Held(world)
    worker = await world.process("worker").start()
    other = await world.process("other").open()
    flow = _fan("sabe")
    handle = await world.finish(worker.adapter.start_run(flow, 1, run_id="r"))
    await world.until(lambda: held.running == {"a", "b"})
    lost: list[int] = []
    commit = worker.store.commit

    async def lost_and_moved(changes: Sequence[Change]) -> Sequence[Committed]:
        results = await commit(changes)
        if not lost:
            lost.append(len(changes))
            await other.adapter.migrate_run("r", _fan("beas"))
            raise UnknownOutcome("cut before the answer arrived")
        return results

    worker.store.commit = lost_and_moved  # type: ignore[method-assign]
    held.let("a", "b")
    result = await world.finish(handle.result())
    assert lost
    assert result.status == "completed"
    assert {n: result.outputs[n] for n in "ab"} == {"a": "of a", "b": "of b"}
    assert not world.duplicates


async def test_the_move_is_planned_again_when_somebody_commits_first(world: World) -> None:
    process = await world.process().start()
    mover = await world.process("mover").open()
    old = chain(30, "slow", params={"seconds": 0.1})
    nodes = (*reversed(old.nodes), Node("more", "value"))
    new = replace(old, nodes=nodes, edges=(*old.edges, Edge("n29", "more")))
    handle = await world.finish(process.adapter.start_run(old, 1, run_id="r"))
    await world.until(lambda: world.executions() >= 3)
    tried: list[Committed] = []
    commit = mover.store.commit

    async def late(changes: Sequence[Change]) -> Sequence[Committed]:
        if len(tried) < 3:
            await world.clock.sleep(0.25)
        results = await commit(changes)
        tried.extend(results)
        return results

    mover.store.commit = late  # type: ignore[method-assign]
    assert await world.finish(mover.adapter.migrate_run("r", new)) is True
    assert [result.applied for result in tried] == [False, False, False, True]
    result = await world.finish(handle.result())
    assert (result.status, world.executions()) == ("completed", 31)
    assert not world.duplicates


@pytest.mark.parametrize("fault", ["lost before", "lost after"])
async def test_a_move_of_unknown_outcome_is_made_once(world: World, fault: str) -> None:
    process = await world.process().open()
    old, new = _two_versions()
    handle = await world.finish(process.adapter.start_run(old, 1, run_id="r"))
    commit, tried = process.store.commit, list[int]()

    async def faulty(changes: Sequence[Change]) -> Sequence[Committed]:
        tried.append(len(changes))
        if len(tried) == 1 and fault == "lost before":
            raise UnknownOutcome("cut")
        results = await commit(changes)
        if len(tried) == 1:
            raise UnknownOutcome("cut")
        return results

    process.store.commit = faulty  # type: ignore[method-assign]
    assert await world.finish(process.adapter.migrate_run("r", new)) is True
    events = await world.finish(handle.history())
    assert [event.type for event in events].count("run:migrated") == 1
    assert len(tried) == (2 if fault == "lost before" else 1)


async def test_what_the_move_makes_ready_is_sent(make_world: MakeWorld) -> None:
    """Also where the store is not bound to the queue, and nothing else would send it for half a minute."""
    for bound in (True, False):
        world = make_world(bound=bound)
        held = _Held(world)
        process = await world.process().start()
        old = blueprint("flow", {"a": "value", "b": "hold", "j": "value"}, ["a>j", "b>j"])
        new = blueprint("flow", {"a": "value", "b": "hold", "j": "value", "n": "value"}, ["a>j"])
        handle = await world.finish(process.adapter.start_run(old, 1, run_id="r"))
        await world.until(lambda: world.executions("r", "a") == 1 and "b" in held.running)  # noqa: B023 - of this round
        heard: list[str] = []

        async def listen() -> None:
            async with world.events.subscribe(run_id="r") as events:  # noqa: B023 - of this round
                async for event in events:
                    heard.append(event.type)  # noqa: B023, PERF401 - it is looked at while it grows

        listening = asyncio.create_task(listen())
        await world.pass_time(1.0)
        await world.finish(process.adapter.migrate_run("r", new))
        await world.pass_time(2.0)
        assert world.executions("r", "j") == world.executions("r", "n") == 1
        assert "run:migrated" in heard
        listening.cancel()
        held.let("b")
        assert (await world.finish(handle.result())).status == "completed"


async def test_what_is_refused_changes_nothing(world: World) -> None:
    process = await world.process().start()
    old, _ = _two_versions()
    handle = await world.finish(process.adapter.start_run(old, 1, run_id="r"))
    await world.until(lambda: world.executions() == 1)
    await world.pass_time(1.0)
    before = (await _state(process)).raw
    with pytest.raises(MigrationRefused, match="'a'"):
        await world.finish(process.adapter.migrate_run("r", blueprint("flow", {"b": "value"}, [])))
    assert (await _state(process)).raw == before
    with pytest.raises(RunNotFound):
        await world.finish(process.adapter.migrate_run("nobody", old))
    with pytest.raises(DefinitionError):
        await world.finish(process.adapter.migrate_run("r", "unknown"))
    await world.finish(handle.cancel())
    await world.finish(handle.result())
    with pytest.raises(MigrationRefused, match="cancelled"):
        await world.finish(process.adapter.migrate_run("r", chain(2)))


async def test_on_sqlite(tmp_path: Path) -> None:
    old, new = _two_versions()
    parked = asyncio.Event()

    async def value(ctx: NodeContext[Any, Any]) -> Any:
        return ctx.node_id

    def adapter() -> SqliteAdapter:
        return SqliteAdapter(
            FlowRuntime(registry={"value": value}, clock=SystemClock()), tmp_path / "runs.db", tick=0.02
        )

    async with adapter() as one, one.worker():
        handle = await one.start_run(old, 1, run_id="r")
        async for event in handle.watch():
            if event.type == "node:parked":
                parked.set()
                break
    assert parked.is_set()
    async with adapter() as two:
        assert await two.migrate_run("r", new)
        (row,) = (await two.list(blueprint_id="flow")).items
        assert row.blueprint_hash == new.content_hash
        async with two.worker():
            result = await two.result("r", timeout=30)
        assert dict(result.outputs) == {"a": "a", "b": "b", "c": "c"}
