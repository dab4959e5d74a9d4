"""The clock of the machine, as the port `Clock`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Set as AbstractSet

from flowcraft.ports import Clock

__all__ = ["SystemClock", "wait_until_empty"]


class SystemClock:
    """`Clock` on the operating system's clocks and the running event loop."""

    def time(self) -> float:
        """Epoch seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Suspend the task."""
        await asyncio.sleep(seconds)


async def wait_until_empty(tasks: AbstractSet[asyncio.Task[None]], clock: Clock, patience: float) -> None:
    """Return when the set, from which tasks remove themselves, is empty, or after ``patience`` seconds."""
    if not tasks:
        return
    limit = asyncio.ensure_future(clock.sleep(patience))
    try:
        while tasks and not limit.done():
            await asyncio.wait({*tasks, limit}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        limit.cancel()
        await asyncio.gather(limit, return_exceptions=True)
