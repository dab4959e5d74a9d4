"""Coordination: never more slots than the limit, and tokens that come at their rate."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.asking import handles
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.coordination_leases import LONG, SHORT
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect, raises
from flowcraft.conformance.hostile import IDS
from flowcraft.errors import InvalidRequest
from flowcraft.ports import CoordinationStore

__all__ = ["checks"]

slots = Collection("coordination", "slots")
rates = Collection("coordination", "rate")


@slots.check("never-more", kills=("coordination-slots-race",))
async def never_more(env: Env) -> None:
    """Of any number of holders that want a slot at the same time as many get one as there are.

    Three calls at a time to a service that bears three: the fourth brings it down.
    """
    wanted = [env.coordination.acquire_slot("k", f"h{n}", 3, LONG * env.unit) for n in range(40)]
    equal((await asyncio.gather(*wanted)).count(True), 3, "slots of 3 that were given")
    expect(not await env.coordination.acquire_slot("k", "late", 3, LONG * env.unit), "a fourth slot of 3 was given")
    expect(
        await env.coordination.acquire_slot("k", "late", 4, LONG * env.unit), "a limit that was raised gives one more"
    )
    expect(
        not await env.coordination.acquire_slot("k", "later", 2, LONG * env.unit), "a limit that was lowered gave one"
    )
    expect(not await env.coordination.acquire_slot("none", "h", 0, LONG * env.unit), "a slot of none was given")
    expect(await env.coordination.acquire_slot("other", "late", 1, LONG * env.unit), "another key has slots of its own")


@slots.check("a-holder-counts-once", kills=("coordination-slot-counted-twice",))
async def a_holder_counts_once(env: Env) -> None:
    """A holder that asks again keeps its slot, and takes no second one.

    A worker renews its slot while it works; it must not use up the limit alone.
    """
    ttl = LONG * env.unit
    for _ in range(4):
        expect(await env.coordination.acquire_slot("k", "one", 2, ttl), "the slot of its holder was refused")
    expect(await env.coordination.acquire_slot("k", "two", 2, ttl), "the second slot of two was refused")
    expect(
        await env.coordination.acquire_slot("k", "one", 2, ttl),
        "the slot of its holder was refused, when all are taken",
    )
    expect(not await env.coordination.acquire_slot("k", "three", 2, ttl), "a third slot of two was given")


@slots.check("expires", kills=("coordination-slot-never-expires",))
async def expires(env: Env) -> None:
    """A slot is free after its time to live, unless its holder has asked again.

    The slot of a worker that died must come back.
    """
    limits = env.coordination
    await limits.acquire_slot("k", "dies", 2, SHORT * env.unit)
    await limits.acquire_slot("k", "lives", 2, 6 * env.unit)
    expect(not await limits.acquire_slot("k", "next", 2, LONG * env.unit), "a third slot of two was given")
    await env.lapse(3 * env.unit)
    expect(await limits.acquire_slot("k", "lives", 2, 6 * env.unit), "the renewal of a slot")
    expect(await limits.acquire_slot("k", "next", 2, LONG * env.unit), "the slot of a dead holder was not free")
    await env.lapse(4 * env.unit)
    expect(not await limits.acquire_slot("k", "late", 2, LONG * env.unit), "the slot that was renewed was free")
    await env.lapse(4 * env.unit)
    expect(await limits.acquire_slot("k", "late", 2, LONG * env.unit), "the slot that was renewed once never ended")


@slots.check("release-is-the-holders", kills=("coordination-slot-release-any",))
async def release_is_the_holders(env: Env) -> None:
    """A holder gives back its own slot, at once, and no other's.

    A worker that ends without having had a slot must not make room for one too many.
    """
    limits, ttl = env.coordination, LONG * env.unit
    await limits.acquire_slot("k", "one", 1, ttl)
    await limits.release_slot("k", "nobody")
    await limits.release_slot("other", "one")
    expect(not await limits.acquire_slot("k", "two", 1, ttl), "a slot was free after the release of somebody else")
    await limits.release_slot("k", "one")
    await limits.release_slot("k", "one")
    expect(await limits.acquire_slot("k", "two", 1, ttl), "a slot that was given back was not free")
    expect(not await limits.acquire_slot("k", "one", 1, ttl), "a slot was given twice after it was given back")


@slots.check("names", kills=("coordination-slot-names-joined",), timeout=20.0)
async def names(env: Env) -> None:
    """Slots with different keys are different, and so are holders, whatever text they are.

    Limits by customer have the customer's name in the key.
    """
    ttl, pairs = LONG * env.unit, [("p", "q:r"), ("p:q", "r"), ("p:q:r", ""), ("", "p:q:r"), ("p|q", "r"), ("p#q", "r")]
    for key, holder in [*pairs, *((name, "h") for name in IDS)]:
        expect(await env.coordination.acquire_slot(key, holder, 1, ttl), f"the slot of {key!r} was taken")
    for name in IDS:
        expect(await env.coordination.acquire_slot("many", name, len(IDS), ttl), f"a slot for the holder {name!r}")
    expect(not await env.coordination.acquire_slot("many", "more", len(IDS), ttl), "two holders were taken for one")


@rates.check("burst-then-rate", kills=("coordination-rate-is-one", "coordination-rate-ignores-burst"))
async def burst_then_rate(env: Env) -> None:
    """`take` gives ``burst`` tokens at once, and then one every ``per / rate`` seconds.

    A service that allows five calls a minute blocks whoever makes six.
    """
    interval = 20 * env.unit
    for burst in (1, 4):
        waits = [await env.coordination.take(f"k{burst}", 3, 3 * interval, burst) for _ in range(burst + 2)]
        equal(waits[:burst], [0.0] * burst, f"the waits for {burst} tokens of a burst of {burst}")
        for wait in waits[burst:]:
            expect(0.8 * interval <= wait <= interval * 1.001, f"the wait for the next token: {wait}, of {interval}")


@rates.check("wait-is-enough", kills=("coordination-rate-tells-too-little",))
async def wait_is_enough(env: Env) -> None:
    """Who waits as long as it was told finds a token, if nobody was faster.

    A wait that is too short is a loop of questions; one too long wastes the rate.
    """
    limits, interval = env.coordination, 2 * env.unit
    equal(await limits.take("k", 1, interval, 1), 0.0, "the wait for the first token")
    for _ in range(3):
        wait = await limits.take("k", 1, interval, 1)
        expect(0.0 < wait <= interval * 1.001, f"the wait: {wait}, of {interval}")
        await env.lapse(wait)
        rest = await limits.take("k", 1, interval, 1)
        if rest > 0.0:  # the clocks of two machines differ by a little
            expect(rest <= 0.05 * interval, f"a wait of {rest} is left after the wait that was told")
            await env.lapse(rest)
            equal(await limits.take("k", 1, interval, 1), 0.0, "the wait after both waits")


@rates.check("saves-up-to-the-burst", kills=("coordination-rate-saves-without-end",))
async def saves_up_to_the_burst(env: Env) -> None:
    """After a quiet time no more than ``burst`` tokens are there.

    A worker that was idle overnight must not send all of the night's calls in the morning.
    """
    limits, interval = env.coordination, env.unit
    equal(await limits.take("k", 1, interval, 2), 0.0, "the wait for the first token")
    await env.lapse(6 * interval)
    waits = [await limits.take("k", 1, interval, 2) for _ in range(4)]
    equal(waits[:2], [0.0, 0.0], "the waits for what was saved up")
    expect(all(wait > 0.0 for wait in waits[2:]), f"more was saved up than the burst: {waits}")


@rates.check("asking-costs-nothing", kills=("coordination-rate-counts-refusals",))
async def asking_costs_nothing(env: Env) -> None:
    """A `take` that has to wait takes nothing: the next token comes no later for it.

    Workers that ask while there is none would push the token away from each other for ever.
    """
    limits, interval = env.coordination, 20 * env.unit
    await limits.take("k", 1, interval, 1)
    waits = [await limits.take("k", 1, interval, 1) for _ in range(12)]
    expect(all(0.0 < wait <= interval * 1.001 for wait in waits), f"waits that grow with asking: {waits}")
    await env.lapse(interval)
    rest = await limits.take("k", 1, interval, 1)
    expect(rest <= 0.05 * interval, f"a wait of {rest} is left after a whole interval")


@rates.check("raced", kills=("coordination-rate-races",))
async def raced(env: Env) -> None:
    """Of any number of callers at the same time as many get a token as there are.

    A limit that holds only for one caller at a time is none.
    """
    waits = await asyncio.gather(*(env.coordination.take("k", 1, 1000 * env.unit, 5) for _ in range(40)))
    equal([wait == 0.0 for wait in waits].count(True), 5, "tokens of 5 that were given")
    expect(await env.coordination.take("other", 1, 1000 * env.unit, 1) == 0.0, "another key has tokens of its own")


@rates.check("nonsense-is-refused", kills=("coordination-rate-takes-nonsense",))
async def nonsense_is_refused(env: Env) -> None:
    """A rate that never lets anything through is refused with `InvalidRequest`.

    A wait without end, or a division by zero, would be found by nobody.
    """
    for rate, per, burst in ((0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 0), (-1, 1.0, 1)):
        with raises(InvalidRequest, f"a rate of {rate} per {per} s with a burst of {burst}"):
            await env.coordination.take("k", rate, per, burst)


@slots.check("shared", level=3, kills=("coordination-limits-of-one-handle",))
async def shared(env: Env) -> None:
    """Slots and tokens are counted over all who have opened the place.

    The limit is that of the service that is called, not of each worker.
    """
    ttl = LONG * env.unit
    async with handles(env, 4, lambda ports: ports.coordination) as all_of_them:
        asked: list[CoordinationStore] = all_of_them * 8
        got = await asyncio.gather(*(ports.acquire_slot("k", f"h{n}", 3, ttl) for n, ports in enumerate(asked)))
        equal(got.count(True), 3, "slots of 3 that were given")
        waits = await asyncio.gather(*(ports.take("k", 1, 1000 * env.unit, 4) for ports in asked))
        equal([wait == 0.0 for wait in waits].count(True), 4, "tokens of 4 that were given")


checks = (*slots, *rates)
