"""The run store: what is particular to Redis. The contract itself is checked in `test_conformance`."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from flowcraft.errors import InvalidRequest, PayloadTooLarge
from flowcraft.memory import MemoryJobQueue
from flowcraft.model import ValueKey
from flowcraft.testing import VirtualClock
from flowcraft_redis import RedisBackend

from .making import change, job, new
from .waiting import waits_for_messages


async def test_a_value_beyond_the_limit_is_named(backend: RedisBackend) -> None:
    large = {ValueKey("output", "n", 1): bytes((backend.store.capabilities.max_value_bytes or 0) + 1)}
    with pytest.raises(PayloadTooLarge, match="output 'n'"):
        await backend.store.create(new("run", values=large))


@pytest.mark.parametrize("cursor", ["", "x", "[]", "[1]", "null", "[1,2,3]", "[[],[]]", '["a","b"]', "[" * 100_000])
async def test_a_cursor_that_was_never_made_is_refused(backend: RedisBackend, cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        await backend.store.list(after=cursor)
    with pytest.raises(InvalidRequest):
        await backend.store.due(1.0, after=cursor)


async def test_bound_jobs_and_acks_are_part_of_the_commit(backend: RedisBackend) -> None:
    store, queue = backend.store, backend.queue
    assert store.bind(queue)
    await store.create(new("run", jobs=[job("run"), job("other", priority=2)]))
    await store.create(new("run", "again", jobs=[job("lost")]))
    async with queue.deliveries(["q"], prefetch=10) as batches:
        second, first = await anext(batches)
        stale = change("run", "wrong", "t1", jobs=[job("lost")], deliveries=[second])
        step = change("run", "t0", "t1", jobs=[job("next")], deliveries=[first, object()])
        await store.commit([stale])
        await store.commit([step])
        (third,) = await anext(batches)
        assert third.job == job("next")
        await first.ack()
    assert await queue.depth("q") == 2
    async with queue.deliveries(["q"], prefetch=10) as batches:
        assert {delivery.job.run_id for delivery in await anext(batches)} == {"other", "next"}


async def test_a_bound_job_wakes_an_idle_receiver(backend: RedisBackend, client: Redis) -> None:
    assert backend.store.bind(backend.queue)
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        for version in (None, "t0", "t1"):
            reader = asyncio.ensure_future(anext(batches))
            await waits_for_messages(client, batches)
            assert not reader.done()
            if version is None:
                await backend.store.create(new("run", jobs=[job("run")]))
            else:
                await backend.store.commit([change("run", version, "t1", jobs=[job("run")])])
            (delivery,) = await reader
            await delivery.ack()


async def test_only_the_own_queue_is_bound(backend: RedisBackend, url: str, prefix: str) -> None:
    assert not backend.store.bind(MemoryJobQueue(VirtualClock()))
    async with RedisBackend.open(url, prefix=prefix) as other:
        assert not backend.store.bind(other.queue)


async def test_an_id_that_is_no_text_is_a_typed_error(backend: RedisBackend) -> None:
    with pytest.raises(InvalidRequest, match="cannot be stored"):
        await backend.store.create(new("\ud800"))
