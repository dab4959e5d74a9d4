"""Job queue: messages that are to come later, or sooner than others."""

from __future__ import annotations

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import job
from flowcraft.conformance.receiving import receiving

__all__ = ["checks"]

checks = Collection("queue", "delay")


@checks.check("not-early", kills=("queue-no-delay",))
async def not_early(env: Env) -> None:
    """A delayed message comes when its time has come, not before; one without a delay does not wait for it.

    Else a retry with back-off is none.
    """
    async with receiving(env) as receiver:
        await env.queue.publish([job("later")], delay=6 * env.unit)
        await env.queue.publish([job("now")])
        equal(await receiver.acked(1), ["now"], "what came first")
        await receiver.nothing(3.0)
        equal(await receiver.acked(1), ["later"], "what came then")


@checks.check("without-receiver")
async def without_receiver(env: Env) -> None:
    """A delay passes also while nobody receives.

    Workers come and go.
    """
    await env.queue.publish([job("later")], delay=2 * env.unit)
    await env.lapse(3 * env.unit)
    async with receiving(env) as receiver:
        equal(await receiver.acked(1), ["later"], "what came")


@checks.check("longest", requires=("max_delay",))
async def longest(env: Env) -> None:
    """A delay of ``max_delay`` is accepted, and the message does not come at once.

    The core keeps longer ones itself; it relies on what the queue declares.
    """
    most = env.queue.capabilities.max_delay or 0.0
    expect(most > 0, "max_delay is positive")
    equal(list(await env.queue.publish([job("later")], delay=most)), [], "jobs that were not confirmed")
    async with receiving(env) as receiver:
        await receiver.nothing(min(1.0, 0.5 * most / env.unit))


@checks.check("urgent-first", kills=("queue-no-priorities",), level=4, requires=("priorities",))
async def urgent_first(env: Env) -> None:
    """Of the messages that wait, those with the highest priority are delivered first.

    So an urgent run overtakes a backlog.
    """
    for number, priority in enumerate([0, 5, -1, 5, 0]):
        await env.queue.publish([job(f"r{number}", priority=priority)])
    async with receiving(env, prefetch=1) as receiver:
        runs = await receiver.acked(5)
    equal(sorted(runs[:2]), ["r1", "r3"], "the most urgent two")
    equal(runs[4], "r2", "the least urgent")
