"""The job queue: what is particular to Redis. The contract itself is checked in `test_conformance`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis

from flowcraft.ports import Delivery
from flowcraft_redis import RedisBackend

from .conftest import VISIBILITY
from .making import job
from .waiting import depth_is, until, waits_for_messages


async def names(batches: AsyncIterator[Sequence[Delivery]], count: int) -> list[str]:
    """The runs of the next ``count`` messages, each acked."""
    found: list[str] = []
    while len(found) < count:
        for delivery in await anext(batches):
            found.append(delivery.job.run_id)
            await delivery.ack()
    return found


async def one(batches: AsyncIterator[Sequence[Delivery]]) -> Delivery:
    (delivery,) = await anext(batches)
    return delivery


@pytest.mark.parametrize("prefetch", [1, 9])
async def test_of_equally_urgent_ones_the_oldest_comes_first(backend: RedisBackend, prefetch: int) -> None:
    """One after the other as well as in one batch."""
    await backend.queue.publish([job(f"r{number}", priority=number % 3) for number in range(9)])
    async with backend.queue.deliveries(["q"], prefetch=prefetch) as batches:
        got = await names(batches, 9)
    if len(backend.store._keys.partitions) == 1:  # several are read side by side
        assert got == ["r2", "r5", "r8", "r1", "r4", "r7", "r0", "r3", "r6"]
    assert sorted(got) == [f"r{number}" for number in range(9)]


async def test_a_busy_queue_does_not_starve_another(backend: RedisBackend) -> None:
    await backend.queue.publish([job(f"busy{number}", "a", priority=9) for number in range(50)])
    await backend.queue.publish([job("quiet", "b")])
    async with backend.queue.deliveries(["a", "b"], prefetch=5) as batches:
        assert "quiet" in await names(batches, 12)


async def test_a_delayed_message_of_another_process_comes_too(backend: RedisBackend, url: str, prefix: str) -> None:
    """Nobody tells the receiver, so it looks for itself."""
    async with (
        RedisBackend.open(url, prefix=prefix) as other,
        backend.queue.deliveries(["q"], prefetch=5) as batches,
    ):
        await other.queue.publish([job("run")], delay=0.3)
        assert await names(batches, 1) == ["run"]


async def test_a_delayed_message_that_is_due_counts_as_waiting(backend: RedisBackend) -> None:
    await backend.queue.publish([job("run")], delay=0.2)
    assert await backend.queue.depth("q") == 0
    await depth_is(backend, 1)


@pytest.mark.parametrize("delay", [0.0, 0.01])
async def test_a_late_owner_cannot_hand_the_message_back(backend: RedisBackend, delay: float) -> None:
    await backend.queue.publish([job("run")])
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        first = await one(batches)
        second = await one(batches)
        await second.extend(60)
        await first.retry(delay=delay)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2 * VISIBILITY):
                await one(batches)
        await second.retry()
        third = await one(batches)
        assert third.redelivered
        await third.ack()
    assert await backend.queue.depth("q") == 0


async def test_a_message_is_kept_for_longer_than_the_visibility_at_once(backend: RedisBackend) -> None:
    loop = asyncio.get_running_loop()
    await backend.queue.publish([job("run")])
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        delivery = await one(batches)
        start = loop.time()
        await delivery.extend(4 * VISIBILITY)
        again = await one(batches)
        assert loop.time() - start >= 4 * VISIBILITY
        assert again.redelivered
        await again.ack()


async def test_leaving_hands_back_at_once_and_does_not_count(backend: RedisBackend) -> None:
    await backend.queue.publish([job(f"r{number}") for number in range(4)])
    held = await receive(backend, 4)
    assert [held[name].redelivered for name in sorted(held)] == [False] * 4
    loop = asyncio.get_running_loop()
    start = loop.time()
    again = await receive(backend, 4)
    assert loop.time() - start < VISIBILITY, "at once"
    assert not any(delivery.redelivered for delivery in again.values())
    async with backend.queue.deliveries(["q"], prefetch=4) as batches:
        await held["r2"].ack()  # by the former owner, after it gave the message back
        assert sorted(await names(batches, 4)) == ["r0", "r1", "r2", "r3"]
    assert await backend.queue.depth("q") == 0


async def test_what_was_settled_is_not_handed_back(backend: RedisBackend) -> None:
    await backend.queue.publish([job(f"r{number}") for number in range(3)])
    async with backend.queue.deliveries(["q"], prefetch=3) as batches:
        held: dict[str, Delivery] = {}
        while len(held) < 3:
            held |= {delivery.job.run_id: delivery for delivery in await anext(batches)}
        await held["r0"].ack()
        held["r1"].settled()  # the store would have removed it; here nobody did
    async with backend.queue.deliveries(["q"], prefetch=3) as batches:
        assert await names(batches, 1) == ["r2"]


@pytest.mark.parametrize("priority", [0, 7])
async def test_whoever_waits_is_woken_at_once(backend: RedisBackend, client: Redis, priority: int) -> None:
    """A receiver listens to the streams it knows; of another one, that of a new urgency, it learns by a knock."""
    loop = asyncio.get_running_loop()
    async with backend.queue.deliveries(["q"], prefetch=50) as batches:
        reader = asyncio.ensure_future(anext(batches))
        # Every second it looks for itself: the test begins just after that, so that a look cannot be taken for a knock.
        await asyncio.sleep(1.05)
        await waits_for_messages(client, batches)
        start = loop.time()
        await backend.queue.publish([job("run", priority=priority)])
        (delivery,) = await reader
        assert loop.time() - start < 0.5
        await delivery.ack()


async def test_a_partition_without_messages_leaves_its_room_to_the_others(url: str, prefix: str, client: Redis) -> None:
    """A worker of 48 takes 46 messages of one run at once, although two other partitions are waited for as well."""
    loop = asyncio.get_running_loop()
    async with (
        RedisBackend.open(url, prefix=prefix, partitions=3) as backend,
        backend.queue.deliveries(["q"], prefetch=48) as batches,
    ):
        reader = asyncio.ensure_future(anext(batches))
        await waits_for_messages(client, batches)
        start = loop.time()
        await backend.queue.publish([job("run")] * 46)
        held = list(await reader)
        while len(held) < 46:
            held += await anext(batches)
        assert loop.time() - start < 0.9, "those who wait do so for a second"


async def test_handing_back_wakes_another_receiver(backend: RedisBackend, client: Redis) -> None:
    async with backend.queue.deliveries(["q"], prefetch=1) as other:
        async with backend.queue.deliveries(["q"], prefetch=5) as batches:
            await backend.queue.publish([job("a")])
            await anext(batches)
            reader = asyncio.ensure_future(anext(other))
            await waits_for_messages(client, other)
            assert not reader.done()
        (delivery,) = await reader
        await delivery.ack()


async def test_a_redelivered_message_stays_one_after_a_hand_back(backend: RedisBackend) -> None:
    await backend.queue.publish([job("run")])
    async with backend.queue.deliveries(["q"], prefetch=2) as batches:
        await one(batches)
        await one(batches)
    async with backend.queue.deliveries(["q"], prefetch=1) as batches:
        assert (await one(batches)).redelivered


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"x" * 100_000, b"[" * 50_000])
async def test_what_is_not_even_text_becomes_a_dead_letter(backend: RedisBackend, body: bytes) -> None:
    await backend.queue.publish_bytes("q", body, priority=5)
    await backend.queue.publish([job("good")])
    async with backend.queue.deliveries(["q"], prefetch=2) as batches:
        assert await names(batches, 1) == ["good"]
        reader = asyncio.ensure_future(anext(batches))
        await until(lambda: is_buried(backend))
        reader.cancel()
    (letter,) = (await backend.queue.dead_letters()).items
    assert (letter.queue, letter.body) == ("q", body)
    assert "not a job message" in letter.reason


async def test_ten_thousand_messages_none_lost_none_twice(backend: RedisBackend) -> None:
    queue = backend.queue
    seen: Counter[str] = Counter()
    complete = asyncio.Event()

    async def consume() -> None:
        async with queue.deliveries(["a", "b"], prefetch=100) as batches:
            async for batch in batches:
                seen.update(delivery.job.run_id for delivery in batch)
                await asyncio.gather(*(delivery.ack() for delivery in batch))
                if seen.total() >= 10_000:
                    complete.set()

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    for start in range(0, 10_000, 500):
        await queue.publish([job(f"r{number}", "ab"[number % 2]) for number in range(start, start + 500)])
    await complete.wait()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.wait(consumers)
    assert len(seen) == seen.total() == 10_000
    assert (await queue.depth("a"), await queue.depth("b")) == (0, 0)


async def test_acked_messages_leave_nothing_behind(backend: RedisBackend, client: Redis, prefix: str) -> None:
    async with backend.queue.deliveries(["q"], prefetch=10) as batches:
        for _ in range(50):
            await backend.queue.publish([job(f"r{number}", priority=number % 2) for number in range(10)])
            await names(batches, 10)
    streams = [name async for name in client.scan_iter(f"*{prefix}*:queue:*")]
    assert streams
    for stream in streams:
        assert await client.xlen(stream) == 0
        assert (await client.xpending(stream, "flowcraft"))["pending"] == 0


async def test_no_task_outlives_the_block(url: str, prefix: str) -> None:
    before = asyncio.all_tasks()
    async with (
        RedisBackend.open(url, prefix=prefix) as backend,
        backend.queue.deliveries(["q"], prefetch=5) as batches,
        backend.events.subscribe(),
    ):
        await backend.queue.publish([job("later")], delay=60)
        await backend.queue.publish([job("run")])
        await anext(batches)
    assert asyncio.all_tasks() == before


async def is_buried(backend: RedisBackend) -> bool:
    return len((await backend.queue.dead_letters()).items) == 1


async def receive(backend: RedisBackend, count: int) -> dict[str, Delivery]:
    """So many messages, handed back by leaving the block."""
    async with backend.queue.deliveries(["q"], prefetch=count) as batches:
        held: dict[str, Delivery] = {}
        while len(held) < count:
            held |= {delivery.job.run_id: delivery for delivery in await anext(batches)}
        return held
