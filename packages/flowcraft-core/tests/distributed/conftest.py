"""The world, and a place, as fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from .leaping import Stand, stand_on
from .places import Place
from .world import World

MakeWorld = Callable[..., World]


@pytest.fixture
async def make_world() -> AsyncIterator[MakeWorld]:
    """Worlds that are taken down in the end."""
    made: list[World] = []

    def make(**options: Any) -> World:
        world = World(**options)
        made.append(world)
        return world

    yield make
    for world in made:
        await world.close()


@pytest.fixture(params=["memory", "sqlite"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """A backend with processes on it."""
    async with Place(request.param, tmp_path).opened() as opened:
        yield opened


@pytest.fixture(params=["memory", "sqlite"])
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stand]:
    """A store with a clock that can leap."""
    async with stand_on(request.param, tmp_path) as made:
        yield made
