"""Job queue: setting up, closing, counting."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect, raises
from flowcraft.conformance.making import job
from flowcraft.conformance.receiving import receiving
from flowcraft.errors import PayloadTooLarge

__all__ = ["checks"]

checks = Collection("queue", "live")


@checks.check("setup-races", level=3)
async def setup_races(env: Env) -> None:
    """Setting up may be repeated and raced, by several processes, and takes nothing away.

    Every process of a deployment does it when it starts.
    """
    await env.queue.publish([job("kept")])
    async with env.again() as other:
        if other.queue is not None:
            await asyncio.gather(*(queue.setup() for queue in (env.queue, other.queue) for _ in range(5)))
    async with receiving(env) as receiver:
        equal(await receiver.acked(1), ["kept"], "what was there before")


@checks.check("close-twice")
async def close_twice(env: Env) -> None:
    """Closing may be repeated, and messages outlive it.

    Two owners of one object may both clean up.
    """
    async with env.again() as other:
        if other.queue is not None:
            await other.queue.publish([job("run")])
            await other.queue.aclose()
            await other.queue.aclose()
    async with env.again() as other, receiving(env, queue=other.queue) as receiver:
        equal(await receiver.acked(1), ["run"], "what was there before")


@checks.check("close-ends-receivers")
async def close_ends_receivers(env: Env) -> None:
    """Closing the queue ends its iterators; nobody hangs in one.

    A process that closes its ports wants to end.
    """
    async with env.again() as other:
        expect(other.queue is not None, "the queue was opened again")
        if other.queue is None:
            return
        async with other.queue.deliveries(["q"], prefetch=1) as stream:
            asked = asyncio.ensure_future(anext(stream, None))
            await asyncio.wait({asked}, timeout=0.05)
            await other.queue.aclose()
            await asyncio.wait({asked}, timeout=5.0)
            ended = asked.done()
            asked.cancel()
            found = (await asyncio.gather(asked, return_exceptions=True))[0]
        expect(ended, "an iterator that waits ends when its queue is closed; it did not within 5 s")
        expect(found is None, f"the iterator of a closed queue stops, without an error; it gave or raised {found!r}")


@checks.check("no-task-left", alone=True)
async def no_task_left(env: Env) -> None:
    """No task that a block of `deliveries` started outlives it.

    What is left behind keeps connections and takes messages that nobody reads.
    """

    async def block() -> None:
        async with receiving(env) as receiver:
            await env.queue.publish([job("later")], delay=5 * env.unit)
            await env.queue.publish([job("now")])
            await receiver.acked(1)

    await block()  # what the queue opens when it is first needed, and keeps, is not the block's
    before = asyncio.all_tasks()
    await block()
    for _ in range(20):
        await asyncio.sleep(0)
    left = [task.get_name() for task in asyncio.all_tasks() - before]
    equal(left, [], "tasks that are left")


@checks.check("depth")
async def depth(env: Env) -> None:
    """The depth is None, or roughly how many messages wait: none in a new queue, some when many do.

    The ticker sends nothing again to a queue that is congested; a depth that never falls would stop all repair.
    """
    fresh = await env.queue.depth("a queue that nobody used")
    expect(fresh in (None, 0), f"the depth of a queue that nobody used is {fresh}")
    await env.queue.publish([job(f"r{n}") for n in range(30)])

    async def some() -> bool:
        found = await env.queue.depth("q")
        return found is None or found >= 10

    await env.eventually(some, 10 * env.unit + env.target.settle, "of 30 messages that wait, at least 10 are counted")
    async with receiving(env, prefetch=30) as receiver:
        await receiver.acked(30)

    async def none() -> bool:
        return not await env.queue.depth("q")

    await env.eventually(none, 10 * env.unit + env.target.settle, "of messages that were acked, none is counted")


@checks.check("too-large", level=4, requires=("max_message_bytes",))
async def too_large(env: Env) -> None:
    """A message beyond ``max_message_bytes`` is refused with `PayloadTooLarge`.

    The limit is declared; what is beyond it must not become an error of the driver, or half a message.
    """
    most = env.queue.capabilities.max_message_bytes or 0
    expect(most >= 2048, "a message of ids always fits")
    with raises(PayloadTooLarge, "publishing a message beyond the limit"):
        await env.queue.publish([job("x" * (most + 1))])
