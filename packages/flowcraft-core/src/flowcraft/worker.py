"""The worker: receive → claim → check against the head → execute → commit → ack, for as many visits as it may have.

It has no thread, no signal handler and no task that outlives its block. Everything it holds is handed back on the way
out: a process that ends in order causes no execution twice, unless a node takes longer than the grace period.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from flowcraft.blueprint import Node
from flowcraft.claims import Claims
from flowcraft.codec import Codec
from flowcraft.committer import Committer
from flowcraft.errors import AdapterError, InvalidRequest, Unavailable
from flowcraft.executor import Executor
from flowcraft.folding import Kept
from flowcraft.intake import Intake
from flowcraft.limits import Limits, Permit
from flowcraft.model import Event, Job
from flowcraft.ports import Clock, CoordinationStore, Delivery, EventBus, JobQueue, RunStore
from flowcraft.runstate import RunState
from flowcraft.turns import Turns
from flowcraft.visits import Starter, VisitRunner
from flowcraft.work import keep_delivery
from flowcraft.writing import backoff

__all__ = ["Worker", "WorkerOptions"]

_LOG = logging.getLogger("flowcraft.worker")
_BEAT: Final = 1.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works. Durations are seconds.

    ``concurrency``: visits in hand at the same time · ``grace``: time that running visits get to finish on the way out
    · ``lease_ttl``: how long a dead worker's visits are left alone · ``max_deliveries``: executions of a visit that may
    vanish without an outcome before its node fails.
    """

    queues: tuple[str, ...]
    concurrency: int = 50
    grace: float = 20.0
    lease_ttl: float = 30.0
    max_deliveries: int = 5

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.max_deliveries < 1:
            raise InvalidRequest("concurrency and max_deliveries must be at least 1")
        if self.grace < 0 or self.lease_ttl <= 0:
            raise InvalidRequest("grace must not be negative, lease_ttl must be positive")
        if not self.queues:
            raise InvalidRequest("a worker needs at least one queue")


class Worker:
    """One worker on one event loop: an async context manager. ``side_tasks`` (a ticker) live and die with it."""

    def __init__(
        self,
        options: WorkerOptions,
        committer: Committer,
        executor: Executor,
        *,
        store: RunStore,
        queue: JobQueue,
        coordination: CoordinationStore,
        codec: Codec,
        clock: Clock,
        events: EventBus | None = None,
        limits: Limits | None = None,
        side_tasks: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        owner: str | None = None,
        children: Starter | None = None,
    ) -> None:
        self.options = options
        self.owner = owner or secrets.token_hex(8)
        self._committer = committer
        self._executor = executor
        self._queue = queue
        self._clock = clock
        self._events = events
        self._side_tasks = tuple(side_tasks)
        self._served = frozenset(options.queues)
        self._claims = Claims(coordination, self.owner, options.lease_ttl, clock)
        self._intake = Intake(committer, self._claims, clock, options.concurrency)
        self._turns = Turns(
            limits or Limits(), committer, store=store, coordination=coordination, codec=codec, clock=clock,
            owner=self.owner, ttl=options.lease_ttl,
        )  # fmt: skip
        self._turns.serve(self)
        self._hints: list[Event] = []
        self._hinting: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._main: asyncio.Task[None] | None = None
        self._receiving = False
        self._intake.serve(
            VisitRunner(
                committer, executor, self._claims, store=store, queue=queue, codec=codec, clock=clock,
                max_deliveries=options.max_deliveries, moved=self._intake.move, keeper=self,
                turns=self._turns, tell=None if events is None else self._tell, children=children,
            )
        )  # fmt: skip

    # ---- the block

    async def __aenter__(self) -> Self:
        self._committer.on_revoked.append(self._revoked)
        self._main = asyncio.create_task(self._supervise(), name=f"flowcraft worker {self.owner}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        main = self._main
        if main is None:
            return
        self._stopping.set()
        try:
            await asyncio.wait({main})
        finally:
            if not main.done():  # the caller was cancelled while it waited: at once, then
                main.cancel()
                await asyncio.wait({main})
            self._committer.on_revoked.remove(self._revoked)
        if kind is None and not main.cancelled():
            main.result()

    def stop(self) -> None:
        """Receive nothing more and end when what is in hand has finished, or the grace period is over."""
        self._stopping.set()

    async def wait(self) -> None:
        """Return when the worker has ended. Raises what it died of."""
        if self._main is None:
            raise InvalidRequest("the worker has not been started: use `async with`")
        await asyncio.shield(self._main)

    @property
    def healthy(self) -> bool:
        """Whether it receives, or is on its way out as told."""
        alive = self._main is not None and not self._main.done()
        return alive and (self._receiving or self._stopping.is_set())

    @property
    def in_hand(self) -> int:
        """Visits that are being executed or committed."""
        return len(self._intake.slots)

    async def _supervise(self) -> None:
        side = [asyncio.create_task(self._beat(), name="flowcraft heartbeat")]
        side.append(asyncio.create_task(self._turns.run(), name="flowcraft limits"))
        side += [asyncio.create_task(make(), name="flowcraft ticker") for make in self._side_tasks]
        receiving = asyncio.create_task(self._receive(), name="flowcraft receiver")
        try:
            await asyncio.wait({receiving, *side}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():  # one of the others died: leave in order, then say why
                self._stopping.set()
                await asyncio.wait({receiving})
        finally:
            left = [receiving, *side, *self._intake.tasks]
            left += [self._hinting] if self._hinting is not None else []
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._receiving = False
        for task in (receiving, *side):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    # ---- receive

    async def _receive(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                if self._committer.time.stale:  # the first word of a visit carries the store's time, too
                    await self._committer.time.sync()
                opened = self._queue.deliveries(self.options.queues, prefetch=self.options.concurrency)
                async with opened as stream:
                    self._receiving = True
                    failures = 0
                    await self._until_stopped(self._pump(stream))
            except Unavailable as error:
                self._receiving = False
                failures += 1
                _LOG.warning("the queue or the run store does not answer (attempt %d): %s", failures, error)
                await self._until_stopped(self._clock.sleep(backoff(failures, 0.5)))

    async def _until_stopped(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it until the worker is to stop; if it is, finish what is in hand, still inside the caller's block."""
        task = asyncio.create_task(coroutine)
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            ended = task.done()
            task.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)
        if self._stopping.is_set():
            await self._drain()
        if ended:
            task.result()

    async def _pump(self, stream: AsyncIterator[Sequence[Delivery]]) -> None:
        async for batch in stream:
            await self._intake.accept(batch)

    async def _drain(self) -> None:
        """Finish what runs within the grace period; hand everything else back at once."""
        await self._intake.return_arriving()
        await self._settled(self.options.grace)
        for slot in tuple(self._intake.slots.values()):
            slot.shut()
        await self._settled(max(5.0, self.options.grace))

    async def _settled(self, seconds: float) -> None:
        """Wait until nothing is in hand, for at most so long."""
        if not self._intake.slots:
            return
        limit = asyncio.create_task(self._clock.sleep(seconds))
        try:
            while self._intake.slots and not limit.done():
                await asyncio.wait({limit, *self._intake.tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()

    # ---- heartbeat

    async def _beat(self) -> None:
        visibility = self._queue.capabilities.visibility or self.options.lease_ttl
        period = min(self.options.lease_ttl, visibility) / 3
        due = self._clock.monotonic() + period
        while True:
            await self._clock.sleep(min(_BEAT, period))
            await self._claims.sweep()
            if self._clock.monotonic() >= due:
                due = self._clock.monotonic() + period
                await asyncio.gather(self._renew(visibility), self._turns.renew())

    async def _renew(self, visibility: float) -> None:
        slots = dict(self._intake.slots)
        if not slots:
            return
        for (key, slot), standing in zip(slots.items(), await self._claims.renew(list(slots)), strict=True):
            if standing == "other" and slot.key == key:
                slot.lose()
        if self._queue.capabilities.extend:
            deliveries = [slot.delivery for slot in slots.values() if slot.delivery is not None]
            await asyncio.gather(*(keep_delivery(delivery, visibility) for delivery in deliveries))

    # ---- what the committer and the visits call

    def wants(self, job: Job, node: Node) -> bool:
        """Whether a slot may go on with this visit instead of publishing it."""
        return not self._stopping.is_set() and job.queue in self._served and self._executor.can_run(node)

    async def claim(self, keys: Sequence[str]) -> Sequence[bool]:
        """Take the leases of what slots go on with."""
        return await self._claims.take(keys)

    def forget(self, keys: Sequence[str]) -> None:
        """These leases are not needed after all."""
        self._claims.forget(keys)

    def adopts(self, job: Job, node: Node) -> bool:
        """Whether this worker has room for a visit that its ticker wakes."""
        return self._intake.room > 0 and self.wants(job, node)

    def adopt(self, kept: Kept, permit: Permit | None = None) -> asyncio.Task[None]:
        """Execute a visit that its ticker, or the turn under a limit, woke and claimed for it."""
        return self._intake.adopt(kept, permit)

    @property
    def room(self) -> int:
        """For how many visits there is a place that its ticker wakes, or whose turn under a limit has come."""
        return 0 if self._stopping.is_set() else self._intake.room

    async def meet(self, state: RunState) -> None:
        """Its ticker looks at a run: some of its visits may wait for a limit."""
        await self._turns.meet(state)

    def _revoked(self, keys: Sequence[str]) -> None:
        """A commit of this process wants these visits ended: do not wait for the heartbeat."""
        for key in keys:
            slot = self._intake.slots.get(key)
            if slot is not None:
                slot.lose()

    def _tell(self, event: Event) -> None:
        self._hints.append(event)
        if self._hinting is None or self._hinting.done():
            self._hinting = asyncio.create_task(self._send_hints())

    async def _send_hints(self) -> None:
        while self._hints and self._events is not None:
            hints, self._hints = self._hints, []
            try:
                await self._events.publish(hints)
            except AdapterError as error:
                _LOG.warning("%d hints could not be told: %s", len(hints), error)
