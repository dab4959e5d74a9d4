"""The event bus ."""

from __future__ import annotations

import asyncio

import pytest

from flowcraft_redis import RedisBackend

from .making import event


async def test_subscribers_get_what_is_published_from_then_on(backend: RedisBackend) -> None:
    bus = backend.events
    await bus.publish([event("run", 1)])
    async with bus.subscribe() as everything, bus.subscribe(run_id="run") as ours:
        await bus.publish([event("run", 2, a=1), event("other", 1), event("run", 3)])
        assert [(await anext(everything)) for _ in range(3)] == [
            event("run", 2, a=1),
            event("other", 1),
            event("run", 3),
        ]
        assert [(await anext(ours)).seq for _ in range(2)] == [2, 3]
    await bus.publish([event("run", 4)])


async def test_a_waiting_reader_is_woken(backend: RedisBackend) -> None:
    async with backend.events.subscribe() as events:
        reader = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await backend.events.publish([event("run", 1)])
        assert (await reader).seq == 1


async def test_a_slow_reader_loses_the_oldest(backend: RedisBackend) -> None:
    async with backend.events.subscribe() as slow:
        for seq in range(1, 3001):
            await backend.events.publish([event("run", seq)])
        got = [(await anext(slow)).seq for _ in range(1024)]
    assert got == list(range(3001 - 1024, 3001))


async def test_a_cancelled_reader_loses_nothing(backend: RedisBackend) -> None:
    async with backend.events.subscribe() as events:
        reader = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await backend.events.publish([event("run", 1)])
        assert (await anext(events)).seq == 1


async def test_closing_ends_subscriptions_after_what_is_buffered(backend: RedisBackend) -> None:
    async with backend.events.subscribe() as events, backend.events.subscribe() as witness:
        await backend.events.publish([event("run", 1)])
        await anext(witness)  # so it lies in the other one's buffer as well
        await backend.events.aclose()
        await backend.events.aclose()
        assert [got.seq async for got in events] == [1]
