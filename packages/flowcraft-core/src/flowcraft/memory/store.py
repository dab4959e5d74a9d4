"""The run store in memory."""

from __future__ import annotations

import bisect
import copy
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from flowcraft.memory.queue import MemoryDelivery, MemoryJobQueue
from flowcraft.model import (
    Capabilities,
    Change,
    Committed,
    Created,
    Event,
    Index,
    Job,
    NewRun,
    Page,
    RunSummary,
    Space,
    StoredHead,
    ValueKey,
)
from flowcraft.paging import decode_due, decode_list, due_cursor, encode_cursor, page_of
from flowcraft.ports import Clock, JobQueue
from flowcraft.storing import MAX_VALUE_BYTES, check_values, event_rows

__all__ = ["MemoryRunStore"]


class _Document:
    __slots__ = ("events", "head", "index", "new", "number", "token", "values")

    def __init__(self, number: int, new: NewRun) -> None:
        self.number = number
        self.new = new
        self.token = new.token
        self.head = bytes(new.head)
        self.index = new.index
        self.values: dict[ValueKey, bytes] = {}
        self.events: dict[int, Event | str] = {}

    def stored(self, want: Collection[ValueKey] = ()) -> StoredHead:
        values = {key: self.values[key] for key in want if key in self.values}
        return StoredHead(
            self.new.run_id, self.head, self.token, self.token, self.index, values, fingerprint=self.new.fingerprint
        )

    def summary(self) -> RunSummary:
        new, index = self.new, self.index
        return RunSummary(
            new.run_id, index.status, new.blueprint_id, new.blueprint_hash, new.created_at, index.updated_at,
            index.wake_at, self.token,
        )  # fmt: skip


class _Kind:
    """The documents of one kind, with what finds them by time.

    ``_due`` is sorted but may hold entries that no longer count; ``_fresh`` is not sorted yet. A commit only appends.
    """

    def __init__(self) -> None:
        self.documents: dict[str, _Document] = {}
        self._created: list[tuple[float, int, str]] = []
        self._due: list[tuple[float, str]] = []
        self._fresh: list[tuple[float, str]] = []

    def add(self, document: _Document) -> None:
        run_id = document.new.run_id
        self.documents[run_id] = document
        bisect.insort(self._created, (document.new.created_at, document.number, run_id))
        self.wakes(run_id, document.index.wake_at)

    def remove(self, document: _Document) -> None:
        run_id = document.new.run_id
        del self.documents[run_id]
        del self._created[bisect.bisect_left(self._created, (document.new.created_at, document.number, run_id))]

    def wakes(self, run_id: str, wake_at: float | None) -> None:
        if wake_at is None:
            return
        self._fresh.append((wake_at, run_id))
        if len(self._fresh) + len(self._due) > 4 * len(self.documents) + 1024:
            self._fresh = [
                (document.index.wake_at, key)
                for key, document in self.documents.items()
                if document.index.wake_at is not None
            ]
            self._due = []

    def due(self, now: float, after: tuple[float, str]) -> Iterator[_Document]:
        if self._fresh:
            self._due += self._fresh
            self._due.sort()
            self._fresh = []
        previous = after
        for position in range(bisect.bisect_right(self._due, after), len(self._due)):
            entry = self._due[position]
            if entry[0] > now:
                return
            document = self.documents.get(entry[1])
            if entry != previous and document is not None and document.index.wake_at == entry[0]:
                yield document
            previous = entry

    def newest(self, before: tuple[float, int]) -> Iterator[_Document]:
        end = bisect.bisect_left(self._created, (*before, ""))
        return (self.documents[self._created[position][2]] for position in range(end - 1, -1, -1))


class MemoryRunStore:
    """See the protocol. The version of a document is its token; `due` does not lag.

    Bytes are copied on the way in, so that a buffer that the caller goes on using cannot change what is stored. Unlike
    others it never yields to the event loop: one step of the loop is atomic, and tests with one order are repeatable.
    """

    def __init__(self, clock: Clock) -> None:
        self.capabilities = Capabilities(durable=False, history=True, priorities=True, max_value_bytes=MAX_VALUE_BYTES)
        self._clock = clock
        self._numbers = itertools.count(1)
        self._kinds: dict[str, _Kind] = {}
        self._blueprints: dict[str, bytes] = {}
        self._queue: MemoryJobQueue | None = None

    async def setup(self) -> None:
        """Nothing to create."""

    async def ping(self) -> None:
        """Always there."""

    async def aclose(self) -> None:
        """Nothing to close: the documents stay as long as the object."""

    async def clock(self) -> float:
        """See the protocol."""
        return self._clock.time()

    def bind(self, queue: JobQueue) -> bool:
        """True for a `MemoryJobQueue`: with nothing awaited in between, one step of the event loop is atomic."""
        if isinstance(queue, MemoryJobQueue):
            self._queue = queue
            return True
        return False

    async def create(self, new: NewRun) -> Created:
        """See the protocol."""
        kind = self._kinds.setdefault(new.kind, _Kind())
        existing = kind.documents.get(new.run_id)
        if existing is not None:
            return Created(made=False, fingerprint=existing.new.fingerprint, token=existing.token)
        check_values(new.run_id, new.values)
        events = _by_number(new.events)
        document = _Document(next(self._numbers), new)
        document.values.update((key, bytes(data)) for key, data in new.values.items())
        document.events.update(events)
        kind.add(document)
        self._ring(new.jobs, ())
        return Created(made=True, fingerprint=new.fingerprint, token=new.token)

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        """See the protocol."""
        document = self._find(kind, run_id)
        return None if document is None else document.stored(want)

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        """See the protocol."""
        for change in changes:
            check_values(change.run_id, change.values)
        encoded = [_by_number(change.events) for change in changes]
        return [self._apply(change, events) for change, events in zip(changes, encoded, strict=True)]

    def _apply(self, change: Change, events: Mapping[int, Event | str]) -> Committed:
        document = self._find(change.kind, change.run_id)
        if document is None:
            return Committed(applied=False)
        if document.token != change.version:
            return Committed(applied=False, stored=document.stored())
        document.token = change.token
        document.head = bytes(change.head)
        if document.index.wake_at != change.index.wake_at:
            self._kinds[change.kind].wakes(change.run_id, change.index.wake_at)
        document.index = change.index
        if change.blueprint is not None:
            document.new = replace(document.new, blueprint_id=change.blueprint[0], blueprint_hash=change.blueprint[1])
        for key in change.deleted:
            document.values.pop(key, None)
        for key, data in change.values.items():
            document.values[key] = bytes(data)
        document.events.update(events)
        self._ring(change.jobs, change.deliveries)
        return Committed(applied=True, version=change.token)

    def _ring(self, jobs: Sequence[Job], deliveries: Sequence[object]) -> None:
        if self._queue is None:
            return
        self._queue.push(jobs)
        for delivery in deliveries:
            if isinstance(delivery, MemoryDelivery):
                self._queue.drop(delivery)
                delivery.settled()

    async def read_values(
        self, run_id: str, keys: Collection[ValueKey] = (), *, space: Space | None = None
    ) -> Mapping[ValueKey, bytes]:
        """See the protocol."""
        document = self._find("run", run_id)
        if document is None:
            return {}
        if space is not None:
            return {key: data for key, data in document.values.items() if key.space == space}
        return document.stored(keys).values

    async def due(
        self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None
    ) -> Page[RunSummary]:
        """See the protocol."""
        found = self._kinds.get(kind, _Kind()).due(now, decode_due(after))
        rows = [document.summary() for document in itertools.islice(found, limit + 1)]
        return page_of(rows, limit, due_cursor)

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        """See the protocol."""
        document = self._find(kind, run_id)
        if document is None or document.token != token:
            return False
        document.index = Index(document.index.status, wake_at, document.index.updated_at)
        self._kinds[kind].wakes(run_id, wake_at)
        return True

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
        found = (
            document
            for document in self._kinds.get(kind, _Kind()).newest(decode_list(after))
            if (status is None or document.index.status == status)
            and (blueprint_id is None or document.new.blueprint_id == blueprint_id)
        )
        rows = tuple(itertools.islice(found, limit + 1))
        page = page_of(rows, limit, lambda document: encode_cursor(document.new.created_at, document.number))
        return Page(tuple(document.summary() for document in page.items), page.after)

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Event]:
        """See the protocol."""
        document = self._find("run", run_id)
        if document is None:
            return Page(())
        rows: list[Event] = []
        seq = after_seq + 1
        while len(rows) < limit and (row := document.events.get(seq)) is not None:
            rows.append(row if isinstance(row, Event) else Event.from_json(run_id, seq, row))
            seq += 1
        return Page(tuple(rows), str(seq - 1) if seq in document.events else None)

    async def save_blueprint(self, content_hash: str, data: bytes) -> None:
        """See the protocol."""
        self._blueprints.setdefault(content_hash, bytes(data))

    async def load_blueprint(self, content_hash: str) -> bytes | None:
        """See the protocol."""
        return self._blueprints.get(content_hash)

    async def delete_blueprint(self, content_hash: str) -> None:
        """See the protocol."""
        self._blueprints.pop(content_hash, None)

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        """See the protocol. In one step, so it is never interrupted."""
        document = self._find(kind, run_id)
        if document is None:
            return True
        if document.token != token:
            return False
        self._kinds[kind].remove(document)
        return True

    def snapshot(self) -> object:
        """All documents as they are now, for `restore`."""
        return copy.deepcopy(self._kinds)

    def restore(self, state: object) -> None:
        """Go back to a `snapshot`, as a failover does that loses the latest commits. Blueprints stay."""
        self._kinds = copy.deepcopy(cast("dict[str, _Kind]", state))

    def _find(self, kind: str, run_id: str) -> _Document | None:
        documents = self._kinds.get(kind)
        return None if documents is None else documents.documents.get(run_id)


def _by_number(events: Sequence[Event]) -> dict[int, Event | str]:
    """Without hints. An event with data passes through JSON, so that what fails elsewhere fails here."""
    return {event.seq: event for event in events if event.seq > 0} | dict(event_rows([e for e in events if e.data]))
