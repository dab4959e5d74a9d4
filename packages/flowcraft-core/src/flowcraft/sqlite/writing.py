"""The writes of the run store: functions of one connection inside a transaction of the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from flowcraft.model import Change, Committed, Created, Job, NewRun
from flowcraft.sqlite import reading

__all__ = ["JobRow", "Plan", "commit", "create", "job_rows", "push"]

#: queue, priority, ready, visible_at, body
JobRow = tuple[str, int, int, float, bytes]

_CREATE = """INSERT INTO documents
    (kind, id, token, status, wake_at, updated_at, created_at, fingerprint, blueprint_id, blueprint_hash, head)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, id) DO NOTHING"""
# The status is not set here: naming an indexed column rewrites its indexes, also with the value it had.
_CHANGE = """UPDATE documents SET token = ?, head = ?, wake_at = ?, updated_at = ?
    WHERE kind = ? AND id = ? AND token = ? RETURNING doc, status"""
_STATUS = "UPDATE documents SET status = ? WHERE doc = ?"
_MOVE = "UPDATE documents SET blueprint_id = ?, blueprint_hash = ? WHERE doc = ?"
_SET_VALUE = """INSERT INTO run_values (doc, space, name, visit, data) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (doc, space, name, visit) DO UPDATE SET data = excluded.data"""
_DROP_VALUE = "DELETE FROM run_values WHERE doc = ? AND space = ? AND name = ? AND visit = ?"
_EVENT = "INSERT INTO events (doc, seq, body) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body"
_JOB = "INSERT INTO jobs (queue, priority, ready, visible_at, body) VALUES (?, ?, ?, ?, ?)"
ACK = "DELETE FROM jobs WHERE id = ? AND receipt = ?"


class Plan(NamedTuple):
    """A change with what was encoded before the transaction began."""

    change: Change
    events: list[tuple[int, str]]
    jobs: list[JobRow]
    acks: list[tuple[int, int]]


def job_rows(jobs: Sequence[Job], now: float, delay: float = 0.0) -> list[JobRow]:
    """The rows of messages that are visible ``delay`` seconds from now."""
    ready = 0 if delay > 0 else 1
    return [(job.queue, job.priority, ready, now + max(0.0, delay), job.to_bytes()) for job in jobs]


def push(jobs: Sequence[JobRow], connection: sqlite3.Connection) -> None:
    """Add messages."""
    connection.executemany(_JOB, jobs)


def create(
    new: NewRun, events: Sequence[tuple[int, str]], jobs: Sequence[JobRow], connection: sqlite3.Connection
) -> Created:
    """Insert the document and all that comes with it, unless its id is taken."""
    index = new.index
    row = (
        new.kind, new.run_id, new.token, index.status, index.wake_at, index.updated_at, new.created_at,
        new.fingerprint, new.blueprint_id, new.blueprint_hash, new.head,
    )  # fmt: skip
    cursor = connection.execute(_CREATE, row)
    if cursor.rowcount == 0:
        sql = "SELECT fingerprint, token FROM documents WHERE kind = ? AND id = ?"
        fingerprint, token = connection.execute(sql, (new.kind, new.run_id)).fetchone()
        return Created(made=False, fingerprint=fingerprint, token=token)
    doc = cursor.lastrowid
    if new.values:
        connection.executemany(_SET_VALUE, [(doc, *key, data) for key, data in new.values.items()])
    if events:
        connection.executemany(_EVENT, [(doc, *event) for event in events])
    if jobs:
        push(jobs, connection)
    return Created(made=True, fingerprint=new.fingerprint, token=new.token)


def commit(plans: Sequence[Plan], connection: sqlite3.Connection) -> list[Committed]:
    """Apply each change whose version is still the stored one; the first statement of each decides."""
    return [_apply(plan, connection) for plan in plans]


def _apply(plan: Plan, connection: sqlite3.Connection) -> Committed:
    change, events, jobs, acks = plan
    index = change.index
    row = (change.token, change.head, index.wake_at, index.updated_at, change.kind, change.run_id, change.version)
    found = connection.execute(_CHANGE, row).fetchall()
    if not found:
        return Committed(applied=False, stored=reading.load(change.kind, change.run_id, (), connection))
    doc, status = found[0]
    if status != index.status:
        connection.execute(_STATUS, (index.status, doc))
    if change.blueprint is not None:
        connection.execute(_MOVE, (*change.blueprint, doc))
    if change.deleted:
        connection.executemany(_DROP_VALUE, [(doc, *key) for key in change.deleted])
    if change.values:
        connection.executemany(_SET_VALUE, [(doc, *key, data) for key, data in change.values.items()])
    if events:
        connection.executemany(_EVENT, [(doc, *event) for event in events])
    if acks:
        connection.executemany(ACK, acks)
    if jobs:
        push(jobs, connection)
    return Committed(applied=True, version=change.token)


def defer(kind: str, run_id: str, token: str, wake_at: float, connection: sqlite3.Connection) -> bool:
    """Move the index of a document that still has this token."""
    sql = "UPDATE documents SET wake_at = ? WHERE kind = ? AND id = ? AND token = ?"
    return connection.execute(sql, (wake_at, kind, run_id, token)).rowcount > 0


def delete(kind: str, run_id: str, token: str, connection: sqlite3.Connection) -> bool:
    """Remove the document and all of it; True if it is gone."""
    sql = "SELECT doc, token FROM documents WHERE kind = ? AND id = ?"
    row = connection.execute(sql, (kind, run_id)).fetchone()
    if row is None:
        return True
    doc, stored = row
    if stored != token:
        return False
    connection.execute("DELETE FROM run_values WHERE doc = ?", (doc,))
    connection.execute("DELETE FROM events WHERE doc = ?", (doc,))
    connection.execute("DELETE FROM documents WHERE doc = ?", (doc,))
    return True


def save_blueprint(content_hash: str, data: bytes, connection: sqlite3.Connection) -> None:
    """Store it, unless it is there."""
    sql = "INSERT INTO blueprints (hash, data) VALUES (?, ?) ON CONFLICT DO NOTHING"
    connection.execute(sql, (content_hash, data))


def delete_blueprint(content_hash: str, connection: sqlite3.Connection) -> None:
    """Remove it, if it is there."""
    connection.execute("DELETE FROM blueprints WHERE hash = ?", (content_hash,))
