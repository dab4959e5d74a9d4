"""What a ticker does about schedules: starts what has come, each time once, and says so in the schedule.

First the run is made, then the schedule moves on. A ticker that dies in between leaves a schedule that is still due;
the next one finds the run by its id and only moves the schedule on.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final, NamedTuple

from flowcraft.client import Client
from flowcraft.codec import Codec
from flowcraft.documents import Documents
from flowcraft.errors import DefinitionError, FlowcraftError
from flowcraft.model import RUN_INPUT, Change, RunSummary, StoredHead
from flowcraft.ports import Clock, RunStore
from flowcraft.recurrence import SHORTEST_INTERVAL, newest
from flowcraft.schedules import Schedule, Schedules, run_id_at
from flowcraft.sealing import traceback_of
from flowcraft.starting import Start

__all__ = ["MAX_CATCH_UP", "Due", "Firing", "due_times"]

_LOG = logging.getLogger("flowcraft.schedules")
#: So many missed times are made up for at most.
MAX_CATCH_UP: Final = 100
#: A time that is so many seconds late was missed; with slow tickers it is three of their rounds.
_LATE: Final = 60.0
_ROUNDS: Final = 3.0
_OTHERS_LOOK: Final = 5.0
_FIRST_WAIT: Final = 5.0
_LONGEST_WAIT: Final = 900.0
_REMEMBERED: Final = 10_000
_AT_ONCE: Final = 20


class Due(NamedTuple):
    """The times to fire, in order, and the time up to which a schedule is dealt with then."""

    times: Sequence[float]
    through: float


def due_times(schedule: Schedule, now: float, late: float) -> Due:
    """What a schedule owes at ``now``. Times that are ``late`` seconds old were missed: its policy decides. Pure."""
    recurrence = schedule.recurrence
    border = max(schedule.through, now - late)
    times = newest(recurrence, border, now, math.ceil(late / SHORTEST_INTERVAL) + 1)  # all of them
    missed = {"skip": 0, "latest": 0 if times else 1, "all": MAX_CATCH_UP}[schedule.catch_up]
    if missed:
        times = newest(recurrence, schedule.through, border, missed) + times
    seen = times or newest(recurrence, schedule.through, now, 1)
    return Due(times, seen[-1] if seen else schedule.through)


class Firing:
    """The schedules of one store, for the ticker of one process. ``interval``: seconds between its rounds."""

    def __init__(
        self,
        schedules: Schedules,
        client: Client,
        store: RunStore,
        clock: Clock,
        *,
        codec: Codec,
        interval: float = 1.0,
        mint: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._schedules = schedules
        self._client = client
        self._documents = Documents(store, clock, "schedule")
        self._clock = clock
        self._codec = codec
        self._late = max(_LATE, _ROUNDS * interval)
        self._mint = mint
        #: Schedules that are left alone until a monotonic time, with how often they failed (0: left to others).
        self._aside: OrderedDict[str, tuple[int, float]] = OrderedDict()

    async def fire(self, now: float) -> None:
        """Look once at every schedule that is due at ``now``. One's trouble does not touch the others.

        Raises:
            AdapterError: the store does not say what is due.
        """
        async with aclosing(self._documents.due(now)) as pages:
            async for rows in pages:
                for start in range(0, len(rows), _AT_ONCE):
                    await asyncio.gather(*(self._guarded(row, now) for row in rows[start : start + _AT_ONCE]))

    async def _guarded(self, row: RunSummary, now: float) -> None:
        failures, until = self._aside.get(row.run_id, (0, 0.0))
        if until > self._clock.monotonic():
            return
        try:
            done = await self._look(row.run_id, now)
        except Exception as error:  # noqa: BLE001 - whatever one schedule raises, the others want their time
            wait = min(_FIRST_WAIT * 2.0 ** min(failures, 10), _LONGEST_WAIT)
            self._set_aside(row.run_id, failures + 1, wait)
            known = isinstance(error, FlowcraftError)
            shown = None if known else traceback_of(self._codec, error)
            told = error if known else type(error).__name__
            _LOG.error("schedule %r failed, next try in %.0f s: %s", row.run_id, wait, told, exc_info=shown)
        else:
            self._aside.pop(row.run_id, None)
            if not done:
                self._set_aside(row.run_id, 0, _OTHERS_LOOK)

    def _set_aside(self, schedule_id: str, failures: int, seconds: float) -> None:
        self._aside[schedule_id] = failures, self._clock.monotonic() + seconds
        if len(self._aside) > _REMEMBERED:
            self._aside.popitem(last=False)

    async def _look(self, schedule_id: str, now: float) -> bool:
        """Fire what a schedule owes; False if its flow is not known here."""
        stored = await self._documents.load(schedule_id, want=(RUN_INPUT,))
        if stored is None:
            return True
        schedule = Schedule.from_bytes(schedule_id, stored.head)
        if schedule.paused:
            return True
        try:
            graph = await self._schedules.graph_of(schedule)
        except DefinitionError:
            if schedule.pinned is not None:
                raise
            return False
        due = due_times(schedule, now, self._late)
        for at in due.times:
            # Of another blueprint or input or not: the run of this time is there, so the time was fired.
            run_id = run_id_at(schedule_id, at)
            await self._client.begin(Start(graph, run_id, stored.fingerprint, stored.values[RUN_INPUT]))
        await self._advance(schedule, stored, due, now)
        return True

    async def _advance(self, schedule: Schedule, stored: StoredHead | None, due: Due, now: float) -> None:
        token = self._mint()
        while stored is not None:
            after = replace(schedule, through=due.through)
            if due.times:
                after = replace(after, last_time=due.times[-1], last_run_id=run_id_at(schedule.id, due.times[-1]))
            change = Change(schedule.id, stored.version, token, after.to_bytes(), after.index(now), kind="schedule")
            if await self._documents.change(change):
                return
            stored = await self._documents.load(schedule.id)  # paused, perhaps, or another ticker was quicker
            if stored is not None:
                schedule = Schedule.from_bytes(schedule.id, stored.head)
                if schedule.through >= due.through:
                    return
