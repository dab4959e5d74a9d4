"""Leases, counters and limits in SQLite: small rows, written without waiting for the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeVar, cast

from flowcraft.errors import InvalidRequest
from flowcraft.sqlite.database import Database
from flowcraft.sqlite.lane import Work
from flowcraft.tokenbucket import check_limit, take_token

__all__ = ["SqliteCoordination"]

_T = TypeVar("_T")
Renewal = Literal["mine", "other", "gone"]

_COUNT = """INSERT INTO texts (key, text, expires) VALUES (?, '1', ?) ON CONFLICT (key) DO UPDATE SET
    text = CASE WHEN expires <= ? THEN '1' ELSE CAST(CAST(text AS INTEGER) + 1 AS TEXT) END,
    expires = CASE WHEN expires <= ? THEN excluded.expires ELSE expires END
    WHERE expires <= ? OR text = CAST(CAST(text AS INTEGER) AS TEXT) RETURNING text"""
_SET = """INSERT INTO texts (key, text, expires) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET text = excluded.text, expires = excluded.expires WHERE expires <= ?"""
_EXTEND = "UPDATE texts SET expires = ? WHERE key = ? AND expires > ?"
_GET = "SELECT text FROM texts WHERE key = ? AND expires > ?"
_CLAIM = """INSERT INTO leases (key, owner, expires) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    owner = excluded.owner, expires = excluded.expires, revoked = 0
    WHERE expires <= ? OR (owner = excluded.owner AND revoked = 0)"""
_RENEW = "UPDATE leases SET expires = ? WHERE key = ? AND owner = ? AND expires > ? AND revoked = 0"
_HOLDER = "SELECT owner FROM leases WHERE key = ? AND expires > ?"
_SLOT = """INSERT INTO slots (key, holder, expires) SELECT ?, ?, ? WHERE
    EXISTS (SELECT 1 FROM slots WHERE key = ? AND holder = ? AND expires > ?)
    OR (SELECT count(*) FROM slots WHERE key = ? AND expires > ?) < ?
    ON CONFLICT (key, holder) DO UPDATE SET expires = excluded.expires"""
_BUCKET = """INSERT INTO buckets (key, expires) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET expires = excluded.expires"""
_SWEEPS = (
    "DELETE FROM texts WHERE key IN (SELECT key FROM texts WHERE expires <= ? ORDER BY expires LIMIT 500)",
    "DELETE FROM leases WHERE key IN (SELECT key FROM leases WHERE expires <= ? ORDER BY expires LIMIT 500)",
    "DELETE FROM buckets WHERE key IN (SELECT key FROM buckets WHERE expires <= ? ORDER BY expires LIMIT 500)",
    "DELETE FROM slots WHERE expires <= ?",
)
_SWEEP_EVERY = 256  # writes; fewer entries than a sweep removes can have been added meanwhile


class SqliteCoordination:
    """See the protocol. Times are of the machine's clock. Survives the processes, but maybe not a power cut.

    A revoked lease belongs to nobody new until its time is over or its holder releases it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._now = database.clock.time
        self._writes = 0

    async def setup(self) -> None:
        """Nothing: opening the file made the tables."""

    async def aclose(self) -> None:
        """Nothing: the file belongs to the backend."""

    async def increment(self, key: str, ttl_seconds: float) -> int:
        """See the protocol. A key that holds other text is refused with `InvalidRequest`."""
        now = self._now()
        return await self._write(partial(_increment, key, now, now + ttl_seconds))

    async def set_if_not_exist(self, key: str, value: str, ttl_seconds: float) -> bool:
        """See the protocol."""
        now = self._now()
        return await self._write(partial(_hit, _SET, (key, value, now + ttl_seconds, now)))

    async def extend_ttl(self, key: str, ttl_seconds: float) -> bool:
        """See the protocol."""
        now = self._now()
        return await self._write(partial(_hit, _EXTEND, (now + ttl_seconds, key, now)))

    async def get(self, key: str) -> str | None:
        """See the protocol."""
        return await self._database.read(partial(_first, _GET, (key, self._now())))

    async def delete(self, key: str) -> None:
        """See the protocol."""
        await self._write(partial(_hit, "DELETE FROM texts WHERE key = ?", (key,)))

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        """See the protocol."""
        return await self._write(partial(_claim, tuple(keys), owner, self._now, ttl))

    async def renew(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[Renewal]:
        """See the protocol."""
        return await self._write(partial(_renew, tuple(keys), owner, self._now, ttl))

    async def release(self, keys: Sequence[str], owner: str) -> None:
        """See the protocol."""
        sql = "DELETE FROM leases WHERE key = ? AND owner = ?"
        await self._write(partial(_each, sql, [(key, owner) for key in keys]))

    async def holders(self, keys: Sequence[str]) -> Sequence[str | None]:
        """See the protocol. The holder of a revoked lease is still named: it may still be at work."""
        now, names = self._now(), tuple(keys)
        return await self._database.read(lambda c: [_first(_HOLDER, (key, now), c) for key in names])

    async def revoke(self, keys: Sequence[str]) -> None:
        """See the protocol."""
        await self._write(partial(_each, "UPDATE leases SET revoked = 1 WHERE key = ?", [(key,) for key in keys]))

    async def acquire_slot(self, key: str, holder: str, limit: int, ttl: float) -> bool:
        """See the protocol."""
        return await self._write(partial(_acquire_slot, key, holder, limit, self._now, ttl))

    async def release_slot(self, key: str, holder: str) -> None:
        """See the protocol."""
        await self._write(partial(_hit, "DELETE FROM slots WHERE key = ? AND holder = ?", (key, holder)))

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        """See the protocol. At most ``burst`` tokens are saved up."""
        check_limit(rate, per, burst)
        return await self._write(partial(_take_token, key, self._now(), per / rate, burst))

    async def _write(self, work: Work[_T]) -> _T:
        self._writes += 1
        if self._writes % _SWEEP_EVERY == 0:
            self._database.write_soon(partial(_sweep, self._now()))
        return await self._database.write(work)


def _hit(statement: str, row: tuple[object, ...], connection: sqlite3.Connection) -> bool:
    return connection.execute(statement, row).rowcount > 0


def _each(statement: str, rows: Sequence[tuple[str, ...]], connection: sqlite3.Connection) -> None:
    connection.executemany(statement, rows)


def _first(statement: str, row: tuple[object, ...], connection: sqlite3.Connection) -> str | None:
    found = connection.execute(statement, row).fetchone()
    return None if found is None else cast("str", found[0])


def _increment(key: str, now: float, expires: float, connection: sqlite3.Connection) -> int:
    rows = connection.execute(_COUNT, (key, expires, now, now, now)).fetchall()
    if not rows:
        raise InvalidRequest(f"the key {key!r} holds no number")
    return int(rows[0][0])


# A lease lasts from when it is written: the file may have been another process's for longer than the lease lasts.
def _claim(
    keys: Sequence[str], owner: str, clock: Callable[[], float], ttl: float, connection: sqlite3.Connection
) -> list[bool]:
    now = clock()
    return [connection.execute(_CLAIM, (key, owner, now + ttl, now)).rowcount > 0 for key in keys]


def _renew(
    keys: Sequence[str], owner: str, clock: Callable[[], float], ttl: float, connection: sqlite3.Connection
) -> list[Renewal]:
    now = clock()

    def renew(key: str) -> Renewal:
        if connection.execute(_RENEW, (now + ttl, key, owner, now)).rowcount > 0:
            return "mine"
        return "gone" if _first(_HOLDER, (key, now), connection) is None else "other"

    return [renew(key) for key in keys]


def _acquire_slot(
    key: str, holder: str, limit: int, clock: Callable[[], float], ttl: float, connection: sqlite3.Connection
) -> bool:
    now = clock()
    return _hit(_SLOT, (key, holder, now + ttl, key, holder, now, key, now, limit), connection)


def _take_token(key: str, now: float, interval: float, burst: int, connection: sqlite3.Connection) -> float:
    row = connection.execute("SELECT expires FROM buckets WHERE key = ?", (key,)).fetchone()
    full_at, wait = take_token(None if row is None else row[0], now, interval, burst)
    if wait == 0.0:
        connection.execute(_BUCKET, (key, full_at))
    return wait


def _sweep(now: float, connection: sqlite3.Connection) -> None:
    for statement in _SWEEPS:
        connection.execute(statement, (now,))
