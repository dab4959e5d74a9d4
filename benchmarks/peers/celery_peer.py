"""Celery on Redis, results in Redis: `chain`, and `chord` for a fan. One worker process tree of two, as on two cores.

Arguments: the address of Redis.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from celery import Celery, chain, chord
from protocol import Reply, keep_in_flight, serve
from redis_usage import counting

URL = os.environ.setdefault("BENCH_REDIS_URL", sys.argv[1] if __name__ == "__main__" else "")
app = Celery("celery_peer", broker=URL, backend=URL)
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=16)


@app.task(name="noop")
def noop(*_args: Any) -> None:
    """Nothing."""


SHAPES = {
    "chain": lambda size: chain(noop.si() for _ in range(size)),
    "fan": lambda size: chain(noop.si(), chord([noop.si() for _ in range(size)], noop.si())),
}


def worker() -> subprocess.Popen[bytes]:
    """A worker with two child processes."""
    command = [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "-c", "2", "-l", "ERROR"]
    here = str(Path(__file__).parent)
    return subprocess.Popen(command, cwd=here, env=os.environ | {"PYTHONPATH": here}, stdout=subprocess.DEVNULL)


async def main(url: str) -> None:
    """Answer requests."""

    async def measure(case: dict[str, Any]) -> Reply:
        shape, size, slots = str(case["shape"]), int(case["size"]), int(case["in_flight"])
        work = size if shape == "chain" else size + 2

        async def run() -> None:
            await asyncio.to_thread(lambda: SHAPES[shape](size).apply_async().get(timeout=60))

        async def all_runs() -> Reply:
            return await keep_in_flight(run, slots=slots, work=work, seconds=float(case["seconds"]))

        return await counting(url, work, all_runs)

    await serve({"Celery": importlib.metadata.version("celery")}, measure)


if __name__ == "__main__":
    process = worker()
    try:
        asyncio.run(main(sys.argv[1]))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
