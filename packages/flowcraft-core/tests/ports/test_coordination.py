"""Leases, counters and limits of both embedded backends."""

from __future__ import annotations

import asyncio

import pytest

from flowcraft.errors import InvalidRequest

from .conftest import Backend
from .virtual_clock import VirtualClock

NAMES = ["plain", "", "a'b", 'a"; DROP TABLE leases; --', "ä/日本", "a\x1fb", "a\x1f", "b", "%", "x" * 800]


async def test_increment_counts_until_the_key_vanishes(backend: Backend, clock: VirtualClock) -> None:
    counter = backend.coordination
    assert [await counter.increment("k", 10) for _ in range(3)] == [1, 2, 3]
    await clock.advance(9)
    assert await counter.increment("k", 10) == 4
    assert await counter.get("k") == "4"
    await clock.advance(1)
    assert await counter.get("k") is None
    assert await counter.increment("k", 10) == 1


async def test_concurrent_increments_are_all_counted(backend: Backend) -> None:
    totals = await asyncio.gather(*(backend.coordination.increment("k", 60) for _ in range(200)))
    assert sorted(totals) == list(range(1, 201))


async def test_increment_of_a_text_is_refused(backend: Backend) -> None:
    assert await backend.coordination.set_if_not_exist("k", "text", 60)
    with pytest.raises(InvalidRequest):
        await backend.coordination.increment("k", 60)
    assert await backend.coordination.get("k") == "text"


async def test_exactly_one_of_a_hundred_sets_a_key(backend: Backend, clock: VirtualClock) -> None:
    keys = backend.coordination
    won = await asyncio.gather(*(keys.set_if_not_exist("k", str(number), 5) for number in range(100)))
    assert won.count(True) == 1
    assert await keys.get("k") == str(won.index(True))
    await clock.advance(5)
    assert await keys.set_if_not_exist("k", "next", 5)
    assert await keys.get("k") == "next"


async def test_extend_ttl_and_delete(backend: Backend, clock: VirtualClock) -> None:
    keys = backend.coordination
    assert not await keys.extend_ttl("k", 10)
    await keys.set_if_not_exist("k", "v", 10)
    await clock.advance(9)
    assert await keys.extend_ttl("k", 10)
    await clock.advance(9)
    assert await keys.get("k") == "v"
    await clock.advance(1)
    assert not await keys.extend_ttl("k", 10)
    await keys.set_if_not_exist("k", "v", 10)
    await keys.delete("k")
    await keys.delete("k")
    assert await keys.get("k") is None


async def test_names_never_collide(backend: Backend) -> None:
    keys = backend.coordination
    for name in NAMES:
        assert await keys.set_if_not_exist(name, "text " + name, 60)
    assert await keys.claim(NAMES, "me", 60) == [True] * len(NAMES)
    assert [await keys.get(name) for name in NAMES] == ["text " + name for name in NAMES]
    assert await keys.holders(NAMES) == ["me"] * len(NAMES)


async def test_exactly_one_of_a_hundred_claims_a_lease(backend: Backend) -> None:
    leases = backend.coordination
    won = await asyncio.gather(*(leases.claim(["k"], f"w{number}", 30) for number in range(100)))
    assert sum(result == [True] for result in won) == 1
    assert await leases.holders(["k"]) == [f"w{won.index([True])}"]


async def test_claims_are_a_batch(backend: Backend, clock: VirtualClock) -> None:
    leases = backend.coordination
    assert await leases.claim(["a", "b"], "one", 30) == [True, True]
    assert await leases.claim(["b", "c"], "two", 30) == [False, True]
    assert await leases.claim(["b"], "one", 30) == [True]
    assert await leases.holders(["a", "b", "c", "d"]) == ["one", "one", "two", None]
    assert await leases.claim([], "one", 30) == []


async def test_a_lease_expires(backend: Backend, clock: VirtualClock) -> None:
    leases = backend.coordination
    await leases.claim(["k"], "one", 30)
    await clock.advance(29)
    assert await leases.claim(["k"], "two", 30) == [False]
    assert await leases.renew(["k"], "one", 30) == ["mine"]
    await clock.advance(29)
    assert await leases.holders(["k"]) == ["one"]
    await clock.advance(1)
    assert await leases.holders(["k"]) == [None]
    assert await leases.renew(["k"], "one", 30) == ["gone"]
    assert await leases.claim(["k"], "two", 30) == [True]
    assert await leases.renew(["k"], "one", 30) == ["other"]


async def test_only_the_owner_releases(backend: Backend) -> None:
    leases = backend.coordination
    await leases.claim(["a", "b"], "one", 30)
    await leases.release(["a", "b", "c"], "two")
    assert await leases.holders(["a", "b"]) == ["one", "one"]
    await leases.release(["a"], "one")
    assert await leases.holders(["a", "b"]) == [None, "one"]
    assert await leases.claim(["a"], "two", 30) == [True]


async def test_revoking_reaches_the_holder(backend: Backend, clock: VirtualClock) -> None:
    leases = backend.coordination
    await leases.claim(["a", "b"], "one", 30)
    await leases.revoke(["a", "missing"])
    assert await leases.renew(["a", "b"], "one", 30) == ["other", "mine"]
    assert await leases.renew(["a"], "one", 30) == ["other"]
    assert await leases.claim(["a"], "one", 30) == [False]
    assert await leases.claim(["a"], "two", 30) == [False]
    assert await leases.holders(["a", "missing"]) == ["one", None]
    await clock.advance(30)
    assert await leases.renew(["a"], "one", 30) == ["gone"]
    assert await leases.claim(["a"], "two", 30) == [True]
    assert await leases.renew(["a"], "two", 30) == ["mine"]


async def test_the_holder_of_a_revoked_lease_can_release_it(backend: Backend) -> None:
    leases = backend.coordination
    await leases.claim(["a"], "one", 30)
    await leases.revoke(["a"])
    await leases.release(["a"], "one")
    assert await leases.holders(["a"]) == [None]
    assert await leases.claim(["a"], "one", 30) == [True]
    assert await leases.renew(["a"], "one", 30) == ["mine"]


async def test_never_more_slots_than_the_limit(backend: Backend, clock: VirtualClock) -> None:
    limits = backend.coordination
    got = await asyncio.gather(*(limits.acquire_slot("k", f"h{number}", 3, 30) for number in range(50)))
    assert got.count(True) == 3
    winners = [f"h{number}" for number, ok in enumerate(got) if ok]
    await clock.advance(20)
    assert await limits.acquire_slot("k", winners[0], 3, 30)
    assert not await limits.acquire_slot("k", "late", 3, 30)
    await limits.release_slot("k", "nobody")
    assert not await limits.acquire_slot("k", "late", 3, 30)
    await limits.release_slot("k", winners[1])
    assert await limits.acquire_slot("k", "late", 3, 30)
    assert not await limits.acquire_slot("k", "later", 3, 30)
    await clock.advance(10)  # the third one's time is over
    assert await limits.acquire_slot("k", "later", 3, 30)
    assert not await limits.acquire_slot("k", "latest", 3, 30)
    assert await limits.acquire_slot("other", "latest", 1, 30)
    assert not await limits.acquire_slot("none", "latest", 0, 30)


async def test_tokens_come_at_the_rate(backend: Backend, clock: VirtualClock) -> None:
    limits = backend.coordination
    taken: list[float] = []
    start = clock.time()
    while clock.time() < start + 30:
        wait = await limits.take("k", 5, 10.0, 3)
        if wait == 0.0:
            taken.append(clock.time() - start)
        else:
            assert 0 < wait <= 2.0
            await clock.advance(wait)
    assert taken == [0.0, 0.0, 0.0, *(pytest.approx(2.0 * n) for n in range(1, 15))]


async def test_saved_up_tokens_are_bounded(backend: Backend, clock: VirtualClock) -> None:
    limits = backend.coordination
    await limits.take("k", 1, 1.0, 2)
    await clock.advance(1000)
    waits = [await limits.take("k", 1, 1.0, 2) for _ in range(3)]
    assert waits[:2] == [0.0, 0.0]
    assert waits[2] == pytest.approx(1.0)


@pytest.mark.parametrize(("rate", "per", "burst"), [(0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 0), (-1, 1.0, 1)])
async def test_a_limit_that_lets_nothing_through_is_refused(
    backend: Backend, rate: float, per: float, burst: int
) -> None:
    with pytest.raises(InvalidRequest):
        await backend.coordination.take("k", rate, per, burst)


async def test_expired_entries_do_not_pile_up(backend: Backend, clock: VirtualClock) -> None:
    """Thousands of keys that nobody asks for again."""
    keys = backend.coordination
    for _ in range(4):
        await asyncio.gather(*(keys.increment(f"{clock.time()}-{number}", 1) for number in range(600)))
        await keys.claim([f"{clock.time()}-{number}" for number in range(600)], "me", 1)
        await clock.advance(2)
    assert await _entries(backend) <= 2 * 1300


async def _entries(backend: Backend) -> int:
    coordination = backend.coordination
    if hasattr(coordination, "_leases"):
        return len(coordination._texts) + len(coordination._leases)
    sql = "SELECT (SELECT count(*) FROM texts) + (SELECT count(*) FROM leases)"
    total: int = await coordination._database.read(lambda connection: connection.execute(sql).fetchone()[0])
    return total
