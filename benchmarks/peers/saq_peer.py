"""saq: a job that enqueues the next one. No joins, so chains only. Arguments: the address of Redis."""

from __future__ import annotations

import asyncio
import importlib.metadata
import itertools
import sys
from typing import Any

from protocol import Reply, keep_in_flight, serve
from redis_usage import counting
from saq import Queue, Worker

CONCURRENCY = 100
waiting: dict[int, asyncio.Future[None]] = {}


async def main(url: str) -> None:
    """Start the worker, answer requests."""
    queue = Queue.from_url(url)
    await queue.connect()

    async def step(_ctx: Any, *, run: int, left: int) -> None:
        if left:
            await queue.enqueue("step", run=run, left=left - 1, ttl=-1)
        else:
            waiting.pop(run).set_result(None)

    worker = Worker(queue, functions=[("step", step)], concurrency=CONCURRENCY)
    task = asyncio.create_task(worker.start())
    numbers = itertools.count()

    async def measure(case: dict[str, Any]) -> Reply:
        size, slots = int(case["size"]), int(case["in_flight"])

        async def run() -> None:
            number = next(numbers)
            waiting[number] = asyncio.get_running_loop().create_future()
            ended = waiting[number]
            await queue.enqueue("step", run=number, left=size - 1, ttl=-1)
            await ended

        async def all_runs() -> Reply:
            return await keep_in_flight(run, slots=slots, work=size, seconds=float(case["seconds"]))

        return await counting(url, size, all_runs)

    await serve({"saq": importlib.metadata.version("saq")}, measure)
    await worker.stop()
    task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
