"""The fault injection does what it says: else scenarios would pass because nothing went wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from flowcraft.conformance.faulty import At, Fault, Line, Messages, Rates, SkewedClock, Weather, either, faulty, writes
from flowcraft.conformance.faulty.plans import Call
from flowcraft.conformance.making import change, job, new
from flowcraft.conformance.target import Ports
from flowcraft.errors import Unavailable, UnknownOutcome
from flowcraft.memory import MemoryBackend
from flowcraft.ports import CoordinationStore, JobQueue, RunStore
from flowcraft.testing import VirtualClock


class Place:
    """One memory backend, and the ports of one process on it."""

    def __init__(self, *, bound: bool = True) -> None:
        self.clock = VirtualClock()
        self.backend = MemoryBackend(self.clock)
        self.backend.store.bind(self.backend.queue)
        self.weather = Weather(random.Random(1))
        self.line = Line(self.weather)
        self.ports = self.open(self.line, bound=bound)

    def open(self, line: Line, *, bound: bool = True) -> Ports:
        backend = self.backend
        return faulty(
            Ports(backend.store, backend.queue, backend.coordination, backend.events, backend.values), line, bound=bound
        )

    @property
    def store(self) -> RunStore:
        assert self.ports.store is not None
        return self.ports.store

    @property
    def queue(self) -> JobQueue:
        assert self.ports.queue is not None
        return self.ports.queue

    @property
    def coordination(self) -> CoordinationStore:
        assert self.ports.coordination is not None
        return self.ports.coordination


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    yield made
    made.line.reap()
    await made.backend.aclose()


def fails(place: Place, fault: Fault) -> None:
    place.line.plan = At(1, fault)


async def hangs(task: asyncio.Future[object]) -> bool:
    for _ in range(20):
        await asyncio.sleep(0)
    return not task.done()


@pytest.mark.parametrize(("fault", "done"), [("die before", False), ("die after", True)])
async def test_a_killed_process_hears_of_nothing(place: Place, fault: Fault, done: bool) -> None:
    fails(place, fault)
    creating = asyncio.ensure_future(place.store.create(new("run")))
    assert await hangs(creating)
    later = asyncio.ensure_future(place.coordination.get("key"))
    assert await hangs(later)
    assert place.line.dead
    assert (await place.backend.store.load("run") is not None) == done
    place.line.reap()
    await asyncio.wait({creating, later})
    assert creating.exception() is not None
    assert later.exception() is not None


@pytest.mark.parametrize(("fault", "done"), [("lost before", False), ("lost after", True)])
async def test_an_answer_is_lost(place: Place, fault: Fault, done: bool) -> None:
    fails(place, fault)
    with pytest.raises(UnknownOutcome):
        await place.store.create(new("run"))
    assert (await place.backend.store.load("run") is not None) == done
    assert place.weather.counts[fault] == 1


@pytest.mark.parametrize("fault", ["unavailable", "lost before", "late"])
async def test_what_cannot_be_for_a_read_is_unavailable(place: Place, fault: Fault) -> None:
    fails(place, fault)
    with pytest.raises(Unavailable):
        await place.store.load("run")
    assert await place.store.load("run") is None, "only the first call"


async def test_a_late_commit_lands_later(place: Place) -> None:
    await place.store.create(new("run"))
    fails(place, "late")
    with pytest.raises(UnknownOutcome):
        await place.store.commit([change("run", "t0", "t1")])
    stored = await place.backend.store.load("run")
    assert stored is not None
    assert stored.token == "t0"
    await place.weather.land()
    stored = await place.backend.store.load("run")
    assert stored is not None
    assert stored.token == "t1"


async def test_a_paused_process_goes_on_where_it_was(place: Place) -> None:
    place.line.pause()
    loading = asyncio.ensure_future(place.store.load("run"))
    assert await hangs(loading)
    place.line.resume()
    assert await loading is None


async def test_a_bound_store_pushes_and_acks_what_the_weather_lets_through(place: Place) -> None:
    assert place.store.bind(place.queue)
    place.weather.messages.copies = 3
    await place.store.create(new("run", jobs=[job("run")]))
    assert await place.backend.queue.depth("q") == 3
    async with place.queue.deliveries(["q"], prefetch=9) as stream:
        batch = await anext(stream)
        place.weather.messages.lose_first = True
        await place.store.commit([change("run", "t0", "t1", jobs=[job("next", node="b")], deliveries=batch[:2])])
    assert await place.backend.queue.depth("q") == 1, "two of three are acked, and the new one is lost"
    assert place.weather.messages.lost == 3
    assert [sent.run_id for sent in place.weather.messages.sent] == ["run", "next"]


async def test_an_unbound_store_neither_pushes_nor_acks() -> None:
    place = Place(bound=False)
    assert not place.store.bind(place.queue)
    await place.store.create(new("run", jobs=[job("run")]))
    assert await place.backend.queue.depth("q") == 0
    await place.queue.publish([job("run")])
    async with place.queue.deliveries(["q"], prefetch=9) as stream:
        await place.store.commit([change("run", "t0", "t1", deliveries=await anext(stream))])
    assert await place.backend.queue.depth("q") == 1
    await place.backend.aclose()


async def test_a_dead_process_takes_nothing_out_of_the_queue(place: Place) -> None:
    async with place.backend.queue.deliveries(["q"], prefetch=1) as others:

        async def receive() -> None:
            async with place.queue.deliveries(["q"], prefetch=1) as stream:
                await anext(stream)

        receiving = asyncio.ensure_future(receive())
        assert await hangs(receiving)
        place.line.cut()
        assert await hangs(receiving)
        await place.backend.queue.publish([job("run")])
        assert len(await anext(others)) == 1
        place.line.reap()
        await asyncio.wait({receiving})
        assert receiving.exception() is not None


async def test_coordination_forgets_everything_at_once(place: Place) -> None:
    other = Line(place.weather)
    coordination = place.open(other).coordination
    assert coordination is not None
    assert list(await place.coordination.claim(["key"], "me", 60.0)) == [True]
    assert list(await coordination.claim(["key"], "you", 60.0)) == [False]
    place.weather.flush()
    assert list(await coordination.claim(["key"], "you", 60.0)) == [True]
    assert list(await place.coordination.renew(["key"], "me", 60.0)) == ["other"]


async def test_some_messages_are_not_confirmed_and_not_sent(place: Place) -> None:
    fails(place, "unconfirmed")
    jobs = [job(f"r{n}") for n in range(10)]
    unconfirmed = await place.queue.publish(jobs)
    assert 1 <= len(unconfirmed) < 10
    assert await place.backend.queue.depth("q") == 10 - len(unconfirmed)


async def test_an_ack_is_dropped(place: Place) -> None:
    await place.queue.publish([job("run")])
    async with place.queue.deliveries(["q"], prefetch=1) as stream:
        (delivery,) = await anext(stream)
        fails(place, "dropped")
        await delivery.ack()
    assert await place.backend.queue.depth("q") == 1


async def test_a_stale_index_tells_what_it_told(place: Place) -> None:
    assert (await place.store.due(10.0)).items == ()
    await place.store.create(new("run", wake_at=5.0))
    fails(place, "stale")
    assert (await place.store.due(10.0)).items == ()
    assert len((await place.store.due(10.0)).items) == 1


async def test_a_failover_goes_back(place: Place) -> None:
    await place.store.create(new("run"))
    state = place.backend.store.snapshot()
    await place.store.commit([change("run", "t0", "t1")])
    await place.store.create(new("other"))
    for _ in range(2):
        place.backend.store.restore(state)
        stored = await place.store.load("run")
        assert stored is not None
        assert stored.token == "t0"
        assert await place.store.load("other") is None
        await place.store.commit([change("run", "t0", "t2")])


def test_messages_are_lost_shuffled_and_delayed() -> None:
    messages = Messages(random.Random(1), copies=2, shuffle=True, delay=5.0)
    arriving = messages.arriving([job(f"r{n}") for n in range(20)])
    assert len(arriving) == 40
    assert [one.run_id for one, _ in arriving] != [f"r{n}" for n in range(20) for _ in range(2)]
    assert all(0.0 <= later <= 5.0 for _, later in arriving)
    first = Messages(random.Random(1), lose_first=True)
    assert first.arriving([job("a")]) == []
    assert len(first.arriving([job("a")])) == 1
    assert first.lost == 1


def test_plans_are_asked_for_every_call() -> None:
    load, commit = Call("store", "load", "run"), Call("store", "commit", "run")
    second = At(2, "unavailable")
    plan = either(second, At(1, "slow", writes))
    assert [plan(call) for call in (load, load, commit, commit)] == [None, "unavailable", "slow", None]
    assert second.struck == load
    always = Rates(random.Random(1), {"slow": 1.0}, writes)
    assert [always(call) for call in (load, commit)] == [None, "slow"]


async def test_a_skewed_clock_is_wrong_in_the_time_of_day_only() -> None:
    clock = VirtualClock()
    skewed = SkewedClock(clock, 3600.0)
    assert skewed.time() - clock.time() == 3600.0
    assert skewed.monotonic() == clock.monotonic()
