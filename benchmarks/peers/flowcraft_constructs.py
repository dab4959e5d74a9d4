"""Our own engine on constructs: a large batch, many sleeping runs. Arguments: `memory`, or the database file.

One process with four workers and a client. `{"items": n}` is one batch; `{"sleepers": n, "length": s}` are so many runs
that sleep for so many seconds.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from protocol import Reply, serve

from flowcraft import Flow, FlowRuntime, NodeContext
from flowcraft.adapter import Adapter
from flowcraft.clock import SystemClock
from flowcraft.memory import MemoryBackend
from flowcraft.model import Event
from flowcraft.sqlite import SqliteBackend
from flowcraft.testing.recorder import RecordingBus

WORKERS = 4
CONCURRENCY = 50
PATIENCE = 1_800.0  # seconds that a measurement may take before it is an error
IN_FLIGHT = 100  # starts of runs

Ctx = NodeContext[Any, Any]


class Lateness:
    """When each sleep was due, as the engine told, and how much later the node after it began."""

    def __init__(self) -> None:
        self.due: dict[str, float] = {}
        self.late: list[float] = []
        self.expected = 0
        self.all_awake = asyncio.Event()

    def heard(self, event: Event) -> None:
        """The engine tells that a run sleeps, and until when."""
        if event.type == "node:waiting" and event.node == "nap":
            self.due[event.run_id] = float(str(event.data["due"]))

    def awake(self, run_id: str) -> None:
        """The node after the sleep is executed."""
        self.late.append(time.time() - self.due.pop(run_id))
        if len(self.late) == self.expected:
            self.all_awake.set()


def batch() -> Flow[Any]:
    """A list of numbers, an item visit for each that does nothing, and the list of results."""
    flow = Flow[Any]("batch")

    @flow.node
    async def numbers(ctx: Ctx) -> list[int]:
        return list(range(ctx.input))

    async def same(ctx: Ctx) -> int:
        return int(ctx.input)

    flow.batch("items", same, after=numbers)

    @flow.node(after="items")
    async def check(ctx: Ctx) -> bool:
        return bool(ctx.input == list(range(len(ctx.input))))

    return flow


def sleeper(length: float, lateness: Lateness) -> Flow[Any]:
    """A node, a sleep, and a node that takes the time."""
    flow = Flow[Any](f"sleeper-{length:g}")

    @flow.node
    async def before(ctx: Ctx) -> None: ...

    flow.sleep("nap", length, after=before)

    @flow.node(after="nap")
    async def after(ctx: Ctx) -> None:
        lateness.awake(ctx.run_id)

    return flow


@asynccontextmanager
async def backend(place: str) -> AsyncGenerator[MemoryBackend | SqliteBackend]:
    """The ports of `memory`, or of a file."""
    clock = SystemClock()
    if place == "memory":
        opened = MemoryBackend(clock)
        try:
            yield opened
        finally:
            await opened.aclose()
    else:
        async with SqliteBackend.open(place, clock=clock) as file:
            yield file


async def main(place: str) -> None:
    """Open the backend, start the workers, answer requests."""
    lateness = Lateness()
    async with backend(place) as ports, AsyncExitStack() as stack:
        adapter = Adapter(
            FlowRuntime([]), queue=ports.queue, store=ports.store, coordination=ports.coordination,
            events=RecordingBus(ports.events, lateness.heard),
        )  # fmt: skip
        await stack.enter_async_context(adapter)
        adapter.runtime.resolve(batch())

        async def measure(case: dict[str, Any]) -> Reply:
            async with AsyncExitStack() as workers:
                if "sleepers" in case:
                    flow = sleeper(float(case["length"]), lateness)
                    adapter.runtime.resolve(flow)
                    await _workers(adapter, workers)
                    return await measure_sleepers(adapter, flow, int(case["sleepers"]), lateness)
                await _workers(adapter, workers)
                return await measure_batch(adapter, int(case["items"]))

        versions = {"flowcraft-core": importlib.metadata.version("flowcraft-core"), "SQLite": sqlite3.sqlite_version}
        await serve(versions, measure)


async def _workers(adapter: Adapter, stack: AsyncExitStack) -> None:
    for _ in range(WORKERS):
        await stack.enter_async_context(adapter.worker(concurrency=CONCURRENCY))


async def measure_batch(adapter: Adapter, items: int) -> Reply:
    """One batch, from `start_run` to its result."""
    started = time.perf_counter()
    run = await adapter.start_run("batch", items)
    result = await run.result(timeout=PATIENCE)
    ended = time.perf_counter()
    assert result.output("check") is True, "right results, in order"
    return {"work": items, "started": started, "ended": ended, "seconds": ended - started, "peak_mb": _peak_mb()}


async def measure_sleepers(adapter: Adapter, flow: Flow[Any], count: int, lateness: Lateness) -> Reply:
    """Start so many runs, and wait until all have slept."""
    lateness.due.clear()
    lateness.late.clear()
    lateness.expected = count
    lateness.all_awake.clear()
    started = time.perf_counter()
    left = iter(range(count))

    async def starting() -> None:
        for _ in left:
            await adapter.start_run(flow)

    await asyncio.gather(*(starting() for _ in range(IN_FLIGHT)))
    all_started = time.perf_counter()
    async with asyncio.timeout(PATIENCE):
        await lateness.all_awake.wait()
    late = sorted(lateness.late)
    assert late[0] >= 0, "never early"
    return {
        "work": count, "started": started, "ended": time.perf_counter(), "starting_s": all_started - started,
        **_percentiles(late), "peak_mb": _peak_mb(),
    }  # fmt: skip


def _percentiles(ascending: list[float]) -> Mapping[str, float]:
    """Of seconds, in milliseconds."""
    last = len(ascending) - 1
    ranks = {"late_p50_ms": 0.5, "late_p99_ms": 0.99, "late_max_ms": 1.0}
    return {name: ascending[round(rank * last)] * 1000.0 for name, rank in ranks.items()}


def _peak_mb() -> float:
    """The highest resident memory of this process so far."""
    import resource  # where it is missing, only this measurement is

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
