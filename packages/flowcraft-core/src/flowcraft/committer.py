"""Group commit: one mailbox per run, one commit of it in flight, everything that arrives meanwhile in the next one.

::

    submit → mailbox → (prepare: load head and values) → fold → store.commit, many runs together → settle → aftermath
                 ▲                                                     │
                 └──── conflict: plan again on what is stored now ◀────┘         nothing is ever executed again
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from flowcraft.clock import wait_until_empty
from flowcraft.codec import Codec
from flowcraft.engine.draft import MISSING
from flowcraft.engine.transition import EngineEvent
from flowcraft.errors import Unavailable
from flowcraft.folding import EventSource, Fold, Keeper, Outdated, Result, Rules, Stale, Submission, Unread
from flowcraft.graph import Graph
from flowcraft.mailbox import Mailbox
from flowcraft.model import StoredHead
from flowcraft.ports import Clock, CoordinationStore, Delivery, EventBus, JobQueue, RunStore
from flowcraft.runstate import Graphs, RunState, StoreTime, unpack_head
from flowcraft.settling import answer, answer_all, claims_for, unkeep
from flowcraft.writing import Aftermath, Writer, Written

__all__ = ["Committer"]

_LOG = logging.getLogger("flowcraft.committer")
#: So many changes are handed to the store in one call at most …
_BATCH: Final = 256
#: … so many calls are under way at the same time …
_PARALLEL: Final = 2
#: … and so many idle runs are remembered.
_REMEMBERED: Final = 512


class Committer:
    """The only writer of runs in a process. Create it where the ports are, close it with `aclose`.

    ``mint`` makes the nonce of a commit, which is its token too.
    """

    def __init__(
        self,
        store: RunStore,
        queue: JobQueue,
        coordination: CoordinationStore,
        *,
        graphs: Graphs,
        codec: Codec,
        clock: Clock,
        time: StoreTime,
        rules: Rules,
        events: EventBus | None = None,
        mint: Callable[[], str] = lambda: secrets.token_hex(8),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._graphs = graphs
        self._codec = codec
        self._clock = clock
        self._time = time
        self._rules = rules
        self._mint, self._jitter = mint, jitter
        self._writer = Writer(store, clock, jitter)
        self._aftermath: Callable[[], Aftermath] = partial(Aftermath, queue, coordination, events)
        self._boxes: OrderedDict[str, Mailbox] = OrderedDict()
        self._waiting: list[Mailbox] = []
        self._flushing = 0
        self._scheduled = False
        self._closed = self._ended = False
        self._tasks: set[asyncio.Task[None]] = set()
        #: Called with the lease keys of visits that a commit of this process wants ended.
        self.on_revoked: list[Callable[[Sequence[str]], None]] = []
        #: Called when a run that is a subflow has ended; and with a run and the runs of subflows it needs no more.
        self.on_ended: Callable[[str], None] | None = None
        self.on_unneeded: Callable[[str, Sequence[str]], None] | None = None

    @property
    def time(self) -> StoreTime:
        """The store's clock."""
        return self._time

    @property
    def rules(self) -> Rules:
        """What all commits have in common."""
        return self._rules

    async def submit(
        self,
        run_id: str,
        event: EngineEvent | EventSource,
        *,
        delivery: Delivery | None = None,
        keeper: Keeper | None = None,
        graph: Graph | None = None,
    ) -> Result:
        """Commit an event, together with whatever else waits for the same run.

        Cancelling the caller does not stop the commit. ``delivery`` is acked once the event is decided, unless the
        caller goes on with a visit that it keeps: then it is still the caller's. ``graph`` is the one in whose numbers
        an event of a visit is, and must be given with it: the run may be on another one when it is committed.

        Raises:
            Unavailable: this committer was closed. Misconfigured, DefinitionError: the run's blueprint cannot be had.
            Other errors: this event, and no other, cannot be folded.
        """
        if self._closed:
            raise Unavailable("this process is shutting down")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        box = self._box(run_id)
        box.queue.append(Submission(event, delivery, keeper, future, graph))
        self._enlist(box)
        return await future

    def peek(self, run_id: str, within: float) -> RunState | None:
        """The remembered state of a run if the store confirmed it at most ``within`` seconds ago."""
        box = self._boxes.get(run_id)
        state = None if box is None else box.state
        if state is None or self._clock.monotonic() - state.confirmed > within:
            return None
        return state

    async def load(self, run_id: str) -> RunState | None:
        """The state of a run as it is stored now; None if there is no such run. Raises what the store raises."""
        before = self._clock.monotonic()
        stored = await self._store.load(run_id)
        if stored is None:
            return None
        state = await self._open(stored, before)
        box = self._box(run_id)
        if not box.busy:
            if box.state is not None and box.state.version == state.version:
                state.values = box.state.values
            state.fresh = False  # it will be a memory by the time that something is planned on it
            box.state = state
        self._trim()
        return state

    async def aclose(self, patience: float = 10.0) -> None:
        """Let commits that are under way finish for up to ``patience`` seconds; what cannot is `Unavailable`."""
        self._closed = True
        await wait_until_empty(self._tasks, self._clock, patience)
        if self._tasks:
            self._ended = True
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for box in self._boxes.values():
            box.fail(Unavailable("this process was shut down before the commit"), everything=True)

    def _box(self, run_id: str) -> Mailbox:
        box = self._boxes.get(run_id)
        if box is None:
            box = self._boxes[run_id] = Mailbox(run_id)
        else:
            self._boxes.move_to_end(run_id)
        return box

    def _trim(self) -> None:
        excess = len(self._boxes) - _REMEMBERED
        if excess > 0:
            idle = (run_id for run_id, box in self._boxes.items() if not box.busy)
            for run_id in list(islice(idle, excess)):  # the oldest; mostly one, found at once
                del self._boxes[run_id]

    async def _open(self, stored: StoredHead, confirmed: float) -> RunState:
        content_hash, head = unpack_head(stored.head)
        return RunState(await self._graphs.get(content_hash), head, stored, self._codec, confirmed, self._rules.times)

    def _enlist(self, box: Mailbox) -> None:
        if not box.busy:
            box.busy = True
            self._waiting.append(box)
            self._kick()

    def _kick(self) -> None:
        if self._waiting and not self._ended and not self._scheduled and self._flushing < _PARALLEL:
            self._scheduled = True
            self._flushing += 1
            self._spawn(self._flush())

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush(self) -> None:
        aftermath = self._aftermath()
        boxes: list[Mailbox] = []
        try:
            if self._time.stale:
                await self._writer.patiently(self._time.sync)
            self._scheduled = False
            boxes = self._waiting[:_BATCH]
            del self._waiting[:_BATCH]
            folds = [planned for box in boxes if (planned := self._plan(box, aftermath)) is not None]
            if folds:
                await self._commit(folds, aftermath)
        except Exception:
            # Nothing in here raises by design. If something does, its runs must not be stuck in this process.
            stuck, self._waiting = (boxes, self._waiting) if boxes else (self._waiting, [])
            for box in stuck:
                box.state = None
                box.fail(Unavailable("a commit failed in an unexpected way"), everything=True)
                self._next(box)
            raise
        finally:
            self._scheduled = False
            self._flushing -= 1
            self._kick()
        await aftermath.run()

    def _plan(self, box: Mailbox, aftermath: Aftermath) -> Fold | None:
        """The next commit of a run, or None: there is nothing to commit, or something has to be read first."""
        box.take()
        state = box.state
        if state is None or box.missing(state):
            self._spawn(self._prepare(box))
            return None
        try:
            planned = box.plan(state, nonce=self._mint(), now=self._time.now(), rules=self._rules)
        except Unread as unread:
            box.wanted.add(unread.key)
            box.state = state.rewound(self._codec)
            self._spawn(self._prepare(box))
            return None
        except Exception as error:  # noqa: BLE001 - whatever an event makes the engine raise is its submitter's
            self._refuse(box, error)
            return None
        if planned is None and not state.fresh:
            box.state = None  # "stale" is only ever said of a head that was loaded for the purpose
            self._spawn(self._prepare(box))
        elif planned is None:
            for submission in box.folding:
                answer(submission, Stale(), aftermath)
            box.committed()
            self._next(box)
        return planned

    def _refuse(self, box: Mailbox, error: Exception) -> None:
        if isinstance(error, Outdated) and box.forget():
            self._spawn(self._again(box))
        else:
            box.bisect(error, self._codec)
            self._next(box)

    async def _prepare(self, box: Mailbox) -> None:
        """Read what planning needs: the head if it is not at hand, and values of conditions and transforms."""
        try:
            if box.state is None:
                before = self._clock.monotonic()
                stored = await self._writer.patiently(lambda: self._store.load(box.run_id))
                if stored is None:
                    await self._gone(box)
                    return
                box.state = await self._writer.patiently(lambda: self._open(stored, before))
                box.values = {}
            missing = box.missing(box.state)
            if missing:
                found = await self._writer.patiently(lambda: self._store.read_values(box.run_id, missing))
                box.values.update({key: found.get(key, MISSING) for key in missing})
        except Exception as error:  # noqa: BLE001 - those who wait for this run's commit get it
            box.fail(error)
            self._next(box)
            return
        self._waiting.append(box)
        self._kick()

    async def _gone(self, box: Mailbox) -> None:
        aftermath = self._aftermath()
        box.gone(aftermath)
        self._next(box)
        await aftermath.run()

    async def _commit(self, folds: Sequence[Fold], aftermath: Aftermath) -> None:
        began = self._clock.monotonic()  # what is stored afterwards was current at some moment since then
        claiming = [asyncio.ensure_future(claim) for claim in claims_for(folds)]
        results = await self._writer.write([planned.change for planned in folds])
        for task in claiming:
            await task
        for planned, result in zip(folds, results, strict=True):
            self._settle(self._boxes[planned.change.run_id], planned, result, began, aftermath)

    def _settle(self, box: Mailbox, planned: Fold, result: Written, began: float, aftermath: Aftermath) -> None:
        change, state = planned.change, planned.state
        if isinstance(result, Exception):
            unkeep(planned)
            self._refuse(box, result)
        elif result.applied:
            state.advance(change.head, result.version, change.token, began)
            for key, data in change.values.items():
                state.remember(key, data)
            self._applied(box, state, planned, aftermath, acked=self._rules.bound)
        elif result.stored is None:
            unkeep(planned)
            box.gone(aftermath)
            self._next(box)
        else:
            content_hash, head = unpack_head(result.stored.head)
            again, box.state, box.values = state, None, {}
            if content_hash == state.graph.content_hash:  # else it was moved, and is opened anew
                box.state = again = RunState(state.graph, head, result.stored, self._codec, began, self._rules.times)
                again.values = state.values
            if change.token == result.stored.token or change.token in head.tokens:
                self._applied(box, again, planned, aftermath, acked=False)
            else:
                unkeep(planned)
                box.conflicts += 1
                self._spawn(self._again(box))

    def _applied(self, box: Mailbox, state: RunState, planned: Fold, aftermath: Aftermath, *, acked: bool) -> None:
        if not self._rules.bound:
            aftermath.jobs += planned.change.jobs
        answer_all(planned, state, aftermath, acked=acked, on_revoked=self.on_revoked)
        box.committed()
        if planned.effects.children and self.on_unneeded is not None:
            self.on_unneeded(box.run_id, planned.effects.children)
        if planned.effects.terminal:
            if self.on_ended is not None and state.committed().parent is not None:
                self.on_ended(box.run_id)
            box.state = None
        self._next(box)

    async def _again(self, box: Mailbox) -> None:
        """Plan again what met a conflict, after a moment if it is not the first."""
        if box.conflicts > 1:
            await self._clock.sleep(self._jitter() * min(0.002 * 2.0**box.conflicts, 0.25))
        self._waiting.append(box)
        self._kick()

    def _next(self, box: Mailbox) -> None:
        if box.rest():
            self._enlist(box)
        elif box.state is None:
            self._boxes.pop(box.run_id, None)
        else:
            self._trim()
