"""All ports: what was confirmed survives that the process which was told so is killed."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import change, event, existing, index, job, new
from flowcraft.model import Event, ValueKey, value_address

__all__ = ["checks"]

_VALUE = ValueKey("output", "näme'", 2)
_of_store = Collection("store", "loss")
_of_queue = Collection("queue", "loss")
_of_values = Collection("values", "loss")
_of_coordination = Collection("coordination", "loss")
_of_events = Collection("events", "loss")


async def store_a_run(env: Env) -> str:
    """Create a run and change it; returns its version."""
    await env.store.create(new("run", "t0"))
    values, events = {_VALUE: b"value"}, [event("run", 1)]
    step = change("run", existing(await env.store.load("run")).version, "t1", values=values, at=index(wake_at=7.0))
    answers = await env.store.commit([step])
    expect(answers[0].applied, "the commit was applied")
    if env.store.capabilities.history:
        more = change("run", answers[0].version, "t1", values=values, at=index(wake_at=7.0), events=events)
        answers = await env.store.commit([more])
    return answers[0].version


@_of_store.check("survives-kill", level=2, requires=("durable",), timeout=30.0)
async def survives_kill(env: Env) -> None:
    """What a process was told to be committed is there, whole, after that process was killed without a warning.

    Workers are killed. A commit that was confirmed and then lost is work that was done and is done again, or never.
    """
    version = await env.elsewhere(store_a_run)
    stored = existing(await env.store.load("run", want=[_VALUE]))
    equal((stored.token, stored.head, stored.index), ("t1", b"head t1", index(wake_at=7.0)), "the document")
    equal(stored.version, version, "its version")
    equal(dict(stored.values), {_VALUE: b"value"}, "its values")
    if env.store.capabilities.history:
        equal([kept.seq for kept in (await env.store.read_events("run")).items], [1], "its events")
    due = await env.store.due(8.0)
    equal([summary.run_id for summary in due.items], ["run"], "what is due")


async def publish_a_job(env: Env) -> int:
    """Send one message."""
    return len(await env.queue.publish([job("run")]))


@_of_queue.check("survives-kill", level=2, requires=("durable",), timeout=30.0)
async def message_survives_kill(env: Env) -> None:
    """A message that was confirmed is delivered, although the process that sent it was killed.

    Without it every run waits for the ticker, for half a minute and more, whenever a worker dies.
    """
    equal(await env.elsewhere(publish_a_job), 0, "messages that the broker did not confirm")
    async with env.queue.deliveries(["q"], prefetch=1) as batches:
        async for batch in batches:
            equal([delivery.job for delivery in batch], [job("run")], "what is delivered")
            await batch[0].ack()
            return


async def put_a_value(env: Env) -> None:
    """Store one large value."""
    await env.values.put(value_address("run", b"x" * 100_000), b"x" * 100_000)


@_of_values.check("survives-kill", level=2, requires=("durable",), timeout=30.0)
async def value_survives_kill(env: Env) -> None:
    """A value that was stored is there after the process that stored it was killed.

    A run names it from then on; if it were gone, the run could never go on.
    """
    await env.elsewhere(put_a_value)
    key = value_address("run", b"x" * 100_000)
    equal(dict(await env.values.get_many([key])), {key: b"x" * 100_000}, "the value")


async def claim_a_lease(env: Env) -> None:
    """Take a lease, as a worker does before it executes a node."""
    expect(list(await env.coordination.claim(["work"], "killed", 4 * env.unit)) == [True], "the lease was free")


@_of_coordination.check("lease-outlives-process", level=3, requires=("durable",), timeout=30.0)
async def lease_outlives_process(env: Env) -> None:
    """A lease of another process holds here, until its time is over, although that process was killed.

    Leases are for processes that know nothing of each other. One that only its own process sees lets two workers do
    the same work; one that never ends keeps the work of a dead worker from being done.
    """
    await env.elsewhere(claim_a_lease)
    equal(list(await env.coordination.claim(["work"], "other", env.unit)), [False], "a second claim")
    equal(list(await env.coordination.holders(["work"])), ["killed"], "the holder")
    await env.lapse(4 * env.unit)
    equal(list(await env.coordination.claim(["work"], "other", env.unit)), [True], "a claim after its time")


async def publish_an_event(env: Env) -> None:
    """Tell whoever listens."""
    await env.events.publish([event("run", 1)])


@_of_events.check("reaches-other-processes", level=3, requires=("durable",), timeout=30.0)
async def reaches_other_processes(env: Env) -> None:
    """An event that another process publishes reaches a subscriber of this one.

    Workers publish, clients wait. Without it every wait for a result lasts until the store is looked at again.
    """
    async with env.events.subscribe(run_id="run") as heard, env.process(publish_an_event):
        waiting = asyncio.ensure_future(anext(heard))
        try:
            await env.eventually(lambda: _done(waiting), 30 * env.unit, "the event of the other process")
            equal(waiting.result(), event("run", 1), "the event")
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def _done(waiting: asyncio.Future[Event]) -> bool:
    await asyncio.sleep(0.01)  # real time: it comes from another process
    return waiting.done()


checks = (*_of_store, *_of_queue, *_of_values, *_of_coordination, *_of_events)
