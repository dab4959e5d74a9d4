"""The run store in SQLite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from flowcraft.model import (
    Capabilities,
    Change,
    Committed,
    Created,
    Event,
    NewRun,
    Page,
    RunSummary,
    Space,
    StoredHead,
    ValueKey,
)
from flowcraft.paging import decode_due, decode_list
from flowcraft.ports import JobQueue
from flowcraft.sqlite import reading, writing
from flowcraft.sqlite.database import Database
from flowcraft.sqlite.queue import SqliteJobQueue
from flowcraft.sqlite.reception import SqliteDelivery
from flowcraft.storing import MAX_VALUE_BYTES, check_values, event_rows

__all__ = ["SqliteRunStore"]


class SqliteRunStore:
    """See the protocol. The version of a document is its token; reads are from a snapshot and never wait for writers.

    A commit returns after the disk has it. `commit` is all or nothing only where it raises: then no change was applied,
    or, with `UnknownOutcome`, all that did not conflict or none.
    """

    def __init__(self, database: Database) -> None:
        self.capabilities = Capabilities(history=True, priorities=True, max_value_bytes=MAX_VALUE_BYTES)
        self._database = database
        self._queue: SqliteJobQueue | None = None

    async def setup(self) -> None:
        """Open the file, which makes its tables, if that has not been done."""
        await self._database.open()

    async def ping(self) -> None:
        """See the protocol. Asks the file, for reading."""
        await self._database.read(reading.ping)

    async def aclose(self) -> None:
        """Nothing: the file belongs to the backend."""

    async def clock(self) -> float:
        """The clock of this machine, which all processes on one file share."""
        return self._database.clock.time()

    def bind(self, queue: JobQueue) -> bool:
        """True for the queue in the same file, opened together with this store."""
        if isinstance(queue, SqliteJobQueue) and queue.database is self._database:
            self._queue = queue
            return True
        return False

    async def create(self, new: NewRun) -> Created:
        """See the protocol."""
        check_values(new.run_id, new.values)
        queue, now = self._queue, self._database.clock.time()

        def then(created: Created) -> None:
            if queue is not None and created.made:
                queue.wake(new.jobs)

        jobs = [] if queue is None else writing.job_rows(new.jobs, now)
        work = partial(writing.create, new, event_rows(new.events), jobs)
        return await self._database.write(work, durable=True, then=then)

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        """See the protocol."""
        return await self._database.read(partial(reading.load, kind, run_id, tuple(want)))

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        """See the protocol. What waits at the same time, from any caller, shares one transaction and one sync."""
        queue, now = self._queue, self._database.clock.time()
        plans: list[writing.Plan] = []
        for change in changes:
            check_values(change.run_id, change.values)
            jobs = [] if queue is None else writing.job_rows(change.jobs, now)
            ours = [] if queue is None else [d for d in change.deliveries if isinstance(d, SqliteDelivery)]
            acks = [(delivery.number, delivery.receipt) for delivery in ours]
            plans.append(writing.Plan(change, event_rows(change.events), jobs, acks))

        def then(results: Sequence[Committed]) -> None:
            if queue is None:
                return
            for change, result in zip(changes, results, strict=True):
                if result.applied:
                    queue.wake(change.jobs)
                    for delivery in change.deliveries:
                        if isinstance(delivery, SqliteDelivery):
                            delivery.settled()

        return await self._database.write(partial(writing.commit, plans), durable=True, then=then)

    async def read_values(
        self, run_id: str, keys: Collection[ValueKey] = (), *, space: Space | None = None
    ) -> Mapping[ValueKey, bytes]:
        """See the protocol."""
        return await self._database.read(partial(reading.read_values, run_id, tuple(keys), space))

    async def due(
        self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None
    ) -> Page[RunSummary]:
        """See the protocol. Does not lag."""
        return await self._database.read(partial(reading.due, kind, now, decode_due(after), limit))

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        """See the protocol."""
        return await self._database.write(partial(writing.defer, kind, run_id, token, wake_at), durable=True)

    async def list(
        self,
        *,
        kind: str = "run",
        status: str | None = None,
        blueprint_id: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[RunSummary]:
        """See the protocol."""
        work = partial(reading.list_documents, kind, status, blueprint_id, decode_list(after), limit)
        return await self._database.read(work)

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Event]:
        """See the protocol."""
        return await self._database.read(partial(reading.read_events, run_id, after_seq, limit))

    async def save_blueprint(self, content_hash: str, data: bytes) -> None:
        """See the protocol."""
        await self._database.write(partial(writing.save_blueprint, content_hash, data), durable=True)

    async def load_blueprint(self, content_hash: str) -> bytes | None:
        """See the protocol."""
        return await self._database.read(partial(reading.load_blueprint, content_hash))

    async def delete_blueprint(self, content_hash: str) -> None:
        """See the protocol."""
        await self._database.write(partial(writing.delete_blueprint, content_hash), durable=True)

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        """See the protocol. In one transaction, so it is never interrupted."""
        return await self._database.write(partial(writing.delete, kind, run_id, token), durable=True)
