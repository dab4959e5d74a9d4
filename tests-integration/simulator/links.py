"""One process's way to everything outside of it: it can be cut for ever, held up, and be wrong about the time.

A process that was killed hangs in its next operation, so that no clean-up of it has any effect, as after SIGKILL.
"""

from __future__ import annotations

import asyncio
import random

from .loop import SimLoop
from .trace import Trace

__all__ = ["EPOCH", "Link", "SimClock"]

#: The time of day when a simulation begins.
EPOCH = 1_700_000_000.0


class Link:
    """``latency``: the share of operations that take some time."""

    def __init__(self, name: str, loop: SimLoop, source: random.Random, trace: Trace, latency: float = 0.0) -> None:
        self.name = name
        self.loop = loop
        self.source = source
        self.trace = trace
        self.latency = latency
        self.dead = False
        self.over = False
        self.paused_until = 0.0
        self.skew = 0.0
        self.since = source.uniform(0.0, 1e6)  # what its monotonic clock counts from
        #: Operations so far, and before and after which ones it dies.
        self.operations = 0
        self.dies_before = 0
        self.dies_after = 0
        self.died = 0.0

    def kill(self) -> None:
        """From now on nothing gets through in either direction."""
        if not self.dead:
            self.dead = True
            self.died = self.loop.time()
            self.trace.add(self.name, "dies")

    def pause(self, seconds: float) -> None:
        """Nothing gets through for so long; then it goes on as if nothing had happened."""
        self.paused_until = max(self.paused_until, self.loop.time() + seconds)
        self.trace.add(self.name, "is paused", seconds)

    async def enter(self, operation: str) -> None:
        """Before an operation."""
        if self.over:
            raise asyncio.CancelledError
        self.operations += 1
        if self.operations == self.dies_before:
            self.kill()
        if self.dead or self.paused_until > self.loop.time():
            await self.held()
        chance = self.source.random()
        if chance < self.latency:
            await asyncio.sleep(_time(self.source))
            await self.held()
        elif chance < 0.7:
            await asyncio.sleep(0)
        self.trace.add(self.name, operation)

    async def leave(self) -> None:
        """After an operation, before its answer arrives."""
        if self.operations == self.dies_after:
            self.kill()
        if self.latency and self.source.random() < self.latency / 4:
            await asyncio.sleep(_time(self.source))
        if self.dead or self.paused_until > self.loop.time():
            await self.held()

    async def held(self) -> None:
        """Return when the process goes on: never, if it is dead."""
        while self.dead or self.paused_until > self.loop.time():
            if self.over:
                raise asyncio.CancelledError
            if self.dead:
                await self.loop.create_future()
            await asyncio.sleep(self.paused_until - self.loop.time())


def _time(source: random.Random) -> float:
    return source.random() ** 4 * 0.5


class SimClock:
    """`flowcraft.ports.Clock` of one process; without a link, of the backends."""

    def __init__(self, loop: SimLoop, link: Link | None = None) -> None:
        self._loop = loop
        self._link = link

    def time(self) -> float:
        """Epoch seconds, as this process believes."""
        skew = 0.0 if self._link is None else self._link.skew
        return EPOCH + self._loop.time() + skew

    def monotonic(self) -> float:
        """Seconds since the simulation began, and some: no process may take them for those of another."""
        return self._loop.time() + (0.0 if self._link is None else self._link.since)

    async def sleep(self, seconds: float) -> None:
        """Return later; in a dead process never."""
        link = self._link
        if link is not None and link.over:
            raise asyncio.CancelledError
        await asyncio.sleep(seconds)
        if link is not None:
            await link.held()
