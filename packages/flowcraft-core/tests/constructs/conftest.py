"""The places as fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .places import LocalPlace, Place, StoredPlace


@pytest.fixture(params=["local", "memory", "sqlite"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Each of the three in turn."""
    if request.param == "local":
        yield LocalPlace()
        return
    made = StoredPlace(request.param, tmp_path)
    yield made
    await made.close()


@pytest.fixture(params=["memory", "sqlite"])
async def stored(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoredPlace]:
    """Workers on a backend, for what needs somebody outside."""
    made = StoredPlace(request.param, tmp_path)
    yield made
    await made.close()
