"""The reads of the run store: functions of one connection on one snapshot.

``INDEXED BY`` is a promise: a statement that could not use its index would fail instead of scanning.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, cast

from flowcraft.model import Event, Index, Page, RunSummary, Space, StoredHead, ValueKey
from flowcraft.paging import due_cursor, encode_cursor, page_of

__all__ = ["DUE", "EVENTS", "HEAD", "LISTS", "VALUE", "VALUES_OF_SPACE"]

_SUMMARY = "id, status, blueprint_id, blueprint_hash, created_at, updated_at, wake_at, token, doc"

HEAD = """SELECT doc, id, head, token, status, wake_at, updated_at, fingerprint
    FROM documents INDEXED BY documents_id WHERE kind = ? AND id = ?"""
VALUE = "SELECT data FROM run_values WHERE doc = ? AND space = ? AND name = ? AND visit = ?"
VALUES_OF_SPACE = "SELECT name, visit, data FROM run_values WHERE doc = ? AND space = ?"
EVENTS = "SELECT seq, body FROM events WHERE doc = ? AND seq > ? ORDER BY seq LIMIT ?"
DUE = f"""SELECT {_SUMMARY} FROM documents INDEXED BY documents_due
    WHERE kind = ? AND wake_at <= ? AND (wake_at, id) > (?, ?) ORDER BY wake_at, id LIMIT ?"""  # noqa: S608 -- our own column names


def _list(index: str, condition: str) -> str:
    return f"""SELECT {_SUMMARY} FROM documents INDEXED BY {index}
    WHERE kind = ?{condition} AND (created_at, doc) < (?, ?) ORDER BY created_at DESC, doc DESC LIMIT ?"""  # noqa: S608 -- our own names


#: By (status given, blueprint id given). With both, the status finds and the blueprint filters.
LISTS = {
    (False, False): _list("documents_created", ""),
    (True, False): _list("documents_status", " AND status = ?"),
    (False, True): _list("documents_blueprint", " AND blueprint_id = ?"),
    (True, True): _list("documents_status", " AND status = ? AND +blueprint_id = ?"),
}


def ping(connection: sqlite3.Connection) -> None:
    """Touch the file."""
    connection.execute("PRAGMA user_version").fetchone()


def load(kind: str, run_id: str, want: Sequence[ValueKey], connection: sqlite3.Connection) -> StoredHead | None:
    """The document with the wanted values that exist."""
    row = connection.execute(HEAD, (kind, run_id)).fetchone()
    if row is None:
        return None
    values = {key: data for key in want if (data := _value(connection, row[0], key)) is not None}
    return StoredHead(row[1], row[2], row[3], row[3], Index(row[4], row[5], row[6]), values, fingerprint=row[7])


def read_values(
    run_id: str, keys: Sequence[ValueKey], space: Space | None, connection: sqlite3.Connection
) -> dict[ValueKey, bytes]:
    """The values that exist among the keys, or all of a space."""
    doc = _number_of(connection, run_id)
    if doc is None:
        return {}
    if space is None:
        return {key: data for key in keys if (data := _value(connection, doc, key)) is not None}
    rows = connection.execute(VALUES_OF_SPACE, (doc, space))
    return {ValueKey(space, name, visit): data for name, visit, data in rows}


def due(
    kind: str, now: float, after: tuple[float, str], limit: int, connection: sqlite3.Connection
) -> Page[RunSummary]:
    """One page of due documents."""
    rows = connection.execute(DUE, (kind, now, *after, limit + 1))
    return page_of([_summary(row) for row in rows], limit, due_cursor)


def list_documents(
    kind: str,
    status: str | None,
    blueprint_id: str | None,
    before: tuple[float, int],
    limit: int,
    connection: sqlite3.Connection,
) -> Page[RunSummary]:
    """One page of documents, newest first."""
    statement = LISTS[status is not None, blueprint_id is not None]
    conditions = [value for value in (status, blueprint_id) if value is not None]
    rows = connection.execute(statement, (kind, *conditions, *before, limit + 1)).fetchall()
    page = page_of(rows, limit, lambda row: encode_cursor(row[4], row[8]))
    return Page(tuple(_summary(row) for row in page.items), page.after)


def read_events(run_id: str, after_seq: int, limit: int, connection: sqlite3.Connection) -> Page[Event]:
    """One page of a run's history."""
    doc = _number_of(connection, run_id)
    if doc is None:
        return Page(())
    rows = connection.execute(EVENTS, (doc, after_seq, limit + 1)).fetchall()
    page = page_of(rows, limit, lambda row: str(row[0]))
    return Page(tuple(Event.from_json(run_id, seq, body) for seq, body in page.items), page.after)


def load_blueprint(content_hash: str, connection: sqlite3.Connection) -> bytes | None:
    """The stored blueprint."""
    row = connection.execute("SELECT data FROM blueprints WHERE hash = ?", (content_hash,)).fetchone()
    return None if row is None else cast("bytes", row[0])


def _number_of(connection: sqlite3.Connection, run_id: str) -> int | None:
    row = connection.execute("SELECT doc FROM documents WHERE kind = 'run' AND id = ?", (run_id,)).fetchone()
    return None if row is None else cast("int", row[0])


def _value(connection: sqlite3.Connection, doc: int, key: ValueKey) -> bytes | None:
    row = connection.execute(VALUE, (doc, *key)).fetchone()
    return None if row is None else cast("bytes", row[0])


def _summary(row: tuple[Any, ...]) -> RunSummary:
    return RunSummary(*row[:8])
