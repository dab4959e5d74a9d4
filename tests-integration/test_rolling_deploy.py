"""A rolling deploy: workers of two versions side by side, runs of both in flight, on one SQLite file.

Every run is executed by code of the version that it declares, and by no other; none is lost, none fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flowcraft import Flow, FlowRuntime, NodeContext
from flowcraft.runs import RunHandle
from flowcraft.sqlite import SqliteAdapter

pytestmark = pytest.mark.timeout(120)
_RUNS = 40


class _Fleet:
    """The code of one version: a flow of five steps, which notes what it executes."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.executed: list[tuple[str, int]] = []
        self.flow: Flow[None] = Flow("order", version=str(version))
        previous: str | None = None
        for name in ("fetch", "check", "charge", "pack", "send")[: 4 + version - 1]:
            self.flow.node(id=name, uses=f"order.{name}", version=version, after=previous)(self._step)
            previous = name

    async def _step(self, ctx: NodeContext[Any, None]) -> int:
        declared = int(str(ctx.run_id).split("-")[0].removeprefix("v"))
        self.executed.append((ctx.run_id, declared))
        await asyncio.sleep(0.002)  # the work: it takes its time
        return self.version

    @asynccontextmanager
    async def worker(self, path: Path) -> AsyncGenerator[SqliteAdapter]:
        async with SqliteAdapter(FlowRuntime([self.flow]), path, tick=0.05) as adapter, adapter.worker(concurrency=5):
            yield adapter

    async def start(self, adapter: SqliteAdapter, first: int, count: int) -> list[RunHandle]:
        names = [f"v{self.version}-{n}" for n in range(first, first + count)]
        return [await adapter.start_run(self.flow, n, run_id=name) for n, name in enumerate(names)]


async def _until_executed(fleet: _Fleet, count: int) -> None:
    while len(fleet.executed) < count:  # noqa: ASYNC110 - a condition of a list
        await asyncio.sleep(0.005)  # between two looks


async def test_two_versions_side_by_side(tmp_path: Path) -> None:
    old, new, path = _Fleet(1), _Fleet(2), tmp_path / "runs.db"
    handles: list[RunHandle] = []
    async with AsyncExitStack() as stack:
        async with old.worker(path) as before:
            await old.start(before, 0, _RUNS)
            await _until_executed(old, _RUNS // 2)
            after = await stack.enter_async_context(new.worker(path))
            await new.start(after, 0, _RUNS)
            await _until_executed(new, _RUNS // 2)
        # The old workers are gone, with runs of theirs in flight: these are parked, not executed by the new code.
        await _until_executed(new, 5 * _RUNS)
        unfinished = [f"v1-{n}" for n in range(_RUNS) if await after.status(f"v1-{n}") != "completed"]
        assert unfinished, "nothing was in flight when the old workers left"
        again = await stack.enter_async_context(old.worker(path))
        handles = [again.run(f"v{v}-{n}") for v in (1, 2) for n in range(_RUNS)]
        for handle in handles:
            result = await handle.result(timeout=60)
            assert result.status == "completed", result.failures
            assert result.output() == int(handle.run_id[1])
    assert {declared for _, declared in old.executed} == {1}
    assert {declared for _, declared in new.executed} == {2}
    assert len(old.executed) == 4 * _RUNS
    assert len(new.executed) == 5 * _RUNS


async def test_a_parked_run_says_why(tmp_path: Path) -> None:
    old, new, path = _Fleet(1), _Fleet(2), tmp_path / "runs.db"
    async with new.worker(path) as adapter:
        handle = await adapter.start_run(old.flow.blueprint, 0, run_id="v1-0")
        while (await handle.view()).nodes["fetch"].state != "parked":  # noqa: ASYNC110 - a condition of the store
            await asyncio.sleep(0.01)  # between two looks
        parked = [event for event in await handle.history() if event.type == "node:parked"]
        assert "order.fetch@1" in str(parked[0].data["reason"])
        assert await handle.status() == "running"
    assert new.executed == []
