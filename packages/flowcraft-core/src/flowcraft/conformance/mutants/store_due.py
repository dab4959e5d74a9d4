"""Run stores that do one thing wrong with what is due."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flowcraft.conformance.mutants.breaking import mutant
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Change, Committed, Index, NewRun, Page, RunSummary
from flowcraft.paging import decode_due, encode_cursor

__all__ = ["Rows", "mutants"]


Rows = Page[RunSummary]


class _DueOtherwise(MemoryRunStore):
    """Changes a page of what is due."""

    async def due(self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None) -> Rows:
        return self.otherwise(await super().due(now, kind=kind, limit=limit, after=after), now, kind, limit, after)

    def otherwise(self, page: Rows, now: float, kind: str, limit: int, after: str | None) -> Rows:
        """The page that is told."""
        raise NotImplementedError


class _WholeSeconds(_DueOtherwise):
    """What is due comes in the order of whole seconds, and then of ids."""

    def otherwise(self, page: Rows, now: float, kind: str, limit: int, after: str | None) -> Rows:
        return Page(tuple(sorted(page.items, key=lambda row: (int(row.wake_at or 0.0), row.run_id))), page.after)


class _LastRowLost(_DueOtherwise):
    """A last page with one row is taken for none."""

    def otherwise(self, page: Rows, now: float, kind: str, limit: int, after: str | None) -> Rows:
        return Page(()) if after is not None and limit > 1 and len(page.items) == 1 else page


class _PagesRepeat(_DueOtherwise):
    """The next page of what is due begins with the last row of the one before."""

    def otherwise(self, page: Rows, now: float, kind: str, limit: int, after: str | None) -> Rows:
        if page.after is None or len(page.items) < 2:
            return page
        row = page.items[-2]
        return Page(page.items, encode_cursor(row.wake_at or 0.0, row.run_id))


class _TiesLost(_DueOtherwise):
    """The cursor of what is due is a time, so what is due at the same time is skipped."""

    def otherwise(self, page: Rows, now: float, kind: str, limit: int, after: str | None) -> Rows:
        return page if page.after is None else Page(page.items, encode_cursor(decode_due(page.after)[0], "\U0010ffff"))


class _FirstHundred(_DueOtherwise):
    """What is due is a hundred rows at most, and who asked for more is told that there are no more."""

    def otherwise(self, page: Rows, now: float, kind: str, limit: int, after: str | None) -> Rows:
        return page if limit <= 100 else Page(page.items[:100])


class _MixesKinds(_DueOtherwise):
    """Where nothing of a kind is due, the runs that are due are told."""

    def otherwise(self, page: Rows, now: float, kind: str, limit: int, after: str | None) -> Rows:
        if page.items or kind in {"run", "lease"}:
            return page
        found = self._kinds["run"].due(now, decode_due(after)) if "run" in self._kinds else ()
        return Page(tuple(document.summary() for document in found))


class _Stale(_DueOtherwise):
    """A document stays due under the times that it had before."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._earlier: dict[tuple[str, str], float] = {}

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        for change in changes:
            document, key = self._find(change.kind, change.run_id), (change.kind, change.run_id)
            if document is not None and change.index.wake_at is not None and document.token == change.version:
                self._earlier[key] = min(change.index.wake_at, self._earlier.get(key, math.inf))
        return await super().commit(changes)

    def otherwise(self, page: Rows, now: float, kind: str, limit: int, after: str | None) -> Rows:
        there = {row.run_id for row in page.items}
        old = [
            document.summary()
            for (of, run_id), at in self._earlier.items()
            if of == kind and at <= now and run_id not in there and (document := self._find(of, run_id)) is not None
        ]
        return page if after is not None else Page((*old, *page.items), page.after)


class _Duplicates(_DueOtherwise):
    """A document whose time went back and forth is told several times."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._times: dict[str, list[float | None]] = {}

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        for change in changes:
            if change.kind == "run":
                self._times.setdefault(change.run_id, []).append(change.index.wake_at)
        return await super().commit(changes)

    def otherwise(self, page: Rows, now: float, kind: str, limit: int, after: str | None) -> Rows:
        rows = [
            row for row in page.items for _ in range(max(1, self._times.get(row.run_id, []).count(row.wake_at) - 1))
        ]
        return Page(tuple(rows), page.after)


class _Exclusive(MemoryRunStore):
    """What is due exactly now is told later."""

    async def due(self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None) -> Rows:
        return await super().due(math.nextafter(now, -math.inf), kind=kind, limit=limit, after=after)


class _Late(MemoryRunStore):
    """A due time is rounded up to a millisecond."""

    async def create(self, new: NewRun) -> Any:
        at = new.index.wake_at
        up = None if at is None else math.ceil(at * 1000) / 1000
        return await super().create(replace(new, index=Index(new.index.status, up, new.index.updated_at)))


class _IgnoresDefer(MemoryRunStore):
    """A deferral changes the document, and not the index."""

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        document = self._find(kind, run_id)
        return document is not None and document.token == token


class _DeferOnlyLater(MemoryRunStore):
    """A deferral never makes a document due earlier."""

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        document = self._find(kind, run_id)
        before = None if document is None else document.index.wake_at
        return await super().defer(run_id, token, max(wake_at, before or 0.0), kind=kind)


class _DeferUpdates(MemoryRunStore):
    """A deferral counts as an update."""

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        deferred = await super().defer(run_id, token, wake_at, kind=kind)
        document = self._find(kind, run_id)
        if deferred and document is not None:
            document.index = replace(document.index, updated_at=self._clock.time())
        return deferred


class _DeferAnyToken(MemoryRunStore):
    """A deferral does not look at the token."""

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        document = self._find(kind, run_id)
        return await super().defer(run_id, token if document is None else document.token, wake_at, kind=kind)


class _DeferMakesAVersion(MemoryRunStore):
    """A deferral is a change of its own: what was loaded before it is refused."""

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        deferred = await super().defer(run_id, token, wake_at, kind=kind)
        document = self._find(kind, run_id)
        if deferred and document is not None:
            document.token += "'"
        return deferred


mutants = (
    mutant("store-due-by-whole-seconds", "store.due.earliest-first", store=_WholeSeconds),
    mutant("store-due-last-row-lost", "store.due.pages", store=_LastRowLost),
    mutant("store-due-pages-repeat", "store.due.pages", store=_PagesRepeat),
    mutant("store-due-ties-lost", "store.due.ties", store=_TiesLost),
    mutant("store-due-first-hundred", "store.due.large-backlog", store=_FirstHundred),
    mutant("store-due-mixes-kinds", "store.due.by-kind", store=_MixesKinds),
    mutant("store-due-stale", "store.due.follows-commits", store=_Stale),
    mutant("store-due-duplicates", "store.due.names-each-once", store=_Duplicates),
    mutant("store-due-exclusive", "store.due.never-late", store=_Exclusive),
    mutant("store-due-late", "store.due.never-late", store=_Late),
    mutant("store-due-ignores-defer", "store.due.defer-moves-the-time", store=_IgnoresDefer),
    mutant("store-defer-only-later", "store.due.defer-moves-the-time", store=_DeferOnlyLater),
    mutant("store-defer-updates", "store.due.defer-moves-only-the-index", store=_DeferUpdates),
    mutant("store-defer-any-token", "store.due.defer-is-fenced", store=_DeferAnyToken),
    mutant("store-defer-makes-a-version", "store.due.defer-moves-only-the-index", store=_DeferMakesAVersion),
)
