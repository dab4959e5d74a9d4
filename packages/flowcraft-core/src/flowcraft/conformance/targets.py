"""The embedded backends as targets."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from flowcraft.conformance.leftovers import in_memory, in_sqlite
from flowcraft.conformance.target import Place, PortName, Ports, Target, target
from flowcraft.memory import MemoryBackend
from flowcraft.ports import Clock
from flowcraft.sqlite import SqliteBackend

__all__ = ["memory", "memory_target", "sqlite"]

_OFFERS: tuple[PortName, ...] = ("store", "queue", "coordination", "events", "values", "system")


def memory_target(name: str, make: Callable[[Clock], MemoryBackend] = MemoryBackend) -> Target:
    """One event loop, nothing durable. ``make``: the backend of a place."""
    #: By namespace: opened again, a place is the same one, until it is dropped.
    places: dict[str, MemoryBackend] = {}

    async def stored(place: Place) -> list[str]:
        backend = places.get(place.namespace)
        return [] if backend is None else in_memory(backend)

    async def drop(place: Place) -> None:
        backend = places.pop(place.namespace, None)
        if backend is not None:
            await backend.aclose()

    @target(name, offers=_OFFERS, virtual_time=True, leftovers=stored, drop=drop)
    async def opened(place: Place) -> AsyncGenerator[Ports]:
        backend = places.get(place.namespace)
        if backend is None:
            backend = places[place.namespace] = make(place.clock)
            backend.store.bind(backend.queue)
        yield Ports(backend.store, backend.queue, backend.coordination, backend.events, backend.values)

    return opened


memory = memory_target("memory")


def _folder(place: Place) -> Path:
    return Path(tempfile.gettempdir()) / f"flowcraft-conformance-{place.namespace}"


async def _stored_in_sqlite(place: Place) -> list[str]:
    return await in_sqlite(_folder(place))


async def _drop_sqlite(place: Place) -> None:
    await asyncio.to_thread(shutil.rmtree, _folder(place), ignore_errors=True)


@target("sqlite", offers=_OFFERS, virtual_time=True, leftovers=_stored_in_sqlite, drop=_drop_sqlite)
async def sqlite(place: Place) -> AsyncGenerator[Ports]:
    """One file, any number of processes of one machine."""
    _folder(place).mkdir(exist_ok=True)
    async with SqliteBackend.open(_folder(place) / "runs.db", clock=place.clock) as backend:
        backend.store.bind(backend.queue)
        yield Ports(backend.store, backend.queue, backend.coordination, backend.events, backend.values)
