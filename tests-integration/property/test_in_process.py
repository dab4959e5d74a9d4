"""Random workflows by `FlowRuntime.run` on a real event loop: what was observed ends the same in the oracle."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

import pytest

from flowcraft.blueprint import Blueprint, Node, Retry
from flowcraft.model import Event
from flowcraft.nodes import NodeContext
from flowcraft.results import RunResult
from flowcraft.runtime import FlowRuntime

from ..oracle.generator import generate
from .replaying import Executed, Replay, assert_same_result, may_drain, perform, slowly
from .seeds import both, replayable, seeds
from .worlds import SimClock


def _delayed(node: Node, delay: float) -> Node:
    return replace(node, retry=Retry(node.retry.attempts, delay=delay, jitter=0.0))


def _prepared(blueprint: Blueprint, source: random.Random) -> Blueprint:
    """With retries at once, or after a moment in the same execution, or by a timer."""
    delay = source.choice((0.0, 0.0, 0.2) if may_drain(blueprint) else (0.0, 0.2, 60.0))
    return replace(blueprint, nodes=tuple(_delayed(node, delay) for node in blueprint.nodes))


async def _finished(running: asyncio.Task[RunResult], clock: SimClock) -> RunResult:
    """Time passes only when nothing else can happen."""
    for _ in range(2_000):
        for _ in range(200):
            if running.done():
                return running.result()
            await asyncio.sleep(0)
        clock.step(3600.0)
    raise AssertionError("it does not end")


async def _check(seed: int) -> str:
    source = random.Random(seed)
    workflow = generate(source)
    blueprint = _prepared(workflow.blueprint, source)
    made = both(blueprint, workflow.run_input)
    if made is None:
        return "refused"
    _, oracle, _ = made
    executed, events, clock = Executed(), list[Event](), SimClock()

    async def node(ctx: NodeContext[object, object]) -> object:
        await slowly(source)
        try:
            return await perform(ctx, executed)
        finally:
            await slowly(source)

    runtime = FlowRuntime(
        blueprints=[blueprint], registry={"behave": node}, listeners=[events.append], clock=clock,
        concurrency=source.choice((1, 2, 3, 100)),
    )  # fmt: skip
    result = await _finished(asyncio.create_task(runtime.run(blueprint, workflow.run_input)), clock)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks are left behind"
    assert executed.twice() == []
    assert [event.seq for event in events if event.seq] == list(range(1, sum(bool(e.seq) for e in events) + 1))
    replay = Replay(oracle, executed)
    for event in events:
        if event.seq:
            replay.commit([event])
    assert_same_result(result, oracle)
    return result.status


@pytest.mark.timeout(3600)
async def test_random_workflows_in_process() -> None:
    ends: Counter[str] = Counter()
    for seed in seeds(1500):
        with replayable(__file__, seed):
            ends[await _check(seed)] += 1
    print(f"in process: {sum(ends.values())} workflows, {dict(ends)}")
