"""Our own engine on Redis: one process with a worker and a client. Arguments: the address of Redis.

Several of these on one Redis share the work; each starts its own runs, its worker also executes steps of the others'.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import itertools
import os
import statistics
import sys
import time
import uuid
from typing import Any

from protocol import Reply, keep_in_flight, serve
from redis_usage import counting
from shapes import chain, fan, nodes_of

from flowcraft import Flow, FlowRuntime, NodeContext
from flowcraft.runs import RunHandle
from flowcraft_redis import RedisAdapter

CONCURRENCY = 100
LOOKS = 5  # runs whose steps are looked at one by one
PATIENCE = 120.0  # seconds that a run may take before the measurement is an error


def batch() -> Flow[Any]:
    """A list of numbers, an item visit for each that does nothing, and the list of results."""
    flow = Flow[Any]("batch")

    @flow.node
    async def numbers(ctx: NodeContext[int, Any]) -> list[int]:
        return list(range(ctx.input))

    async def same(ctx: NodeContext[int, Any]) -> int:
        return ctx.input

    flow.batch("items", same, after=numbers)
    return flow


async def main(url: str) -> None:
    """Connect, start the worker, answer requests."""
    flows = {flow.id: flow for flow in (chain(10), chain(100), fan(100), fan(1_000), batch())}
    adapter = RedisAdapter(FlowRuntime(list(flows.values())), url=url)
    series = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
    numbers = itertools.count()

    async def run(flow: Flow[Any], value: object, context: dict[str, object]) -> RunHandle:
        handle = await adapter.start_run(flow, value, run_id=f"{series}-{next(numbers)}", context=context)
        result = await handle.result(timeout=PATIENCE)
        assert result.status == "completed", result.status
        return handle

    async def from_step_to_step(flow: Flow[Any], context: dict[str, object]) -> float:
        """Microseconds, without what comes before the first step and after the last one."""
        handle = await run(flow, None, context)
        ends = [event.at for event in await handle.history() if event.type == "node:completed"]
        return (ends[-1] - ends[0]) / (len(ends) - 1) * 1e6

    async def items(count: int) -> Reply:
        started = time.perf_counter()
        await run(flows["batch"], count, {})
        ended = time.perf_counter()
        return {"work": count, "started": started, "ended": ended, "seconds": ended - started}

    async def measure(case: dict[str, Any]) -> Reply:
        if "items" in case:
            return await items(int(case["items"]))
        shape, size, slots = str(case["shape"]), int(case["size"]), int(case["in_flight"])
        flow, work = flows[f"{shape}-{size}"], nodes_of(shape, size)
        context: dict[str, object] = {"blob": "x" * int(case["context"])} if "context" in case else {}

        async def all_runs() -> Reply:
            return await keep_in_flight(
                lambda: run(flow, None, context), slots=slots, work=work, seconds=float(case["seconds"])
            )

        reply = await counting(url, work, all_runs)
        if context:
            reply["step_us"] = statistics.median([await from_step_to_step(flow, context) for _ in range(LOOKS)])
        return reply

    names = ("flowcraft-core", "flowcraft-redis", "redis")
    async with adapter, adapter.worker(concurrency=CONCURRENCY):
        await serve({name: importlib.metadata.version(name) for name in names}, measure)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
