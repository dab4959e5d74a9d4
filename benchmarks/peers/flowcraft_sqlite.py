"""Our own engine on SQLite: one process with a worker and a client. Arguments: the database file.

Two of these on one file share the work; each starts its own runs, and its worker also executes steps of the other's.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import itertools
import os
import sqlite3
import sys
import uuid
from typing import Any

from protocol import Reply, keep_in_flight, serve, watch_memory
from shapes import chain, fan, nodes_of

from flowcraft import FlowRuntime

CONCURRENCY = 100
PATIENCE = 120.0  # seconds that a run may take before the measurement is an error


async def main(path: str) -> None:
    """Open the database, start the worker, answer requests."""
    from flowcraft.sqlite import SqliteAdapter

    flows = {flow.id: flow for flow in (chain(3), chain(10), fan(100))}
    adapter = SqliteAdapter(FlowRuntime(list(flows.values())), path=path)

    async def measure(case: dict[str, Any]) -> Reply:
        shape, size, slots = str(case["shape"]), int(case["size"]), int(case["in_flight"])
        flow, work = flows[f"{shape}-{size}"], nodes_of(shape, size)
        series = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        numbers = itertools.count()

        async def run() -> None:
            number = next(numbers)
            handle = await adapter.start_run(flow, number, run_id=f"{series}-{number}")
            result = await handle.result(timeout=PATIENCE)
            assert result.status == "completed", result.status

        async def run_many(count: int) -> None:
            left = iter(range(count))

            async def slot() -> None:
                for _ in left:
                    await run()

            async with asyncio.TaskGroup() as group:
                for _ in range(slots):
                    group.create_task(slot())

        if "runs" in case:
            return await watch_memory(run_many, runs=int(case["runs"]), work=work)
        return await keep_in_flight(run, slots=slots, work=work, seconds=float(case["seconds"]))

    versions = {"flowcraft-core": importlib.metadata.version("flowcraft-core"), "SQLite": sqlite3.sqlite_version}
    async with adapter, adapter.worker(concurrency=CONCURRENCY):
        await serve(versions, measure)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
