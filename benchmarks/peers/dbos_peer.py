"""DBOS on SQLite: one process that starts and executes workflows of no-op steps.

Arguments: database file, executor id, journal. The journal `shipped` is what DBOS makes (a rollback journal); `wal`
switches the file to SQLite's write-ahead log before DBOS opens it. Both keep SQLite's default `synchronous=FULL`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import sqlite3
import sys
from typing import Any

from dbos import DBOS
from protocol import Reply, keep_in_flight, serve


@DBOS.step()
async def noop(_value: int) -> None:
    """Nothing: what remains is the engine."""


@DBOS.workflow()
async def chain(size: int) -> None:
    """`size` steps, one after the other."""
    for number in range(size):
        await noop(number)


@DBOS.workflow()
async def fan(size: int) -> None:
    """One step, `size` steps at once, one step."""
    await noop(0)
    await asyncio.gather(*(noop(number) for number in range(size)))
    await noop(0)


SHAPES = {"chain": chain, "fan": fan}


async def measure(case: dict[str, Any]) -> Reply:
    """One case: {"shape", "size", "in_flight", "seconds"}."""
    shape, size = str(case["shape"]), int(case["size"])

    async def run() -> None:
        handle = await DBOS.start_workflow_async(SHAPES[shape], size)
        await handle.get_result()

    work = size if shape == "chain" else size + 2
    return await keep_in_flight(run, slots=int(case["in_flight"]), work=work, seconds=float(case["seconds"]))


async def main(path: str, executor: str, journal: str) -> None:
    """Open the database, launch DBOS, answer requests."""
    if journal == "wal":
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": f"sqlite:///{path}",
            "executor_id": executor,
            "application_version": "1",
            "log_level": "ERROR",
            "console_log_level": "ERROR",
        }
    )
    DBOS.launch()
    try:
        await serve({"DBOS": importlib.metadata.version("dbos"), "SQLite": sqlite3.sqlite_version}, measure)
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3]))
