"""The job queue of both embedded backends, where they promise more than the contract (`flowcraft.conformance`)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from flowcraft.ports import Delivery

from .conftest import Backend
from .making import job
from .virtual_clock import VirtualClock

VISIBILITY = 30.0


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


async def test_an_idle_receiver_wakes_on_publish(backend: Backend) -> None:
    """The clock stands still, so nothing but the publishing can wake it."""
    async with backend.queue.deliveries(["a", "b"], prefetch=5) as batches:
        for queue in ("b", "a", "b"):
            reader = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.005)  # give it the chance to find nothing
            assert not reader.done()
            await backend.queue.publish([job("x", "other"), job("run", queue)])
            (delivery,) = await reader
            assert delivery.job.queue == queue
            await delivery.ack()


async def test_urgent_ones_first_then_the_oldest(backend: Backend, clock: VirtualClock) -> None:
    for number, priority in enumerate([0, 5, -1, 5, 0]):
        await backend.queue.publish([job(f"r{number}", priority=priority)])
        await clock.advance(0.001)
    async with backend.queue.deliveries(["q"], prefetch=1) as batches:
        assert await names(batches, 5) == ["r1", "r3", "r0", "r4", "r2"]


async def test_in_one_batch_as_well(backend: Backend) -> None:
    await backend.queue.publish([job(f"r{number}", priority=number % 3) for number in range(9)])
    async with backend.queue.deliveries(["q"], prefetch=9) as batches:
        assert await names(batches, 9) == ["r2", "r5", "r8", "r1", "r4", "r7", "r0", "r3", "r6"]


async def test_a_busy_queue_does_not_starve_another(backend: Backend) -> None:
    await backend.queue.publish([job(f"busy{number}", "a", priority=9) for number in range(50)])
    await backend.queue.publish([job("quiet", "b")])
    async with backend.queue.deliveries(["a", "b"], prefetch=5) as batches:
        assert "quiet" in await names(batches, 12)


async def test_a_delayed_message_comes_when_it_is_due(backend: Backend, clock: VirtualClock) -> None:
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        await backend.queue.publish([job("later")], delay=60)
        await backend.queue.publish([job("soon")], delay=20)
        await backend.queue.publish([job("now")])
        assert await names(batches, 1) == ["now"]
        assert await backend.queue.depth("q") == 0
        await clock.advance(19)
        assert await backend.queue.depth("q") == 0
        await clock.advance(1)
        assert await backend.queue.depth("q") == 1
        assert await names(batches, 1) == ["soon"]
        await clock.advance(40)
        assert await names(batches, 1) == ["later"]


async def test_an_abandoned_message_comes_again(backend: Backend, clock: VirtualClock) -> None:
    await backend.queue.publish([job("run")])
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        first = await one(batches)
        await clock.advance(VISIBILITY - 1)
        assert await backend.queue.depth("q") == 0
        await clock.advance(1)
        second = await one(batches)
        assert (first.redelivered, second.redelivered) == (False, True)
        assert second.job == first.job
        await first.ack()  # too late: it is the second one's now
        await clock.advance(VISIBILITY)
        third = await one(batches)
        assert third.redelivered
        await third.ack()
        await clock.advance(VISIBILITY)
        assert await backend.queue.depth("q") == 0


async def test_leaving_hands_back_at_once_and_does_not_count(backend: Backend) -> None:
    await backend.queue.publish([job(f"r{number}") for number in range(4)])
    async with backend.queue.deliveries(["q"], prefetch=4) as batches:
        held = await anext(batches)
        await held[0].ack()
        held[1].settled()  # the store would have removed it; here nobody did
    async with backend.queue.deliveries(["q"], prefetch=4) as batches:
        again = await anext(batches)
        assert [delivery.job for delivery in again] == [held[2].job, held[3].job]
        assert not any(delivery.redelivered for delivery in again)
        await held[2].ack()  # by the former owner, after it gave the message back
        for delivery in again:
            await delivery.ack()
    assert await backend.queue.depth("q") == 0


async def test_handing_back_wakes_another_receiver(backend: Backend) -> None:
    async with backend.queue.deliveries(["q"], prefetch=1) as other:
        async with backend.queue.deliveries(["q"], prefetch=5) as batches:
            await backend.queue.publish([job("a")])
            await anext(batches)
            reader = asyncio.ensure_future(anext(other))
            await asyncio.sleep(0.005)  # likewise
            assert not reader.done()
        (delivery,) = await reader
        await delivery.ack()


async def test_a_redelivered_message_stays_one_after_a_hand_back(backend: Backend, clock: VirtualClock) -> None:
    await backend.queue.publish([job("run")])
    async with backend.queue.deliveries(["q"], prefetch=2) as batches:
        await one(batches)
        await clock.advance(VISIBILITY)
        await one(batches)
    async with backend.queue.deliveries(["q"], prefetch=1) as batches:
        assert (await one(batches)).redelivered


async def test_ten_thousand_messages_none_lost_none_twice(backend: Backend) -> None:
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


async def test_acked_messages_leave_nothing_behind(backend: Backend) -> None:
    """Not even an entry that waits for a visibility that no longer matters."""
    async with backend.queue.deliveries(["q"], prefetch=10) as batches:
        for _ in range(200):
            await backend.queue.publish([job("r")] * 10)
            await names(batches, 10)
    hidden = getattr(backend.queue, "_hidden", ())
    assert len(hidden) < 200


async def test_no_task_outlives_the_block(backend: Backend, clock: VirtualClock) -> None:
    before = asyncio.all_tasks()
    async with backend.queue.deliveries(["q"], prefetch=5) as batches, backend.events.subscribe():
        await backend.queue.publish([job("later")], delay=60)
        await backend.queue.publish([job("sooner")], delay=50)
        await backend.queue.publish([job("run")])
        await anext(batches)
        await clock.advance(1)
    assert asyncio.all_tasks() == before
