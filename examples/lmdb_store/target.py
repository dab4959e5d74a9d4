"""The run store in LMDB under test, with a file of Flowcraft's SQLite backend beside it for the other ports.

nice -n 10 flowcraft conformance run target.py:lmdb_and_sqlite
"""

import shutil
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

from flowcraft.conformance import Place, Ports, target
from flowcraft.sqlite import SqliteBackend
from lmdb_store import LmdbRunStore


def directory(place: Place) -> Path:
    return Path(tempfile.gettempdir(), "flowcraft-lmdb", place.namespace)


async def leftovers(place: Place) -> list[str]:
    """The keys of all that the store has in the place."""
    if not directory(place).exists():
        return []
    store = LmdbRunStore(directory(place), place.clock)
    await store.setup()
    async with store._transaction() as txn:  # noqa: SLF001 - no method of the port tells it
        keys = [key.hex() for key, _ in txn.cursor()]
    await store.aclose()
    return keys


async def drop(place: Place) -> None:
    """Remove the place with all that is in it."""
    shutil.rmtree(directory(place), ignore_errors=True)


@target(
    "lmdb",
    offers=["store", "queue", "coordination", "events", "system"],
    virtual_time=True,
    leftovers=leftovers,
    drop=drop,
)
async def lmdb_and_sqlite(place: Place) -> AsyncGenerator[Ports]:
    store = LmdbRunStore(directory(place), place.clock)
    await store.setup()
    async with SqliteBackend.open(directory(place) / "queue.sqlite", clock=place.clock) as others:
        yield Ports(store, others.queue, others.coordination, others.events)
    await store.aclose()
