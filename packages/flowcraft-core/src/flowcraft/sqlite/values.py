"""Large values in SQLite: a table of their own, in the same file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial

from flowcraft.errors import PayloadTooLarge
from flowcraft.model import run_address
from flowcraft.sqlite.database import Database

__all__ = ["SqliteValueStore"]

# Made when it is first needed: a file whose runs offload nothing has no such table, whatever its version.
_TABLE = """CREATE TABLE IF NOT EXISTS large_values (
    run TEXT NOT NULL, key TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (run, key))"""
_PUT = "INSERT INTO large_values (run, key, data) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_GET = "SELECT data FROM large_values WHERE run = ? AND key = ?"
_DELETE = "DELETE FROM large_values WHERE run = ?"


class SqliteValueStore:
    """See `ValueStore`. Belongs to its `SqliteBackend`, which opens and closes the file.

    A value is read only when it is asked for, so it costs the run's other values nothing; a commit stays small.
    """

    #: https://www.sqlite.org/limits.html#max_length, less what else is in the row.
    max_value_bytes: int | None = 999_000_000

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, key: str, data: bytes) -> None:
        """See the protocol."""
        if self.max_value_bytes is not None and len(data) > self.max_value_bytes:
            raise PayloadTooLarge(f"a value has {len(data):,} bytes, the limit is {self.max_value_bytes:,}")
        await self._database.write(partial(_put, key, data), durable=True)

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """See the protocol."""
        return await self._database.read(partial(_get_many, tuple(keys)))

    async def delete_run(self, run_id: str) -> None:
        """See the protocol."""
        await self._database.write(partial(_delete, run_address(run_id)), durable=True)


def _put(key: str, data: bytes, connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(_PUT, (key.partition("/")[0], key, data))


def _get_many(keys: Sequence[str], connection: sqlite3.Connection) -> dict[str, bytes]:
    if not _exists(connection):
        return {}
    rows = ((key, connection.execute(_GET, (key.partition("/")[0], key)).fetchone()) for key in keys)
    return {key: row[0] for key, row in rows if row is not None}


def _delete(run: str, connection: sqlite3.Connection) -> None:
    if _exists(connection):
        connection.execute(_DELETE, (run,))


def _exists(connection: sqlite3.Connection) -> bool:
    sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'large_values'"
    return connection.execute(sql).fetchone() is not None
