"""The state rebuilt from the history is the head that was committed, byte for byte, after every number.

Random workflows on memory (three workers, lost messages, commits of unknown outcome, workers that die) and on SQLite.
"""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Edge, Node, Retry
from flowcraft.clock import SystemClock
from flowcraft.history import BLOCK, head_at
from flowcraft.model import Change, Committed, Created, Event, NewRun
from flowcraft.nodes import NodeContext
from flowcraft.runtime import FlowRuntime
from flowcraft.sqlite import SqliteBackend

from ..oracle.generator import generate
from .replaying import Executed, perform, slowly
from .seeds import both, replayable, seeds
from .worlds import World

_TOGETHER = 25


class Witness:
    """Every head that a store took, with the events of its commit, by run."""

    def __init__(self, store: Any) -> None:
        self.heads: dict[str, list[tuple[Sequence[Event], bytes]]] = defaultdict(list)
        self._create, self._commit = store.create, store.commit
        store.create, store.commit = self.create, self.commit

    async def create(self, new: NewRun) -> Created:
        created: Created = await self._create(new)
        if created.made and new.kind == "run":
            self._took(new)
        return created

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        results: Sequence[Committed] = await self._commit(changes)
        for change, result in zip(changes, results, strict=True):
            if result.applied and change.kind == "run":
                self._took(change)
        return results

    def _took(self, what: NewRun | Change) -> None:
        self.heads[what.run_id].append((what.events, what.head))

    async def check(self, store: Any, run_id: str) -> int:
        """Rebuild the head after every number; how many there are."""
        seq = 0
        for events, head in self.heads[run_id]:
            assert events, "a commit left no trace in the history"
            assert [bool(event.head) for event in events] == [False] * (len(events) - 1) + [True]
            while seq < events[-1].seq:
                seq += 1
                assert await head_at(store, run_id, seq) == head, f"after event {seq}"
        assert await head_at(store, run_id, seq + 1) is None
        assert (await store.load(run_id)).head == head
        return seq

    def differences(self, run_id: str) -> float:
        """The mean size of what is stored for a commit, whole copies not counted, as a share of its head's."""
        found = [(len(e[-1].head), len(head)) for e, head in self.heads[run_id] if e[-1].head[:1] == b"D"]
        return sum(small for small, _ in found) / sum(large for _, large in found)


@dataclass(frozen=True)
class _Made:
    blueprint: Blueprint
    run_input: object

    @property
    def run_id(self) -> str:
        return f"run {self.blueprint.id}"


def _made(seed: int, delays: Sequence[float]) -> _Made | None:
    source = random.Random(seed)
    workflow = generate(source, refused=0.0)
    delay = source.choice(delays)
    nodes = [replace(n, retry=Retry(n.retry.attempts, delay=delay, jitter=0.0)) for n in workflow.blueprint.nodes]
    blueprint = replace(workflow.blueprint, id=f"graph {seed}", nodes=tuple(nodes))
    return None if both(blueprint, workflow.run_input) is None else _Made(blueprint, workflow.run_input)


def _chain(length: int) -> Blueprint:
    nodes = tuple(Node(f"n{i}", "behave") for i in range(length))
    return Blueprint("a long chain", nodes, tuple(Edge(f"n{i}", f"n{i + 1}") for i in range(length - 1)))


async def _in_memory(chosen: Sequence[int], *, kills: int) -> tuple[int, int]:
    source = random.Random(chosen[0])
    runs = [made for seed in chosen if (made := _made(seed, (0.0, 1.0))) is not None]
    runs.append(_Made(_chain(2 * BLOCK), {"n": 1, "from": "input"}))
    world = World(seed=chosen[0], lose=0.1, blueprints=[run.blueprint for run in runs])
    witness = Witness(world.store)

    async def node(process: Any, ctx: NodeContext[object, object]) -> object:
        await slowly(source)
        return await perform(ctx, Executed())

    world.behaviours = {"behave": node}
    faults = world.faults
    faults.lost_before = faults.lost_after = faults.late = faults.unavailable = 0.05
    side: list[asyncio.Task[Any]] = []
    try:
        client = await world.process("client").open()
        alive = [await world.process(f"w{n}").start() for n in range(3)]
        handles = [
            await world.finish(client.adapter.start_run(run.blueprint, run.run_input, run_id=run.run_id))
            for run in runs
        ]
        side += [asyncio.create_task(handle.cancel("enough")) for handle in handles if source.random() < 0.1]
        for number in range(kills):
            await world.pass_time(source.uniform(0.0, 2.0))
            alive.pop(0).kill()
            alive.append(await world.process(f"w{3 + number}").start())
        for handle in handles:
            await world.finish(handle.result(), within=7_200)
        for task in side:
            await world.finish(task)
        numbers = [await witness.check(world.store, run.run_id) for run in runs]
    finally:
        await world.close()
    return len(runs), sum(numbers)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [0, 3], ids=["faults", "workers die"])
async def test_in_memory(kills: int) -> None:
    chosen = list(seeds(150))
    found = (0, 0)
    for start in range(0, len(chosen), _TOGETHER):
        together = chosen[start : start + _TOGETHER]
        with replayable(__file__, ",".join(map(str, together))):
            runs, numbers = await _in_memory(together, kills=kills)
        found = found[0] + runs, found[1] + numbers
    print(f"memory, {kills} workers died: {found[0]} workflows, {found[1]} numbers")


@pytest.mark.timeout(3600)
async def test_on_sqlite(tmp_path: Path) -> None:
    runs = [made for seed in seeds(100) if (made := _made(seed, (0.0,))) is not None]
    runs.append(_Made(_chain(3 * BLOCK), {"n": 1, "from": "input"}))

    async def node(ctx: NodeContext[object, object]) -> object:
        return await perform(ctx, Executed())

    def adapter(backend: SqliteBackend) -> Adapter:
        runtime = FlowRuntime(blueprints=[run.blueprint for run in runs], registry={"behave": node})
        return Adapter(
            runtime, queue=backend.queue, store=backend.store, coordination=backend.coordination, events=backend.events
        )

    async with SqliteBackend.open(tmp_path / "runs.db", clock=SystemClock()) as backend:
        witness = Witness(backend.store)
        one, two = adapter(backend), adapter(backend)
        async with one, two, one.worker(concurrency=5), two.worker(concurrency=5):
            handles = [await one.start_run(run.blueprint, run.run_input, run_id=run.run_id) for run in runs]
            for handle in handles:
                await handle.result(timeout=120)
        numbers = [await witness.check(backend.store, run.run_id) for run in runs]
        assert numbers[-1] >= 3 * BLOCK
        assert witness.differences(runs[-1].run_id) < 0.15
    print(f"SQLite: {len(runs)} workflows, {sum(numbers)} numbers")
