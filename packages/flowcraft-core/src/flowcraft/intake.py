"""From deliveries to visits: one claim for a batch, one look at each run's head, a slot for each visit that is due."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, cast

from flowcraft.claims import Claims
from flowcraft.committer import Committer
from flowcraft.engine.head import DRAINING, READY
from flowcraft.errors import AdapterError, FlowcraftError, Misconfigured
from flowcraft.folding import Kept
from flowcraft.limits import Permit
from flowcraft.model import Job
from flowcraft.ports import Clock, Delivery
from flowcraft.runstate import RunState, slot_of
from flowcraft.sealing import traceback_of
from flowcraft.visits import VisitRunner
from flowcraft.work import Slot, Work, end_delivery

__all__ = ["Intake"]

_LOG = logging.getLogger("flowcraft.worker")


class Intake:
    """What a worker has in hand: deliveries that just came, and visits in their slots by the keys of their leases."""

    def __init__(self, committer: Committer, claims: Claims, clock: Clock, concurrency: int) -> None:
        self.slots: dict[str, Slot] = {}
        self._committer = committer
        self._claims = claims
        self._clock = clock
        self._concurrency = concurrency
        self._adopted: set[Slot] = set()
        self._arriving: list[Delivery] = []
        self._runner: VisitRunner  # by `serve`, before anything is accepted

    def serve(self, runner: VisitRunner) -> None:
        """Execute with this runner from now on."""
        self._runner = runner

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of all slots."""
        return [slot.task for slot in self.slots.values() if slot.task is not None]

    def move(self, slot: Slot, old: str) -> None:
        """A slot went on with another visit."""
        del self.slots[old]
        self.slots[slot.key] = slot

    async def return_arriving(self) -> None:
        """Hand back what was received and not begun. The leases go first: whoever gets it must be able to take it."""
        arriving, self._arriving = self._arriving, []
        if arriving:
            await self._claims.release([delivery.job.claim_key for delivery in arriving])
        for delivery in arriving:
            await end_delivery(delivery.retry())

    async def accept(self, batch: Sequence[Delivery]) -> None:
        """One claim for the whole batch, and one look at each run's head; then a slot for each visit that is due."""
        self._arriving.extend(batch)
        fresh: dict[str, Delivery] = {}
        for delivery in await self._fitting(batch):
            key = delivery.job.claim_key
            if key in fresh or key in self.slots or self._claims.finished(key):
                await self._ack(delivery)  # in hand already, or just done: the message came twice
            else:
                fresh[key] = delivery
        if not fresh:
            return
        runs = dict.fromkeys(delivery.job.run_id for delivery in fresh.values())  # a set has another order each time
        unknown = [run_id for run_id in runs if self._committer.peek(run_id, self._claims.trust) is None]
        won, loaded = await self._claim_and_load(list(fresh), unknown)
        unsure: list[Delivery] = []
        for delivery, mine in zip(fresh.values(), won, strict=True):
            run_id = delivery.job.run_id
            if not mine:
                # Its holder is alive, or died less than a lease ago: then this message is the quickest way back, and
                # goes round once or twice until the lease is over.
                self._arriving.remove(delivery)
                await end_delivery(delivery.retry(delay=self._claims.ttl / 2))
            elif run_id in loaded:
                await self._begin(delivery, loaded[run_id])
            elif not self._begin_remembered(delivery):
                unsure.append(delivery)
        if unsure:
            _, loaded = await self._claim_and_load([], sorted({delivery.job.run_id for delivery in unsure}))
            for delivery in unsure:
                await self._begin(delivery, loaded[delivery.job.run_id])

    async def _claim_and_load(
        self, keys: Sequence[str], run_ids: Sequence[str]
    ) -> tuple[Sequence[bool], dict[str, _Loaded]]:
        """Both at the same time: a lease that is won now was free when the head was read, or a moment before."""
        if not run_ids:
            return await self._claims.take(keys), {}
        loading = [self._committer.load(run_id) for run_id in run_ids]
        if not keys:
            return (), dict(zip(run_ids, await asyncio.gather(*loading, return_exceptions=True), strict=True))
        won, *loaded = await asyncio.gather(self._claims.take(keys), *loading, return_exceptions=True)
        if isinstance(won, BaseException):
            raise won
        return cast("Sequence[bool]", won), dict(zip(run_ids, cast("list[_Loaded]", loaded), strict=True))

    def _begin_remembered(self, delivery: Delivery) -> bool:
        """Execute what a head in memory says is READY; anything else takes a look at the store."""
        state = self._committer.peek(delivery.job.run_id, 2 * self._claims.trust)
        if state is None or _standing(delivery.job, state) != READY:
            return False
        self._execute(delivery, state)
        return True

    async def _begin(self, delivery: Delivery, state: _Loaded) -> None:
        """Decide on a head that was just loaded."""
        job = delivery.job
        if isinstance(state, BaseException):
            if not isinstance(state, FlowcraftError):
                raise state
            delay = (
                1.0 if isinstance(state, AdapterError) and not isinstance(state, Misconfigured) else self._claims.ttl
            )
            _LOG.error("a run cannot be read, its job is handed back: %s", state, extra={"run_id": job.run_id})
            self._occupy(delivery, lambda slot, runner: runner.hand_back(slot, job, delay=delay))
            return
        standing = None if state is None else _standing(job, state)
        if state is not None and standing == READY:
            self._execute(delivery, state)
        elif state is not None and standing == DRAINING:
            graph = state.graph
            self._occupy(delivery, lambda slot, runner: runner.drop(slot, graph))
        else:
            if standing == _PAUSED:  # it is sent again when the run goes on, which may be now, and to anyone
                await self._claims.release([job.claim_key])
            else:
                self._claims.forget([job.claim_key])
            await self._ack(delivery)

    def _execute(self, delivery: Delivery, state: RunState) -> None:
        work = Work.of(delivery.job, state.graph, state.committed(), state.values)
        self._occupy(delivery, lambda slot, runner: runner.run(slot, work))

    async def _fitting(self, batch: Sequence[Delivery]) -> Sequence[Delivery]:
        """The queue does not know of adopted visits: beside them, what is too much is handed back."""
        if not self._adopted:
            return batch
        room = max(0, self._concurrency - len(self.slots))
        for delivery in batch[room:]:
            self._arriving.remove(delivery)
            await end_delivery(delivery.retry(delay=1.0))
        return batch[:room]

    @property
    def room(self) -> int:
        """For how many visits without a delivery there is room; at least every other place is for those with one."""
        most = (self._concurrency + 1) // 2
        return min(most - len(self._adopted), self._concurrency - len(self.slots) - len(self._arriving))

    def adopt(self, kept: Kept, permit: Permit | None = None) -> asyncio.Task[None]:
        """Execute a visit that this worker made READY and claimed, under what its limits allow it already."""
        slot = Slot(kept.job, None, self._clock.monotonic())
        slot.permit = permit
        if self.room > 0:
            self._adopted.add(slot)
            return self._start(slot, self._runner.run(slot, Work.kept(kept)))
        return self._start(slot, self._runner.hand_back(slot, kept.job, delay=0.0))  # the room was taken meanwhile

    def _occupy(self, delivery: Delivery, use: Callable[[Slot, VisitRunner], Coroutine[Any, Any, None]]) -> None:
        slot = Slot(delivery.job, delivery, self._clock.monotonic())
        self._arriving.remove(delivery)
        _ = self._start(slot, use(slot, self._runner))  # the slot has the task

    def _start(self, slot: Slot, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.slots[slot.key] = slot
        slot.task = asyncio.create_task(self._use(slot, coroutine))
        return slot.task

    async def _use(self, slot: Slot, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Exception as error:  # noqa: BLE001 - none by design; the visit must not be stuck in this worker
            job = slot.job
            extra = {"run_id": job.run_id, "node_id": job.node, "attempt": job.attempt}
            shown = traceback_of(self._committer.rules.codec, error)
            _LOG.error("a visit is handed back after an unexpected error: %s", type(error).__name__, exc_info=shown,
                       extra=extra)  # fmt: skip
            await self._runner.hand_back(slot, job, delay=self._claims.ttl, forgive=False)
        finally:
            try:
                await self._runner.leave(slot)
            finally:
                self.slots.pop(slot.key, None)
                self._adopted.discard(slot)

    async def _ack(self, delivery: Delivery) -> None:
        self._arriving.remove(delivery)
        await end_delivery(delivery.ack())


_Loaded = RunState | BaseException | None
#: In place of READY in a paused run.
_PAUSED: Final = -1


def _standing(job: Job, state: RunState) -> int | None:
    """The state of the node, or _PAUSED, if the job's activation is its current one, or None."""
    head = state.committed()
    node = slot_of(state.graph, job.node, job.item)
    activation = head.active.get(node)
    if activation is None or (activation.nonce, activation.visit, activation.attempt) != (
        job.nonce,
        job.visit,
        job.attempt,
    ):
        return None
    standing = head.state(node)
    return _PAUSED if head.paused and standing == READY else standing
