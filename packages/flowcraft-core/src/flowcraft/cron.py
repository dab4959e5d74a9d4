"""Cron expressions: five fields, and the times of a wall clock that they match. Pure, and without time zones.

::

    minute  hour  day of month  month  day of week
    0–59    0–23  1–31          1–12   0–7 (0 and 7 are Sunday)

A field is ``*``, a number, a range ``a-b``, any of them with a step ``/n``, or a list of those with commas. Months and
days of the week have names of three letters. If both days are given, and neither begins with ``*``, one is enough.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

from flowcraft.checks import told
from flowcraft.errors import CronError

__all__ = ["CronExpression", "parse_cron"]

_LONGEST: Final = 500  # characters
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_WEEKDAYS: Final = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_MACROS: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
#: The length of each month in a leap year: what is not in here never comes.
_LENGTHS: Final = dict(zip(range(1, 13), (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    names: Mapping[str, int]
    example: str


_DAY_OF_MONTH: Final = _Field("day of month", 1, 31, {}, "1-31")
_DAY_OF_WEEK: Final = _Field("day of week", 0, 7, _WEEKDAYS, "0-7 or sun-sat")
_FIELDS: Final = (
    _Field("minute", 0, 59, {}, "0-59"),
    _Field("hour", 0, 23, {}, "0-23"),
    _DAY_OF_MONTH,
    _Field("month", 1, 12, _MONTHS, "1-12 or jan-dec"),
    _DAY_OF_WEEK,
)


@dataclass(frozen=True, slots=True)
class CronExpression:
    """What the five fields allow, sorted. ``either``: a day needs to match only one of ``days`` and ``weekdays``."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # Sunday is 0
    either: bool

    def next_wall(self, after: datetime) -> datetime:
        """The first matching minute that is later than ``after``, both as a wall clock without a time zone shows them.

        Raises:
            OverflowError: there is none before the end of the calendar (year 9999).
        """
        first = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
        day = first.date()
        if self._has(day):
            found = self._time_from(first.hour, first.minute)
            if found is not None:
                return datetime.combine(day, found)
        day = self._day_after(day)
        return datetime.combine(day, time(self.hours[0], self.minutes[0]))

    def _has(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (in_month or in_week) if self.either else (in_month and in_week)

    def _day_after(self, day: date) -> date:
        while True:
            day += timedelta(days=1)
            while day.month not in self.months:
                day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
            if self._has(day):
                return day

    def _time_from(self, hour: int, minute: int) -> time | None:
        """The first time of a day that is not before this one."""
        if hour in self.hours:
            position = bisect.bisect_left(self.minutes, minute)
            if position < len(self.minutes):
                return time(hour, self.minutes[position])
        position = bisect.bisect_right(self.hours, hour)
        return time(self.hours[position], self.minutes[0]) if position < len(self.hours) else None


def parse_cron(text: str) -> CronExpression:
    """Read five fields, or one of ``@yearly``, ``@monthly``, ``@weekly``, ``@daily`` and ``@hourly``.

    Raises:
        CronError: it is none; ``field`` says which part is wrong.
    """
    if not isinstance(text, str):
        raise CronError(f"a cron expression is text, not {told(text)}")
    words = _MACROS.get(text.strip().lower(), text).split()
    if len(text) > _LONGEST:
        raise CronError(f"a cron expression has at most {_LONGEST} characters, not {len(text)}")
    if text.lstrip().startswith("@") and len(words) != len(_FIELDS):
        raise CronError(f"{told(text)} is not known; there are {', '.join(_MACROS)}")
    if len(words) != len(_FIELDS):
        order = ", ".join(field.name for field in _FIELDS)
        raise CronError(f"a cron expression has 5 fields ({order}), and {told(text)} has {len(words)}")
    minutes, hours, days, months, weekdays = (
        _parse_field(field, word, text) for field, word in zip(_FIELDS, words, strict=True)
    )
    either = not words[2].startswith("*") and not words[4].startswith("*")
    if not either and not any(min(days) <= _LENGTHS[month] for month in months):
        raise _wrong(_DAY_OF_MONTH, text, f"no month of {words[3]!r} has a day {words[2]}: it would never fire")
    return CronExpression(
        tuple(sorted(minutes)), tuple(sorted(hours)), frozenset(days), frozenset(months),
        frozenset(day % 7 for day in weekdays), either,
    )  # fmt: skip


def _parse_field(field: _Field, word: str, text: str) -> set[int]:
    found: set[int] = set()
    for item in word.split(","):
        base, slash, step_text = item.partition("/")
        step = _step(field, step_text, text) if slash else 1
        if base == "*":
            low, high = field.least, 6 if field is _DAY_OF_WEEK else field.most
        else:
            start, dash, end = base.partition("-")
            low = _number(field, start, text)
            high = _number(field, end, text) if dash else (field.most if slash else low)
            if field is _DAY_OF_WEEK and dash and high == 0 < low:
                high = 7  # sat-sun
            if high < low:
                raise _wrong(field, text, f"the range {base!r} ends before it begins")
        found.update(range(low, high + 1, step))
    return found


def _step(field: _Field, word: str, text: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 4 and 1 <= int(word) <= field.most):
        raise _wrong(field, text, f"a step is a number from 1 to {field.most}, not {word!r}")
    return int(word)


def _number(field: _Field, word: str, text: str) -> int:
    named = field.names.get(word.lower())
    if named is not None:
        return named
    if word.isascii() and word.isdigit() and len(word) <= 4 and field.least <= int(word) <= field.most:
        return int(word)
    raise _wrong(field, text, f"{word!r} is not in {field.example}" if word else "something is missing")


def _wrong(field: _Field, text: str, reason: str) -> CronError:
    return CronError(f"the {field.name} of the cron expression {told(text)}: {reason}", field=field.name)
