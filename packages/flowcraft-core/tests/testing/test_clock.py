"""The virtual clock: time moves when it is told to, and whoever sleeps wakes in order."""

from __future__ import annotations

import asyncio

import pytest

from flowcraft.testing import VirtualClock


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock = VirtualClock(start=100.0)
    woken: list[tuple[str, float]] = []

    async def nap(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.time()))

    tasks = [asyncio.create_task(nap(*each)) for each in (("b", 20.0), ("a", 10.0), ("c", 20.0), ("d", 90.0))]
    await clock.advance(9.0)
    assert woken == []
    await clock.advance(minutes=1)
    assert woken == [("a", 110.0), ("b", 120.0), ("c", 120.0)]
    assert clock.time() == clock.monotonic() == 169.0
    await clock.advance(hours=1, days=1)
    assert woken[-1] == ("d", 190.0)
    await asyncio.gather(*tasks)


async def test_what_begins_to_sleep_meanwhile_wakes_in_time() -> None:
    clock = VirtualClock(start=0.0)
    seen: list[float] = []

    async def tick() -> None:
        for _ in range(5):
            await clock.sleep(1.0)
            seen.append(clock.time())

    task = asyncio.create_task(tick())
    await clock.advance(10.0)
    assert seen == [1.0, 2.0, 3.0, 4.0, 5.0]
    await task


async def test_a_cancelled_sleeper_is_gone() -> None:
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(5.0))
    await clock.advance()
    assert clock.next_wake() == clock.now + 5.0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.next_wake() is None
    assert clock.step(7.0) is False


async def test_no_time_passes_for_a_sleep_of_nothing() -> None:
    clock = VirtualClock(start=3.0)
    await clock.sleep(0.0)
    await clock.sleep(-1.0)
    assert clock.time() == 3.0


async def test_assigning_now_jumps_over_sleepers_and_the_next_move_wakes_them() -> None:
    clock = VirtualClock(start=0.0)

    async def nap() -> float:
        await clock.sleep(5.0)
        return clock.now

    task = asyncio.create_task(nap())
    await clock.advance()
    clock.now = 50.0
    await asyncio.sleep(0)
    assert not task.done()
    await clock.advance()
    assert await task == 50.0, "time does not go back to the sleeper's"


async def test_run_lets_time_pass_only_when_nothing_else_happens() -> None:
    clock = VirtualClock(start=0.0)

    async def work() -> float:
        await clock.sleep(3600.0)
        await asyncio.to_thread(lambda: None)
        await clock.sleep(1.0)
        return clock.time()

    assert await clock.run(work()) == 3601.0
    with pytest.raises(TimeoutError, match="10 s of virtual time"):
        await clock.run(clock.sleep(11.0), within=10.0)
    with pytest.raises(ZeroDivisionError):
        await clock.run(_fail())


async def _fail() -> None:
    raise ZeroDivisionError
