"""Who is to blame for a repetition: a signal to a process, or something that was done to the backend or the way to it.

A cause must fit the process and the moment, and a lease that was removed must be the visit's own. What fits nothing has
no cause.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .evidence import Clock, Echo, Execution, Outage, Strike
from .settings import Settings

__all__ = ["Causes", "Key", "Repetition", "Series"]

#: Planning a commit and a pause that begins before it has come true may be so far apart; so may be, on a busy machine,
#: the question for a lease and the beginning of what was asked for.
_RACE = 1.0
#: A process looks at the store's clock at least every ten seconds; one that cannot has older figures.
_MEASURED = 20.0
Key = tuple[str, str, int, int]
#: Outages of connections, as they are told. Whoever meets one goes on without a lease, or loses the lease it has.
_CONNECTIONS = {
    "restart": "the server was killed",
    "stall": "its connections stalled",
    "cut": "its connections were cut",
    "kick": "its connections were ended by the server",
}


@dataclass
class Series:
    """One execution of an activation: an attempt, and the short retries that followed it in the same process."""

    attempts: list[Execution]

    @property
    def first(self) -> Execution:
        return self.attempts[0]

    @property
    def begin(self) -> float:
        return self.attempts[0].begin

    @property
    def end(self) -> float | None:
        return self.attempts[-1].end

    @property
    def keys(self) -> set[Key]:
        return {attempt.key for attempt in self.attempts}

    def __str__(self) -> str:
        last = self.attempts[-1]
        if last.end is None:
            return f"{self.first} (which left no end)"
        return f"{self.first} (which was {last.how} after {last.end - self.begin:.3f} s)"


@dataclass(frozen=True)
class Repetition:
    """An activation that was executed again. ``cause`` is empty if nobody knows. ``after``: seconds since it came up."""

    first: Series
    again: Series
    cause: str
    after: float = 0.0


class Causes:
    """All that was done to processes and backend."""

    def __init__(
        self,
        settings: Settings,
        strikes: Sequence[Strike],
        outages: Sequence[Outage],
        clocks: Sequence[Clock] = (),
    ) -> None:
        self._settings = settings
        self._clocks = sorted((clock.wall, abs(clock.error)) for clock in clocks)
        self._strikes = strikes
        self._outages = [outage for outage in outages if outage.what in _CONNECTIONS]
        self._wipes = [outage for outage in outages if outage.what == "wipe"]
        self._by_process: dict[str, list[Strike]] = defaultdict(list)
        for strike in strikes:
            self._by_process[strike.process].append(strike)
        #: Until whoever was in trouble has its leases again: it renews them three times in their lifetime.
        self._reach = settings.lease_ttl + _RACE

    def attribute(self, first: Series, again: Series) -> Repetition:
        """Why ``again`` repeats ``first``."""
        for cause, at in (self._signal(first, again), self._wipe(first, again), self._connection(first, again)):
            if cause:
                return Repetition(first, again, cause, again.begin - at)
        return Repetition(first, again, "")

    def _signal(self, first: Series, again: Series) -> tuple[str, float]:
        for strike in self._by_process.get(first.first.process, ()):
            if first.begin > strike.until or strike.at > again.begin:
                continue
            when = _when(first, strike.at)
            if strike.signal == "KILL":
                return f"killed {when}", strike.at
            if strike.signal == "STOP" and again.begin - strike.at >= self._settings.lease_ttl / 2:
                return f"paused beyond its lease {when}", strike.at
            if strike.signal == "TERM" and first.attempts[-1].how == "cancelled":
                return "cancelled at the end of its process", strike.at
        for strike in self._by_process.get(again.first.process, ()):
            if _was_asleep(strike, again) and strike.at <= first.begin:
                return "paused beyond its lease when it was about to begin", strike.at
        for strike in self._strikes:
            held = strike.at + self._settings.lease_ttl / 2
            if strike.locked and first.begin <= strike.until and held <= again.begin:
                return "not renewed while a paused process held the file", strike.at
        return "", 0.0

    def _wipe(self, first: Series, again: Series) -> tuple[str, float]:
        for wipe in self._wipes:
            mine = first.first.lease in wipe.leases
            if mine and first.begin <= wipe.until + _RACE and wipe.at <= again.begin <= wipe.until + self._reach:
                return f"its lease was removed {_when(first, wipe.at)}", wipe.at
        return "", 0.0

    def _connection(self, first: Series, again: Series) -> tuple[str, float]:
        for outage in self._outages:
            begun = first.begin <= outage.until + _RACE and outage.at <= again.begin
            if outage.met(first.first.process) and begun and again.begin <= outage.until + self._reach:
                return f"{_CONNECTIONS[outage.what]} {_when(first, outage.at)}", outage.at
        for outage in self._outages:
            if outage.met(again.first.process) and outage.at <= again.begin <= outage.until + _RACE:
                return f"{_CONNECTIONS[outage.what]} when it was about to be executed again", outage.at
        return "", 0.0

    def was_late(self, at: float, again: Series, before: Sequence[Series]) -> bool:
        """Whether the commit that the history dates to ``at`` may have come true after ``again`` was decided on.

        The history has the time of planning. A pause may lie between it and the commit: of the process whose outcome it
        is, or of one that held the file. Or between the decision and the beginning of ``again``. An outage of either's
        connections is as good as a pause. And without its lease, whoever decided may have done so on the head before.
        """
        executors, wall = {series.first.process for series in before}, again.first.wall
        paused = any(
            strike.signal == "STOP"
            and (strike.locked or strike.process in executors or _was_asleep(strike, again))
            and strike.wall <= wall
            and strike.wall + strike.until - strike.at >= at - _RACE
            for strike in self._strikes
        )
        doubtful = wall - at <= self._doubt(at)
        return doubtful or paused or self._was_cut_off(at, again, executors) or self._was_unleased(at, again)

    def _doubt(self, at: float) -> float:
        """How many seconds the history's time may be off: who told it knew the store's clock no better."""
        begin, end = bisect_left(self._clocks, (at - _MEASURED,)), bisect_left(self._clocks, (at + _RACE,))
        return max((error for _, error in self._clocks[begin:end]), default=0.0)

    def _was_cut_off(self, at: float, again: Series, executors: set[str]) -> bool:
        wall = again.first.wall
        for outage in self._outages:
            theirs = any(map(outage.met, executors)) and wall <= outage.wall_until + self._reach
            mine = outage.met(again.first.process) and wall <= outage.wall_until + _RACE
            if (theirs or mine) and outage.wall <= wall and outage.wall_until >= at - _RACE:
                return True
        return False

    def _was_unleased(self, at: float, again: Series) -> bool:
        wall = again.first.wall
        removed = (wipe for wipe in self._wipes if again.first.lease in wipe.leases)
        return wall - at <= _RACE and any(wipe.wall <= wall <= wipe.wall_until + self._reach for wipe in removed)

    def excuse(self, sent: Echo, execution: Execution) -> bool:
        """Whether its lease may have been gone when the message of a running execution was sent again."""
        process, ttl = execution.process, self._settings.lease_ttl
        return (
            any(strike.at <= sent.at + ttl for strike in self._by_process.get(process, ()))
            or any(o.met(process) and o.at <= sent.at <= o.until + self._reach for o in self._outages)
            or any(o.met(sent.process) and o.at <= sent.at <= o.until + _RACE for o in self._outages)
            or any(execution.lease in o.leases and o.at <= sent.at <= o.until + self._reach for o in self._wipes)
        )


def _when(first: Series, at: float) -> str:
    if first.begin > at:
        return "when it was about to begin"
    return "while it was executed" if first.end is None or first.end >= at else "before its outcome was committed"


def _was_asleep(strike: Strike, again: Series) -> bool:
    """Whether ``again`` began as soon as its own process went on after a pause: it was decided on before."""
    mine = strike.signal == "STOP" and strike.process == again.first.process
    return mine and strike.at <= again.begin <= strike.until + _RACE
