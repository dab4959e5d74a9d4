"""The event bus over one file: instant in this process, a bounded ring of rows for the others."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import cast

from flowcraft.model import Event
from flowcraft.sqlite.database import Database
from flowcraft.sqlite.watch import Sight
from flowcraft.subscriptions import Subscription

__all__ = ["SqliteEventBus"]

_RING = 10_000  # rows; a subscriber that is further behind misses the oldest
_READ = 500  # rows at a time
_LISTEN = 30.0  # seconds until a process that died is no longer written for
_LISTENING = "SELECT 1 FROM listeners WHERE listener <> ? AND expires > ? LIMIT 1"
_TELL = "INSERT INTO bus (sender, run_id, seq, body) VALUES (?, ?, ?, ?)"
_PRUNE = "DELETE FROM bus WHERE id <= (SELECT max(id) FROM bus) - ?"
_NEW = "SELECT id, sender, run_id, seq, body FROM bus WHERE id > ? ORDER BY id LIMIT ?"
_LISTEN_UNTIL = """INSERT INTO listeners (listener, expires) VALUES (?, ?)
    ON CONFLICT (listener) DO UPDATE SET expires = excluded.expires"""


class SqliteEventBus:
    """See the protocol. Nothing is written unless another process has a subscriber; nothing is synced to the disk.

    ``buffer``: events that wait for one slow reader before the oldest are dropped.
    """

    def __init__(self, database: Database, *, buffer: int = 1024) -> None:
        self._database = database
        self._buffer = buffer
        self._subscriptions: set[Subscription] = set()
        self._unwritten = 0
        self._read_to = 0
        self._listen_again = 0.0

    async def publish(self, events: Sequence[Event]) -> None:
        """See the protocol. Returns before the other processes can see them."""
        for subscription in self._subscriptions:
            subscription.offer(events)
        # A writer that is stuck must not pile up hints without end.
        if not events or self._unwritten > _RING:
            return
        self._unwritten += len(events)
        work = partial(_tell, self._database.name, self._database.clock.time(), tuple(events))
        self._database.write_soon(work, partial(self._written, len(events)))

    def subscribe(
        self, *, run_id: str | None = None, ends: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """See the protocol. Events of other processes come within the watch's interval."""
        return self._subscribe(run_id, ends=ends)

    async def aclose(self) -> None:
        """End the subscriptions; each reader still gets what is in its buffer. The file belongs to the backend."""
        for subscription in tuple(self._subscriptions):
            subscription.end()
        await self._database.watch.remove(self._look)

    @asynccontextmanager
    async def _subscribe(self, run_id: str | None, *, ends: bool) -> AsyncGenerator[AsyncIterator[Event], None]:
        if not self._subscriptions:
            await self._listen()
        added, removed = self._subscriptions.add, self._subscriptions.discard
        subscription = Subscription(run_id, self._buffer, added, removed, ends=ends)
        try:
            async with subscription as events:
                self._database.watch.add(self._look)
                yield events
        finally:
            if not self._subscriptions:
                self._database.write_soon(partial(_unlisten, self._database.name))
                await self._database.watch.remove(self._look)

    async def _listen(self) -> None:
        """From now on the other processes write for us."""
        now = self._database.clock.time()
        self._listen_again = now + _LISTEN / 3
        last = await self._database.write(partial(_listen, self._database.name, now + _LISTEN))
        if not self._subscriptions:
            self._read_to = last

    async def _look(self, sight: Sight) -> None:
        if sight == "trouble":
            return
        if self._database.clock.time() >= self._listen_again:
            await self._listen()
        if sight == "change":
            await self._read_new()

    async def _read_new(self) -> None:
        while True:
            rows = await self._database.read(partial(_new, self._read_to))
            for number, sender, run_id, seq, body in rows:
                self._read_to = number
                if sender != self._database.name:
                    event = Event.from_json(run_id, seq, body)
                    for subscription in self._subscriptions:
                        subscription.offer((event,))
            if len(rows) < _READ:
                return

    def _written(self, count: int) -> None:
        self._unwritten -= count


def _listen(listener: str, until: float, connection: sqlite3.Connection) -> int:
    connection.execute(_LISTEN_UNTIL, (listener, until))
    return cast("int", connection.execute("SELECT coalesce(max(id), 0) FROM bus").fetchone()[0])


def _unlisten(listener: str, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM listeners WHERE listener = ?", (listener,))


def _tell(sender: str, now: float, events: Sequence[Event], connection: sqlite3.Connection) -> None:
    if connection.execute(_LISTENING, (sender, now)).fetchone() is None:
        return
    connection.executemany(_TELL, [(sender, event.run_id, event.seq, event.to_json()) for event in events])
    connection.execute(_PRUNE, (_RING,))


def _new(after: int, connection: sqlite3.Connection) -> list[tuple[int, str, str, int, str]]:
    return connection.execute(_NEW, (after, _READ)).fetchall()
