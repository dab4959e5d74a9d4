"""Schedules: flows that are started by themselves, at times. Each is a document of kind ``schedule`` in the run store.

Any worker's ticker starts what has come (`flowcraft.firing`). Each time of a schedule has one run, whose id follows
from the schedule's id and that time, so it does not matter how many tickers try to make it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, cast, get_args

from flowcraft.blueprint import Blueprint
from flowcraft.checks import requested_id, told
from flowcraft.client import Client
from flowcraft.documents import Documents
from flowcraft.errors import InvalidRequest, ScheduleConflict, ScheduleNotFound, SerializationError
from flowcraft.graph import Graph
from flowcraft.model import RUN_INPUT, Change, Index, NewRun, Page, StoredHead
from flowcraft.ports import RunStore
from flowcraft.recurrence import Cron, Every, Recurrence
from flowcraft.registry import Definition
from flowcraft.runs import RunHandle
from flowcraft.runstate import Graphs, RuntimeParts, StoreTime
from flowcraft.starting import Start

__all__ = ["MAX_SCHEDULE_ID_BYTES", "CatchUp", "Schedule", "Schedules", "run_id_at"]

CatchUp = Literal["skip", "latest", "all"]
#: Shorter than other ids: with a time behind it, it is the id of a run.
MAX_SCHEDULE_ID_BYTES: Final = 170


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is stored. Times are epoch seconds.

    ``flow``: the id of the blueprint · ``pinned``: the content hash of the only blueprint that it starts, or None for
    what the starting process has under that id · ``recurrence``: its times · ``catch_up``: what becomes of missed
    times · ``through``: every time up to this one is dealt with · ``last_time``, ``last_run_id``: the latest time that
    was fired, and its run.
    """

    id: str
    flow: str
    pinned: str | None
    recurrence: Recurrence
    catch_up: CatchUp
    created_at: float
    through: float
    last_time: float | None = None
    last_run_id: str | None = None
    paused: bool = False

    @property
    def next_time(self) -> float | None:
        """When it fires next, or should have already; None while it is paused."""
        return None if self.paused else self.recurrence.next_after(self.through)

    def to_bytes(self) -> bytes:
        """The stored document: JSON."""
        when = self.recurrence
        times = [when.expression, when.timezone] if isinstance(when, Cron) else [when.seconds, when.start]
        row = {
            "v": 1, "flow": self.flow, "pinned": self.pinned, "cron" if isinstance(when, Cron) else "every": times,
            "catch_up": self.catch_up, "created_at": self.created_at, "through": self.through,
            "last_time": self.last_time, "last_run_id": self.last_run_id, "paused": self.paused,
        }  # fmt: skip
        return json.dumps(row, separators=(",", ":")).encode()

    @staticmethod
    def from_bytes(schedule_id: str, data: bytes) -> Schedule:
        """The inverse of `to_bytes`.

        Raises:
            DefinitionError: this machine does not know its time zone. SerializationError: a newer version wrote it.
        """
        row = json.loads(data)
        if row["v"] != 1:
            raise SerializationError(
                f"schedule {schedule_id!r} was written by another version of Flowcraft: {row['v']!r}"
            )
        when = Cron(*row["cron"]) if "cron" in row else Every(*row["every"])
        return Schedule(
            schedule_id, row["flow"], row["pinned"], when, row["catch_up"], row["created_at"], row["through"],
            row["last_time"], row["last_run_id"], row["paused"],
        )  # fmt: skip

    def index(self, now: float) -> Index:
        """What the store finds it by."""
        return Index("paused" if self.paused else "active", self.next_time, now)


def run_id_at(schedule_id: str, moment: float) -> str:
    """The id of the run of one time of a schedule: ``nightly@2026-03-29T01:00:00Z``, in UTC."""
    text = datetime.fromtimestamp(moment, UTC).replace(tzinfo=None).isoformat()
    return f"{schedule_id}@{text}Z"


class Schedules:
    """``adapter.schedules``: make schedules, look at them, stop and start them.

    Nothing fires without a worker (or a ticker) that has the flow, as nothing runs without one.
    """

    def __init__(
        self,
        runtime: RuntimeParts,
        client: Client,
        store: RunStore,
        time: StoreTime,
        *,
        mint: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._runtime = runtime
        self._client = client
        self._store = store
        self._documents = Documents(store, runtime.clock, "schedule")
        self._time = time
        self._graphs = Graphs(runtime, store)
        self._mint = mint

    async def create(
        self,
        id: str,
        flow: Definition | Blueprint | str,
        *,
        cron: str | None = None,
        every: float | None = None,
        timezone: str | None = None,
        start: float | None = None,
        input: object = None,
        catch_up: CatchUp = "skip",
        pin: bool = False,
    ) -> Schedule:
        """Make a schedule; its first time is the next one from now. Repeating the call changes nothing.

        Args:
            id: of the schedule, at most 170 bytes of UTF-8.
            flow: a flow, a blueprint, or the id of one that the runtime knows.
            cron: a cron expression of five fields, or ``@daily`` and the like; see `flowcraft.cron`.
            every: or an interval in seconds, at least 1.
            timezone: for ``cron``: the IANA name of the zone whose clocks count, by default ``UTC``.
            start: for ``every``: epoch seconds from which the intervals are counted, by default now.
            input: what every run gets.
            catch_up: what is fired of the times that were missed, because for a minute or more no ticker was there:
                ``skip`` none, ``latest`` the last one (unless a later one is in time), ``all`` the last 100.
            pin: start this very blueprint, always. Otherwise each run is of the blueprint that the process which
                starts it has under the flow's id.

        Raises:
            ScheduleConflict: the id is taken by another flow, time, policy or input. CronError, DefinitionError: a cron
            expression, time zone, interval or flow that cannot be. InvalidRequest: an id or option that cannot be.
            SerializationError: an input that cannot be stored.
        """
        graph = self._runtime.resolve(flow)
        if catch_up not in get_args(CatchUp):
            raise InvalidRequest(f"catch_up is 'skip', 'latest' or 'all', not {told(catch_up)}")
        await self._time.sync()
        now = self._time.now()
        schedule = Schedule(
            _checked_id(id), graph.blueprint.id, graph.content_hash if pin else None,
            _recurrence(cron, every, timezone, start, now), catch_up, now, now,
        )  # fmt: skip
        # An interval without a start begins at another moment in each call: what was asked for is compared.
        numbers = [None if number is None else float(number) for number in (every, start)]
        asked = (schedule.flow, schedule.pinned, cron, timezone or "UTC", *numbers, catch_up, input)
        codec = self._runtime.codec
        fingerprint = codec.fingerprint(*asked)
        await self._client.keep(graph)
        new = NewRun(
            schedule.id, fingerprint, self._mint(), schedule.to_bytes(), schedule.index(now), now,
            blueprint_id=schedule.flow, blueprint_hash=graph.content_hash, values={RUN_INPUT: codec.encode(input)},
            kind="schedule",
        )  # fmt: skip
        return await self._made(new, asked) or schedule

    async def _made(self, new: NewRun, asked: Sequence[object]) -> Schedule | None:
        """Create the document; or the schedule that is there already, if the same was asked for."""
        while not await self._documents.create(new):
            stored = await self._documents.load(new.run_id)
            if stored is None:
                continue  # deleted at this moment
            same = self._runtime.codec.fingerprint(*asked, like=stored.fingerprint)
            if stored.fingerprint not in (new.fingerprint, same):
                text = "it says something else; delete it first, or take another id"
                raise ScheduleConflict(f"there is a schedule {new.run_id!r} already, and {text}")
            return Schedule.from_bytes(new.run_id, stored.head)
        return None

    async def get(self, id: str) -> Schedule:
        """One schedule.

        Raises:
            ScheduleNotFound: there is none.
        """
        return Schedule.from_bytes(id, (await self._load(id)).head)

    async def read_input(self, id: str) -> object:
        """What its runs get. Raises as `get`; SerializationError: a type that is not known in this process."""
        stored = await self._documents.load(_checked_id(id), want=(RUN_INPUT,))
        if stored is None:
            raise _not_found(id)
        return self._runtime.codec.decode(stored.values[RUN_INPUT])

    async def list(self, *, limit: int = 100, after: str | None = None) -> Page[Schedule]:
        """Schedules, newest first, a page at a time: pass ``after`` of one page to get the next.

        Raises:
            InvalidRequest: a limit outside 1 … 1000.
        """
        if not 1 <= limit <= 1000:
            raise InvalidRequest(f"limit is between 1 and 1000, not {limit}")
        page = await self._store.list(kind="schedule", limit=limit, after=after)
        found = await asyncio.gather(*(self._documents.load(row.run_id) for row in page.items))
        return Page(tuple(Schedule.from_bytes(one.run_id, one.head) for one in found if one is not None), page.after)

    async def pause(self, id: str) -> Schedule:
        """Fire no more until `resume`. Runs that have been started go on. Raises as `get`."""
        return await self._edit(id, lambda schedule, _: replace(schedule, paused=True))

    async def resume(self, id: str) -> Schedule:
        """Go on with the next time from now; the times of the pause are not made up for. Raises as `get`."""

        def resumed(schedule: Schedule, now: float) -> Schedule:
            if not schedule.paused:
                return schedule
            return replace(schedule, paused=False, through=max(schedule.through, now))

        return await self._edit(id, resumed)

    async def delete(self, id: str) -> None:
        """Remove it. Runs that have been started go on. Raises as `get`."""
        while not await self._documents.delete(id, (await self._load(id)).token):
            pass  # a ticker was quicker: once more

    async def trigger(self, id: str) -> RunHandle:
        """Start a run now, paused or not; the times of the schedule stay as they are.

        Raises:
            ScheduleNotFound: there is none. DefinitionError: its flow is not pinned, and not known in this process.
        """
        stored = await self._documents.load(_checked_id(id), want=(RUN_INPUT,))
        if stored is None:
            raise _not_found(id)
        graph = await self.graph_of(Schedule.from_bytes(id, stored.head))
        run_id = f"{id}@trigger-{self._mint()}"
        await self._client.begin(Start(graph, run_id, stored.fingerprint, stored.values[RUN_INPUT]))
        return self._client.handle(run_id)

    async def graph_of(self, schedule: Schedule) -> Graph:
        """What a run of it would be started from here.

        Raises:
            DefinitionError: its flow is not pinned, and not known in this process. Misconfigured: the store has lost
            the pinned blueprint.
        """
        if schedule.pinned is not None:
            return await self._graphs.get(schedule.pinned)
        return self._runtime.resolve(schedule.flow)

    async def _load(self, id: str) -> StoredHead:
        stored = await self._documents.load(_checked_id(id))
        if stored is None:
            raise _not_found(id)
        return stored

    async def _edit(self, id: str, edit: Callable[[Schedule, float], Schedule]) -> Schedule:
        await self._time.sync()
        token = self._mint()
        while True:
            stored = await self._load(id)
            schedule, now = Schedule.from_bytes(id, stored.head), self._time.now()
            wanted = edit(schedule, now)
            if wanted == schedule:
                return schedule
            change = Change(id, stored.version, token, wanted.to_bytes(), wanted.index(now), kind="schedule")
            if await self._documents.change(change):
                return wanted


def _recurrence(
    cron: str | None, every: float | None, timezone: str | None, start: float | None, now: float
) -> Recurrence:
    if (cron is None) == (every is None):
        raise InvalidRequest("a schedule has either cron or every")
    if cron is not None:
        if start is not None:
            raise InvalidRequest("start belongs to every: the times of a cron expression have no beginning")
        return Cron(cron, "UTC" if timezone is None else timezone)
    if timezone is not None:
        raise InvalidRequest("timezone belongs to cron: an interval has nothing to do with clocks on the wall")
    return Every(cast("float", every), now if start is None else start)


def _checked_id(id: object) -> str:
    checked = requested_id(id, "schedule id")
    if (size := len(checked.encode())) > MAX_SCHEDULE_ID_BYTES:
        raise InvalidRequest(f"schedule id {told(id)} has {size} bytes, the limit is {MAX_SCHEDULE_ID_BYTES}")
    return checked


def _not_found(id: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"there is no schedule {id!r}: it never was, or it was deleted")
