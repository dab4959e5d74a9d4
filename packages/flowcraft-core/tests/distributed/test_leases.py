"""`StoreLeases`: the contract of a coordination store, kept by documents of the run store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from flowcraft.errors import InvalidRequest, UnknownOutcome
from flowcraft.leases import StoreLeases
from flowcraft.memory import MemoryCoordination
from flowcraft.model import Change, Committed
from flowcraft.ports import CoordinationStore

from .conftest import MakeWorld
from .world import World


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


@pytest.fixture(params=["store", "memory"])
def leases(world: World, request: pytest.FixtureRequest) -> CoordinationStore:
    """The memory coordination store beside it: the two must not be told apart."""
    return StoreLeases(world.store, world.clock) if request.param == "store" else MemoryCoordination(world.clock)


async def test_claims_exclude_each_other_and_expire(world: World, leases: CoordinationStore) -> None:
    assert await leases.claim(["a", "b"], "one", 30) == [True, True]
    assert await leases.claim(["b", "c"], "two", 30) == [False, True]
    assert await leases.claim(["a"], "one", 30) == [True]
    assert await leases.holders(["a", "b", "c", "d"]) == ["one", "one", "two", None]
    world.clock.now += 29
    assert await leases.renew(["a", "c", "d"], "one", 30) == ["mine", "other", "gone"]
    world.clock.now += 2
    assert await leases.claim(["a", "b", "c"], "three", 30) == [False, True, True]


async def test_one_of_many_wins(leases: CoordinationStore) -> None:
    won = await asyncio.gather(*(leases.claim(["k"], f"o{n}", 30) for n in range(30)))
    assert sum(granted for [granted] in won) == 1


async def test_release_is_for_the_owner(leases: CoordinationStore) -> None:
    await leases.claim(["a"], "one", 30)
    await leases.release(["a", "b"], "two")
    assert await leases.holders(["a"]) == ["one"]
    await leases.release(["a"], "one")
    assert await leases.claim(["a"], "two", 30) == [True]


async def test_revoke(world: World, leases: CoordinationStore) -> None:
    await leases.claim(["a"], "one", 30)
    await leases.revoke(["a", "nobody's"])
    assert await leases.renew(["a", "nobody's"], "one", 30) == ["other", "gone"]
    assert await leases.claim(["a"], "two", 30) == [False]
    assert await leases.holders(["a"]) == ["one"]
    world.clock.now += 31
    assert await leases.claim(["a"], "two", 30) == [True]


async def test_counters_and_texts(world: World, leases: CoordinationStore) -> None:
    assert sorted(await asyncio.gather(*(leases.increment("n", 60) for _ in range(10)))) == list(range(1, 11))
    assert await leases.get("n") == "10"
    world.clock.now += 61
    assert await leases.increment("n", 60) == 1
    assert await leases.set_if_not_exist("t", "x", 60) is True
    assert await leases.set_if_not_exist("t", "y", 60) is False
    assert await leases.get("t") == "x"
    with pytest.raises(InvalidRequest):
        await leases.increment("t", 60)
    world.clock.now += 50
    assert await leases.extend_ttl("t", 60) is True
    world.clock.now += 50
    assert await leases.get("t") == "x"
    await leases.delete("t")
    await leases.delete("t")
    assert await leases.get("t") is None
    assert await leases.extend_ttl("t", 60) is False


async def test_slots(world: World, leases: CoordinationStore) -> None:
    assert [await leases.acquire_slot("s", h, 2, 30) for h in "abc"] == [True, True, False]
    assert await leases.acquire_slot("s", "a", 2, 60) is True
    await leases.release_slot("s", "b")
    await leases.release_slot("s", "nobody")
    assert await leases.acquire_slot("s", "c", 2, 30) is True
    world.clock.now += 31
    assert await leases.acquire_slot("s", "d", 2, 30) is True
    assert await leases.acquire_slot("s", "e", 2, 30) is False


async def test_rates(world: World, leases: CoordinationStore) -> None:
    assert [await leases.take("r", 10, 10, 3) for _ in range(3)] == [0, 0, 0]
    assert await leases.take("r", 10, 10, 3) == pytest.approx(1)
    world.clock.now += 1
    assert await leases.take("r", 10, 10, 3) == 0
    assert await leases.take("r", 10, 10, 3) == pytest.approx(1)
    with pytest.raises(InvalidRequest):
        await leases.take("r", 0, 10, 3)


async def test_an_unknown_outcome_is_looked_up(world: World) -> None:
    leases = StoreLeases(world.store, world.clock)
    await leases.increment("n", 60)
    commit = world.store.commit
    applied = True

    async def lose(changes: Sequence[Change]) -> Sequence[Committed]:
        nonlocal applied
        applied = not applied
        if applied:
            await commit(changes)
        raise UnknownOutcome("cut")

    world.store.commit = lose  # type: ignore[method-assign] # this is the point
    assert await leases.increment("n", 60) == 2
    assert await leases.get("n") == "2"


async def test_purge(world: World) -> None:
    leases = StoreLeases(world.store, world.clock)
    await leases.claim([f"k{n}" for n in range(450)], "one", 30)
    await leases.claim(["long"], "one", 100)
    assert await leases.purge() == 0
    world.clock.now += 31
    assert await leases.purge() == 450
    assert len((await world.store.list(kind="lease")).items) == 1
