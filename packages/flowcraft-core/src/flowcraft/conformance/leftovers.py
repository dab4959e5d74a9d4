"""What the embedded backends have stored, by name: tests want to see that nothing is left."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from flowcraft.memory import MemoryBackend

__all__ = ["in_memory", "in_sqlite"]


def in_memory(backend: MemoryBackend) -> list[str]:
    """Names of all documents, values, events, messages, letters, leases and texts."""
    return list(_of_memory(backend))


def _of_memory(backend: MemoryBackend) -> Iterator[str]:
    for kind, documents in backend.store._kinds.items():  # noqa: SLF001 - of our own backend, for tests
        for run_id, document in documents.documents.items():
            yield f"{kind} {run_id}"
            yield from (f"{kind} {run_id} value {key}" for key in document.values)
            yield from (f"{kind} {run_id} event {seq}" for seq in document.events)
    yield from (f"blueprint {name}" for name in backend.store._blueprints)  # noqa: SLF001
    yield from (f"message in {name}" for name, depth in backend.queue._depth.items() for _ in range(depth))  # noqa: SLF001
    yield from (f"hidden message {number}" for number in range(backend.queue._hidden_live))  # noqa: SLF001
    yield from (f"letter {number}" for number in backend.queue._dead._letters)  # noqa: SLF001
    coordination = backend.coordination
    yield from (f"text {key}" for key in coordination._texts)  # noqa: SLF001
    yield from (f"lease {key}" for key in coordination._leases)  # noqa: SLF001
    yield from (f"slots {key}" for key in coordination._slots)  # noqa: SLF001
    yield from (f"bucket {key}" for key in coordination._buckets)  # noqa: SLF001
    yield from (f"value {key}" for values in backend.values._runs.values() for key in values)  # noqa: SLF001


async def in_sqlite(folder: Path) -> list[str]:
    """Names of all rows of all tables of the files in a folder, by their primary keys; and of files that are none."""
    return await asyncio.to_thread(lambda: list(_of_sqlite(folder)))


def _of_sqlite(folder: Path) -> Iterator[str]:
    for file in sorted(folder.glob("*")) if folder.exists() else ():
        if file.suffix == ".db":
            with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
                yield from _rows(connection)
        elif not file.name.endswith(("-wal", "-shm")):
            yield f"file {file.name}"


def _rows(connection: sqlite3.Connection) -> Iterator[str]:
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    for (table,) in tables.fetchall():
        columns = connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (table,))
        keys = ", ".join(f'"{name}"' for (name,) in columns)
        for row in connection.execute(f'SELECT {keys} FROM "{table}"'):  # noqa: S608 - names of our own tables
            yield f"{table} {' '.join(map(str, row))}"
