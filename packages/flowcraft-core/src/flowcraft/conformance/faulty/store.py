"""A run store as one process sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from flowcraft.conformance.faulty.line import Line, Reaped
from flowcraft.conformance.faulty.plans import Call
from flowcraft.conformance.faulty.queue import FaultyDelivery, FaultyQueue, send
from flowcraft.errors import UnknownOutcome
from flowcraft.model import (
    Capabilities,
    Change,
    Committed,
    Created,
    Event,
    Job,
    NewRun,
    Page,
    RunSummary,
    Space,
    StoredHead,
    ValueKey,
)
from flowcraft.ports import JobQueue, RunStore

__all__ = ["FaultyStore"]


class FaultyStore:
    """See `RunStore`; ``inner`` is the real one.

    ``bound``: bind to the queue if the real store can. If not, it neither pushes nor acks, whatever it was bound to.
    """

    def __init__(self, inner: RunStore, line: Line, *, bound: bool = True) -> None:
        self.inner = inner
        self._line = line
        self._may_bind = bound
        self._queue: JobQueue | None = None
        self.capabilities: Capabilities = inner.capabilities

    @property
    def bound(self) -> bool:
        """Whether jobs are pushed and deliveries acked inside commits."""
        return self._queue is not None

    async def setup(self) -> None:
        """See the protocol."""
        async with self._line.calling(Call("store", "setup")):
            await self.inner.setup()

    async def ping(self) -> None:
        """See the protocol."""
        async with self._line.calling(Call("store", "ping")):
            await self.inner.ping()

    async def aclose(self) -> None:
        """See the protocol. The real port belongs to whoever opened it."""

    async def clock(self) -> float:
        """See the protocol."""
        try:
            async with self._line.calling(Call("store", "clock")):
                return await self.inner.clock()
        except Reaped:
            return 0.0  # the dead may believe anything; a clock that is Misconfigured nobody reckons with

    def bind(self, queue: JobQueue) -> bool:
        """See the protocol."""
        real = queue.inner if isinstance(queue, FaultyQueue) else queue
        self._queue = real if self._may_bind and self.inner.bind(real) else None
        return self._queue is not None

    async def create(self, new: NewRun) -> Created:
        """See the protocol."""
        async with self._line.calling(Call("store", "create", new.kind)):
            jobs, later = self._arriving(new.jobs)
            created = await self.inner.create(replace(new, jobs=jobs))
            if created.made:
                await self._send(later)
            return created

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        """See the protocol."""
        async with self._line.calling(Call("store", "load", kind)):
            return await self.inner.load(run_id, want=want, kind=kind)

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        """See the protocol."""
        weather = self._line.weather
        async with self._line.calling(Call("store", "commit", changes[0].kind if changes else "")) as fault:
            await weather.drift()
            if fault == "late":
                weather.delayed(lambda: self._commit(changes))
                raise UnknownOutcome("the request is still on its way")
            return await self._commit(changes)

    async def _commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        real: list[Change] = []
        waiting: list[list[tuple[Job, float]]] = []
        for change in changes:
            jobs, later = self._arriving(change.jobs)
            real.append(replace(change, jobs=jobs, deliveries=self._deliveries(change)))
            waiting.append(later)
        results = await self.inner.commit(real)
        self._line.weather.conflicts += sum(not result.applied for result in results)
        for later, result in zip(waiting, results, strict=True):
            if result.applied:
                await self._send(later)
        return results

    def _deliveries(self, change: Change) -> Sequence[object]:
        if self._queue is None:
            return ()
        return [one.inner if isinstance(one, FaultyDelivery) else one for one in change.deliveries]

    def _arriving(self, jobs: Sequence[Job]) -> tuple[Sequence[Job], list[tuple[Job, float]]]:
        """What the store is to push itself, and what comes later."""
        if self._queue is None or not jobs:
            return (), []
        arriving = self._line.weather.messages.arriving(jobs)
        return [job for job, later in arriving if not later], [pair for pair in arriving if pair[1]]

    async def _send(self, later: Sequence[tuple[Job, float]]) -> None:
        if later and self._queue is not None:
            await send(self._queue, later)

    async def read_values(
        self, run_id: str, keys: Collection[ValueKey] = (), *, space: Space | None = None
    ) -> Mapping[ValueKey, bytes]:
        """See the protocol."""
        async with self._line.calling(Call("store", "read_values")):
            return await self.inner.read_values(run_id, keys, space=space)

    async def due(
        self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None
    ) -> Page[RunSummary]:
        """See the protocol."""
        pages = self._line.weather.pages
        async with self._line.calling(Call("store", "due", kind)) as fault:
            if fault == "stale" and (kind, after) in pages:
                return pages[kind, after]
            page = pages[kind, after] = await self.inner.due(now, kind=kind, limit=limit, after=after)
            return page

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        """See the protocol."""
        async with self._line.calling(Call("store", "defer", kind)):
            return await self.inner.defer(run_id, token, wake_at, kind=kind)

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
        async with self._line.calling(Call("store", "list", kind)):
            return await self.inner.list(
                kind=kind, status=status, blueprint_id=blueprint_id, limit=limit, after=after
            )  # fmt: skip

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Event]:
        """See the protocol."""
        async with self._line.calling(Call("store", "read_events")):
            return await self.inner.read_events(run_id, after_seq, limit)

    async def save_blueprint(self, content_hash: str, data: bytes) -> None:
        """See the protocol."""
        async with self._line.calling(Call("store", "save_blueprint")):
            await self.inner.save_blueprint(content_hash, data)

    async def load_blueprint(self, content_hash: str) -> bytes | None:
        """See the protocol."""
        async with self._line.calling(Call("store", "load_blueprint")):
            return await self.inner.load_blueprint(content_hash)

    async def delete_blueprint(self, content_hash: str) -> None:
        """See the protocol."""
        async with self._line.calling(Call("store", "delete_blueprint")):
            await self.inner.delete_blueprint(content_hash)

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        """See the protocol."""
        async with self._line.calling(Call("store", "delete", kind)):
            return await self.inner.delete(run_id, token, kind=kind)
