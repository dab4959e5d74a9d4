"""Knows when nothing can happen any more without time or somebody from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from flowcraft.middleware import Call, Middleware
from flowcraft.nodes import NodeContext
from flowcraft.testing.clock import VISIT, VirtualClock

__all__ = ["Activity"]

T = TypeVar("T")
#: So many turns of the event loop without anything new mean that all tasks wait. Between two things that are counted
#: (an event, a sleep, user code that begins or ends) lie far fewer.
_QUIET: Final = 50
_LOOK: Final = 0.005


class Activity(Middleware):
    """Wrapped around all user code of a test. ``patience``: real seconds that code may wait for threads or sockets."""

    def __init__(self, clock: VirtualClock, *, patience: float = 10.0) -> None:
        self._clock = clock
        self._patience = patience
        self._count = 0
        self._running: dict[NodeContext[Any, Any], asyncio.Task[Any]] = {}

    def touch(self) -> None:
        """Something happened."""
        self._count += 1

    async def around(self, ctx: NodeContext[Any, Any], call_next: Call) -> Any:
        """Note what runs, and where."""
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a node is executed by a task")
        self._running[ctx] = task
        self.touch()
        outer = VISIT.set(ctx)
        try:
            return await call_next(ctx)
        finally:
            VISIT.reset(outer)
            self.touch()
            del self._running[ctx]

    def _busy(self) -> dict[NodeContext[Any, Any], asyncio.Task[Any]]:
        """User code that does not wait for the clock."""
        return {ctx: task for ctx, task in self._running.items() if not self._clock.sleeps(ctx)}

    async def settle(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Return when everything waits for time or for somebody from outside, or ``until`` says that it is enough.

        Raises:
            TimeoutError: user code waits for something else, longer than the patience lasts.
        """
        loop = asyncio.get_running_loop()
        waited_since: float | None = None
        seen, quiet = (-1, -1), 0
        while quiet < _QUIET and not until():
            await asyncio.sleep(0)
            state = (self._count, self._clock.changes)
            quiet = quiet + 1 if state == seen else 0
            if quiet == 0:
                waited_since = None
            seen = state
            if quiet < _QUIET or not (busy := self._busy()):
                continue
            quiet = 1
            waited_since = loop.time() if waited_since is None else waited_since
            if loop.time() - waited_since > self._patience:
                nodes = ", ".join(sorted({f"{ctx.node_id!r} of run {ctx.run_id!r}" for ctx in busy}))
                raise TimeoutError(f"still executed after {self._patience:g} s of real time: {nodes}")
            await asyncio.wait(set(busy.values()), timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)

    async def drive(self, awaitable: Awaitable[T]) -> T:
        """The result of something that executes user code; time passes when nothing else happens."""
        task = asyncio.ensure_future(awaitable)
        try:
            while not task.done():
                await self.settle(until=task.done)
                if not task.done() and not self._clock.step():
                    await asyncio.wait({task}, timeout=_LOOK)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return task.result()
