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
from typing import Final

from flowcraft.blueprint import Node
from flowcraft.committer import Committer
from flowcraft.dropping import drop_events
from flowcraft.engine.head import KEPT, PARKED, Activation, Head
from flowcraft.engine.transition import ChildAsked, EngineEvent, Resent, Tick, due_work, limited
from flowcraft.errors import AdapterError
from flowcraft.folding import Applied, definition_of, job_of
from flowcraft.graph import Graph
from flowcraft.hosting import ForHost, Host
from flowcraft.model import TERMINAL, RunSummary
from flowcraft.ports import Clock, CoordinationStore, JobQueue, RunStore
from flowcraft.runstate import RunState
from flowcraft.sealing import traceback_of

__all__ = ["LONGEST_RESEND", "TickStats", "Ticker", "unclaimed"]

_LOG = logging.getLogger("flowcraft.ticker")
#: While its queue is congested a message is sent again only after so many seconds.
LONGEST_RESEND: Final = 900.0
_PAGE: Final = 100
_PARKED_LOOK: Final = 5.0
_LONGEST_PARKED_LOOK: Final = 60.0
#: A run of which only somebody from outside can want anything: its next commit moves the index.
_NOTHING_DUE: Final = 30 * 86400.0
_HOPEFUL: Final = 600.0
_MEETING: Final = 3.0  # a visit that waits for a limit stays due for so long: every worker is to know of it
_REMEMBERED: Final = 10_000
_AT_ONCE: Final = 20
_QUARANTINE: Final = 5.0
_LONGEST_QUARANTINE: Final = 900.0


@dataclass(slots=True)
class TickStats:
    """What one pass did: runs looked at, runs in which a timer fired, messages sent again, draining visits ended, runs
    deleted, and runs whose tick failed or that are left alone because it did."""

    scanned: int = 0
    woken: int = 0
    resent: int = 0
    dropped: int = 0
    deleted: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Due:
    """One due run: the leases that decide what may be done, and what the last plan came to."""

    state: RunState
    asked: list[str]
    woken: int = 0
    resent: int = 0
    dropped: int = 0
    children: list[int] = field(default_factory=list[int])
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
        self._quarantine: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._others: OrderedDict[str, float] = OrderedDict()
        self._host: Host | None = None
        self._offering = False  # one visit at a time

    def serve(self, host: Host) -> None:
        """Let this worker have what is woken, if it has room."""
        self._host = host

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
        after: str | None = None
        while True:
            page = await self._store.due(now, limit=_PAGE, after=after)
            for start in range(0, len(page.items), _AT_ONCE):
                await self._look_at(page.items[start : start + _AT_ONCE], now, stats)
            after = page.after
            if after is None:
                return stats

    async def _look_at(self, rows: Sequence[RunSummary], now: float, stats: TickStats) -> None:
        stats.scanned += len(rows)
        due = [found for found in await asyncio.gather(*(self._find(row, now, stats) for row in rows)) if found]
        if not due:
            return
        free = await unclaimed(self._coordination, [key for one in due for key in one.asked])
        depths = await self._depths(due, free)
        for one in due:
            one.free = free.intersection(one.asked)
        await asyncio.gather(*(self._guarded(one.state.run_id, self._tick(one, depths), stats) for one in due))

    async def _find(self, row: RunSummary, now: float, stats: TickStats) -> _Due | None:
        if self._others.get(row.run_id, 0.0) > self._clock.monotonic():
            return None
        if self._quarantine.get(row.run_id, (0, 0.0))[1] > self._clock.monotonic():
            stats.failed += 1
            return None
        found: list[_Due] = []

        async def find() -> _Tally:
            if row.status in TERMINAL:
                return {"deleted": int(await self._store.delete(row.run_id, row.token))}
            state = await self._committer.load(row.run_id)
            if state is not None and not state.committed().terminal:
                graph, head = state.graph, state.committed()
                work = due_work(head, now, self._committer.rules.times)
                asked = [_key(graph, state.run_id, head, slot) for slot in (*work.overdue, *work.drained)]
                found.append(_Due(state, asked))
            return {}

        await self._guarded(row.run_id, find(), stats)
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

    async def _tick(self, due: _Due, depths: Mapping[str, int]) -> _Tally:
        run_id, token = due.state.run_id, due.state.token

        def events(graph: Graph, head: Head, now: float) -> Sequence[EngineEvent]:
            return self._events(due, depths, graph, head, now)

        if self._host is not None:
            await self._host.meet(due.state)
        if self._look_up is not None and due.state.committed().parent is not None:
            await self._look_up(due.state)
        now = self._committer.time.now()
        graph, head = due.state.graph, due.state.committed()
        if head.terminal:  # it has ended since, in this process: the end of its retention is when it is due
            return {}
        planned = events(graph, head, now)
        if due.held:  # whoever works on these has not heard that they are not needed: tell again
            await self._coordination.revoke(due.held)
        if not planned:
            if self._left_to_others(due, graph, head, now):
                return {}
            await self._store.defer(run_id, token, self._next_look(due, graph, head, now))
            return {}
        host = None if self._offering or not due.woken else self._host
        self._offering = self._offering or host is not None
        try:
            result = await self._committer.submit(run_id, events, keeper=None if host is None else ForHost(host))
            if not isinstance(result, Applied):
                return {}
            if result.kept is not None and host is not None:
                host.adopt(result.kept)
            if due.children and self._look_after is not None:
                await self._look_after(due.state, due.children)
        finally:
            if host is not None:
                self._offering = False
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
        due.children = list(work.children)
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

    async def _guarded(self, run_id: str, work: _Work, stats: TickStats) -> None:
        """One run's trouble is its own: it is left alone for a while, longer each time, and the page goes on."""
        try:
            tally = await work
        except Exception as error:  # noqa: BLE001 - whatever one run raises, the others want their tick
            failures = self._quarantine.pop(run_id, (0, 0.0))[0] + 1
            wait = min(_QUARANTINE * 2.0 ** min(failures - 1, 10), _LONGEST_QUARANTINE)
            self._quarantine[run_id] = (failures, self._clock.monotonic() + wait)
            if len(self._quarantine) > _REMEMBERED:
                self._quarantine.popitem(last=False)
            stats.failed += 1
            known = isinstance(error, AdapterError)
            shown = None if known else traceback_of(self._committer.rules.codec, error)
            _LOG.error("a run's tick failed, next try in %.0f s: %s", wait, error if known else type(error).__name__,
                       exc_info=shown, extra={"run_id": run_id})  # fmt: skip
        else:
            self._quarantine.pop(run_id, None)
            for name, count in tally.items():
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
_Work = Awaitable[_Tally]
