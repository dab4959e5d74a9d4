"""The job queue in SQLite: rows of one table, woken at once in this process and by the watch across processes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from flowcraft.alarm import Alarm
from flowcraft.errors import SerializationError
from flowcraft.model import Capabilities, DeadLetter, Job, Page
from flowcraft.paging import decode_letters
from flowcraft.sqlite import dead, writing
from flowcraft.sqlite.database import Database
from flowcraft.sqlite.reception import Receiver, SqliteDelivery, Taken
from flowcraft.sqlite.watch import Sight

__all__ = ["SqliteJobQueue"]

_RECEIVE = """SELECT id, receipt, deliveries, body FROM jobs INDEXED BY jobs_ready
    WHERE ready = 1 AND queue = ? ORDER BY priority DESC, visible_at, id LIMIT ?"""
_HOLD = "UPDATE jobs SET ready = 0, visible_at = ?, receipt = receipt + 1, deliveries = deliveries + 1 WHERE id = ?"
_PROMOTE = "UPDATE jobs SET ready = 1 WHERE ready = 0 AND visible_at <= ?"
_NEXT = (
    "SELECT visible_at FROM jobs INDEXED BY jobs_hidden WHERE ready = 0 AND visible_at >= 0 ORDER BY visible_at LIMIT 1"
)
_ANY = "SELECT 1 FROM jobs INDEXED BY jobs_ready WHERE ready = 1 AND queue = ? LIMIT 1"
_DEPTH = """SELECT (SELECT count(*) FROM jobs INDEXED BY jobs_ready WHERE ready = 1 AND queue = ?)
    + (SELECT count(*) FROM jobs INDEXED BY jobs_hidden WHERE ready = 0 AND visible_at <= ? AND queue = ?)"""
# A late owner's receipt is not the row's any more; `ready = 0`: it came back, so it is anyone's.
_MOVE = "UPDATE jobs SET ready = ?, visible_at = ? WHERE id = ? AND receipt = ? AND ready = 0"
_HAND_BACK = """UPDATE jobs SET ready = 1, visible_at = ?, deliveries = deliveries - 1
    WHERE id = ? AND receipt = ? AND ready = 0"""


class SqliteJobQueue:
    """See the protocol. Times are of the machine's clock, which all processes on one file share.

    Publishing returns when the file has the messages, but a power cut can lose the latest ones: they are only the
    doorbell. Those of a bound store's commit are as durable as the commit.
    """

    def __init__(self, database: Database, *, visibility: float) -> None:
        self.capabilities = Capabilities(priorities=True, visibility=visibility)
        self.database = database
        self._visibility = visibility
        self._now = database.clock.time
        self._receivers: set[Receiver] = set()
        self._alarm = Alarm(database.clock, database.clock.time, self._wake_all)

    async def setup(self) -> None:
        """Nothing: opening the file made the tables."""

    async def aclose(self) -> None:
        """End the receivers. The file belongs to the backend."""
        for receiver in tuple(self._receivers):
            receiver.end()
        await self.database.watch.remove(self._look)
        await self._alarm.close()

    async def publish(self, jobs: Sequence[Job], *, delay: float = 0.0) -> Sequence[Job]:
        """See the protocol. Nothing is ever unconfirmed: trouble is raised."""
        now = self._now()

        def then(_: None) -> None:
            if delay > 0:
                self._due(now + delay)
            else:
                self.wake(jobs)

        await self.database.write(partial(writing.push, writing.job_rows(jobs, now, delay)), then=then)
        return ()

    async def publish_bytes(self, queue: str, body: bytes, *, priority: int = 0) -> None:
        """Put any bytes into a queue, as a foreign or newer producer would."""
        row = (queue, priority, 1, self._now(), body)
        await self.database.write(partial(writing.push, [row]), then=lambda _: self._wake({queue}))

    async def depth(self, queue: str) -> int | None:
        """Messages that can be received now, exactly."""
        return await self.database.read(partial(_depth, queue, self._now()))

    async def dead_letters(self, *, limit: int = 100, after: str | None = None) -> Page[DeadLetter]:
        """See the protocol. Oldest first, each once."""
        return await self.database.read(partial(dead.page, limit, decode_letters(after)))

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """See the protocol."""
        return await self.database.read(partial(dead.read, letter_id))

    async def discard(self, letter_id: str) -> bool:
        """See the protocol."""
        return await self.database.write(partial(dead.discard, letter_id), durable=True)

    def deliveries(
        self, queues: Sequence[str], *, prefetch: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[SqliteDelivery]]]:
        """See the protocol."""
        return Receiver(self, queues, prefetch)

    def wake(self, jobs: Iterable[Job]) -> None:
        """Tell this process's receivers of messages that were committed."""
        if self._receivers:
            self._wake({job.queue for job in jobs})

    def receive(
        self, queues: Sequence[str], room: int, then: Callable[[list[SqliteDelivery]], None]
    ) -> asyncio.Future[Taken]:
        """See `Home`."""

        def taken(result: Taken) -> None:
            rows, due = result
            self._due(due)
            then([SqliteDelivery(self, *row) for row in rows])

        return self.database.submit(partial(_take, tuple(queues), room, self._now, self._visibility), then=taken)

    async def settle(self, delivery: SqliteDelivery) -> None:
        """See `Home`."""
        await self.database.write(partial(_execute, writing.ACK, (delivery.number, delivery.receipt)))

    async def retry(self, delivery: SqliteDelivery, delay: float) -> None:
        """See `Home`."""
        at = self._now() + max(0.0, delay)
        row = (0 if delay > 0 else 1, at, delivery.number, delivery.receipt)

        def then(_: None) -> None:
            if delay > 0:
                self._due(at)
            else:
                self._wake({delivery.job.queue})

        await self.database.write(partial(_execute, _MOVE, row), then=then)

    async def extend(self, delivery: SqliteDelivery, seconds: float) -> None:
        """See `Home`."""
        row = (0, self._now() + seconds, delivery.number, delivery.receipt)
        await self.database.write(partial(_execute, _MOVE, row))

    async def bury(self, delivery: SqliteDelivery, reason: str) -> None:
        """See `Home`."""
        await self.database.write(partial(dead.bury, reason, self._now(), delivery.number, delivery.receipt))

    def open(self, receiver: Receiver) -> None:
        """See `Home`."""
        if not self._receivers:
            self.database.watch.add(self._look)
        self._receivers.add(receiver)

    async def close(self, receiver: Receiver, held: Sequence[SqliteDelivery]) -> None:
        """See `Home`."""
        self._receivers.discard(receiver)
        now = self._now()
        rows = [(now, delivery.number, delivery.receipt) for delivery in held]
        queues = {delivery.job.queue for delivery in held}
        try:
            if rows:
                await self.database.write(partial(_hand_back, rows), then=lambda _: self._wake(queues))
        finally:
            if not self._receivers:
                await self.database.watch.remove(self._look)
                await self._alarm.close()

    def _wake(self, queues: set[str]) -> None:
        for receiver in self._receivers:
            if not queues.isdisjoint(receiver.queues):
                receiver.wake()

    def _wake_all(self) -> None:
        for receiver in self._receivers:
            receiver.wake()

    def _due(self, at: float | None) -> None:
        if at is not None and self._receivers:
            self._alarm.set(at)

    async def _look(self, sight: Sight) -> None:
        if sight == "trouble":
            self._wake_all()
        elif sight == "change":
            queues = {queue for receiver in self._receivers for queue in receiver.queues}
            ready, due = await self.database.read(partial(_ready, queues))
            self._wake(ready)
            self._due(due)


def _take(
    queues: Sequence[str], room: int, clock: Callable[[], float], visibility: float, connection: sqlite3.Connection
) -> Taken:
    now = clock()  # not before: the file may have been another process's for longer than a message is hidden
    until = now + visibility
    connection.execute(_PROMOTE, (now,))
    taken: list[tuple[int, int, bool, Job]] = []
    for queue in queues:
        # Again only if undecodable messages, which are gone then, left room for more.
        while len(taken) < room and (rows := _take_from(queue, room - len(taken), now, until, connection)) is not None:
            taken += rows
    due = connection.execute(_NEXT).fetchone()
    return taken, None if due is None else due[0]


def _take_from(
    queue: str, room: int, now: float, until: float, connection: sqlite3.Connection
) -> list[tuple[int, int, bool, Job]] | None:
    """The next messages of one queue; None if none is left."""
    found = connection.execute(_RECEIVE, (queue, room)).fetchall()
    rows: list[tuple[int, int, bool, Job]] = []
    for number, receipt, deliveries, body in found:
        try:
            rows.append((number, receipt + 1, deliveries > 0, Job.from_bytes(body)))
        except SerializationError as error:
            dead.bury(str(error), now, number, receipt, connection)
    connection.executemany(_HOLD, [(until, row[0]) for row in rows])
    return rows if found else None


def _ready(queues: set[str], connection: sqlite3.Connection) -> tuple[set[str], float | None]:
    due = connection.execute(_NEXT).fetchone()
    ready = {queue for queue in queues if connection.execute(_ANY, (queue,)).fetchone()}
    return ready, None if due is None else due[0]


def _execute(statement: str, row: tuple[object, ...], connection: sqlite3.Connection) -> None:
    connection.execute(statement, row)


def _hand_back(rows: Sequence[tuple[float, int, int]], connection: sqlite3.Connection) -> None:
    connection.executemany(_HAND_BACK, rows)


def _depth(queue: str, now: float, connection: sqlite3.Connection) -> int:
    total: int = connection.execute(_DEPTH, (queue, now, queue)).fetchone()[0]
    return total
