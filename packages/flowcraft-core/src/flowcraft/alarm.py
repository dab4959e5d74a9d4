"""One alarm per queue: due times without polling and without a task per message."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from flowcraft.ports import Clock

__all__ = ["Alarm"]


class Alarm:
    """Calls ``ring`` at, or soon after, the earliest time it was set to; then it is unset.

    A later time than the one it is set to is ignored: whoever is rung looks for the next due time anyway, and most
    messages are gone before their time comes. So a busy queue starts one sleep now and then, not one per delivery.
    """

    def __init__(self, clock: Clock, now: Callable[[], float], ring: Callable[[], None]) -> None:
        self._clock = clock
        self._now = now
        self._ring = ring
        self._at = math.inf
        self._task: asyncio.Task[None] | None = None
        self._cancelled: set[asyncio.Task[None]] = set()

    def set(self, at: float) -> None:
        """Ring at this time, unless it is set to ring before."""
        if at >= self._at:
            return
        self._unset()
        self._at = at
        self._task = asyncio.get_running_loop().create_task(self._wait(at), name="flowcraft-alarm")

    async def close(self) -> None:
        """Unset it; no task of it is left when this returns."""
        self._unset()
        while self._cancelled:
            await asyncio.wait(self._cancelled)

    def _unset(self) -> None:
        if self._task is not None:
            self._cancelled.add(self._task)
            self._task.add_done_callback(self._cancelled.discard)
            self._task.cancel()
        self._task = None
        self._at = math.inf

    async def _wait(self, at: float) -> None:
        await self._clock.sleep(max(0.0, at - self._now()))
        self._task = None
        self._at = math.inf
        self._ring()
