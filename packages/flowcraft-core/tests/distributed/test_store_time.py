"""How well a process knows its store's clock, whatever the way to it is like."""

from __future__ import annotations

from typing import cast

import pytest

from flowcraft.clock import SystemClock
from flowcraft.ports import RunStore
from flowcraft.runstate import StoreTime

EPOCH = 1_000_000.0


class HandClock(SystemClock):
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 50.0

    def monotonic(self) -> float:
        return self.seconds


class FarStore:
    """Only its clock: a question takes ``there`` seconds, its answer ``back``; ``ahead``: of what it told at first."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.there = self.back = 0.001
        self.ahead = 0.0

    async def clock(self) -> float:
        self._clock.seconds += self.there
        told = self.truth
        self._clock.seconds += self.back
        return told

    @property
    def truth(self) -> float:
        return EPOCH + self._clock.seconds + self.ahead


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(clock: HandClock) -> FarStore:
    return FarStore(clock)


@pytest.fixture
def time(store: FarStore, clock: HandClock) -> StoreTime:
    return StoreTime(cast("RunStore", store), clock)


@pytest.mark.parametrize(("there", "back"), [(9.0, 0.001), (0.001, 9.0)])
async def test_an_answer_that_was_held_up_moves_nothing(
    time: StoreTime, store: FarStore, clock: HandClock, there: float, back: float
) -> None:
    await time.sync()
    clock.seconds += 1
    store.there, store.back = there, back
    await time.sync()
    assert time.now() == pytest.approx(store.truth, abs=0.01)


async def test_the_first_answer_counts_however_long_it_took_until_there_is_a_better_one(
    time: StoreTime, store: FarStore
) -> None:
    store.there = 4.0
    await time.sync()
    assert time.now() == pytest.approx(store.truth, abs=2.1)
    store.there = 0.001
    await time.sync()
    assert time.now() == pytest.approx(store.truth, abs=0.01)


@pytest.mark.parametrize("step", [-3600.0, 7.0])
async def test_a_store_whose_clock_really_moved_is_believed(time: StoreTime, store: FarStore, step: float) -> None:
    """Another server took over, say, far away as it may be."""
    await time.sync()
    store.ahead, store.there = step, 0.5
    await time.sync()
    assert time.now() == pytest.approx(store.truth, abs=0.3)


async def test_an_old_answer_loses_its_worth(time: StoreTime, store: FarStore, clock: HandClock) -> None:
    """Clocks drift apart: in the end a worse measurement of today counts more than a good one of yesterday."""
    await time.sync()
    store.there = 0.2
    clock.seconds += 600
    store.ahead = 0.3
    await time.sync()
    assert time.now() == pytest.approx(store.truth, abs=0.11)
