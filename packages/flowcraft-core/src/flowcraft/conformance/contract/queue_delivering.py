"""Job queue: what is published is delivered, to one receiver at a time, never more than it can take."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import job
from flowcraft.conformance.receiving import receiving
from flowcraft.conformance.target import Place
from flowcraft.model import Job
from flowcraft.ports import Delivery

__all__ = ["checks"]

checks = Collection("queue", "deliver")

_LONG = "ключ" * 25  # 200 bytes


@checks.check("as-it-was")
async def as_it_was(env: Env) -> None:
    """A job arrives with every field as it was sent, and its first delivery is not called a redelivery.

    The fields are the fence of a visit: a number that comes back as text, or a cut nonce, makes every outcome stale.
    """
    sent = Job("run", "node", 7, 2, "nonce", "q", -3, 4, 255)
    equal(list(await env.queue.publish([sent])), [], "jobs that were not confirmed")
    async with receiving(env, prefetch=1) as receiver:
        delivery = await receiver.one()
        equal(delivery.job, sent, "the job")
        equal(delivery.redelivered, False, "redelivered, at the first delivery")
        await delivery.ack()


@checks.check("hostile-names")
async def hostile_names(env: Env) -> None:
    """Ids and queue names of 200 bytes, of any script, with quotes, slashes, spaces and line breaks, are only data.

    They are chosen by users. A queue that is named after one must neither break nor meet another queue.
    """
    names = ["q", "Q", "q ", "queue/1", "queue.1", "a\"b'c", "tab\tline\n", "{0};--", "%s*>#", _LONG, "é", "e\u0301"]
    jobs = [Job(f"run {name}", f"node {name}"[:40], 1, 1, "n", name) for name in names]
    equal(list(await env.queue.publish(jobs)), [], "jobs that were not confirmed")
    for sent in jobs:
        async with receiving(env, sent.queue) as receiver:
            delivery = await receiver.one(f"the message of queue {sent.queue!r}")
            equal(delivery.job, sent, f"what came out of queue {sent.queue!r}")
            await delivery.ack()


@checks.check("largest-ids")
async def largest_ids(env: Env) -> None:
    """A job with the longest ids that there are, beyond which nothing is accepted anywhere, passes through.

    A message carries ids only, so no broker's limit may be met by it.
    """
    sent = Job(_LONG, _LONG, 2**31, 2**31, "f" * 64, "q", 2**31 - 1, 2**31, 2**31)
    equal(list(await env.queue.publish([sent])), [], "jobs that were not confirmed")
    async with receiving(env) as receiver:
        delivery = await receiver.one()
        equal(delivery.job, sent, "the job")
        await delivery.ack()


@checks.check("wakes-idle")
async def wakes_idle(env: Env) -> None:
    """A receiver that waits gets what is published later, in whichever of its queues.

    Else a worker that was idle once never works again.
    """
    async with receiving(env, "a", "b") as receiver:
        for queue in ("b", "a", "b"):
            await receiver.nothing(0.25)
            await env.queue.publish([job("other", "not this one"), job("run", queue)])
            delivery = await receiver.one()
            equal(delivery.job.queue, queue, "the queue")
            await delivery.ack()


@checks.check("only-its-queues", kills=("queue-one-queue",))
async def only_its_queues(env: Env) -> None:
    """A receiver of several queues gets all messages of these, none of any other.

    Queues keep work apart that other workers are for.
    """
    await env.queue.publish([job(f"r{n}", "abc"[n % 3]) for n in range(30)])
    async with receiving(env, "a", "b") as receiver:
        equal(Counter(await receiver.acked(20)), Counter(f"r{n}" for n in range(30) if n % 3 < 2), "runs received")
        await receiver.nothing(0.5)
    async with receiving(env, "c") as receiver:
        equal(len(set(await receiver.acked(10))), 10, "messages of the third queue")


@checks.check("prefetch", kills=("queue-takes-too-many",))
async def prefetch(env: Env) -> None:
    """Never more than ``prefetch`` deliveries are in hand that have not ended, however many batches they came in.

    It is the worker's concurrency: what lies in its hand beyond it is work that nobody else can do.
    """
    await env.queue.publish([job(f"r{n}") for n in range(12)])
    async with receiving(env, prefetch=4) as receiver:
        held = await receiver.some(4)
        await receiver.nothing(0.5)
        await held.pop().ack()
        held += await receiver.some(1)
        await receiver.nothing(0.5)
        await held.pop().retry(delay=0.0)
        held += await receiver.some(1)
        await receiver.nothing(0.25)
        for delivery in held:
            await delivery.ack()
        await receiver.acked(12 - 1 - len(held))


@checks.check("batches")
async def batches(env: Env) -> None:
    """A batch is never empty, and never larger than ``prefetch``.

    Whoever gets an empty batch spins.
    """
    await env.queue.publish([job(f"r{n}") for n in range(9)])
    async with receiving(env, prefetch=3) as receiver:
        count = 0
        while count < 9:
            batch = await receiver.batch()
            expect(1 <= len(batch) <= 3, f"the batch has {len(batch)} messages")
            count += len(batch)
            await asyncio.gather(*(delivery.ack() for delivery in batch))


@checks.check("cancelled-reader")
async def cancelled_reader(env: Env) -> None:
    """Cancelling a reader that waits loses no message: whoever reads next, or receives next, gets it.

    A worker cancels its reader when it is told to stop.
    """
    await env.queue.publish([job(f"r{n}") for n in range(12)])
    found: set[str] = set()
    async with env.queue.deliveries(["q"], prefetch=3) as stream:
        for turns in range(8):
            asked: asyncio.Future[Sequence[Delivery]] = asyncio.ensure_future(anext(stream))
            for _ in range(turns):
                await asyncio.sleep(0)
            asked.cancel()
            for batch in await asyncio.gather(asked, return_exceptions=True):
                if not isinstance(batch, BaseException):
                    found.update(delivery.job.run_id for delivery in batch)
                    await asyncio.gather(*(delivery.ack() for delivery in batch))
    async with receiving(env) as receiver:
        while len(found) < 12:
            delivery = await receiver.one(f"one of the {12 - len(found)} messages that are left")
            found.add(delivery.job.run_id)
            await delivery.ack()


@checks.check("one-holder", level=3)
async def one_holder(env: Env) -> None:
    """Two receivers never hold one message at a time, while its visibility lasts; all of them get some of many.

    Each would execute it. Leases would catch that, at the price of a wasted claim for each message.
    """
    await env.queue.publish([job(f"r{n}") for n in range(20)])
    async with (
        env.again() as other,
        receiving(env, prefetch=10) as first,
        receiving(env, prefetch=10, queue=other.queue) as second,
    ):
        held = [*await first.some(10), *await second.some(10)]
        equal(len({delivery.job.run_id for delivery in held}), 20, "different messages in both hands")
        for delivery in held:
            await delivery.ack()


@checks.check("thousand", level=3, timeout=60.0, kills=("queue-loses-a-message",))
async def thousand(env: Env) -> None:
    """Of a thousand messages, published in batches while three receivers work, none is lost.

    Losing one in a thousand costs a run its time until it is sent again, and looks like a slow backend.
    """
    seen: set[str] = set()

    async def consume() -> None:
        async with env.again() as ports, receiving(env, "a", "b", prefetch=100, queue=ports.queue) as receiver:
            while len(seen) < 1000:
                for delivery in await receiver.batch(within=200):
                    seen.add(delivery.job.run_id)
                    await delivery.ack()
                await env.queue.publish([job("wake", "a"), job("wake", "b")] if len(seen) >= 1000 else [])
                seen.discard("wake")

    async def publish() -> None:
        for start in range(0, 1000, 50):
            await env.queue.publish([job(f"r{n}", "ab"[n % 2]) for n in range(start, start + 50)])

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    try:
        await publish()
        await asyncio.wait(consumers, return_when=asyncio.FIRST_COMPLETED)
        expect(len(seen) >= 1000, f"only {len(seen)} messages arrived")
    finally:
        for task in consumers:
            task.cancel()
        await asyncio.gather(*consumers, return_exceptions=True)


@checks.check("publishers", level=3)
async def publishers(env: Env) -> None:
    """Of what 64 publishers send at the same time, nothing is lost, and each is told what was confirmed.

    Commits of many runs end at the same moment.
    """
    answers = await asyncio.gather(
        *(env.queue.publish([job(f"r{n}-{m}") for m in range(3)]) for n in range(64)),
    )
    equal([list(answer) for answer in answers], [[]] * 64, "jobs that were not confirmed")
    found: set[str] = set()
    async with receiving(env, prefetch=50) as receiver:
        while len(found) < 192:
            delivery = await receiver.one(f"message {len(found) + 1} of 192")
            found.add(delivery.job.run_id)
            await delivery.ack()
    equal(found, {f"r{n}-{m}" for n in range(64) for m in range(3)}, "what arrived")


@checks.check("namespaces", level=3)
async def namespaces(env: Env) -> None:
    """A queue of one namespace gets nothing of a queue with the same name in another.

    Two deployments on one broker must not execute each other's runs.
    """
    beside = Place(f"{env.place.namespace[:30]}-beside", env.place.clock)
    try:
        async with env.target.open(beside) as ports:
            await env.queue.publish([job("mine")])
            async with receiving(env, queue=ports.queue) as other:
                await other.nothing(1.0)
            async with receiving(env) as receiver:
                equal(await receiver.acked(1), ["mine"], "what arrived")
    finally:
        if env.target.drop is not None:
            await env.target.drop(beside)
