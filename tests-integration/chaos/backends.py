"""The backends that a campaign can run on."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from flowcraft import FlowRuntime
from flowcraft.adapter import Adapter
from flowcraft.sqlite import SqliteAdapter

from .settings import Settings

__all__ = ["BACKENDS", "FILE", "is_locked", "messages_left", "open_adapter"]

BACKENDS = ("sqlite",)
FILE = "runs.db"


def open_adapter(settings: Settings, runtime: FlowRuntime) -> Adapter:
    """The adapter of one process, with the campaign's short times."""
    return SqliteAdapter(
        runtime,
        settings.place / FILE,
        queue_visibility=settings.visibility,
        lease_ttl=settings.lease_ttl,
        tick=settings.tick,
        drain_grace=settings.drain_grace,
        resend_after=settings.resend,
    )


def is_locked(settings: Settings) -> bool:
    """Whether somebody has the write lock of the file at this moment: a paused worker may hold it all the time."""
    with closing(sqlite3.connect(settings.place / FILE, timeout=0.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
    return False


def messages_left(settings: Settings) -> int:
    """Messages in the queue, hidden ones included."""
    with closing(sqlite3.connect(settings.place / FILE, timeout=5.0)) as connection:
        return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])
