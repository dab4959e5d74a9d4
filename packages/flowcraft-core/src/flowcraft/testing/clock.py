"""A clock for tests: time moves only when it is told to."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable
from contextvars import ContextVar
from math import inf
from typing import Final, TypeVar

__all__ = ["VISIT", "HouseClock", "VirtualClock"]

T = TypeVar("T")
#: So many turns of the event loop go by after a wake-up: whoever was woken has run as far as it can without a thread.
_TURNS: Final = 30
#: What executes in this context, and in the tasks that it started; see `flowcraft.testing.activity`.
VISIT: ContextVar[object] = ContextVar("flowcraft.testing.visit", default=None)


class _Sleeper:
    """One sleep. Nobody stops for ``housekeeping``: it is woken when time has passed it."""

    __slots__ = ("at", "future", "housekeeping", "number")

    def __init__(self, at: float, number: int, future: asyncio.Future[None], *, housekeeping: bool) -> None:
        self.at = at
        self.number = number
        self.future = future
        self.housekeeping = housekeeping

    def __lt__(self, other: _Sleeper) -> bool:
        return (self.at, self.number) < (other.at, other.number)


class VirtualClock:
    """`flowcraft.ports.Clock` whose time a test moves. ``time`` and ``monotonic`` are the same number of seconds.

    Whoever sleeps wakes, in the order of the times, while `advance`, `run` or a `FlowTest` moves it. Assigning ``now``
    jumps without waking anybody, as a machine does that was suspended.
    """

    def __init__(self, start: float = 1_000_000.0) -> None:
        #: Epoch seconds.
        self.now = start
        #: Counts sleeps that began or ended.
        self.changes = 0
        self._sleepers: list[_Sleeper] = []
        self._numbers = itertools.count()
        self._asleep: dict[object, int] = {}

    def time(self) -> float:
        """Epoch seconds."""
        return self.now

    def monotonic(self) -> float:
        """The same."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Return when so much time has been made to pass; at once, after a turn of the event loop, for 0 and less."""
        await self.sleep_for(seconds, housekeeping=False)

    async def sleep_for(self, seconds: float, *, housekeeping: bool) -> None:
        """`sleep`; for ``housekeeping``, such as a heartbeat, `FlowTest` does not stop on its way."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(
            self._sleepers, _Sleeper(self.now + seconds, next(self._numbers), future, housekeeping=housekeeping)
        )
        visit = VISIT.get()
        self._asleep[visit] = self._asleep.get(visit, 0) + 1
        self.changes += 1
        try:
            await future
        finally:
            self.changes += 1
            self._asleep[visit] -= 1
            if not self._asleep[visit]:
                del self._asleep[visit]

    def sleeps(self, visit: object) -> bool:
        """Whether something in the context of this `VISIT` waits for this clock."""
        return visit in self._asleep

    def next_wake(self, *, housekeeping: bool = True) -> float | None:
        """When the next sleeper wakes, with or without those that only keep house; None: nobody sleeps."""
        self._forget_done()
        if housekeeping:
            return self._sleepers[0].at if self._sleepers else None
        return min((s.at for s in self._sleepers if not s.housekeeping and not s.future.done()), default=None)

    def _forget_done(self) -> None:
        while self._sleepers and self._sleepers[0].future.done():
            heapq.heappop(self._sleepers)

    def step(self, most: float = inf) -> bool:
        """Move to the next sleeper and wake it, but not further than ``most`` seconds; False: nobody was woken."""
        end, at = self.now + most, self.next_wake()
        if at is not None and at <= end:
            return self.move_to(at)
        if most < inf:
            self.now = end
        return False

    def move_to(self, at: float) -> bool:
        """Move to this time, unless it has passed, and wake all who slept until then; False: nobody did."""
        self.now = max(self.now, at)
        woken = False
        while self._sleepers and self._sleepers[0].at <= self.now:
            future = heapq.heappop(self._sleepers).future
            if not future.done():
                future.set_result(None)
                woken = True
        return woken

    async def advance(
        self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """Let time pass; whoever was woken has run as far as it can without a thread when this returns."""
        end = self.now + seconds + 60.0 * minutes + 3600.0 * hours + 86400.0 * days
        await _let_run()
        while (at := self.next_wake()) is not None and at <= end:
            self.move_to(at)
            await _let_run()
        self.now = max(self.now, end)

    async def run(self, awaitable: Awaitable[T], *, within: float = 366 * 86400.0) -> T:
        """The result of something that sleeps on this clock: time passes whenever nothing else happens.

        So a run in process with sleeps and retries takes no time: ``await clock.run(runtime.run(flow))``. Code that
        waits for threads or sockets may find that time has passed meanwhile; `FlowTest` waits for it.

        Raises:
            TimeoutError: it takes longer than ``within`` seconds of this clock. Whatever the awaitable raises.
        """
        end = self.now + within
        task = asyncio.ensure_future(awaitable)
        try:
            while not task.done():
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                    if task.done():
                        return task.result()
                at = self.next_wake()
                if at is None:
                    await asyncio.wait({task}, timeout=0.01)  # for a thread, then, or a socket
                elif at > end:
                    raise TimeoutError(f"not within {within:g} s of virtual time")
                else:
                    self.move_to(at)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return task.result()


class HouseClock:
    """The same time for an engine: its own sleeps are housekeeping, unless somebody looks at them."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.time = clock.time
        self.monotonic = clock.monotonic

    async def sleep(self, seconds: float) -> None:
        """See `VirtualClock.sleep_for`."""
        await self._clock.sleep_for(seconds, housekeeping=True)


async def _let_run() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
