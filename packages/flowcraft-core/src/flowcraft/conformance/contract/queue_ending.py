"""Job queue: how a delivery ends, and what becomes of one that does not."""

from __future__ import annotations

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import change, existing, job, new
from flowcraft.conformance.receiving import letters, receiving

__all__ = ["checks"]

checks = Collection("queue", "end")


def _hidden(env: Env) -> float:
    """Units until what nobody ended is there again, with a margin."""
    return (env.queue.capabilities.visibility or 0.0) / env.unit + 2.0


def _at_once(env: Env) -> float:
    """Units in which a message that is there comes, and one that waits for its visibility does not."""
    visibility = env.queue.capabilities.visibility
    return 20.0 if visibility is None else min(20.0, 0.5 * visibility / env.unit)


@checks.check("ack-is-final", level=2, kills=("queue-ack-forgets",))
async def ack_is_final(env: Env) -> None:
    """What was acked is not delivered again, neither to this receiver nor to the next, nor when its visibility is over.

    At least once allows it by accident; a queue that does it always makes every step be looked at twice.
    """
    await env.queue.publish([job("run")])
    async with receiving(env) as receiver:
        await (await receiver.one()).ack()
        await receiver.nothing(min(_hidden(env), 20.0))
    async with receiving(env) as receiver:
        await receiver.nothing(0.5)


@checks.check("leaving-hands-back", level=2, kills=("queue-keeps-on-leaving",))
async def leaving_hands_back(env: Env) -> None:
    """On leaving the block, deliveries that have not ended come again to anyone; those that have do not.

    A worker that is deployed anew gives back what it has in hand: its runs go on at once.
    """
    await env.queue.publish([job(f"r{n}") for n in range(4)])
    async with receiving(env, prefetch=4) as receiver:
        held = await receiver.some(4)
        await held[0].ack()
        left = {delivery.job.run_id for delivery in held[1:]}
    async with env.again() as other, receiving(env, queue=other.queue) as receiver:
        equal(set(await receiver.acked(3, within=_at_once(env))), left, "what was handed back")
        await held[1].ack()  # by the former owner, after it gave the message back: harmless
        await receiver.nothing(0.5)


@checks.check("abandoned-comes-again", kills=("queue-abandons",), level=2, requires=("visibility",))
async def abandoned_comes_again(env: Env) -> None:
    """What nobody ends is delivered again when its visibility is over, and not before.

    Its worker may have been killed. A message that stays away waits for the slow repair of the ticker.
    """
    visibility = env.queue.capabilities.visibility or 0.0
    await env.queue.publish([job("run")])
    async with receiving(env) as receiver:
        first = await receiver.one()
        await receiver.nothing(0.6 * visibility / env.unit)
        second = await receiver.one("the abandoned message", within=_hidden(env) + 10)
        equal(second.job, first.job, "the job")
        await second.ack()


@checks.check("late-owner", kills=("queue-late-ack-counts",), level=2, requires=("visibility",))
async def late_owner(env: Env) -> None:
    """Whoever ends a delivery too late, after the message went to somebody else, raises nothing and loses nothing.

    A frozen worker that wakes up acks what another one is working on; if that one dies, the message must come again.
    """
    await env.queue.publish([job("run")])
    async with receiving(env) as receiver:
        first = await receiver.one()
        second = await receiver.one("the abandoned message", within=_hidden(env) + 10)
        await first.ack()
        await second.retry(delay=0.0)
        third = await receiver.one("the message that its owner handed back", within=_hidden(env) + 10)
        await third.ack()


@checks.check("late-reject", kills=("queue-late-reject-counts",), level=2, requires=("visibility",))
async def late_reject(env: Env) -> None:
    """Whoever hands a message back, extends it or rejects it too late moves it neither away nor to the dead letters.

    The latest owner decides.
    """
    await env.queue.publish([job("run")])
    async with receiving(env) as receiver:
        first = await receiver.one()
        second = await receiver.one("the abandoned message", within=_hidden(env) + 10)
        await first.extend(100 * env.unit)
        await first.reject("late")
        await second.ack()
        equal(len((await env.queue.dead_letters()).items), 0, "dead letters")


@checks.check("extend", kills=("queue-no-extend",), level=2, requires=("extend", "visibility"))
async def extend(env: Env) -> None:
    """A delivery that is extended again and again stays in hand beyond its visibility; ended, it is gone.

    A node may take longer than any broker's default.
    """
    visibility = env.queue.capabilities.visibility or 0.0
    await env.queue.publish([job("run")])
    async with receiving(env) as receiver:
        delivery = await receiver.one()
        for _ in range(4):
            await delivery.extend(visibility)
            await receiver.nothing(0.5 * visibility / env.unit)
        await delivery.ack()
        await receiver.nothing(1.0)


@checks.check("retry")
async def retry(env: Env) -> None:
    """A delivery that is handed back comes again, to anyone, at once.

    So a worker gives up what it cannot do.
    """
    await env.queue.publish([job("run")])
    async with receiving(env) as receiver:
        first = await receiver.one()
        await first.retry(delay=0.0)
        again = await receiver.one("the message that was handed back")
        equal(again.job, first.job, "the job")
        await again.retry(delay=0.0)
    async with receiving(env) as receiver:
        equal(await receiver.acked(1), ["run"], "what was handed back before leaving")


@checks.check("retry-later", kills=("queue-retries-at-once",))
async def retry_later(env: Env) -> None:
    """A delivery that is handed back with a delay comes again after it, not before.

    A message that meets another worker's lease waits for it so; without the delay the two spin.
    """
    await env.queue.publish([job("run")])
    async with receiving(env) as receiver:
        await (await receiver.one()).retry(delay=4 * env.unit)
        await receiver.nothing(2.0)
        await (await receiver.one("the message that was handed back")).ack()


@checks.check("ends-once")
async def ends_once(env: Env) -> None:
    """A second ending of one delivery does nothing, and raises nothing.

    Shutdown and outcome may both end it.
    """
    await env.queue.publish([job("run"), job("other")])
    async with receiving(env) as receiver:
        first, second = await receiver.some(2)
        await first.retry(delay=0.0)
        await first.ack()
        await first.reject("no")
        await second.ack()
        await second.ack()
        await second.retry(delay=0.0)
        equal(await receiver.acked(1), [first.job.run_id], "what came again")
        await receiver.nothing(0.5)
        equal(len((await env.queue.dead_letters()).items), 0, "dead letters")


@checks.check("settled", level=2, requires=("bound",))
async def settled(env: Env) -> None:
    """A bound store acks the deliveries and pushes the jobs of a change in its commit; nothing is left to be done.

    So a step costs one round trip, and no crash falls between a commit and its messages.
    """
    await env.store.create(new("run", jobs=[job("run")]))
    async with receiving(env, prefetch=1) as receiver:
        delivery = await receiver.one("the job that the creation pushed")
        stored = existing(await env.store.load("run"))
        (done,) = await env.store.commit(
            [change("run", stored.version, "t1", jobs=[job("next")], deliveries=[delivery])]
        )  # fmt: skip
        expect(done.applied, "the commit was applied")
        # With a prefetch of one the next can only come if the first has ended.
        equal(await receiver.acked(1), ["next"], "what came next")
    async with receiving(env) as receiver:
        await receiver.nothing(min(_hidden(env), 20.0))


@checks.check("not-settled", level=2, requires=("bound",))
async def not_settled(env: Env) -> None:
    """A change that meets a conflict acks none of its deliveries and pushes none of its jobs, nor does a creation.

    Its outcome is planned again: acked now, it would be lost if this worker died.
    """
    await env.store.create(new("run", jobs=[job("run")]))
    await env.store.create(new("run", "other", jobs=[job("never")]))
    async with receiving(env) as receiver:
        delivery = await receiver.one("the job that the creation pushed")
        (done,) = await env.store.commit(
            [change("run", "no version", "t1", jobs=[job("never")], deliveries=[delivery])]
        )  # fmt: skip
        expect(not done.applied, "the commit met a conflict")
        await receiver.nothing(0.5)
        await delivery.retry(delay=0.0)
        equal(await receiver.acked(1), ["run"], "what came again")
        await receiver.nothing(0.5)


@checks.check("killed", level=2)
async def killed(env: Env) -> None:
    """What a receiver had in hand that vanished without a word comes to another one.

    Here its ports are closed under its hands, as by a lost connection; and its visibility passes.
    """
    await env.queue.publish([job(f"r{n}") for n in range(3)])
    async with env.again() as other, receiving(env, queue=other.queue, prefetch=3) as receiver:
        await receiver.some(3)
        if other.queue is not None:
            await other.queue.aclose()
    async with receiving(env) as receiver:
        equal(set(await receiver.acked(3, within=_hidden(env) + 60)), {"r0", "r1", "r2"}, "what came again")
    equal(len(await letters(env, 0)), 0, "dead letters")
