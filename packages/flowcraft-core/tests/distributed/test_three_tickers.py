"""Three tickers on one store, one after the other dying at its worst moment, across both changes of daylight saving.

Every scheduled time fires once: it has one run, and that is executed once. What the times are is reckoned here in the
most naive way, minute by minute.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flowcraft.ticker import Ticker

from .places import Call, Place, report

BERLIN = ZoneInfo("Europe/Berlin")


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


#: What each cron expression means, for a (hour, minute) of the wall clock.
CRONS: dict[str, Callable[[int, int], bool]] = {
    "30 2 * * *": lambda hour, minute: (hour, minute) == (2, 30),
    "0 3 * * *": lambda hour, minute: (hour, minute) == (3, 0),
    "*/15 1-3 * * *": lambda hour, minute: minute % 15 == 0 and 1 <= hour <= 3,
    "5 * * * *": lambda _, minute: minute == 5,
}
EVERY = 1800.0


def expected(begin: int, end: int) -> set[str]:
    """The ids of all runs between two moments (not at the first)."""
    found: set[str] = set()
    shown: set[tuple[int, int, int]] = set()  # day, hour, minute: what the clock has shown already
    before = begin - 48 * 3600  # long before, to know what the clock has shown
    for now in range(before, end + 1, 60):
        wall = datetime.fromtimestamp(now, BERLIN)
        earlier = datetime.fromtimestamp(now - 60, BERLIN)
        jump = (wall.replace(tzinfo=None) - earlier.replace(tzinfo=None)).total_seconds() / 60
        minutes = [(wall.hour, wall.minute)]
        if jump > 1:
            minutes = [((earlier.hour * 60 + earlier.minute + n) // 60, (earlier.minute + n) % 60)
                       for n in range(1, int(jump) + 1)]  # fmt: skip
        new = [one for one in minutes if (wall.day, *one) not in shown]
        shown.update((wall.day, *one) for one in minutes)
        if now <= begin:
            continue
        text = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found |= {f"{cron}@{text}" for cron, matches in CRONS.items() if any(matches(*one) for one in new)}
        if (now - begin) % EVERY == 0:
            found.add(f"every@{text}")
    return found


class Deaths:
    """Each process dies at one of its next moves of a schedule, or starts of a run, before or after that was done."""

    WAYS = (("commit", "before"), ("create", "after"), ("commit", "after"), ("create", "before"))

    def __init__(self, rng: random.Random, limit: int) -> None:
        self.rng = rng
        self.ways = itertools.islice(itertools.cycle(self.WAYS), limit)
        self.told: Counter[tuple[str, str]] = Counter()

    def of(self, store: Any) -> None:
        name, when = next(self.ways, ("", ""))
        point = Call(name, "schedule" if name == "commit" else "run")
        count = self.rng.randint(1, 3)

        def fault(call: Call) -> Any:
            if call != point or store.calls[call] < count:
                return None
            self.told[name, when] += 1
            return when

        store.fault = fault


async def rounds(place: Place, end: float, rng: random.Random, deaths: Deaths) -> None:
    async def process() -> tuple[Any, Ticker]:
        made = await place.process(report, faulty=True)
        deaths.of(made.store)
        return made.store, made.ticker()

    fleet = [await process() for _ in range(3)]
    while place.clock.now < end:
        place.clock.now = min(place.clock.now + rng.uniform(5.0, 50.0), end)
        rng.shuffle(fleet)
        passes = [asyncio.create_task(ticker.run_once()) for _, ticker in fleet]
        for number, (task, (store, _)) in enumerate(zip(passes, fleet, strict=True)):
            death = asyncio.create_task(store.dead.wait())
            await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
            if store.dead.is_set():
                task.cancel()
                fleet[number] = await process()
            death.cancel()
            await asyncio.gather(task, death, return_exceptions=True)
            assert task.cancelled() or task.exception() is None


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("2026-03-29T00:00:00+01:00", "2026-03-29T05:00:00+02:00"),
        ("2026-10-25T00:00:00+02:00", "2026-10-25T05:00:00+01:00"),
    ],
    ids=["spring", "autumn"],
)
async def test_every_time_fires_once(place: Place, begin: str, end: str, seed: int) -> None:
    rng = random.Random(seed)
    place.clock.now = float(moment(begin))
    create = place.adapter.schedules.create
    for cron in CRONS:  # to be made up for, because all three may die several times in a row
        await create(cron, "report", cron=cron, timezone="Europe/Berlin", catch_up="all")
    await create("every", "report", every=EVERY, catch_up="all")
    deaths = Deaths(rng, limit=12)
    await rounds(place, float(moment(end)), rng, deaths)
    assert min(deaths.told[way] for way in Deaths.WAYS) >= 2
    wanted = expected(moment(begin), moment(end))
    assert set(await place.run_ids()) == wanted
    assert len(await place.run_ids()) == len(wanted)
    async with place.adapter.worker(ticker=False):
        await place.until(lambda: len(place.executed) >= len(wanted))
    assert Counter(run_id for run_id, _ in place.executed) == dict.fromkeys(wanted, 1)


def test_what_is_expected() -> None:
    """The naive reckoning, at the points that matter."""
    spring = expected(moment("2026-03-29T00:00:00+01:00"), moment("2026-03-29T05:00:00+02:00"))
    assert {run for run in spring if run.startswith(("30 2", "0 3"))} == {
        "30 2 * * *@2026-03-29T01:00:00Z", "0 3 * * *@2026-03-29T01:00:00Z",
    }  # fmt: skip
    autumn = expected(moment("2026-10-25T00:00:00+02:00"), moment("2026-10-25T05:00:00+01:00"))
    assert {run for run in autumn if run.startswith(("30 2", "0 3"))} == {
        "30 2 * * *@2026-10-25T00:30:00Z", "0 3 * * *@2026-10-25T02:00:00Z",
    }  # fmt: skip
    assert sum(run.startswith("*/15") for run in autumn) == 12
    assert sum(run.startswith("*/15") for run in spring) == 8
