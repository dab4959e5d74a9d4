"""The world as a fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

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
