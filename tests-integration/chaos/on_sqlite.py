"""Campaigns on SQLite: one file. Nothing is done to it; only workers are hurt."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from flowcraft import FlowRuntime
from flowcraft.sqlite import SqliteAdapter

from .evidence import Outage
from .settings import Settings

__all__ = ["FAULTS", "FULL", "open_adapter", "site"]

FULL: dict[str, object] = {}
FAULTS = ()


def open_adapter(settings: Settings, runtime: FlowRuntime, address: str) -> SqliteAdapter:
    """The adapter of one process, with the campaign's short times."""
    return SqliteAdapter(
        runtime,
        address,
        queue_visibility=settings.visibility,
        lease_ttl=settings.lease_ttl,
        tick=settings.tick,
        drain_grace=settings.drain_grace,
        resend_after=settings.resend,
    )


@contextmanager
def site(settings: Settings) -> Generator[_File]:
    """The file, which the first process makes."""
    yield _File(settings.place / "runs.db")


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.product = f"SQLite {sqlite3.sqlite_version}"

    def address(self, process: str) -> str:
        return str(self._path)

    def locked(self) -> bool:
        with closing(sqlite3.connect(self._path, timeout=0.0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return True
        return False

    def messages_left(self) -> int:
        with closing(sqlite3.connect(self._path, timeout=5.0)) as connection:
            return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])

    def begin(self, fault: str, source: random.Random, processes: Sequence[str]) -> tuple[Outage, float] | None:
        raise NotImplementedError

    def end(self, outage: Outage) -> None:
        """There is none."""
