"""arq: a job that enqueues the next one. No joins, so chains only. Arguments: the address of Redis.

It looks for jobs every half second as it ships; here every 10 ms, which its documentation offers for low latency.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import itertools
import sys
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker
from protocol import Reply, keep_in_flight, serve
from redis_usage import counting

CONCURRENCY = 100
waiting: dict[int, asyncio.Future[None]] = {}


async def step(ctx: dict[str, Any], run: int, left: int) -> None:
    """One of the chain."""
    if left:
        await ctx["redis"].enqueue_job("step", run, left - 1)
    else:
        waiting.pop(run).set_result(None)


async def main(url: str) -> None:
    """Start the worker, answer requests."""
    pool = await create_pool(RedisSettings.from_dsn(url))
    worker = Worker(
        functions=[func(step, keep_result=0)], redis_pool=pool, max_jobs=CONCURRENCY, poll_delay=0.01,
        handle_signals=False,
    )  # fmt: skip
    task = asyncio.create_task(worker.async_run())
    numbers = itertools.count()

    async def measure(case: dict[str, Any]) -> Reply:
        size, slots = int(case["size"]), int(case["in_flight"])

        async def run() -> None:
            number = next(numbers)
            waiting[number] = asyncio.get_running_loop().create_future()
            ended = waiting[number]
            await pool.enqueue_job("step", number, size - 1)
            await ended

        async def all_runs() -> Reply:
            return await keep_in_flight(run, slots=slots, work=size, seconds=float(case["seconds"]))

        return await counting(url, size, all_runs)

    await serve({"arq": importlib.metadata.version("arq")}, measure)
    task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
