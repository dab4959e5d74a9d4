"""Random workflows on three workers that share a memory backend: all that was committed, replayed in the oracle."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from flowcraft.blueprint import Blueprint, Retry
from flowcraft.memory import MemoryJobQueue
from flowcraft.model import Change, Committed, Event, Job
from flowcraft.nodes import NodeContext

from ..oracle.behaviour import Behaviour
from ..oracle.generator import generate
from ..oracle.oracle import Oracle
from .replaying import Executed, Replay, assert_same_result, perform, slowly
from .seeds import both
from .worlds import World

__all__ = ["Fleet", "ScatteredQueue", "check_together"]


@dataclass(frozen=True)
class Fleet:
    """What goes wrong: messages come ``copies`` times and in any order; ``kills`` workers die."""

    copies: int = 1
    kills: int = 0


@dataclass
class _Run:
    seed: int
    blueprint: Blueprint
    run_input: object
    oracle: Oracle
    behaviour: Behaviour
    executed: Executed

    @property
    def run_id(self) -> str:
        return f"run {self.seed}"


class ScatteredQueue(MemoryJobQueue):
    """Every message several times, each copy after a time of its own: a few are late, some very late."""

    def __init__(self, clock: Any, source: random.Random, copies: int) -> None:
        super().__init__(clock)
        self._source = source
        self._copies = copies

    def push(self, jobs: Sequence[Job], *, delay: float = 0.0) -> None:
        sent = [job for job in jobs for _ in range(self._copies)]
        self._source.shuffle(sent)
        for job in sent:
            later = self._source.choice((0.0, 0.0, self._source.random() * 2, self._source.random() * 40))
            super().push([job], delay=delay + later)


class _Recorder:
    """The events of each commit that was applied, by run."""

    def __init__(self, world: Any) -> None:
        self.commits: dict[str, list[Sequence[Event]]] = defaultdict(list)
        self._commit = world.store.commit
        world.store.commit = self.commit

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        results: Sequence[Committed] = await self._commit(changes)
        for change, result in zip(changes, results, strict=True):
            if result.applied:
                self.commits[change.run_id].append(change.events)
        return results


def _prepared(seed: int, fleet: Fleet) -> _Run | None:
    source = random.Random(seed)
    workflow = generate(source, refused=0.0)
    delay = source.choice((0.0, 0.0, 0.2))
    nodes = [
        replace(
            node, retry=Retry(node.retry.attempts, delay=delay, jitter=0.0),
            inputs=None if fleet.kills else node.inputs,  # what an execution read that came to nothing is not known
        )
        for node in workflow.blueprint.nodes
    ]  # fmt: skip
    blueprint = replace(workflow.blueprint, id=f"graph {seed}", nodes=tuple(nodes))
    made = both(blueprint, workflow.run_input)
    return None if made is None else _Run(seed, blueprint, workflow.run_input, made[1], made[2], Executed())


async def check_together(seeds: Sequence[int], fleet: Fleet) -> Counter[str]:
    """Run these workflows at the same time on one fleet; how they ended."""
    source = random.Random(seeds[0])
    runs = [run for seed in seeds if (run := _prepared(seed, fleet)) is not None]
    by_id = {run.run_id: run for run in runs}
    world = World(seed=seeds[0], blueprints=[run.blueprint for run in runs])
    if fleet.copies > 1:
        world.queue = ScatteredQueue(world.clock, source, fleet.copies)

    async def node(process: Any, ctx: NodeContext[object, object]) -> object:
        await slowly(source)
        try:
            return await perform(ctx, by_id[ctx.run_id].executed)
        finally:
            await slowly(source)

    world.behaviours = {"behave": node}
    recorder = _Recorder(world)
    try:
        results = await _run_all(world, runs, fleet, source)
        for run in runs:
            try:
                await _check(world, run, recorder.commits[run.run_id], results[run.run_id])
            except AssertionError as error:
                error.add_note(_told(run, recorder.commits[run.run_id]))
                raise
        _check_executions(world, fleet)
    finally:
        await world.close()
    return Counter(result.status for result in results.values())


def _told(run: _Run, commits: Sequence[Sequence[Event]]) -> str:
    """All that is needed to see what went wrong: with other hash seeds the same graphs meet in another order."""
    order = [
        "  " + ", ".join(f"{e.type} {e.node or ''}#{e.visit} {dict(e.data)}" for e in events) for events in commits
    ]
    return "\n".join([f"{run.run_id}, by commits:", *order, json.dumps(run.blueprint.to_dict())])


async def _run_all(world: Any, runs: Sequence[_Run], fleet: Fleet, source: random.Random) -> dict[str, Any]:
    client = await world.process("client").open()
    alive = [await world.process(f"w{n}", worker={"concurrency": source.choice((1, 3, 10))}).start() for n in range(3)]
    handles = {}
    side: list[asyncio.Task[None]] = []
    for run in runs:
        handles[run.run_id] = handle = await world.finish(
            client.adapter.start_run(run.blueprint, run.run_input, run_id=run.run_id)
        )
        if source.random() < 0.15:
            side.append(asyncio.create_task(_cancel(handle, source)))

    async def kill() -> None:
        for number in range(fleet.kills):
            await world.clock.sleep(source.uniform(0.0, 1.0))
            for _ in range(source.randrange(30)):
                await asyncio.sleep(0)
            alive.pop(source.randrange(len(alive))).kill()
            alive.append(world.process(f"w{3 + number}"))
            side.append(asyncio.create_task(alive[-1].start()))

    killing = asyncio.create_task(kill())
    results = {run_id: await world.finish(handle.result(), within=7200) for run_id, handle in handles.items()}
    await world.finish(killing)
    for task in side:
        await world.finish(task)
    return results


async def _cancel(handle: Any, source: random.Random) -> None:
    for _ in range(source.randrange(150)):
        await asyncio.sleep(0)
    await handle.cancel("enough")


async def _check(world: Any, run: _Run, commits: Sequence[Sequence[Event]], result: Any) -> None:
    told = [event for events in commits for event in events]
    stored = (await world.store.read_events(run.run_id, 0, 100_000)).items
    assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
    assert [(e.seq, e.type, e.node, e.visit) for e in stored if e.seq >= told[0].seq] == [
        (e.seq, e.type, e.node, e.visit) for e in told
    ], "what was committed is not what the history says"
    outcomes = [e for e in told if e.type in ("node:completed", "node:failed") and e.visit > 0]
    own = [e for e in outcomes if not str(e.data.get("error", "")).startswith("ConditionError")]
    ended = Counter((e.node, e.data["by"], e.visit) for e in own)
    assert not ended or max(ended.values()) == 1, "one visit was committed twice"
    replay = Replay(run.oracle, run.executed)
    for events in commits:
        replay.commit(events)
    assert_same_result(result, run.oracle)


def _check_executions(world: Any, fleet: Fleet) -> None:
    """Executed twice is only what a worker had in hand when it died."""
    dead = {process.name for process in world.processes if process.link.dead}
    effects = sorted(world.effects, key=lambda effect: effect.key)
    for key, group in groupby(effects, key=lambda effect: effect.key):
        processes = [effect.process for effect in group]
        lived = [name for name in processes if name not in dead]
        assert len(processes) == 1 or (fleet.kills and len(lived) <= 1), f"{key} was executed by {processes}"
