"""Cancelling a run with three levels of subflows, with waits, timers and running nodes, whose worker is killed.

The worker goes at every single step of its way to the outside: whatever it awaits from then on never returns. Whenever
that is, every run of the tree ends as cancelled, and nothing begins that would have come after.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowcraft.blueprint import Blueprint, Edge, Node

from .property.worlds import Process, World


def level(name: str, child: str | None) -> Blueprint:
    """Work that goes on for long, one that does not hear that it is cancelled, a wait, a sleep; below it a child."""
    nodes = [
        Node("begin", "value"), Node("long", "slow", {"seconds": 50_000.0}), Node("deaf", "deaf"), Node("ask", "wait"),
        Node("sleep", "sleep", {"duration": "30d"}), Node("after", "value"),
    ]  # fmt: skip
    edges = [Edge("begin", "long"), Edge("begin", "deaf"), Edge("begin", "ask"), Edge("begin", "sleep")]
    if child is not None:
        nodes.append(Node("below", "subflow", {"blueprintId": child}))
        edges += [Edge("begin", "below"), Edge("below", "after")]
    edges += [Edge(source, "after") for source in ("long", "deaf", "ask", "sleep")]
    return Blueprint(name, tuple(nodes), tuple(edges))


TREE = [level("top", "one"), level("one", "two"), level("two", "three"), level("three", None)]


class Tree:
    """The tree in a world of its own: a client that has no worker, and workers that come and go."""

    def __init__(self, **options: Any) -> None:
        self.world = World(blueprints=TREE, **options)
        self.let_go = asyncio.Event()
        self.world.behaviours["deaf"] = self._deaf

    async def _deaf(self, _: Process, __: Any) -> str:
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                continue
        return "done all the same"

    async def open(self) -> Any:
        client = await self.world.process("client").open()
        return await self.world.finish(client.adapter.start_run("top", 1, run_id="top"))

    def worker(self, name: str) -> Process:
        return self.world.process(name, worker={"concurrency": 50})

    async def statuses(self) -> dict[str, str]:
        rows = (await self.world.store.list(limit=100)).items
        return {row.blueprint_id: row.status for row in rows}

    async def unfolds(self) -> None:
        """Until every level waits for all that it waits for."""

        def all_run() -> bool:
            begun = [effect.node for effect in self.world.effects]
            return begun.count("deaf") >= 4 and begun.count("long") >= 4

        await self.world.until(all_run)

    async def all_cancelled(self, run: Any) -> None:
        """The run has ended, and with it all others."""
        result = await self.world.finish(run.result(), within=7200)
        assert result.status == "cancelled", result
        for _ in range(2000):
            if set((await self.statuses()).values()) == {"cancelled"}:
                break
            await self.world.pass_time(5)
        assert set((await self.statuses()).values()) == {"cancelled"}, await self.statuses()
        assert self.world.executions(node="after") == 0, "nothing comes after what was cancelled"

    async def close(self) -> None:
        self.let_go.set()
        await self.world.close()


def fuse(tree: Tree, process: Process, steps: int, *, wakes: bool) -> list[int]:
    """Let the process die, or stand still for ten minutes, at the given step to the outside.

    The list's only number counts the steps.
    """
    link, count, clock = process.link, [0], tree.world.clock
    check, until = link.check, [0.0]

    async def counted() -> None:
        count[0] += 1
        if count[0] == steps and wakes:
            until[0] = clock.now + 600
        elif count[0] == steps:
            link.cut()
        while clock.now < until[0]:
            await clock.sleep(until[0] - clock.now)
        await check()

    link.check = counted  # type: ignore[method-assign] # of this one link
    return count


async def test_the_tree_is_cancelled_after_its_worker_was_killed() -> None:
    tree = Tree()
    run = await tree.open()
    worker = await tree.worker("killed").start()
    await tree.unfolds()
    assert await tree.statuses() == dict.fromkeys(("top", "one", "two", "three"), "running")
    worker.kill()
    assert await tree.world.finish(run.cancel("enough")) is True
    assert await tree.world.finish(run.cancel("enough")) is False
    await tree.worker("next").start()
    await tree.all_cancelled(run)
    for row in (await tree.world.store.list(limit=100)).items:
        events = (await tree.world.store.read_events(row.run_id, 0, 1000)).items
        assert [e.type for e in events if e.type in ("run:cancelled", "run:completed", "run:failed")] == [
            "run:cancelled"
        ]
    await tree.close()


async def test_late_outcomes_are_kept_and_lead_nowhere() -> None:
    """The worker lives on, but its nodes do not hear that they are cancelled, and return when all is over but they."""
    tree = Tree()
    run = await tree.open()
    await tree.worker("lives").start()
    await tree.unfolds()
    await tree.world.finish(run.cancel())
    await tree.world.pass_time(1)
    assert set((await tree.statuses()).values()) == {"cancelling"}
    tree.let_go.set()
    await tree.all_cancelled(run)
    result = await tree.world.finish(run.result())
    assert (result.nodes["deaf"], result.nodes["after"]) == ("completed", "cancelled")
    assert result.output("deaf") == "done all the same"
    await tree.close()


async def test_a_parent_ends_after_its_children() -> None:
    tree = Tree()
    run = await tree.open()
    await tree.worker("lives").start()
    await tree.unfolds()
    tree.let_go.set()
    await tree.world.finish(run.cancel())
    await tree.all_cancelled(run)
    ends = {}
    for row in (await tree.world.store.list(limit=100)).items:
        events = (await tree.world.store.read_events(row.run_id, 0, 1000)).items
        ends[row.blueprint_id] = events[-1].at
    assert ends["three"] <= ends["two"] <= ends["one"] <= ends["top"]
    await tree.close()


async def _interrupted_at(step: int, *, bound: bool, wakes: bool) -> int:
    """Interrupt the worker at this step, cancel, let another one work; how many steps there were."""
    tree = Tree(bound=bound)
    tree.let_go.set()
    run = await tree.open()
    worker = tree.worker("interrupted")
    count = fuse(tree, worker, step, wakes=wakes)
    starting = asyncio.create_task(worker.start())
    await tree.world.pass_time(20)
    if not wakes:
        worker.kill()
    await tree.world.finish(run.cancel())
    await tree.worker("next").start()
    await tree.world.pass_time(700 if wakes else 0)
    await tree.all_cancelled(run)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await tree.close()
    return count[0]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("bound", "wakes"), [(True, False), (False, False), (True, True)], ids=["dies", "dies, queue apart", "stands still"]
)
async def test_whenever_the_worker_goes_every_run_of_the_tree_ends_cancelled(bound: bool, wakes: bool) -> None:
    assert await _interrupted_at(1_000_000, bound=bound, wakes=wakes) > 100, "the tree takes many steps"
    for step in range(1, 180, 8 if wakes else 3 if bound else 7):
        try:
            await _interrupted_at(step, bound=bound, wakes=wakes)
        except AssertionError as error:
            raise AssertionError(f"interrupted at step {step}") from error
