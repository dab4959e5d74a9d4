"""What every Python contender speaks: one JSON request per line on stdin, one JSON reply per line on stdout.

The first line of all is `{"versions": {...}}`. A request is a case. A reply holds `work` (nodes executed), `started`
and `ended` (seconds of a clock that all processes share) and whatever other figures the case has; or `error`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TextIO

Reply = dict[str, Any]
Measure = Callable[[dict[str, Any]], Awaitable[Reply]]

WARM_UP = 0.25  # share of the measured time that is spent before it
PARTS = 40  # of the runs over which memory is watched
WARM_PARTS = 4  # the first of them fill caches


async def serve(versions: dict[str, str], measure: Measure) -> None:
    """Answer requests until stdin ends. The loop runs on in between: our worker goes on serving other processes."""
    replies = _private_stdout()
    _send(replies, {"versions": versions})
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            gc.collect()
            reply = await measure(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever a contender raises is its answer
            reply = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        _send(replies, reply)


async def repeat(run: Callable[[], Awaitable[object]], *, work: int, seconds: float) -> Reply:
    """Run again and again, one after the other: first to warm up, then for about `seconds`; at least once each."""
    deadline = time.perf_counter() + seconds * WARM_UP
    await run()
    while time.perf_counter() < deadline:
        await run()
    count = 0
    started = ended = time.perf_counter()
    while ended < started + seconds:
        await run()
        count += 1
        ended = time.perf_counter()
    return {"work": work * count, "runs": count, "started": started, "ended": ended}


async def keep_in_flight(run: Callable[[], Awaitable[object]], *, slots: int, work: int, seconds: float) -> Reply:
    """Keep `slots` runs in flight for about `seconds`; at least one run per slot. Latencies are those of whole runs."""
    await run()
    latencies: list[float] = []
    started = time.perf_counter()

    async def slot() -> None:
        now = time.perf_counter()
        while True:
            begun = now
            await run()
            now = time.perf_counter()
            latencies.append(now - begun)
            if now >= started + seconds:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(slots):
            group.create_task(slot())
    ended = time.perf_counter()
    return {
        "work": work * len(latencies),
        "runs": len(latencies),
        "started": started,
        "ended": ended,
        "latency_ms": statistics.median(latencies) * 1000,
    }


async def watch_memory(run_many: Callable[[int], Awaitable[object]], *, runs: int, work: int) -> Reply:
    """Resident memory after each part of the runs, against its highest in the first ones; `run_many` gets a number."""
    seen: list[float] = []
    part = max(1, runs // PARTS)
    started = time.perf_counter()
    for _ in range(PARTS):
        await run_many(part)
        gc.collect()
        seen.append(_resident_mb())
    return {
        "work": work * part * PARTS,
        "started": started,
        "ended": time.perf_counter(),
        "growth_mb": max(0.0, max(seen[WARM_PARTS:]) - max(seen[:WARM_PARTS])),
        "resident_mb": seen[-1],
    }


def _resident_mb() -> float:
    """Resident memory of this process in MB (where there is no /proc: its highest so far)."""
    import resource  # where it is missing, only this measurement is

    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _private_stdout() -> TextIO:
    """The real stdout, for replies only; whatever a library prints goes to stderr from here on."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _send(replies: TextIO, reply: Reply) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()
