"""The backends under test, and short ways to make what a port takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flowcraft.memory import MemoryBackend
from flowcraft.sqlite import SqliteBackend

from .virtual_clock import VirtualClock

Backend = MemoryBackend | SqliteBackend


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def memory(clock: VirtualClock) -> AsyncIterator[MemoryBackend]:
    backend = MemoryBackend(clock)
    yield backend
    await backend.aclose()


@pytest.fixture
async def sqlite(clock: VirtualClock, tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    async with SqliteBackend.open(tmp_path / "flow.db", clock=clock) as backend:
        yield backend


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest) -> Backend:
    made: Backend = request.getfixturevalue(request.param)
    return made
