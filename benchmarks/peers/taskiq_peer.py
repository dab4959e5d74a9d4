"""taskiq on Redis streams: a task that sends the next one. No joins, so chains only. Argument: the address of Redis."""

from __future__ import annotations

import asyncio
import importlib.metadata
import itertools
import sys
from typing import Any

from protocol import Reply, keep_in_flight, serve
from redis_usage import counting
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

CONCURRENCY = 100
waiting: dict[int, asyncio.Future[None]] = {}


async def main(url: str) -> None:
    """Start the worker, answer requests."""
    broker = RedisStreamBroker(url)

    @broker.task
    async def step(run: int, left: int) -> None:
        if left:
            await step.kiq(run, left - 1)
        else:
            waiting.pop(run).set_result(None)

    await broker.startup()
    task = asyncio.create_task(run_receiver_task(broker, max_async_tasks=CONCURRENCY))
    numbers = itertools.count()

    async def measure(case: dict[str, Any]) -> Reply:
        size, slots = int(case["size"]), int(case["in_flight"])

        async def run() -> None:
            number = next(numbers)
            waiting[number] = asyncio.get_running_loop().create_future()
            ended = waiting[number]
            await step.kiq(number, size - 1)
            await ended

        async def all_runs() -> Reply:
            return await keep_in_flight(run, slots=slots, work=size, seconds=float(case["seconds"]))

        return await counting(url, size, all_runs)

    await serve({"taskiq-redis": importlib.metadata.version("taskiq-redis")}, measure)
    task.cancel()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
