"""Cron expressions and what recurs, on paper: parsing, daylight saving, intervals."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from flowcraft.cron import parse_cron
from flowcraft.errors import CronError, DefinitionError, FlowcraftError, InvalidRequest
from flowcraft.recurrence import Cron, Every, newest

BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    """Epoch seconds of a moment in ISO format, UTC if it does not say otherwise."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def times(cron: Cron, after: str, count: int) -> list[str]:
    found, moment = [], at(after)
    for _ in range(count):
        moment = cron.next_after(moment)
        found.append(cron.show(moment))
    return found


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("minutes", "* * * * *", range(60)),
        ("minutes", "5 * * * *", [5]),
        ("minutes", "5,1,5 * * * *", [1, 5]),
        ("minutes", "10-13 * * * *", [10, 11, 12, 13]),
        ("minutes", "*/20 * * * *", [0, 20, 40]),
        ("minutes", "50/3 * * * *", [50, 53, 56, 59]),
        ("minutes", "10-20/5,0 * * * *", [0, 10, 15, 20]),
        ("minutes", "007 * * * *", [7]),
        ("hours", "0 */6 * * *", [0, 6, 12, 18]),
        ("hours", "0 22-23 * * *", [22, 23]),
        ("days", "0 0 1,31 * *", [1, 31]),
        ("days", "0 0 */10 * *", [1, 11, 21, 31]),
        ("months", "0 0 1 jan-mar,DEC *", [1, 2, 3, 12]),
        ("months", "0 0 1 */4 *", [1, 5, 9]),
        ("weekdays", "0 0 * * 0", [0]),
        ("weekdays", "0 0 * * 7", [0]),
        ("weekdays", "0 0 * * mon-fri", [1, 2, 3, 4, 5]),
        ("weekdays", "0 0 * * Sat-Sun", [0, 6]),
        ("weekdays", "0 0 * * 5-7", [0, 5, 6]),
        ("weekdays", "0 0 * * sun-mon", [0, 1]),
        ("weekdays", "0 0 * * */3", [0, 3, 6]),
        ("weekdays", "0 0 * * 0-0", [0]),
        ("minutes", "  @HOURLY ", [0]),
        ("hours", "@daily", [0]),
        ("weekdays", "@weekly", [0]),
        ("days", "@monthly", [1]),
        ("months", "@yearly", [1]),
    ],
)  # fmt: skip
def test_fields(field: str, text: str, expected: Any) -> None:
    assert sorted(getattr(parse_cron(text), field)) == list(expected)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("60 * * * *", "minute"), ("-1 * * * *", "minute"), ("1- * * * *", "minute"), ("5-1 * * * *", "minute"),
        ("*/0 * * * *", "minute"), ("*/60 * * * *", "minute"), ("*/x * * * *", "minute"), ("*/ * * * *", "minute"),
        ("1,,2 * * * *", "minute"), ("** * * * *", "minute"), ("*-5 * * * *", "minute"), ("1.5 * * * *", "minute"),
        ("٣ * * * *", "minute"), ("1/2/3 * * * *", "minute"), ("00001 * * * *", "minute"),
        ("0 24 * * *", "hour"), ("0 noon * * *", "hour"), ("0 22-2 * * *", "hour"),
        ("0 0 0 * *", "day of month"), ("0 0 32 * *", "day of month"), ("0 0 L * *", "day of month"),
        ("0 0 30 2 *", "day of month"), ("0 0 31 apr,jun *", "day of month"),
        ("0 0 1 13 *", "month"), ("0 0 1 mon *", "month"), ("0 0 1 0 *", "month"),
        ("0 0 * * 8", "day of week"), ("0 0 * * jan", "day of week"), ("0 0 * * fri-mon", "day of week"),
        ("0 0 * * 1#2", "day of week"), ("0 0 * * ?", "day of week"),
        ("", None), ("* * * *", None), ("* * * * * *", None), ("@reboot", None), ("@daily @daily", None),
        ("@daily * * * *", "minute"), ("* " * 300, None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, field: str | None) -> None:
    with pytest.raises(CronError) as caught:
        parse_cron(text)
    assert caught.value.field == caught.value.subject == field
    assert field is None or f"the {field} of the cron expression" in str(caught.value)
    assert isinstance(caught.value, DefinitionError)


def test_text_is_needed() -> None:
    with pytest.raises(CronError, match="is text, not 5"):
        parse_cron(5)  # type: ignore[arg-type]


def test_one_of_two_given_days_is_enough_and_a_star_is_no_day() -> None:
    friday_or_13th = Cron("0 0 13 * fri")
    assert times(friday_or_13th, "2026-02-01", 5) == [f"2026-02-{day:02} 00:00:00+00:00" for day in (6, 13, 20, 27)] + [
        "2026-03-06 00:00:00+00:00"
    ]
    assert times(Cron("0 0 */2 * mon"), "2026-02-01", 3) == [f"2026-02-{day:02} 00:00:00+00:00" for day in (9, 23)] + [
        "2026-03-09 00:00:00+00:00"
    ], "begins with a star: both have to match"


def test_rare_days() -> None:
    assert times(Cron("0 0 29 2 *"), "2096-03-01", 2) == ["2104-02-29 00:00:00+00:00", "2108-02-29 00:00:00+00:00"]
    assert times(Cron("59 23 31 12 *"), "2026-12-31T23:58:59", 2) == [
        "2026-12-31 23:59:00+00:00", "2027-12-31 23:59:00+00:00",
    ]  # fmt: skip


def test_later_means_later() -> None:
    cron = Cron("* * * * *")
    assert cron.next_after(at("2026-01-01T10:00:00")) == at("2026-01-01T10:01:00")
    assert cron.next_after(at("2026-01-01T10:00:59.9999999")) == at("2026-01-01T10:01:00")
    assert cron.next_after(math.nextafter(at("2026-01-01T10:01:00"), 0)) == at("2026-01-01T10:01:00")


# ---- daylight saving


def test_a_time_that_does_not_exist_comes_at_the_first_moment_after_the_gap() -> None:
    assert times(Cron("30 2 * * *", BERLIN), "2026-03-27T12:00", 4) == [
        "2026-03-28 02:30:00+01:00",
        "2026-03-29 03:00:00+02:00",
        "2026-03-30 02:30:00+02:00",
        "2026-03-31 02:30:00+02:00",
    ]


def test_several_times_of_a_gap_come_once() -> None:
    assert times(Cron("*/20 2-3 * * *", BERLIN), "2026-03-29T00:00", 4) == [
        "2026-03-29 03:00:00+02:00",
        "2026-03-29 03:20:00+02:00",
        "2026-03-29 03:40:00+02:00",
        "2026-03-30 02:00:00+02:00",
    ]


def test_a_time_that_exists_twice_comes_the_first_time() -> None:
    assert times(Cron("30 2 * * *", BERLIN), "2026-10-24T12:00", 2) == [
        "2026-10-25 02:30:00+02:00",
        "2026-10-26 02:30:00+01:00",
    ]
    assert times(Cron("*/30 * * * *", BERLIN), "2026-10-25T00:00", 4) == [
        "2026-10-25 02:30:00+02:00",
        "2026-10-25 03:00:00+01:00",
        "2026-10-25 03:30:00+01:00",
        "2026-10-25 04:00:00+01:00",
    ]
    inside = at("2026-10-25T02:10:00+01:00")
    assert Cron("30 2 * * *", BERLIN).next_after(inside) == at("2026-10-26T02:30:00+01:00")


def test_a_gap_at_midnight_and_one_of_half_an_hour_and_a_whole_day() -> None:
    assert times(Cron("0 0 * * *", "America/Sao_Paulo"), "2018-11-03T12:00", 2) == [
        "2018-11-04 01:00:00-02:00",
        "2018-11-05 00:00:00-02:00",
    ]
    assert times(Cron("15 2 * * *", "Australia/Lord_Howe"), "2026-10-03T00:00", 2) == [
        "2026-10-04 02:30:00+11:00",
        "2026-10-05 02:15:00+11:00",
    ]
    assert times(Cron("0 12 * * *", "Pacific/Apia"), "2011-12-29T00:00", 3) == [
        "2011-12-29 12:00:00-10:00",
        "2011-12-31 00:00:00+14:00",  # the 30th was left out
        "2011-12-31 12:00:00+14:00",
    ]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "../etc/passwd", "Europe/Berlin\0", "\ud800", 5])
def test_unknown_zones(zone: Any) -> None:
    with pytest.raises(DefinitionError):
        Cron("* * * * *", zone)


# ---- intervals


def test_intervals_count_from_their_start() -> None:
    every = Every(90, 1000)
    assert [every.next_after(moment) for moment in (0, 999.9, 1000, 1089.9, 1090, 1e9)] == [
        1000, 1000, 1090, 1090, 1180, 1e9 + 90 - (1e9 - 1000) % 90,
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [1.0, 1.1, 7.3, 59.999, 86_400.1])
def test_every_way_leads_to_the_same_times(seconds: float) -> None:
    """Tickers come to a time from different moments: it has to be the very same number."""
    every = Every(seconds, 1_790_000_000.123)
    moment = every.start
    steps = [moment := every.next_after(moment) for _ in range(3000)]
    assert all(b > a for a, b in itertools.pairwise(steps))
    assert steps == [every.start + (n + 1) * seconds for n in range(3000)]
    for one in steps[::7]:
        assert {every.next_after(one - part * seconds) for part in (0.001, 0.3, 0.999)} == {one}


@pytest.mark.parametrize(
    ("seconds", "start"), [(0.5, 0), (0, 0), (float("nan"), 0), (float("inf"), 0), ("1", 0), (60, -1), (60, 1e12)]
)
def test_intervals_that_cannot_be(seconds: Any, start: Any) -> None:
    with pytest.raises(DefinitionError):
        Every(seconds, start)


@pytest.mark.parametrize("moment", [-1.0, float("nan"), float("inf"), 1e12])
@pytest.mark.parametrize("recurrence", [Cron("* * * * *"), Every(60, 0)], ids=["cron", "every"])
def test_moments_that_cannot_be(recurrence: Cron | Every, moment: float) -> None:
    with pytest.raises(InvalidRequest):
        recurrence.next_after(moment)


def test_newest() -> None:
    hourly = Cron("0 * * * *")
    start, end = at("2020-01-01"), at("2026-01-01T12:30")
    assert newest(hourly, start, end, 2) == [at("2026-01-01T11:00"), at("2026-01-01T12:00")]
    assert newest(hourly, end - 3600, end, 5) == [at("2026-01-01T12:00")]
    assert newest(hourly, at("2026-01-01T12:00"), end, 5) == [], "the beginning does not count"
    assert newest(hourly, end - 10, at("2026-01-01T13:00"), 5) == [at("2026-01-01T13:00")], "the end does"
    assert newest(Cron("@yearly"), start, end, 3) == [at(f"{year}-01-01") for year in (2024, 2025, 2026)]
    assert newest(hourly, end, end, 3) == []


def test_errors_are_of_the_tree() -> None:
    assert issubclass(CronError, FlowcraftError)
