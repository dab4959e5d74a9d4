"""When something recurs: by a cron expression in a time zone, or at an interval. Points in time are epoch seconds.

When clocks are put forward, a time that does not exist comes at the first moment after the gap, and so do all others in
it: together, once. When they are put back, a time that exists twice comes once, the first time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from flowcraft.checks import check_number, check_text, told
from flowcraft.cron import CronExpression, parse_cron
from flowcraft.errors import DefinitionError, InvalidRequest

__all__ = ["SHORTEST_INTERVAL", "Cron", "Every", "Recurrence", "newest"]

#: The shortest interval in seconds: tickers look about so often.
SHORTEST_INTERVAL: Final = 1.0
#: The latest moment that can be asked for, the year 9000: the next one has to be in the calendar as well.
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Cron:
    """The times of a cron expression (see `flowcraft.cron`) on the clocks of an IANA time zone.

    Raises:
        CronError: the expression; ``field`` says which part. DefinitionError: an unknown time zone.
    """

    expression: str
    timezone: str = "UTC"
    _parsed: CronExpression = field(init=False, repr=False, compare=False)
    _zone: tzinfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", parse_cron(self.expression))
        object.__setattr__(self, "_zone", _zone(self.timezone))

    def next_after(self, moment: float) -> float:
        """The first time later than ``moment``. Pure: it depends on nothing but the time zone's rules.

        Raises:
            InvalidRequest: a moment before 1970 or after the year 9000.
        """
        wall = self._wall(math.floor(_checked(moment)))
        while True:
            wall = self._parsed.next_wall(wall)
            at = self._instant(wall)
            if at > moment:  # not so in the second of two equal hours
                return float(at)

    def show(self, moment: float) -> str:
        """A moment as the clocks of the time zone show it: ``2026-03-29 03:00:00+02:00``."""
        return datetime.fromtimestamp(moment, self._zone).isoformat(" ", "seconds")

    def _wall(self, at: int) -> datetime:
        return datetime.fromtimestamp(at, self._zone).replace(tzinfo=None, fold=0)

    def _instant(self, wall: datetime) -> int:
        """When the clocks show ``wall`` for the first time, or have left it out."""
        at = int(wall.replace(tzinfo=self._zone).timestamp())
        if self._wall(at) == wall:
            return at
        # In a gap. Fold 0 reckons with the offset before it and is late; fold 1 with the one after it and is early.
        early, late = int(wall.replace(tzinfo=self._zone, fold=1).timestamp()), at
        while late - early > 1:
            middle = (early + late) // 2
            early, late = (early, middle) if self._wall(middle) > wall else (middle, late)
        return late


@dataclass(frozen=True, slots=True)
class Every:
    """``start``, and every ``seconds`` after it, whatever clocks on the wall do. ``start`` is in epoch seconds.

    Raises:
        DefinitionError: an interval below one second, or a start before 1970.
    """

    seconds: float
    start: float

    def __post_init__(self) -> None:
        seconds = check_number(self.seconds, "the interval of a schedule", at_least=SHORTEST_INTERVAL)
        start = check_number(self.start, "the start of a schedule", at_least=0.0, at_most=_LAST)
        object.__setattr__(self, "seconds", seconds)
        object.__setattr__(self, "start", start)

    def next_after(self, moment: float) -> float:
        """The first time later than ``moment``; see `Cron.next_after`."""
        if _checked(moment) < self.start:
            return self.start
        # Always start + n * seconds, never a sum of sums: every process has to come to the very same number.
        count = math.floor((moment - self.start) / self.seconds)
        while self.start + count * self.seconds <= moment:
            count += 1
        while count > 0 and self.start + (count - 1) * self.seconds > moment:
            count -= 1
        return self.start + count * self.seconds

    def show(self, moment: float) -> str:
        """A moment in UTC: ``2026-03-29 01:00:00+00:00``."""
        return datetime.fromtimestamp(moment, UTC).isoformat(" ", "seconds")


Recurrence = Cron | Every


def newest(recurrence: Recurrence, after: float, until: float, limit: int) -> list[float]:
    """The last ``limit`` times that are later than ``after`` and not later than ``until``, in order.

    Looks back from ``until``, twice as far each time, so that a long pause costs no more than what is wanted of it.
    """
    reach = 60.0
    while True:
        begin = max(after, until - reach)
        found: list[float] = []
        at = begin
        while at < until and (at := recurrence.next_after(at)) <= until:
            found.append(at)
        if begin <= after or len(found) >= limit:
            return found[-limit:]
        reach *= 2


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # on a machine without any time zones as well
    try:
        return ZoneInfo(check_text(name, "time zone"))
    except (LookupError, ValueError, OSError) as error:  # unknown, not a key, or the name of a folder
        text = f"there is no time zone {told(name)} here: give an IANA name such as Europe/Berlin"
        hint = "if that is one, this machine lacks the time zones: install the package tzdata"
        raise DefinitionError(f"{text}; {hint}", subject="timezone") from error


def _checked(moment: float) -> float:
    if not 0 <= moment <= _LAST:
        raise InvalidRequest(f"a moment is given in epoch seconds from 1970 to the year 9000, not {moment!r}")
    return moment
