"""Deduplicated starts: a key that belongs to the run that was started with it first.

The key is a document of the kind ``dedup`` in the run store. It is taken *before* the run is made, together with all
that the run will be made of; so whoever finds a key without its run, because a process died in between, makes that very
run. Afterwards the document says that the run was made: one that retention has removed is not one that never was.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, Literal

from flowcraft.checks import check_number, requested_id
from flowcraft.documents import Documents
from flowcraft.errors import AdapterError, DefinitionError, FlowcraftError, InvalidRequest, SerializationError
from flowcraft.model import RUN_INPUT, Change, Index, NewRun, RunSummary, StoredHead, ValueKey
from flowcraft.ports import Clock, RunStore
from flowcraft.runstate import Graphs, StoreTime
from flowcraft.starting import Start

__all__ = ["Held", "Keys", "check_dedup"]

_LOG = logging.getLogger("flowcraft.dedup")
#: A key whose run was not reported as made after so many seconds is looked at.
_UNCONFIRMED: Final = 60.0
#: A key without a window lives as long as its run. Whether that is there is looked at after a day, two, four …; a key
#: whose run was not made within a day is given up.
_DAY: Final = 86_400.0
_PAGES_AT_ONCE: Final = 10  # of one tick: a million expired keys must not hold it up


@dataclass(frozen=True, slots=True)
class _Row:
    """The document: whose key it is and until when (None: as long as the run exists)."""

    run_id: str
    fingerprint: str
    blueprint_hash: str
    taken_at: float
    expires: float | None
    context: tuple[str, ...] = ()  # the names of what is stored beside it, until the run is made
    made: bool = False

    def to_bytes(self) -> bytes:
        row = [
            1,
            self.run_id,
            self.fingerprint,
            self.blueprint_hash,
            self.taken_at,
            self.expires,
            self.context,
            self.made,
        ]
        return json.dumps(row, separators=(",", ":")).encode()

    @staticmethod
    def from_bytes(data: bytes) -> _Row:
        row = json.loads(data)
        if row[0] != 1:
            raise SerializationError(f"a dedup key was written by another version of Flowcraft: {row[0]!r}")
        _, run_id, fingerprint, blueprint_hash, taken_at, expires, context, made = row
        return _Row(run_id, fingerprint, blueprint_hash, taken_at, expires, tuple(context), made)

    @property
    def value_keys(self) -> tuple[ValueKey, ...]:
        return () if self.made else (RUN_INPUT, *(ValueKey("context", name) for name in self.context))

    def index(self, now: float) -> Index:
        if self.made:
            look = self.expires if self.expires is not None else now + max(_DAY, now - self.taken_at)
            return Index("made", look, now)
        soon = self.taken_at + _UNCONFIRMED
        return Index("taken", soon if self.expires is None else min(soon, self.expires), now)


@dataclass(frozen=True, slots=True)
class Held:
    """The run that a key belongs to. ``start``: what to make it of, if it is not there yet."""

    key: str
    run_id: str
    token: str
    start: Start | None


def check_dedup(key: object, window: object) -> None:
    """Make sure that these may be a key and its window in seconds.

    Raises:
        InvalidRequest: they may not.
    """
    if key is None:
        if window is not None:
            raise InvalidRequest("dedup_window belongs to a dedup_key, and there is none")
        return
    requested_id(key, "dedup key")
    if window is not None:
        try:
            check_number(window, "dedup_window", above=0.0)
        except DefinitionError as error:
            raise InvalidRequest(str(error)) from error


class Keys:
    """The keys of one store. Any number of processes may take, and tidy, at once."""

    def __init__(
        self,
        store: RunStore,
        clock: Clock,
        time: StoreTime,
        graphs: Graphs,
        *,
        mint: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._store = store
        self._documents = Documents(store, clock, "dedup")
        self._time = time
        self._graphs = graphs
        self._mint = mint

    async def take(self, key: str, window: float | None, start: Start) -> Held:
        """Take the key for this start, or find the start that has it. The blueprint has been stored before.

        Raises:
            Misconfigured: the run of the key was not made, and its blueprint is not in the store.
        """
        token = self._mint()
        while True:
            if self._time.stale:
                await self._time.sync()
            stored = await self._documents.load(key)
            now = self._time.now()
            if stored is not None and stored.token != token:
                row = _Row.from_bytes(stored.head)
                state = "free" if _expired(row, now) else await self._state(row)
                if state == "made":
                    return Held(key, row.run_id, stored.token, None)
                if state == "taken":
                    first = await self._first(key, stored, row)
                    if first is None:
                        continue  # somebody was quicker
                    return Held(key, row.run_id, stored.token, first)
            expires = None if window is None else now + window
            names = tuple(sorted(start.context))
            mine = _Row(start.run_id, start.fingerprint, start.graph.content_hash, now, expires, names)
            if (stored is not None and stored.token == token) or await self._write(key, stored, mine, token, start):
                return Held(key, start.run_id, token, start)

    async def made(self, held: Held) -> None:
        """Say that the run is there; if that cannot be said now, `tidy` will."""
        try:
            stored = await self._documents.load(held.key)
            if stored is not None and stored.token == held.token:
                await self._confirm(held.key, stored, self._time.now())
        except AdapterError as error:
            _LOG.warning("a dedup key could not be confirmed: %s", error, extra={"run_id": held.run_id})

    async def give_up(self, held: Held) -> None:
        """Free the key: its run can never be made."""
        await self._documents.delete(held.key, held.token)

    async def tidy(self, now: float) -> None:
        """Remove what has expired, and look at keys whose run may not be there; for the ticker."""
        async with aclosing(self._documents.due(now, pages=_PAGES_AT_ONCE)) as pages:
            async for rows in pages:
                await asyncio.gather(*(self._guarded(row, now) for row in rows))

    async def _guarded(self, row: RunSummary, now: float) -> None:
        try:
            await self._look(row, now)
        except AdapterError:
            raise
        except Exception as error:  # noqa: BLE001 - one key never stops the ticker
            told = error if isinstance(error, FlowcraftError) else type(error).__name__
            _LOG.error("a dedup key could not be looked at: %s", told)

    async def _look(self, summary: RunSummary, now: float) -> None:
        key = summary.run_id
        stored = await self._documents.load(key)
        if stored is None or stored.token != summary.token:
            return
        row = _Row.from_bytes(stored.head)
        state = "free" if _expired(row, now) else await self._state(row)
        abandoned = state == "taken" and row.expires is None and now - row.taken_at >= _DAY
        if state == "free" or abandoned:
            await self._documents.delete(key, stored.token)
        elif state == "made" and not row.made:
            await self._confirm(key, stored, now)
        else:
            later = now + max(_DAY, now - row.taken_at)
            await self._store.defer(key, stored.token, later if row.expires is None else row.expires, kind="dedup")

    async def _state(self, row: _Row) -> Literal["made", "taken", "free"]:
        """``free``: the run was made and is gone, and there is no window; or its id is somebody else's."""
        if row.made and row.expires is not None:
            return "made"
        run = await self._store.load(row.run_id)
        if run is None:
            return "free" if row.made else "taken"
        return "made" if row.made or run.fingerprint == row.fingerprint else "free"

    async def _first(self, key: str, stored: StoredHead, row: _Row) -> Start | None:
        """The start that took the key; None if the key has changed."""
        full = await self._documents.load(key, want=row.value_keys)
        if full is None or full.token != stored.token:
            return None
        graph = await self._graphs.get(row.blueprint_hash)
        context = {name: full.values[ValueKey("context", name)] for name in row.context}
        return Start(graph, row.run_id, row.fingerprint, full.values[RUN_INPUT], context)

    async def _confirm(self, key: str, stored: StoredHead, now: float) -> None:
        row = _Row.from_bytes(stored.head)
        made = replace(row, context=(), made=True)
        change = Change(
            key, stored.version, self._mint(), made.to_bytes(), made.index(now), deleted=row.value_keys, kind="dedup"
        )
        await self._documents.change(change)  # if it was not applied, another process has said so

    async def _write(self, key: str, stored: StoredHead | None, row: _Row, token: str, start: Start) -> bool:
        values: Mapping[ValueKey, bytes] = {
            RUN_INPUT: start.input,
            **{ValueKey("context", name): data for name, data in start.context.items()},
        }
        head, index = row.to_bytes(), row.index(row.taken_at)
        if stored is None:
            return await self._documents.create(
                NewRun(key, row.fingerprint, token, head, index, row.taken_at, values=values, kind="dedup")
            )
        old = _Row.from_bytes(stored.head).value_keys
        gone = [name for name in old if name not in values]
        return await self._documents.change(
            Change(key, stored.version, token, head, index, values=values, deleted=gone, kind="dedup")
        )


def _expired(row: _Row, now: float) -> bool:
    return row.expires is not None and row.expires <= now
