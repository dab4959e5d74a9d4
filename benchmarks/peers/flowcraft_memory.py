"""Our own engine in process: `FlowRuntime.run`, everything on that is on by default."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from typing import Any

from protocol import Reply, repeat, serve, watch_memory
from shapes import SHAPES, nodes_of

from flowcraft import FlowRuntime, NodeContext


async def measure(case: dict[str, Any]) -> Reply:
    """One case: {"shape", "size", "seconds"} for a rate, {"shape", "size", "runs"} for memory."""
    shape, size = str(case["shape"]), int(case["size"])
    begun = time.perf_counter()
    flow = SHAPES[shape](size)
    runtime = FlowRuntime([flow])
    built = time.perf_counter() - begun
    work = nodes_of(shape, size)
    await check(shape, size)

    async def run() -> None:
        result = await runtime.run(flow, None)
        assert result.status == "completed", result.status

    async def run_many(count: int) -> None:
        for _ in range(count):
            await run()

    if "runs" in case:
        return await watch_memory(run_many, runs=int(case["runs"]), work=work)
    reply = await repeat(run, work=work, seconds=float(case["seconds"]))
    reply["build_ms"] = built * 1000
    return reply


async def check(shape: str, size: int) -> None:
    """A run of this shape executes every node once; counting is not part of what is measured."""
    executed = 0

    async def count(_ctx: NodeContext[Any, Any]) -> None:
        nonlocal executed
        executed += 1

    flow = SHAPES[shape](size, count)
    result = await FlowRuntime([flow]).run(flow, None)
    assert result.status == "completed", result.status
    assert executed == nodes_of(shape, size), f"{executed} executions of {nodes_of(shape, size)} nodes"


if __name__ == "__main__":
    asyncio.run(serve({"flowcraft-core": importlib.metadata.version("flowcraft-core")}, measure))
