"""The tasks of a run in process: none of them outlives it, and one of them watches the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any

from flowcraft.engine.head import Head
from flowcraft.engine.timers import due_work
from flowcraft.ports import Clock

__all__ = ["Tasks", "Timers"]


class Tasks:
    """Whatever runs for one run. ``died`` is told what one of them died of."""

    def __init__(self, died: Callable[[BaseException], None]) -> None:
        self._died = died
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run it beside everything else."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Cancel all; none is left when this returns."""
        while self._tasks:
            leftovers = list(self._tasks)
            for task in leftovers:
                task.cancel()
            await asyncio.gather(*leftovers, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._died(error)


class Timers:
    """Calls ``due`` when the time of something in ``head`` has come, for as long as there is anything to wait for."""

    def __init__(self, name: str, head: Head, clock: Clock, tasks: Tasks, due: Callable[[], object]) -> None:
        self._name = name
        self._head = head
        self._clock = clock
        self._tasks = tasks
        self._due = due
        self._task: asyncio.Task[None] | None = None
        self._at = inf

    def watch(self, at: float) -> None:
        """Wake up at this time, or earlier."""
        if self._task is not None and not self._task.done():
            if self._at <= at:
                return
            self._task.cancel()
        self._at = at
        self._task = self._tasks.spawn(self._run(), f"flowcraft timers {self._name}")

    async def _run(self) -> None:
        head = self._head
        while not head.terminal:
            dues = [head.active[slot].due for slot in due_work(head, inf).timers]
            if head.deadline is not None and head.phase == "running":
                dues.append(head.deadline)
            if not dues:
                return
            self._at = min(dues)
            await self._clock.sleep(max(0.0, self._at - self._clock.time()))
            self._due()
