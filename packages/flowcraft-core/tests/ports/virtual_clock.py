"""A clock for tests: time moves only when it is told to."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class VirtualClock:
    """``time`` and ``monotonic`` move together; sleepers wake, in the order of their times, while `advance` runs."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let time pass; whoever was woken has run as far as it can without a thread when this returns."""
        end = self._now + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self._now = max(self._now, at)
                future.set_result(None)
                await _settle()
        self._now = end
        await _settle()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
