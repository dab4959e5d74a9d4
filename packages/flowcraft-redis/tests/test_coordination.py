"""Leases, counters and limits."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from flowcraft.errors import InvalidRequest
from flowcraft_redis import RedisBackend

NAMES = ["plain", "", "a'b", 'a"; DROP TABLE leases; --', "ä/日本", "a\x1fb", "a\x1f", "b", "%", "x" * 800]


async def test_increment_counts_until_the_key_vanishes(backend: RedisBackend) -> None:
    counter = backend.coordination
    assert [await counter.increment("k", 30 * UNIT) for _ in range(3)] == [1, 2, 3]
    await pass_time(16)
    assert await counter.increment("k", 30 * UNIT) == 4
    assert await counter.get("k") == "4"
    await pass_time(31)
    assert await counter.get("k") is None
    assert await counter.increment("k", 30 * UNIT) == 1


async def test_concurrent_increments_are_all_counted(backend: RedisBackend) -> None:
    totals = await asyncio.gather(*(backend.coordination.increment("k", 60) for _ in range(200)))
    assert sorted(totals) == list(range(1, 201))


async def test_increment_of_a_text_is_refused(backend: RedisBackend) -> None:
    assert await backend.coordination.set_if_not_exist("k", "text", 60)
    with pytest.raises(InvalidRequest):
        await backend.coordination.increment("k", 60)
    assert await backend.coordination.get("k") == "text"


async def test_exactly_one_of_a_hundred_sets_a_key(backend: RedisBackend) -> None:
    keys = backend.coordination
    won = await asyncio.gather(*(keys.set_if_not_exist("k", str(number), 30 * UNIT) for number in range(100)))
    assert won.count(True) == 1
    assert await keys.get("k") == str(won.index(True))
    await pass_time(31)
    assert await keys.set_if_not_exist("k", "next", 30 * UNIT)
    assert await keys.get("k") == "next"


async def test_extend_ttl_and_delete(backend: RedisBackend) -> None:
    keys = backend.coordination
    assert not await keys.extend_ttl("k", 30 * UNIT)
    await keys.set_if_not_exist("k", "v", 30 * UNIT)
    await pass_time(16)
    assert await keys.extend_ttl("k", 30 * UNIT)
    await pass_time(16)
    assert await keys.get("k") == "v"
    await pass_time(31)
    assert not await keys.extend_ttl("k", 30 * UNIT)
    await keys.set_if_not_exist("k", "v", 30 * UNIT)
    await keys.delete("k")
    await keys.delete("k")
    assert await keys.get("k") is None


async def test_names_never_collide(backend: RedisBackend) -> None:
    keys = backend.coordination
    for name in NAMES:
        assert await keys.set_if_not_exist(name, "text " + name, 60)
    assert await keys.claim(NAMES, "me", 60) == [True] * len(NAMES)
    assert [await keys.get(name) for name in NAMES] == ["text " + name for name in NAMES]
    assert await keys.holders(NAMES) == ["me"] * len(NAMES)


async def test_exactly_one_of_a_hundred_claims_a_lease(backend: RedisBackend) -> None:
    leases = backend.coordination
    won = await asyncio.gather(*(leases.claim(["k"], f"w{number}", 30 * UNIT) for number in range(100)))
    assert sum(result == [True] for result in won) == 1
    assert await leases.holders(["k"]) == [f"w{won.index([True])}"]


async def test_claims_are_a_batch(backend: RedisBackend) -> None:
    leases = backend.coordination
    assert await leases.claim(["a", "b"], "one", 30 * UNIT) == [True, True]
    assert await leases.claim(["b", "c"], "two", 30 * UNIT) == [False, True]
    assert await leases.claim(["b"], "one", 30 * UNIT) == [True]
    assert await leases.holders(["a", "b", "c", "d"]) == ["one", "one", "two", None]
    assert await leases.claim([], "one", 30 * UNIT) == []


async def test_a_lease_expires(backend: RedisBackend) -> None:
    leases = backend.coordination
    await leases.claim(["k"], "one", 30 * UNIT)
    await pass_time(16)
    assert await leases.claim(["k"], "two", 30 * UNIT) == [False]
    assert await leases.renew(["k"], "one", 30 * UNIT) == ["mine"]
    await pass_time(16)
    assert await leases.holders(["k"]) == ["one"]
    await pass_time(31)
    assert await leases.holders(["k"]) == [None]
    assert await leases.renew(["k"], "one", 30 * UNIT) == ["gone"]
    assert await leases.claim(["k"], "two", 30 * UNIT) == [True]
    assert await leases.renew(["k"], "one", 30 * UNIT) == ["other"]


async def test_only_the_owner_releases(backend: RedisBackend) -> None:
    leases = backend.coordination
    await leases.claim(["a", "b"], "one", 30 * UNIT)
    await leases.release(["a", "b", "c"], "two")
    assert await leases.holders(["a", "b"]) == ["one", "one"]
    await leases.release(["a"], "one")
    assert await leases.holders(["a", "b"]) == [None, "one"]
    assert await leases.claim(["a"], "two", 30 * UNIT) == [True]


async def test_revoking_reaches_the_holder(backend: RedisBackend) -> None:
    leases = backend.coordination
    await leases.claim(["a", "b"], "one", 30 * UNIT)
    await leases.revoke(["a", "missing"])
    assert await leases.renew(["a", "b"], "one", 30 * UNIT) == ["other", "mine"]
    assert await leases.renew(["a"], "one", 30 * UNIT) == ["other"]
    assert await leases.claim(["a"], "one", 30 * UNIT) == [False]
    assert await leases.claim(["a"], "two", 30 * UNIT) == [False]
    assert await leases.holders(["a", "missing"]) == ["one", None]
    await pass_time(31)
    assert await leases.renew(["a"], "one", 30 * UNIT) == ["gone"]
    assert await leases.claim(["a"], "two", 30 * UNIT) == [True]
    assert await leases.renew(["a"], "two", 30 * UNIT) == ["mine"]


async def test_the_holder_of_a_revoked_lease_can_release_it(backend: RedisBackend) -> None:
    leases = backend.coordination
    await leases.claim(["a"], "one", 30 * UNIT)
    await leases.revoke(["a"])
    await leases.release(["a"], "one")
    assert await leases.holders(["a"]) == [None]
    assert await leases.claim(["a"], "one", 30 * UNIT) == [True]
    assert await leases.renew(["a"], "one", 30 * UNIT) == ["mine"]


async def test_never_more_slots_than_the_limit(backend: RedisBackend) -> None:
    limits = backend.coordination
    got = await asyncio.gather(*(limits.acquire_slot("k", f"h{number}", 3, 30 * UNIT) for number in range(50)))
    assert got.count(True) == 3
    winners = [f"h{number}" for number, ok in enumerate(got) if ok]
    await pass_time(15)
    assert await limits.acquire_slot("k", winners[0], 3, 1000)
    assert not await limits.acquire_slot("k", "late", 3, 1000)
    await limits.release_slot("k", "nobody")
    assert not await limits.acquire_slot("k", "late", 3, 1000)
    await limits.release_slot("k", winners[1])
    assert await limits.acquire_slot("k", "late", 3, 1000)
    assert not await limits.acquire_slot("k", "later", 3, 1000)
    await pass_time(16)  # the third one's time is over
    assert await limits.acquire_slot("k", "later", 3, 1000)
    assert not await limits.acquire_slot("k", "latest", 3, 1000)
    assert await limits.acquire_slot("other", "latest", 1, 1000)
    assert not await limits.acquire_slot("none", "latest", 0, 1000)


async def test_tokens_come_at_the_rate(backend: RedisBackend) -> None:
    limits = backend.coordination
    loop = asyncio.get_running_loop()
    start = loop.time()
    taken: list[float] = []
    while len(taken) < 8:
        wait = await limits.take("k", 5, 0.5, 3)
        if wait == 0.0:
            taken.append(loop.time() - start)
        else:
            assert 0 < wait <= 0.1
            await asyncio.sleep(wait)
    assert taken[2] < 0.1, "three were saved up"
    for number, at in enumerate(taken[3:], 1):
        assert at >= 0.1 * number - 0.01, "never faster than the rate"


async def test_saved_up_tokens_are_bounded(backend: RedisBackend) -> None:
    limits = backend.coordination
    await limits.take("k", 1, 0.5, 2)
    await asyncio.sleep(1.6)
    waits = [await limits.take("k", 1, 0.5, 2) for _ in range(3)]
    assert waits[:2] == [0.0, 0.0]
    assert 0.2 < waits[2] <= 0.5


@pytest.mark.parametrize(("rate", "per", "burst"), [(0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 0), (-1, 1.0, 1)])
async def test_a_limit_that_lets_nothing_through_is_refused(
    backend: RedisBackend, rate: float, per: float, burst: int
) -> None:
    with pytest.raises(InvalidRequest):
        await backend.coordination.take("k", rate, per, burst)


async def test_more_leases_than_one_script_takes(backend: RedisBackend) -> None:
    leases = backend.coordination
    keys = [f"lease {number}" for number in range(4500)]
    assert await leases.claim(keys[:2], "other", 60) == [True, True]
    assert await leases.claim(keys, "me", 60) == [False, False] + [True] * 4498
    assert await leases.renew(keys, "me", 60) == ["other", "other"] + ["mine"] * 4498
    await leases.revoke(keys[:3000])
    await leases.release(keys, "me")
    assert await leases.holders(keys) == ["other", "other"] + [None] * 4498


async def test_everything_has_a_time_to_live(backend: RedisBackend, client: Redis, prefix: str) -> None:
    """What nobody asks for again goes by itself."""
    keys = backend.coordination
    await keys.increment("counter", 50)
    await keys.increment("counter", 50)
    await keys.set_if_not_exist("text", "value", 50)
    await keys.claim(["lease", "revoked"], "me", 50)
    await keys.revoke(["revoked"])
    await keys.acquire_slot("slot", "me", 2, 50)
    await keys.take("rate", 1, 50.0, 2)
    names = [name async for name in client.scan_iter(f"{{{prefix}:coordination}}*")]
    assert len(names) == 6
    for name in names:
        assert 0 < await client.ttl(name) <= 52


async def pass_time(units: float) -> None:
    """Redis has a clock of its own, so time has to pass."""
    await asyncio.sleep(units * UNIT)


#: Seconds.
UNIT = 0.04
