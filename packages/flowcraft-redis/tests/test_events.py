"""The event bus: what is particular to Redis. The contract itself is checked in `test_conformance`."""

from __future__ import annotations

from flowcraft_redis import RedisBackend

from .making import event


async def test_a_slow_reader_keeps_the_latest_thousand_or_so(backend: RedisBackend) -> None:
    async with backend.events.subscribe() as slow:
        for seq in range(1, 3001):
            await backend.events.publish([event("run", seq)])
        got = [(await anext(slow)).seq for _ in range(1024)]
    assert got == list(range(3001 - 1024, 3001))


async def test_closing_ends_subscriptions_after_what_is_buffered(backend: RedisBackend) -> None:
    async with backend.events.subscribe() as events, backend.events.subscribe() as witness:
        await backend.events.publish([event("run", 1)])
        await anext(witness)  # so it lies in the other one's buffer as well
        await backend.events.aclose()
        await backend.events.aclose()
        assert [got.seq async for got in events] == [1]
