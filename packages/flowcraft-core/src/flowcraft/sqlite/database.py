"""One SQLite file as seen by one process and event loop: a writer, a reader, and a watch for other processes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from typing import TypeVar, cast

from flowcraft.errors import Misconfigured
from flowcraft.ports import Clock
from flowcraft.sqlite.lane import Lane, Operation, Work
from flowcraft.sqlite.watch import Watch
from flowcraft.sqlite.writer import Reader, Writer

__all__ = ["Database"]

_T = TypeVar("_T")


class Database:
    """What the ports share. ``name`` tells this opening of the file from all others."""

    def __init__(self, path: str, clock: Clock, *, busy_limit: float) -> None:
        self.path = path
        self.clock = clock
        self.name = os.urandom(12).hex()
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer = Lane("flowcraft-sqlite-writer", path, Writer(path, busy_limit=busy_limit))
        self._reader = Lane("flowcraft-sqlite-reader", path, Reader(path))
        self.watch = Watch(clock, self._data_version)

    async def open(self) -> None:
        """Open both connections, and make or check the tables. Does nothing if it was opened already."""
        if self._loop is not None:
            return
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        try:
            await self._writer.start()
            try:
                await self._reader.start()
            except BaseException:
                await self._writer.close()
                raise
        except BaseException:
            self._loop = None  # nothing is open: closing has nothing to wait for
            raise

    async def aclose(self) -> None:
        """Finish what was asked for and close the file. May be repeated."""
        if self._loop is None:
            return
        self._check_place()
        await self.watch.close()
        await self._reader.close()
        await self._writer.close()

    async def read(self, work: Work[_T]) -> _T:
        """Run it on a snapshot, without waiting for writers."""
        future: asyncio.Future[_T] = self._check_place().create_future()
        self._reader.submit(Operation(work, future, None, durable=False))
        return await future

    def submit(
        self, work: Work[_T], *, durable: bool = False, then: Callable[[_T], None] | None = None
    ) -> asyncio.Future[_T]:
        """Run it in the next transaction; ``durable``: answer only after the disk has it.

        ``then`` is called once with the result, also if whoever waited for it was cancelled while it ran.
        """
        future: asyncio.Future[_T] = self._check_place().create_future()
        self._writer.submit(Operation(work, future, then, durable=durable))
        return future

    async def write(self, work: Work[_T], *, durable: bool = False, then: Callable[[_T], None] | None = None) -> _T:
        """`submit`, and wait for the result."""
        return await self.submit(work, durable=durable, then=then)

    def write_soon(self, work: Work[None], ended: Callable[[], None] = lambda: None) -> None:
        """`submit`, and wait for nothing: trouble concerns nobody. ``ended`` is called either way."""

        def done(future: asyncio.Future[None]) -> None:
            future.exception()
            ended()

        self.submit(work).add_done_callback(done)

    async def _data_version(self) -> int:
        return await self.read(_data_version)

    def _check_place(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise Misconfigured(f"the SQLite file {self.path!r} is not open yet")
        if os.getpid() != self._pid:
            raise Misconfigured(f"the SQLite file {self.path!r} was opened before a fork; open it in the child process")
        if asyncio.get_running_loop() is not self._loop:
            raise Misconfigured(f"the SQLite file {self.path!r} was opened in another event loop; open it in this one")
        return self._loop


def _data_version(connection: sqlite3.Connection) -> int:
    return cast("int", connection.execute("PRAGMA data_version").fetchone()[0])
