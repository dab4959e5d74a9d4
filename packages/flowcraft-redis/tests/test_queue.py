"""The job queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis

from flowcraft.model import Job
from flowcraft.ports import Delivery
from flowcraft_redis import RedisBackend

from .conftest import VISIBILITY
from .making import job


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


async def test_a_message_arrives_as_it_was(backend: RedisBackend) -> None:
    sent = Job("run'é\n", 'no"de', 7, 2, "nonce", "queue/1", -3, 4)
    assert await backend.queue.publish([sent]) == ()
    async with backend.queue.deliveries(["queue/1"], prefetch=1) as batches:
        delivery = await one(batches)
        assert (delivery.job, delivery.redelivered) == (sent, False)
        await delivery.ack()
    assert await backend.queue.depth("queue/1") == 0


async def test_an_idle_receiver_wakes_on_publish(backend: RedisBackend) -> None:
    """The clock stands still, so nothing but the publishing can wake it."""
    async with backend.queue.deliveries(["a", "b"], prefetch=5) as batches:
        for queue in ("b", "a", "b"):
            reader = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.05)  # give it the chance to find nothing
            assert not reader.done()
            await backend.queue.publish([job("x", "other"), job("run", queue)])
            (delivery,) = await reader
            assert delivery.job.queue == queue
            await delivery.ack()


async def test_never_more_in_hand_than_prefetch(backend: RedisBackend) -> None:
    await backend.queue.publish([job(f"r{number}") for number in range(10)])
    held: list[Delivery] = []

    async def hold(count: int) -> None:
        while len(held) < count:
            held.extend(await anext(batches))
        for delivery in held:
            await delivery.extend(60)

    async with backend.queue.deliveries(["q"], prefetch=4) as batches:
        await hold(4)
        assert len(held) == 4
        reader = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0.3)
        assert not reader.done()
        assert await backend.queue.depth("q") == 6
        await held.pop().ack()
        held.extend(await reader)
        assert len(held) == 4
        held.pop().settled()
        await held.pop().retry(delay=60)
        await hold(4)
        assert len(held) == 4


async def test_urgent_ones_first_then_the_oldest(backend: RedisBackend) -> None:
    for number, priority in enumerate([0, 5, -1, 5, 0]):
        await backend.queue.publish([job(f"r{number}", priority=priority)])
    async with backend.queue.deliveries(["q"], prefetch=1) as batches:
        got = await names(batches, 5)
    if len(backend.store._keys.partitions) == 1:  # several are read side by side
        assert got == ["r1", "r3", "r0", "r4", "r2"]
    assert sorted(got) == ["r0", "r1", "r2", "r3", "r4"]


async def test_in_one_batch_as_well(backend: RedisBackend) -> None:
    await backend.queue.publish([job(f"r{number}", priority=number % 3) for number in range(9)])
    async with backend.queue.deliveries(["q"], prefetch=9) as batches:
        got = await names(batches, 9)
    if len(backend.store._keys.partitions) == 1:  # several are read side by side
        assert got == ["r2", "r5", "r8", "r1", "r4", "r7", "r0", "r3", "r6"]
    assert sorted(got) == [f"r{number}" for number in range(9)]


async def test_a_busy_queue_does_not_starve_another(backend: RedisBackend) -> None:
    await backend.queue.publish([job(f"busy{number}", "a", priority=9) for number in range(50)])
    await backend.queue.publish([job("quiet", "b")])
    async with backend.queue.deliveries(["a", "b"], prefetch=5) as batches:
        assert "quiet" in await names(batches, 12)


async def test_a_delayed_message_comes_when_it_is_due(backend: RedisBackend) -> None:
    loop = asyncio.get_running_loop()
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        start = loop.time()
        await backend.queue.publish([job("later", priority=3)], delay=1.2)
        await backend.queue.publish([job("soon")], delay=0.6)
        await backend.queue.publish([job("now")])
        assert await names(batches, 1) == ["now"]
        assert await backend.queue.depth("q") == 0
        assert await names(batches, 1) == ["soon"]
        assert loop.time() - start >= 0.6
        assert await names(batches, 1) == ["later"]
        assert loop.time() - start >= 1.2
    assert await backend.queue.depth("q") == 0


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


async def test_an_abandoned_message_comes_again(backend: RedisBackend) -> None:
    await backend.queue.publish([job("run")])
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        first = await one(batches)
        assert await backend.queue.depth("q") == 0
        second = await one(batches)
        assert (first.redelivered, second.redelivered) == (False, True)
        assert second.job == first.job
        await first.ack()  # too late: it is the second one's now
        third = await one(batches)
        assert third.redelivered
        await third.ack()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * VISIBILITY):
                await one(batches)
    assert await backend.queue.depth("q") == 0


@pytest.mark.parametrize("action", ["ack", "extend", "retry", "retry later", "reject"])
async def test_a_late_owner_cannot_move_the_message(backend: RedisBackend, action: str) -> None:
    await backend.queue.publish([job("run")])
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        first = await one(batches)
        second = await one(batches)
        await second.extend(60)
        match action:
            case "ack":
                await first.ack()
            case "extend":
                await first.extend(1000)
            case "retry":
                await first.retry()
            case "retry later":
                await first.retry(delay=0.01)
            case _:
                await first.reject("late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2 * VISIBILITY):
                await one(batches)
        assert (await backend.queue.dead_letters()).items == ()
        await second.retry()
        third = await one(batches)
        await second.reject("late")
        assert (await backend.queue.dead_letters()).items == ()
        await third.ack()
    assert await backend.queue.depth("q") == 0


@pytest.mark.parametrize("times", [1, 4])
async def test_extend_keeps_a_message(backend: RedisBackend, times: int) -> None:
    """For less than the visibility, again and again; and for longer at once."""
    loop = asyncio.get_running_loop()
    await backend.queue.publish([job("run")])
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        delivery = await one(batches)
        start = loop.time()
        reader = asyncio.ensure_future(one(batches))
        for _ in range(times):
            await delivery.extend(4 * VISIBILITY if times == 1 else VISIBILITY)
            await asyncio.sleep(0.0 if times == 1 else VISIBILITY / 2)
        again = await reader
        assert loop.time() - start >= (4 * VISIBILITY if times == 1 else 2.4 * VISIBILITY)
        assert again.redelivered
        await again.ack()


async def test_retry_with_and_without_delay(backend: RedisBackend) -> None:
    loop = asyncio.get_running_loop()
    await backend.queue.publish([job("run")])
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        await (await one(batches)).retry()
        again = await one(batches)
        assert again.redelivered
        start = loop.time()
        await again.retry(delay=0.5)
        await again.ack()  # it ended before: nothing happens
        assert await backend.queue.depth("q") == 0
        last = await one(batches)
        assert 0.5 <= loop.time() - start < 5
        assert last.redelivered
        await last.ack()
    assert await backend.queue.depth("q") == 0


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


async def test_a_new_urgency_wakes_whoever_waits(backend: RedisBackend) -> None:
    """A receiver listens to the streams it knows; it learns of another one at once."""
    loop = asyncio.get_running_loop()
    async with backend.queue.deliveries(["q"], prefetch=50) as batches:
        reader = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(1.05)  # just after it looked for itself
        start = loop.time()
        await backend.queue.publish([job("urgent", priority=7)])
        (delivery,) = await reader
        assert delivery.job.run_id == "urgent"
        assert loop.time() - start < 0.5
        await delivery.ack()


async def test_handing_back_wakes_another_receiver(backend: RedisBackend) -> None:
    async with backend.queue.deliveries(["q"], prefetch=1) as other:
        async with backend.queue.deliveries(["q"], prefetch=5) as batches:
            await backend.queue.publish([job("a")])
            await anext(batches)
            reader = asyncio.ensure_future(anext(other))
            await asyncio.sleep(0.05)
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


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[1]", b"{}", b"x" * 100_000, b"[99" + b",1" * 8 + b"]", b"[" * 50_000]
)
async def test_an_undecodable_message_becomes_a_dead_letter(backend: RedisBackend, body: bytes) -> None:
    await backend.queue.publish_bytes("q", body, priority=5)
    await backend.queue.publish([job("good")])
    async with backend.queue.deliveries(["q"], prefetch=2) as batches:
        assert await names(batches, 1) == ["good"]
        reader = asyncio.ensure_future(anext(batches))
        await depth_is(backend, 0)
        async with asyncio.timeout(20):
            while not (await backend.queue.dead_letters()).items:  # noqa: ASYNC110 - nothing tells of dead letters
                await asyncio.sleep(0.01)
        reader.cancel()
    (letter,) = (await backend.queue.dead_letters()).items
    assert (letter.queue, letter.body) == ("q", body)
    assert "not a job message" in letter.reason


async def test_only_undecodable_messages_do_not_stop_the_iterator(backend: RedisBackend) -> None:
    for _ in range(5):
        await backend.queue.publish_bytes("q", b"?")
    async with backend.queue.deliveries(["q"], prefetch=2) as batches:
        reader = asyncio.ensure_future(anext(batches))
        while len((await backend.queue.dead_letters()).items) < 5:  # noqa: ASYNC110 - nothing tells of dead letters
            await asyncio.sleep(0.01)
        await backend.queue.publish([job("good")])
        (delivery,) = await reader
        await delivery.ack()


async def test_a_good_message_in_foreign_bytes_is_delivered(backend: RedisBackend) -> None:
    await backend.queue.publish_bytes("q", job("run").to_bytes())
    async with backend.queue.deliveries(["q"], prefetch=2) as batches:
        assert await names(batches, 1) == ["run"]


async def test_a_rejected_message_is_kept_with_its_reason(backend: RedisBackend) -> None:
    await backend.queue.publish([job("run")])
    async with backend.queue.deliveries(["q"], prefetch=2) as batches:
        await (await one(batches)).reject("no such run")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * VISIBILITY):
                await one(batches)
    assert await backend.queue.depth("q") == 0
    (letter,) = (await backend.queue.dead_letters()).items
    assert (letter.queue, letter.reason, Job.from_bytes(letter.body)) == ("q", "no such run", job("run"))


async def test_a_cancelled_reader_loses_nothing(backend: RedisBackend) -> None:
    await backend.queue.publish([job(f"r{number}") for number in range(40)])
    found: list[str] = []
    async with backend.queue.deliveries(["q"], prefetch=3) as batches:
        for yields in range(30):
            reader = asyncio.ensure_future(anext(batches))
            for _ in range(yields % 4):
                await asyncio.sleep(0)
            reader.cancel()
            try:
                for delivery in await reader:
                    found.append(delivery.job.run_id)
                    await delivery.ack()
            except asyncio.CancelledError:
                continue
        found += await names(batches, min(10, 40 - len(found)))
        reader = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])
    async with backend.queue.deliveries(["q"], prefetch=40) as batches:
        found += await names(batches, 40 - len(found))
    assert sorted(found) == sorted(f"r{number}" for number in range(40))
    assert await backend.queue.depth("q") == 0


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


async def test_closing_ends_the_iterators(backend: RedisBackend) -> None:
    async with backend.queue.deliveries(["q"], prefetch=1) as batches:
        reader = asyncio.ensure_future(anext(batches, None))
        await asyncio.sleep(0.05)
        await backend.queue.aclose()
        assert await reader is None


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


async def depth_is(backend: RedisBackend, wanted: int) -> None:
    async with asyncio.timeout(20):
        while await backend.queue.depth("q") != wanted:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


async def receive(backend: RedisBackend, count: int) -> dict[str, Delivery]:
    """So many messages, handed back by leaving the block."""
    async with backend.queue.deliveries(["q"], prefetch=count) as batches:
        held: dict[str, Delivery] = {}
        while len(held) < count:
            held |= {delivery.job.run_id: delivery for delivery in await anext(batches)}
        return held
