"""Coordination of the embedded backends: what the checks of `flowcraft.conformance` leave to a backend."""

from __future__ import annotations

import asyncio

from .conftest import Backend
from .virtual_clock import VirtualClock


async def test_expired_entries_do_not_pile_up(backend: Backend, clock: VirtualClock) -> None:
    """Thousands of keys that nobody asks for again."""
    keys = backend.coordination
    for _ in range(4):
        await asyncio.gather(*(keys.increment(f"{clock.time()}-{number}", 1) for number in range(600)))
        await keys.claim([f"{clock.time()}-{number}" for number in range(600)], "me", 1)
        for number in range(600):
            await keys.acquire_slot(f"{clock.time()}-{number}", "me", 1, 1)
        await clock.advance(2)
    assert await _entries(backend) <= 3 * 1300


async def _entries(backend: Backend) -> int:
    coordination = backend.coordination
    if hasattr(coordination, "_leases"):
        return len(coordination._texts) + len(coordination._leases) + len(coordination._slots)
    sql = "SELECT (SELECT count(*) FROM texts) + (SELECT count(*) FROM leases) + (SELECT count(*) FROM slots)"
    total: int = await coordination._database.read(lambda connection: connection.execute(sql).fetchone()[0])
    return total
