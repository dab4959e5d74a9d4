"""Random cron expressions against the most naive reading of them: a look at the clock in every minute of a year."""

from __future__ import annotations

import functools
import random
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft.errors import CronError
from flowcraft.recurrence import Cron

Day = tuple[int, int, int]  # month, day, weekday (Sunday 0)
ZONES = [
    ("Europe/Berlin", 2026), ("Australia/Lord_Howe", 2026), ("America/Sao_Paulo", 2018), ("Africa/Casablanca", 2026),
    ("Pacific/Apia", 2011),
]  # fmt: skip


@dataclass(frozen=True)
class Year:
    """``shown``: by day, each hour and minute of it with the moment when the clock shows it *first*; what it leaves out
    belongs to the moment of the jump. ``odd``: the moments of a jump, forward or back."""

    begin: int
    end: int
    shown: dict[Day, list[tuple[int, int, int]]]
    odd: list[int]


@functools.cache
def year_of(zone: str, number: int) -> Year:
    begin, end = (int(datetime(n, 1, 1, tzinfo=UTC).timestamp()) for n in (number, number + 1))
    tz, minute = ZoneInfo(zone), timedelta(minutes=1)
    shown: dict[Day, list[tuple[int, int, int]]] = {}
    odd: list[int] = []
    latest = before = datetime.fromtimestamp(begin, tz).replace(tzinfo=None, fold=0) - minute
    for moment in range(begin, end, 60):
        now = datetime.fromtimestamp(moment, tz).replace(tzinfo=None, fold=0)
        if now - before != minute:
            odd.append(moment)
        before = now
        while latest < now:
            latest += minute
            day = latest.month, latest.day, latest.isoweekday() % 7
            shown.setdefault(day, []).append((latest.hour, latest.minute, moment))
    return Year(begin, end, shown, odd)


# Each field with its text and what that means, made side by side: the expression is never parsed for the expectation.
Meaning = tuple[str, frozenset[int]]
NAMES = {
    "month": ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "weekday": ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "7"],
}


@st.composite
def items(draw: st.DrawFn, low: int, high: int, names: list[str] | None) -> Meaning:
    def spell(number: int) -> str:
        return names[number] if names and draw(st.booleans()) else str(number)

    step = draw(st.integers(1, high))
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    return draw(
        st.sampled_from(
            [
                (spell(first), frozenset({first})),
                (f"{spell(first)}-{spell(last)}", frozenset(range(first, last + 1))),
                (f"{spell(first)}-{spell(last)}/{step}", frozenset(range(first, last + 1, step))),
                (f"{spell(first)}/{step}", frozenset(range(first, high + 1, step))),
                (f"*/{step}", frozenset(range(low, min(high, 6) + 1 if high == 7 else high + 1, step))),
            ]
        )
    )


@st.composite
def fields(draw: st.DrawFn, low: int, high: int, names: list[str] | None = None) -> Meaning:
    if draw(st.integers(0, 2)) == 0:
        return "*", frozenset(range(low, high + 1))
    parts = draw(st.lists(items(low, high, names), min_size=1, max_size=3))
    return ",".join(text for text, _ in parts), frozenset[int]().union(*(allowed for _, allowed in parts))


expressions = st.tuples(
    fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12, NAMES["month"]), fields(0, 7, NAMES["weekday"])
)


def fires(year: Year, parts: tuple[Meaning, ...]) -> list[int]:
    (_, minutes), (_, hours), (in_month, days), (_, months), (in_week, weekdays) = parts
    found: set[int] = set()
    for (month, day, weekday), clock in year.shown.items():
        one, other = day in days, weekday in weekdays or (weekday == 0 and 7 in weekdays)
        both = in_month.startswith("*") or in_week.startswith("*")
        if month in months and ((one and other) if both else (one or other)):
            found.update(moment for hour, minute, moment in clock if hour in hours and minute in minutes)
    return sorted(found)


@pytest.mark.parametrize(("zone", "number"), ZONES)
@settings(max_examples=25)
@given(parts=expressions, seed=st.integers(0, 1000))
def test_as_the_clock_on_the_wall_shows_it(zone: str, number: int, parts: tuple[Meaning, ...], seed: int) -> None:
    year = year_of(zone, number)
    text = " ".join(word for word, _ in parts)
    expected = fires(year, parts)
    try:
        cron = Cron(text, zone)
    except CronError:
        assert not expected, f"{text} does fire"
        return

    def check(moment: float) -> None:
        position = bisect_right(expected, moment)
        found = cron.next_after(moment)
        right = found == expected[position] if position < len(expected) else found >= year.end
        assert right, (text, zone, cron.show(moment), cron.show(found))

    for change in year.odd:
        for moment in range(change - 7200, change + 7200, 60 * 7):
            check(moment)
        for moment in expected[bisect_right(expected, change - 90_000) : bisect_right(expected, change + 90_000)][::5]:
            check(moment)
            check(moment - 0.5)
    rng = random.Random(seed)
    for _ in range(100):
        check(rng.uniform(year.begin, year.end - 1))
    if len(expected) <= 500:  # from each to the next, the whole year
        at = year.begin - 1.0
        for wanted in expected:
            assert (at := cron.next_after(at)) == wanted, (text, zone)


def test_the_naive_reading_sees_daylight_saving() -> None:
    year = year_of("Europe/Berlin", 2026)
    assert [datetime.fromtimestamp(at, UTC).isoformat() for at in year.odd] == [
        "2026-03-29T01:00:00+00:00", "2026-10-25T01:00:00+00:00",
    ]  # fmt: skip
    assert sum(map(len, year.shown.values())) == 365 * 24 * 60
    assert fires(year, (("30", frozenset({30})), ("2", frozenset({2})), ("29", frozenset({29})), ("3", frozenset({3})),
                        ("*", frozenset(range(8))))) == [year.odd[0]]  # fmt: skip
