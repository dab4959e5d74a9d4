"""The ticker: fires timers, sends lost messages again, ends what nobody owes any more, purges. Any number is safe.

It is driven by the index of due runs. What it does to a run is decided by the committer on the head that is really
committed on, so two tickers at once do everything once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from flowcraft.blueprint import Node
from flowcraft.committer import Committer
from flowcraft.dropping import drop_events
from flowcraft.duerows import PORTION, DueRows, Taken
from flowcraft.engine.head import KEPT, PARKED, Activation, Head
from flowcraft.engine.needs import needed_by_timers
from flowcraft.engine.transition import ChildAsked, EngineEvent, Resent, Tick, due_work, limited
from flowcraft.errors import AdapterError
from flowcraft.folding import Applied, Foreseen, definition_of, job_of
from flowcraft.graph import Graph
from flowcraft.hosting import Host, Hosting
from flowcraft.model import TERMINAL, RunSummary
from flowcraft.ports import Clock, CoordinationStore, JobQueue, RunStore
from flowcraft.quarantine import Quarantine
from flowcraft.runstate import RunState

__all__ = ["LONGEST_RESEND", "TickStats", "Ticker", "unclaimed"]

_LOG = logging.getLogger("flowcraft.ticker")
#: While its queue is congested a message is sent again only after so many seconds.
LONGEST_RESEND: Final = 900.0
_PARKED_LOOK: Final = 5.0
_LONGEST_PARKED_LOOK: Final = 60.0
#: A run of which only somebody from outside can want anything: its next commit moves the index.
_NOTHING_DUE: Final = 30 * 86400.0
_HOPEFUL: Final = 600.0
_MEETING: Final = 3.0  # a visit that waits for a limit stays due for so long: every worker is to know of it
_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class TickStats:
    """What one pass did: runs looked at, runs in which a timer fired, messages sent again, draining visits ended, runs
    deleted, runs whose tick failed or that are left alone because it did, and runs that somebody else was quicker at.
    """

    scanned: int = 0
    woken: int = 0
    resent: int = 0
    dropped: int = 0
    deleted: int = 0
    failed: int = 0
    late: int = 0


@dataclass(slots=True)
class _Due:
    """One due run: the leases that decide what may be done, and what the last plan came to."""

    row: RunSummary
    state: RunState
    asked: list[str]
    woken: int = 0
    resent: int = 0
    dropped: int = 0
    children: list[int] = field(default_factory=list[int])
    timers: list[int] = field(default_factory=list[int])
    held: list[str] = field(default_factory=list[str])
    free: set[str] = field(default_factory=set[str])


class Ticker:
    """One loop. ``can`` tells whether a node could be executed by this process's worker; ``backlog`` is how many
    messages may wait in a queue before it counts as congested; ``chores`` are called first in each pass, with its time.
    Durations are seconds."""

    def __init__(
        self,
        committer: Committer,
        *,
        store: RunStore,
        queue: JobQueue,
        coordination: CoordinationStore,
        clock: Clock,
        lease_ttl: float = 30.0,
        interval: float = 1.0,
        backlog: int = 100,
        can: Callable[[Node], bool],
        chores: Sequence[Callable[[float], Awaitable[None]]] = (),
        look_after: Callable[[RunState, Collection[int]], Awaitable[None]] | None = None,
        look_up: Callable[[RunState], Awaitable[None]] | None = None,
        taken: Taken | None = None,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._committer = committer
        self._store = store
        self._queue = queue
        self._coordination = coordination
        self._clock = clock
        self._lease_ttl = lease_ttl
        self._interval = interval
        self._backlog = backlog
        self._can = can
        self._chores = chores
        self._look_after = look_after
        self._look_up = look_up
        self._spread = spread
        self._quarantine = Quarantine(clock, committer.rules.codec)
        self._others: OrderedDict[str, float] = OrderedDict()
        self._taken = taken or Taken(clock)
        self._hosting = Hosting(clock)

    def serve(self, host: Host) -> None:
        """Let this worker have what is woken, if it has room."""
        self._hosting.host = host

    async def run(self) -> None:
        """Tick for ever, every ``interval`` seconds ± 50 %; the caller cancels it."""
        while True:
            await self._clock.sleep(self._interval * (0.5 + self._spread()))
            try:
                await self.run_once()
            except AdapterError as error:
                _LOG.warning("this tick is left out: %s", error)

    async def run_once(self, now: float | None = None) -> TickStats:
        """Look once at every run that is due at ``now`` (the store's clock by default)."""
        await self._committer.time.sync()
        now = self._committer.time.now() if now is None else now
        for chore in self._chores:
            await chore(now)
        stats = TickStats()
        rows = DueRows(self._store, self._taken, now, self._spread)
        patient = True
        while portion := await rows.take(PORTION):
            late = stats.late
            dealt: set[str] = set()
            try:
                await self._look_at(portion, now, stats, dealt)
            finally:
                untouched = [row for row in portion if row.run_id not in dealt]
                rows.give_back(portion, untouched=untouched, late=stats.late - late)
            patient = patient and await self._hosting.wait_for_room(PORTION)
        return stats

    async def _look_at(self, rows: Sequence[RunSummary], now: float, stats: TickStats, dealt: set[str]) -> None:
        stats.scanned += len(rows)
        found = await asyncio.gather(*(self._find(row, now, stats, dealt) for row in rows))
        due = [one for one in found if one is not None]
        if not due:
            return
        free = await unclaimed(self._coordination, [key for one in due for key in one.asked])
        depths = await self._depths(due, free)
        for one in due:
            one.free = free.intersection(one.asked)
        await asyncio.gather(
            *(self._guarded(one.row.run_id, partial(self._tick, one, depths), stats, dealt) for one in due)
        )

    async def _find(self, row: RunSummary, now: float, stats: TickStats, dealt: set[str]) -> _Due | None:
        if self._others.get(row.run_id, 0.0) > self._clock.monotonic():
            return None
        if self._quarantine.holds(row.run_id):
            stats.failed += 1
            return None
        found: list[_Due] = []

        async def find() -> _Tally | None:
            if row.status in TERMINAL:
                return {"deleted": 1} if await self._store.delete(row.run_id, row.token) else _LATE
            state = await self._committer.load(row.run_id)
            head = None if state is None else state.committed()
            if state is None or head is None or head.terminal or _is_later(state.token, head, row, now):
                return _LATE
            work = due_work(head, now, self._committer.rules.times)
            asked = [_key(state.graph, state.run_id, head, slot) for slot in (*work.overdue, *work.drained)]
            found.append(_Due(row, state, asked))
            return None

        await self._guarded(row.run_id, find, stats, dealt)
        return found[0] if found else None

    async def _depths(self, due: Sequence[_Due], free: Collection[str]) -> Mapping[str, int]:
        """How many messages wait in the queues that something may be sent to again."""
        if not free:
            return {}
        names = dict.fromkeys(
            job_of(one.state.graph, "", node, activation, self._committer.rules.queue_name).queue
            for one in due
            for node, activation in one.state.committed().active.items()
        )
        return {name: depth for name in names if (depth := await self._queue.depth(name)) is not None}

    async def _tick(self, due: _Due, depths: Mapping[str, int]) -> _Tally | None:
        """Do what is due; None if nothing was done: then it is still due."""
        run_id, token = due.state.run_id, due.state.token

        def events(graph: Graph, head: Head, now: float) -> Sequence[EngineEvent]:
            return self._events(due, depths, graph, head, now)

        if self._hosting.host is not None:
            await self._hosting.host.meet(due.state)
        if self._look_up is not None and due.state.committed().parent is not None:
            await self._look_up(due.state)
        now = self._committer.time.now()
        graph, head = due.state.graph, due.state.committed()
        if head.terminal:  # it has ended since, in this process: the end of its retention is when it is due
            return _LATE
        planned = events(graph, head, now)
        if due.held:  # whoever works on these has not heard that they are not needed: tell again
            await self._coordination.revoke(due.held)
        if not planned:
            if self._left_to_others(due, graph, head, now):
                return None
            deferred = await self._store.defer(run_id, token, self._next_look(due, graph, head, now))
            return {} if deferred else _LATE
        source = Foreseen(events, needed_by_timers(graph, head, due.timers)) if due.timers else events
        result = await self._hosting.submit(self._committer, run_id, source, woken=due.woken > 0)
        if not isinstance(result, Applied):
            return _LATE
        if due.children and self._look_after is not None:
            await self._look_after(due.state, due.children)
        return {"woken": due.woken, "resent": due.resent, "dropped": due.dropped}

    def _events(
        self, due: _Due, depths: Mapping[str, int], graph: Graph, head: Head, now: float
    ) -> Sequence[EngineEvent]:
        run_id = due.state.run_id
        work = due_work(head, now, self._committer.rules.times)
        resend = [
            node
            for node in work.overdue
            if _key(graph, run_id, head, node) in due.free and not self._congested(graph, head, node, now, depths)
        ]
        due.held = [key for slot in work.drained if (key := _key(graph, run_id, head, slot)) not in due.free]
        drop = [node for node in work.drained if _key(graph, run_id, head, node) in due.free]
        timers = work.deadline or self._timer_due(graph, head, work.timers)
        due.woken, due.resent, due.dropped = int(timers), len(resend), len(drop)
        due.children, due.timers = work.children, work.timers
        events: list[EngineEvent] = [ChildAsked(due.children)] if due.children else []
        events += [event for node in drop for event in drop_events(graph, run_id, head, node)]
        if timers:
            events.insert(0, Tick(lambda node: self._can(graph.nodes[node])))
        if resend:
            events.append(Resent(resend))
        return events

    def _congested(self, graph: Graph, head: Head, node: int, now: float, depths: Mapping[str, int]) -> bool:
        """Whether the message is probably still waiting: then another one would only make the queue longer."""
        activation = head.active[node]
        if activation.resend == KEPT:  # there is none, and who meant to go on with it is gone
            return False
        queue = job_of(graph, "", node, activation, self._committer.rules.queue_name).queue
        return depths.get(queue, 0) > self._backlog and now - activation.at < LONGEST_RESEND

    def _next_look(self, due: _Due, graph: Graph, head: Head, now: float) -> float:
        """When to look again at a run that needs nothing now: somebody is at work, or its messages are waiting."""
        work = due_work(head, now, self._committer.rules.times)
        if not (work.overdue or work.drained or work.children or work.timers):
            return now + _NOTHING_DUE if work.later is None else work.later
        times = [now + LONGEST_RESEND]
        for slot in (*work.overdue, *work.drained):
            if _key(graph, due.state.run_id, head, slot) not in due.free:
                times.append(now + self._lease_ttl)
            else:  # the queue is congested: as long again as the message is old, for it may be lost and not waiting
                at = head.active[slot].at
                times.append(min(now + max(now - at, self._interval), at + LONGEST_RESEND))
        if work.timers or work.children:
            times.append(now + _LONGEST_PARKED_LOOK)
        if work.later is not None:
            times.append(work.later)
        return max(min(times), now + self._interval)

    def _left_to_others(self, one: _Due, graph: Graph, head: Head, now: float) -> bool:
        """Whether a visit is parked that another worker may be able to execute: then the run stays due for its ticker.

        A visit that nobody could execute for long is looked at less often, by everybody.
        """
        due = [(slot, a) for slot, a in head.active.items() if head.state(slot) == PARKED and a.due <= now]
        parked = [a for slot, a in due if now - a.due < _MEETING or not (limited(a) and self._able(graph, slot, a))]
        if not any(now - activation.at < _HOPEFUL for activation in parked):
            return False
        pause = min(_PARKED_LOOK, self._next_look(one, graph, head, now) - now)
        self._others[one.state.run_id] = self._clock.monotonic() + pause
        if len(self._others) > _REMEMBERED:
            self._others.popitem(last=False)
        return True

    def _timer_due(self, graph: Graph, head: Head, slots: Sequence[int]) -> bool:
        """Whether the time of one of these has come; a parked visit's has if it could be executed here."""
        return any(
            head.state(slot) != PARKED or (not limited(a) and self._able(graph, slot, a))
            for slot, a in ((slot, head.active[slot]) for slot in slots)
        )

    def _able(self, graph: Graph, node: int, activation: Activation) -> bool:
        return self._can(definition_of(graph, node, activation))

    async def _guarded(self, run_id: str, work: _Work, stats: TickStats, dealt: set[str]) -> None:
        """One run's trouble is its own: the page goes on."""
        try:
            tally = await work()  # begun here: what is cancelled before its turn has made no coroutine
        except Exception as error:  # noqa: BLE001 - whatever one run raises, the others want their tick
            stats.failed += 1
            self._quarantine.add(run_id, error)
            return
        self._quarantine.lift(run_id)
        if tally is not None and tally is not _LATE:
            dealt.add(run_id)
        for name, count in (tally or {}).items():
            setattr(stats, name, getattr(stats, name) + count)


async def unclaimed(coordination: CoordinationStore, keys: Sequence[str]) -> set[str]:
    """The leases that nobody holds. If that cannot be told, none: what is held must not be sent again."""
    if not keys:
        return set()
    try:
        holders = await coordination.holders(keys)
    except AdapterError as error:
        _LOG.warning("the holders of %d leases are not known: %s", len(keys), error)
        return set()
    return {key for key, holder in zip(keys, holders, strict=True) if holder is None}


def _key(graph: Graph, run_id: str, head: Head, slot: int) -> str:
    activation = head.active[slot]
    return job_of(graph, run_id, slot, activation, "").claim_key


_Tally = Mapping[str, int]
_Work = Callable[[], Awaitable[_Tally | None]]
#: The row of the index was out of date.
_LATE: Final[_Tally] = {"late": 1}


def _is_later(token: str, head: Head, row: RunSummary, now: float) -> bool:
    """Whether somebody has changed a run since the index was read, and nothing of it is due now."""
    return token != row.token and head.wake_at is not None and head.wake_at > now
