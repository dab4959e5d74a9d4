"""Run stores that do one thing wrong when they list documents or tell what happened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from string import hexdigits
from typing import Any

from flowcraft.conformance.mutants.breaking import broken, mutant
from flowcraft.conformance.mutants.store_due import Rows
from flowcraft.errors import InvalidRequest, Unavailable
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Change, Committed, Event, Page, RunSummary
from flowcraft.paging import decode_list, encode_cursor

__all__ = ["mutants"]


class _ListOtherwise(MemoryRunStore):
    """Changes a page of a listing."""

    async def list(self, *, limit: int = 100, after: str | None = None, **asked: Any) -> Rows:
        return self.otherwise(await super().list(limit=limit, after=after, **asked), asked.get("kind", "run"))

    def otherwise(self, page: Rows, kind: str) -> Rows:
        """The page that is told."""
        raise NotImplementedError


class _OldestFirst(_ListOtherwise):
    """Documents are listed oldest first, a page at a time."""

    def otherwise(self, page: Rows, kind: str) -> Rows:
        return Page(page.items[::-1], page.after)


class _LatestUpdateFirst(_ListOtherwise):
    """Documents are listed by their last update."""

    def otherwise(self, page: Rows, kind: str) -> Rows:
        return Page(tuple(sorted(page.items, key=lambda row: -row.updated_at)), page.after)


class _RowsOfCreation(_ListOtherwise):
    """Rows of a listing tell token and times as they were at the creation."""

    def otherwise(self, page: Rows, kind: str) -> Rows:
        rows: list[RunSummary] = []
        for row in page.items:
            document = self._find(kind, row.run_id)
            made = row if document is None else replace(row, updated_at=document.new.index.updated_at)
            rows.append(made)
        return Page(tuple(rows), page.after)


class _ListTiesLost(_ListOtherwise):
    """The cursor after a page of one row is a time, so what was created at the same time is skipped."""

    def otherwise(self, page: Rows, kind: str) -> Rows:
        if page.after is None or len(page.items) > 1:
            return page
        return Page(page.items, encode_cursor(decode_list(page.after)[0], 0))


class _ListFiltered(MemoryRunStore):
    """Filters rows itself."""

    def fits(self, row: RunSummary, kind: str, status: str | None, blueprint_id: str | None) -> bool:
        """Whether a row is listed."""
        raise NotImplementedError

    async def list(
        self,
        *,
        kind: str = "run",
        status: str | None = None,
        blueprint_id: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Rows:
        rows: list[RunSummary] = []
        while len(rows) < limit:
            page = await super().list(kind=kind, limit=1, after=after)
            rows += [row for row in page.items if self.fits(row, kind, status, blueprint_id)]
            after = page.after
            if after is None:
                break
        return Page(tuple(rows), after)


class _IgnoresBlueprint(_ListFiltered):
    """A listing by status and blueprint is one by status."""

    def fits(self, row: RunSummary, kind: str, status: str | None, blueprint_id: str | None) -> bool:
        return row.status == status if status is not None else blueprint_id in (None, row.blueprint_id)


class _StaleStatus(_ListFiltered):
    """A document is listed under the status of the commit before the last, too."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._before: dict[str, str] = {}

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        for change in changes:
            document = self._find(change.kind, change.run_id)
            if document is not None and document.token == change.version:
                self._before[change.run_id] = document.index.status
        return await super().commit(changes)

    def fits(self, row: RunSummary, kind: str, status: str | None, blueprint_id: str | None) -> bool:
        good = status in (None, row.status, self._before.get(row.run_id, row.status))
        return good and blueprint_id in (None, row.blueprint_id)


class _ByOffset(MemoryRunStore):
    """The cursor of a listing counts rows from the newest."""

    async def list(self, *, limit: int = 100, after: str | None = None, **asked: Any) -> Rows:
        page = await super().list(limit=100_000, **asked)
        if after is not None and not after.isdecimal():
            raise InvalidRequest("not a cursor of this listing")
        start = int(after or 0)
        rest = len(page.items) > start + limit
        return Page(page.items[start : start + limit], str(start + limit) if rest else None)


class _ListMixesKinds(MemoryRunStore):
    """A listing of leases has dedup keys, too."""

    async def list(self, *, kind: str = "run", **asked: Any) -> Rows:
        page = await super().list(kind=kind, **asked)
        if kind != "lease" or page.after is not None:
            return page
        return Page((*page.items, *(await super().list(kind="dedup")).items))


class _CursorErrorPasses(MemoryRunStore):
    """What the driver says of a cursor that it cannot read is let through."""

    async def list(self, **asked: Any) -> Rows:
        try:
            return await super().list(**asked)
        except InvalidRequest as error:
            raise ValueError("no cursor") from error


class _CursorIsAKey(MemoryRunStore):
    """A cursor in hex is taken for a key, and one beyond the longest key for trouble of the backend."""

    async def list(self, *, after: str | None = None, **asked: Any) -> Rows:
        if after is not None and len(after) > 1022 and set(after) <= set(hexdigits):
            raise Unavailable("the key is too long")
        return await super().list(after=after, **asked)


class _Lags(MemoryRunStore):
    """A listing shows how things were up to half a second ago."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._seen: dict[str, tuple[float, Rows]] = {}

    async def list(self, **asked: Any) -> Rows:
        at, page = self._seen.get(repr(asked), (-math.inf, Page(())))
        if self._clock.monotonic() - at >= 0.5:
            page = await super().list(**asked)
            self._seen[repr(asked)] = (self._clock.monotonic(), page)
        return page


class _HistoryOtherwise(MemoryRunStore):
    """Changes a page of events."""

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Event]:
        return self.otherwise(await super().read_events(run_id, after_seq, limit), after_seq)

    def otherwise(self, page: Page[Event], after_seq: int) -> Page[Event]:
        """The page that is told."""
        raise NotImplementedError


class _NewestFirst(_HistoryOtherwise):
    """Events of a page are told newest first."""

    def otherwise(self, page: Page[Event], after_seq: int) -> Page[Event]:
        return Page(page.items[::-1], page.after)


class _TellsTheLastAgain(MemoryRunStore):
    """Who asks for what came after the last event gets the last event."""

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Event]:
        page = await super().read_events(run_id, after_seq, limit)
        return page if page.items or not after_seq else await super().read_events(run_id, after_seq - 1, limit)


class _FloatsCut(_HistoryOtherwise):
    """Times of events are told in milliseconds."""

    def otherwise(self, page: Page[Event], after_seq: int) -> Page[Event]:
        return Page(tuple(replace(row, at=round(row.at, 3)) for row in page.items), page.after)


class _DropsHead(_HistoryOtherwise):
    """What an event carries for the core is not told."""

    def otherwise(self, page: Page[Event], after_seq: int) -> Page[Event]:
        return Page(tuple(row.told() for row in page.items), page.after)


class _Gap(_HistoryOtherwise):
    """A page of events after a full one begins one event too late."""

    def otherwise(self, page: Page[Event], after_seq: int) -> Page[Event]:
        return Page(page.items[1:], page.after) if after_seq and page.items and page.after else page


class _HistoryFirstHundred(_HistoryOtherwise):
    """A page of events has 500 at most, and is then said to be the last."""

    def otherwise(self, page: Page[Event], after_seq: int) -> Page[Event]:
        return Page(page.items[:500], None if len(page.items) > 500 else page.after)


class _KeepsHints(_HistoryOtherwise):
    """Hints are part of the history."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._hints: list[Event] = []

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        self._hints += [event for change in changes for event in change.events if event.seq == 0]
        return await super().commit(changes)

    def otherwise(self, page: Page[Event], after_seq: int) -> Page[Event]:
        return page if after_seq else Page((*self._hints, *page.items), page.after)


class _LeaksAcrossRuns(MemoryRunStore):
    """The history is that of the first run whose id begins like the one that was asked for."""

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Event]:
        runs = self._kinds["run"].documents if "run" in self._kinds else {}
        first = next((name for name in runs if name.startswith(run_id)), run_id)
        return await super().read_events(first, after_seq, limit)


mutants = (
    mutant("store-list-oldest-first", "store.list.newest-first", store=_OldestFirst),
    mutant("store-list-latest-update-first", "store.list.newest-first", store=_LatestUpdateFirst),
    mutant("store-list-rows-of-creation", "store.list.rows", store=_RowsOfCreation),
    mutant("store-list-ties-lost", "store.list.ties", store=_ListTiesLost),
    mutant("store-list-ignores-blueprint", "store.list.by-status-and-blueprint", store=_IgnoresBlueprint),
    mutant("store-list-stale-status", "store.list.follows-commits", store=_StaleStatus),
    mutant("store-list-by-offset", "store.list.lasting-once", store=_ByOffset),
    mutant("store-list-mixes-kinds", "store.list.by-kind", store=_ListMixesKinds),
    mutant("store-cursor-error-passes", "store.list.cursors-are-input", store=_CursorErrorPasses),
    mutant("store-cursor-is-a-key", "store.list.cursors-are-input", store=_CursorIsAKey),
    replace(
        mutant("store-list-lags", "store.list.own-commits-at-once", store=_Lags),
        target=lambda: replace(broken("store-list-lags", store=_Lags), settle=1.0),
    ),
    mutant("store-history-newest-first", "store.history.in-order", store=_NewestFirst),
    mutant("store-history-tells-the-last-again", "store.history.in-order", store=_TellsTheLastAgain),
    mutant("store-history-floats-cut", "store.history.as-it-was", store=_FloatsCut),
    mutant("store-history-drops-head", "store.history.as-it-was", store=_DropsHead),
    mutant("store-history-gap", "store.history.pages", store=_Gap),
    mutant("store-history-first-500", "store.history.long", store=_HistoryFirstHundred),
    mutant("store-keeps-hints", "store.history.hints-are-not-stored", store=_KeepsHints),
    mutant("store-history-leaks-across-runs", "store.history.of-their-run", store=_LeaksAcrossRuns),
)
