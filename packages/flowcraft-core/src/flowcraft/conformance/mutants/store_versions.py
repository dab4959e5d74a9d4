"""Run stores that do one thing wrong with kinds, versions, limits and many writers."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from flowcraft.conformance.mutants.breaking import broken, mutant
from flowcraft.conformance.mutants.store_creating import check, turns
from flowcraft.errors import UnknownOutcome
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Change, Committed, Created, NewRun, Page, RunSummary, StoredHead, ValueKey

__all__ = ["mutants"]


class _KindNeverDue(MemoryRunStore):
    """Documents of the kind ``meta`` are not in the index of what is due."""

    async def due(
        self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None
    ) -> Page[RunSummary]:
        return Page(()) if kind == "meta" else await super().due(now, kind=kind, limit=limit, after=after)


class _KindAndIdJoined(MemoryRunStore):
    """A lease is found under ``lease:`` and its id, a run under its id alone."""

    async def create(self, new: NewRun) -> Created:
        if new.kind == "lease" and (other := self._find("run", f"lease:{new.run_id}")) is not None:
            return Created(made=False, fingerprint=other.new.fingerprint, token=other.token)
        return await super().create(new)


class _DriverErrorPasses(MemoryRunStore):
    """What the driver says of an id that it cannot write is let through."""

    async def create(self, new: NewRun) -> Created:
        new.run_id.encode()
        return await super().create(new)


class _Versioned(MemoryRunStore):
    """The version of a document is something else than its token."""

    def version_of(self, run_id: str, kind: str) -> str | None:
        """The version."""
        raise NotImplementedError

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        stored = await super().load(run_id, want=want, kind=kind)
        return None if stored is None else replace(stored, version=self.version_of(run_id, kind) or "")

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        results: list[Committed] = []
        for change in changes:
            check(change)
        for change in changes:
            document = self._find(change.kind, change.run_id)
            fits = document is not None and change.version == self.version_of(change.run_id, change.kind)
            version = document.token if fits and document is not None else "no version"
            (result,) = await super().commit([replace(change, version=version)])
            now = self.version_of(change.run_id, change.kind) or ""
            stored = None if result.stored is None else replace(result.stored, version=now)
            results.append(replace(result, version=now if result.applied else "", stored=stored))
        return results


class _VersionOfContent(_Versioned):
    """The version of a document is the hash of its head."""

    def version_of(self, run_id: str, kind: str) -> str | None:
        document = self._find(kind, run_id)
        return None if document is None else hashlib.sha256(document.head).hexdigest()


class _VersionCounts(_Versioned):
    """The version of a document counts its changes, from 1 on for every document."""

    def version_of(self, run_id: str, kind: str) -> str | None:
        document = self._find(kind, run_id)
        return None if document is None else str(self._counts.get(document.number, 1))

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._counts: dict[int, int] = {}

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        results: list[Committed] = []
        for change in changes:
            check(change)
        for change in changes:
            (result,) = await super().commit([change])
            document = self._find(change.kind, change.run_id)
            if result.applied and document is not None:
                self._counts[document.number] = self._counts.get(document.number, 1) + 1
                result = replace(result, version=self.version_of(change.run_id, change.kind) or "")
            results.append(result)
        return results


class _HalfACall(MemoryRunStore):
    """A value beyond the limit is found out when the changes before it are applied."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        for change in changes:
            check(replace(change, values={}))
        results: list[Committed] = []
        for change in changes:
            results += await super().commit([change])
        return results


class _BadEventHalfApplied(MemoryRunStore):
    """An event that is no JSON is found out when the changes before it are applied."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        for change in changes:
            check(replace(change, events=()))
        results: list[Committed] = []
        for change in changes:
            results += await super().commit([change])
        return results


class _DeclaredTooHigh(MemoryRunStore):
    """The declared limit of a value is a little higher than the real one."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        most = self.capabilities.max_value_bytes or 0
        self.capabilities = replace(self.capabilities, max_value_bytes=most + 100)


class _NoHistory(MemoryRunStore):
    """Keeps no events, and says so."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.capabilities = replace(self.capabilities, history=False)

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Any]:
        return Page(())


class _HistoryUndeclared(MemoryRunStore):
    """Keeps events, and says that it does not."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.capabilities = replace(self.capabilities, history=False)


class _RefusesWhenBusy(MemoryRunStore):
    """A commit during another commit of other documents is told to be a conflict."""

    busy: frozenset[str] = frozenset()

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        if self.busy - {change.run_id for change in changes}:
            found = [self._find(change.kind, change.run_id) for change in changes]
            return [Committed(applied=False, stored=None if d is None else d.stored()) for d in found]
        self.busy = frozenset(change.run_id for change in changes)
        try:
            await turns(1)
            return await super().commit(changes)
        finally:
            self.busy = frozenset()


class _Deadlocks(MemoryRunStore):
    """A call locks its documents one by one, and gives up where another call has one of them."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._locked: set[tuple[str, str]] = set()

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        if len(changes) == 1:
            return await super().commit(changes)
        mine: set[tuple[str, str]] = set()
        try:
            for change in changes:
                if (change.kind, change.run_id) in self._locked:
                    raise UnknownOutcome("two calls wait for each other")
                self._locked.add((change.kind, change.run_id))
                mine.add((change.kind, change.run_id))
                await turns(1)
            return await super().commit(changes)
        finally:
            self._locked -= mine


class _EventsBeforeTheHead(MemoryRunStore):
    """Events are written before the head is compared, and taken back by their numbers after a conflict."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        await turns(1)
        results = await super().commit(changes)
        for change, result in zip(changes, results, strict=True):
            document = self._find(change.kind, change.run_id)
            for event in change.events:
                if not result.applied and document is not None:
                    document.events.pop(event.seq, None)
        return results


mutants = (
    mutant("store-kind-never-due", "store.kinds.all-are-documents", store=_KindNeverDue),
    mutant("store-version-of-content", "store.commit.versions-never-return", store=_VersionOfContent),
    mutant("store-version-counts", "store.commit.versions-end-with-the-document", store=_VersionCounts),
    mutant("store-kind-and-id-joined", "store.kinds.hostile-ids", store=_KindAndIdJoined),
    mutant("store-driver-error-passes", "store.kinds.what-is-no-id", store=_DriverErrorPasses),
    mutant("store-limit-half-a-call", "store.limits.value-beyond-the-limit", store=_HalfACall),
    mutant("store-limit-declared-too-high", "store.limits.value-up-to-the-limit", store=_DeclaredTooHigh),
    mutant("store-bad-event-half-applied", "store.history.no-json-is-refused", store=_BadEventHalfApplied),
    replace(
        mutant("store-history-undeclared", "store.history.none-without", store=_HistoryUndeclared),
        base=lambda: broken("memory without history", store=_NoHistory),
    ),
    mutant("store-commits-cross", "store.concurrency.each-its-own", store=_RefusesWhenBusy),
    mutant("store-call-is-one-lock", "store.concurrency.overlapping-calls", store=_Deadlocks),
    mutant("store-events-of-late-writers", "store.concurrency.history-of-many", store=_EventsBeforeTheHead),
)
