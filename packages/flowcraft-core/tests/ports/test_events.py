"""The event buses of the embedded backends: what the checks of `flowcraft.conformance` leave to a backend."""

from __future__ import annotations

from .conftest import Backend
from .making import event


async def test_a_slow_reader_loses_the_oldest(backend: Backend) -> None:
    async with backend.events.subscribe() as slow:
        for seq in range(1, 3001):
            await backend.events.publish([event("run", seq)])
        got = [(await anext(slow)).seq for _ in range(1024)]
    assert got == list(range(3001 - 1024, 3001))


async def test_closing_ends_subscriptions_after_what_is_buffered(backend: Backend) -> None:
    async with backend.events.subscribe() as events:
        await backend.events.publish([event("run", 1)])
        await backend.events.aclose()
        await backend.events.aclose()
        assert [got.seq async for got in events] == [1]
