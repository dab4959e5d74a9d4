"""The file: its tables, and how a connection to it is opened and checked.

Ids and keys of users are values of columns, never part of a name or a statement, and separate columns, so that two
different ones can never collide.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from flowcraft.errors import Misconfigured
from flowcraft.sqlite.failures import is_busy

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "connect", "patiently", "prepare"]

#: Marks a file as ours, https://www.sqlite.org/pragma.html#pragma_application_id ("Flow" in ASCII).
APPLICATION_ID = 0x466C6F77
#: Kept in ``user_version``; raised with every change of the tables.
SCHEMA_VERSION = 2
_OLDEST = (3, 35, 0)  # RETURNING
_SMALLEST = 512  # bytes: one page of the smallest size

_FIRST = (
    """CREATE TABLE documents (
        doc INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, token TEXT NOT NULL, status TEXT NOT NULL,
        wake_at REAL, updated_at REAL NOT NULL, created_at REAL NOT NULL, fingerprint TEXT NOT NULL,
        blueprint_id TEXT NOT NULL, blueprint_hash TEXT NOT NULL, head BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX documents_id ON documents (kind, id)",
    "CREATE INDEX documents_due ON documents (kind, wake_at, id) WHERE wake_at IS NOT NULL",
    "CREATE INDEX documents_created ON documents (kind, created_at, doc)",
    "CREATE INDEX documents_status ON documents (kind, status, created_at, doc)",
    "CREATE INDEX documents_blueprint ON documents (kind, blueprint_id, created_at, doc)",
    """CREATE TABLE run_values (
        doc INTEGER NOT NULL, space TEXT NOT NULL, name TEXT NOT NULL, visit INTEGER NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (doc, space, name, visit)) WITHOUT ROWID""",
    """CREATE TABLE events (
        doc INTEGER NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (doc, seq)) WITHOUT ROWID""",
    "CREATE TABLE blueprints (hash TEXT NOT NULL PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
    # AUTOINCREMENT: an id is never used again, so a late ack cannot meet another message.
    """CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, priority INTEGER NOT NULL, ready INTEGER NOT NULL,
        visible_at REAL NOT NULL, receipt INTEGER NOT NULL DEFAULT 0, deliveries INTEGER NOT NULL DEFAULT 0,
        body BLOB NOT NULL)""",
    # Hidden messages (delayed, or in someone's hand) are in an index of their own: receiving never steps over them.
    "CREATE INDEX jobs_ready ON jobs (queue, priority DESC, visible_at, id) WHERE ready = 1",
    "CREATE INDEX jobs_hidden ON jobs (visible_at, queue) WHERE ready = 0",
    """CREATE TABLE dead_jobs (
        id INTEGER PRIMARY KEY, queue TEXT NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL)""",
    "CREATE TABLE texts (key TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL, expires REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX texts_expires ON texts (expires)",
    """CREATE TABLE leases (
        key TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL, revoked INTEGER NOT NULL DEFAULT 0)
        WITHOUT ROWID""",
    "CREATE INDEX leases_expires ON leases (expires)",
    """CREATE TABLE slots (
        key TEXT NOT NULL, holder TEXT NOT NULL, expires REAL NOT NULL, PRIMARY KEY (key, holder)) WITHOUT ROWID""",
    "CREATE INDEX slots_expires ON slots (expires)",
    "CREATE TABLE buckets (key TEXT NOT NULL PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX buckets_expires ON buckets (expires)",
    """CREATE TABLE bus (
        id INTEGER PRIMARY KEY AUTOINCREMENT, sender TEXT NOT NULL, run_id TEXT NOT NULL, seq INTEGER NOT NULL,
        body TEXT NOT NULL)""",
    "CREATE TABLE listeners (listener TEXT NOT NULL PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID",
)
# AUTOINCREMENT: the id of a letter that was removed never names another one.
_DEAD_LETTERS = (
    """CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL,
        at REAL)""",
    "INSERT INTO dead_letters (queue, reason, body) SELECT queue, reason, body FROM dead_jobs ORDER BY id",
    "DROP TABLE dead_jobs",
)
#: What leads from each version to the next, from an empty file on.
_STEPS = (_FIRST, _DEAD_LETTERS)


def connect(path: str, *, busy_timeout: float) -> sqlite3.Connection:
    """A connection of the thread that calls this, in autocommit mode: transactions are written out."""
    if sqlite3.sqlite_version_info < _OLDEST:
        version = ".".join(map(str, _OLDEST))
        raise Misconfigured(f"SQLite {version} or later is needed, this Python was built with {sqlite3.sqlite_version}")
    file = Path(path)
    if path in {"", ":memory:"}:
        raise Misconfigured("SQLite needs a path to a file here; without one, use the memory backend")
    if file.is_dir():
        raise Misconfigured(f"the SQLite file {path!r} is a folder; give the path of a file")
    if not file.parent.is_dir():
        raise Misconfigured(f"the folder of the SQLite file {path!r} does not exist; create it")
    if file.exists() and 0 < file.stat().st_size < _SMALLEST:
        # SQLite would take it for an empty file and write over it.
        raise Misconfigured(f"the SQLite file {path!r} is not a SQLite database; choose another path")
    return sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, cached_statements=256)


def patiently(step: Callable[[], object], limit: float) -> None:
    """Run it again while another connection is in the way, for up to ``limit`` seconds; in a thread, never in the loop.

    SQLite's own waiting sleeps up to 100 ms at a time: with four busy processes that made one commit in a hundred take
    250 ms. Asking every other millisecond, it is 100 ms.
    """
    pause, waited = 0.0005, 0.0
    while True:
        try:
            step()
            return
        except sqlite3.Error as error:
            if waited >= limit or not is_busy(error):
                raise
        time.sleep(pause)
        waited += pause
        pause = min(0.002, pause * 1.3)


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make the file ours if it is new, or check that it is; safe to race and to repeat.

    Raises:
        Misconfigured: it belongs to another program or to a later version. It was not touched.
        sqlite3.Error: it cannot be used.
    """
    try:
        connection.execute("BEGIN")  # one moment for all that is looked at: another process may be making the file
        _check(connection, path)
        connection.execute("COMMIT")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise Misconfigured(f"the SQLite file {path!r} cannot use a write-ahead log; move it to a local disk")
        _migrate(connection, path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA journal_size_limit = 67108864")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    # Taking the write lock even if there is nothing to do finds out now, not later, that the file cannot be written.
    connection.execute("BEGIN IMMEDIATE")
    found = _check(connection, path)
    if found < SCHEMA_VERSION:
        for statement in itertools.chain.from_iterable(_STEPS[found:]):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: str) -> int:
    application = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    tables = _number(connection, "SELECT count(*) FROM sqlite_master")
    if application != APPLICATION_ID and (application or version or tables):
        raise Misconfigured(f"the SQLite file {path!r} belongs to another program; choose another path")
    if version > SCHEMA_VERSION:
        raise Misconfigured(
            f"the SQLite file {path!r} has tables of version {version}, this Flowcraft knows up to {SCHEMA_VERSION}; "
            "update Flowcraft here, or choose another path"
        )
    return version


def _number(connection: sqlite3.Connection, statement: str) -> int:
    return cast("int", connection.execute(statement).fetchone()[0])
