"""Run store: set up by anyone, closed in peace, with a clock of its own."""

from __future__ import annotations

import asyncio
import time

from flowcraft.conformance.asking import handles
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import existing, new

__all__ = ["checks"]

checks = Collection("store", "opening")


@checks.check("setup-raced", kills=("store-setup-forgets", "store-setup-race-fails"))
async def setup_raced(env: Env) -> None:
    """`setup` may be repeated, and raced by any number of processes; what is stored stays.

    All workers call it when they start, also into a backend that has been in use for a year.
    """
    await env.store.create(new("run"))
    async with handles(env, 4, lambda ports: ports.store) as stores:
        await asyncio.gather(*(store.setup() for store in stores for _ in range(5)))
        for store in (env.store, *stores):
            equal(existing(await store.load("run"), "what was stored before").token, "t0", "the token")
            await store.ping()


@checks.check("close-repeated", kills=("store-close-twice-fails",))
async def close_repeated(env: Env) -> None:
    """`aclose` may be repeated, and closes only its own: what another has opened goes on, with all that is stored.

    Shutting down runs through several hands; the second must not fail, nor take the backend from other workers.
    """
    await env.store.create(new("run"))
    async with handles(env, 1, lambda ports: ports.store) as (store,):
        await store.ping()
        await store.aclose()
        await store.aclose()
    equal(existing(await env.store.load("run"), "what was stored before").token, "t0", "the token")
    async with handles(env, 1, lambda ports: ports.store) as (store,):
        equal(existing(await store.load("run"), "what was stored before, opened anew").token, "t0", "the token")


@checks.check("clock", kills=("store-clock-in-milliseconds",))
async def clock(env: Env) -> None:
    """`clock` tells epoch seconds, and goes on with time.

    Due times are compared with it: a clock that stands still, or counts in other units, fires all timers or none.
    """
    before = await env.store.clock()
    expected = env.clock.time() if env.target.virtual_time else time.time()
    expect(abs(before - expected) < 86_400, f"the clock tells {before}, it is {expected}")
    await env.lapse(env.unit)
    passed = await env.store.clock() - before
    expect(0.5 * env.unit <= passed <= 20.0 * env.unit + 10.0, f"{passed} s passed in {env.unit} s")


@checks.check("reopened", kills=("store-opening-resets-times", "store-forgets-on-opening"))
async def reopened(env: Env) -> None:
    """Opening a place again finds what is there, and changes nothing.

    Every deployment opens the backend of the one before.
    """
    await env.store.create(new("run", wake_at=3.0))
    before = existing(await env.store.load("run"))
    for _ in range(3):
        async with handles(env, 1, lambda ports: ports.store) as (store,):
            equal(existing(await store.load("run"), "the document, opened again"), before, "the document")
    equal(existing(await env.store.load("run")), before, "the document")
