"""An event loop without a world outside: time is a number, and what is ready runs in a random order."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["NothingLeft", "SimLoop"]


class NothingLeft(Exception):
    """Everybody waits for somebody else, and nobody for a time."""


class SimLoop(asyncio.BaseEventLoop):
    """Runs one ready callback per step, drawn from ``source``; time moves when none is ready.

    So any two tasks that could run at the same moment do so in either order, and no order depends on the machine.
    There are no threads, no sockets and no signals.
    """

    _ready: list[asyncio.Handle]  # type: ignore[assignment] # a list, because one is drawn from its midst
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, source: random.Random) -> None:
        super().__init__()
        self._ready = []
        self._now = 0.0
        self._random = source.random
        #: Callbacks that were run so far: with the time, the place in a simulation.
        self.steps = 0
        #: What nobody caught.
        self.uncaught: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.uncaught.append(context))

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._now

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined] # as the base class does
        if not ready:
            if not scheduled:
                raise NothingLeft
            self._now = max(self._now, scheduled[0]._when)  # type: ignore[attr-defined] # likewise
        while scheduled and scheduled[0]._when <= self._now:  # type: ignore[attr-defined] # likewise
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined] # likewise
            ready.append(timer)
        if not ready:
            return
        last = len(ready) - 1
        if last:
            drawn = int(self._random() * (last + 1))
            ready[drawn], ready[last] = ready[last], ready[drawn]
        handle = ready.pop()
        if not handle._cancelled:
            self.steps += 1
            handle._run()

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> NoReturn:  # type: ignore[override] # never
        """Refuse: a thread would run in the machine's time."""
        raise RuntimeError(f"{func} in a thread: not in a simulation")

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """There is one thread only; asynchronous generators that are dropped are closed by this."""
        return self.call_soon(callback, *args, context=context)
