"""The SQLite ports of one open file."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from flowcraft.ports import Clock
from flowcraft.sqlite.coordination import SqliteCoordination
from flowcraft.sqlite.database import Database
from flowcraft.sqlite.events import SqliteEventBus
from flowcraft.sqlite.queue import SqliteJobQueue
from flowcraft.sqlite.store import SqliteRunStore
from flowcraft.sqlite.values import SqliteValueStore

__all__ = ["SqliteBackend"]


class SqliteBackend:
    """The ports of one open file. They belong to the process and event loop that opened it."""

    __slots__ = ("_database", "coordination", "events", "queue", "store", "values")

    def __init__(self, database: Database, *, queue_visibility: float = 30.0) -> None:
        self._database = database
        self.store = SqliteRunStore(database)
        self.queue = SqliteJobQueue(database, visibility=queue_visibility)
        self.coordination = SqliteCoordination(database)
        self.events = SqliteEventBus(database)
        self.values = SqliteValueStore(database)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: str | os.PathLike[str], *, clock: Clock, queue_visibility: float = 30.0, busy_limit: float = 10.0
    ) -> AsyncGenerator[SqliteBackend, None]:
        """Open the file, make its tables if it is new, and close it in the end.

        Args:
            path: of a file on a local disk. Two more files appear beside it while it is open.
            clock: the time that due times and leases are compared with; the same for all processes on the file.
            queue_visibility: seconds until a delivery that nobody ended comes again.
            busy_limit: seconds to wait for another process's lock before `Unavailable`.

        Raises:
            Misconfigured: the file is not ours, damaged, of a later version, or may not be written.
            Unavailable: the disk is full or in trouble, or another process holds the file.
        """
        database = Database(os.fspath(path), clock, busy_limit=busy_limit)
        await database.open()
        backend = cls(database, queue_visibility=queue_visibility)
        try:
            yield backend
        finally:
            await backend.aclose()

    async def aclose(self) -> None:
        """End receivers and subscriptions, finish what was asked for and close the file. May be repeated."""
        await self.queue.aclose()
        await self.events.aclose()
        await self._database.aclose()
