"""What the embedded targets name as stored is all that is stored."""

from __future__ import annotations

from random import Random

import pytest

from flowcraft.conformance import Env, Target
from flowcraft.conformance.attempt import new_place
from flowcraft.conformance.making import event, job, new
from flowcraft.conformance.targets import memory, sqlite
from flowcraft.model import ValueKey, value_address


@pytest.mark.parametrize("target", [memory, sqlite], ids=["memory", "sqlite"])
async def test_everything_is_named_and_dropped(target: Target) -> None:
    place = new_place(target, "leftovers")
    assert target.leftovers is not None
    assert target.drop is not None
    assert await target.leftovers(place) == []
    async with target.open(place) as ports:
        env = Env(target, place, ports, Random(1))
        known: set[str] = set(await target.leftovers(place))

        async def one_more(what: str) -> None:
            now = set(await target.leftovers(place))  # type: ignore[misc]
            assert now > known, f"{what} is not named"
            known.update(now)

        await env.store.create(new("bare"))
        await one_more("a document")
        await env.store.create(new("run", values={ValueKey("output", "node"): b"x"}))
        assert len(set(await target.leftovers(place)) - known) == 2, "a document and its value"
        await one_more("a value")
        await env.store.create(new("told", events=[event("told", 1)]))
        assert len(set(await target.leftovers(place)) - known) == 2, "a document and its event"
        await one_more("an event")
        await env.store.save_blueprint("hash", b"{}")
        await one_more("a blueprint")
        await env.queue.publish([job("run")])
        await one_more("a message")
        await env.queue.publish([job("run")], delay=60.0)
        await one_more("a delayed message")
        await env.queue.publish([job("rejected", "other")])
        async with env.queue.deliveries(["other"], prefetch=1) as batches:
            await (await anext(batches))[0].reject("no")
        await one_more("a dead letter")
        await env.coordination.increment("key", 60.0)
        await one_more("a text")
        await env.coordination.claim(["key"], "me", 60.0)
        await one_more("a lease")
        await env.coordination.acquire_slot("key", "me", 1, 60.0)
        await one_more("a slot")
        await env.coordination.take("key", 1.0, 60.0, 1)
        await one_more("a bucket")
        await env.values.put(value_address("run", b"large"), b"large")
        await one_more("a large value")
    await target.drop(place)
    assert await target.leftovers(place) == []
