"""Notices the commits of other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from flowcraft.errors import AdapterError
from flowcraft.ports import Clock

__all__ = ["Look", "Sight", "Watch"]

_QUICK = 0.02
_IDLE = 0.25

#: Somebody committed, nobody did, or the file could not be asked.
Sight = Literal["change", "quiet", "trouble"]
Look = Callable[[Sight], Awaitable[None]]


class Watch:
    """Asks for SQLite's data version, which costs microseconds and reads no table, while somebody wants to know.

    https://www.sqlite.org/pragma.html#pragma_data_version: every 20 ms while things change, up to every 250 ms when
    they do not.
    """

    def __init__(self, clock: Clock, data_version: Callable[[], Awaitable[int]]) -> None:
        self._clock = clock
        self._data_version = data_version
        self._looks: list[Look] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, look: Look) -> None:
        """Call ``look`` from now on, once per glance at the file."""
        if look not in self._looks:
            self._looks.append(look)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="flowcraft-sqlite-watch")

    async def remove(self, look: Look) -> None:
        """Call it no more. With the last one the task ends."""
        if look in self._looks:
            self._looks.remove(look)
        if not self._looks:
            await self.close()

    async def close(self) -> None:
        """No task is left when this returns."""
        self._looks.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        seen: int | None = None
        pause = _QUICK
        while True:
            sight: Sight = "trouble"
            try:
                version = await self._data_version()
                sight = "quiet" if version == seen else "change"
                seen = version
                await self._tell(sight)
            except AdapterError:
                # Whoever waits must not wait for ever on a file that went away: it asks itself, and gets the error.
                seen = None
                await self._tell("trouble")
            pause = _QUICK if sight == "change" else min(_IDLE, pause * 1.25)
            await self._clock.sleep(pause)

    async def _tell(self, sight: Sight) -> None:
        for look in tuple(self._looks):
            await look(sight)
