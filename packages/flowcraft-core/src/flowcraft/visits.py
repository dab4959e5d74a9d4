"""The visits that a worker has in hand: each slot executes one, commits its outcome and goes on with what it keeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from flowcraft.blueprint import Node
from flowcraft.claims import Claims
from flowcraft.codec import Codec
from flowcraft.committer import Committer
from flowcraft.constructs import SUBFLOW, WEBHOOK
from flowcraft.deadletters import record_poisoned
from flowcraft.dropping import drop_source
from flowcraft.engine.draft import MISSING
from flowcraft.engine.transition import EngineEvent, Failed, Parked
from flowcraft.errors import AdapterError, ConditionError, Misconfigured, SerializationError
from flowcraft.executor import Executor, VisitRequest
from flowcraft.folding import Applied, EventSource, Keeper, Kept, Result, undone_by, visit_of
from flowcraft.graph import Graph
from flowcraft.limits import Permit
from flowcraft.model import ErrorInfo, Event, Job, ValueKey
from flowcraft.nodes import ReadContext
from flowcraft.outcome import outcome_event, storable_text
from flowcraft.ports import Clock, Delivery, JobQueue, RunStore
from flowcraft.runstate import slot_of
from flowcraft.sealing import seal_data, traceback_of
from flowcraft.turns import Pause, Turns
from flowcraft.work import Cause, Slot, Work, end_delivery

__all__ = ["MAX_STEPS", "STICKY_SECONDS", "Starter", "VisitRunner"]

#: A chain goes through the queue again after so many steps, or so many seconds: other runs want their turn.
MAX_STEPS: Final = 16
STICKY_SECONDS: Final = 0.05
_LOG = logging.getLogger("flowcraft.worker")


class Starter(Protocol):
    """Makes the runs of subflows, and the urls of webhooks."""

    async def start(self, work: Work, given: object) -> EngineEvent:
        """See `flowcraft.children.Children.start` and `flowcraft.endpoints.Endpoints.start`."""
        ...


class VisitRunner:
    """Executes visits in slots. Shared by all slots of one worker."""

    def __init__(
        self,
        committer: Committer,
        executor: Executor,
        claims: Claims,
        *,
        store: RunStore,
        queue: JobQueue,
        codec: Codec,
        clock: Clock,
        max_deliveries: int,
        moved: Callable[[Slot, str], None],
        keeper: Keeper,
        turns: Turns,
        tell: Callable[[Event], None] | None,
        children: Starter | None = None,
    ) -> None:
        self._children = children
        self._committer = committer
        self._executor = executor
        self._claims = claims
        self._store = store
        self._queue = queue
        self._codec = codec
        self._clock = clock
        self._max_deliveries = max_deliveries
        self._moved = moved
        self._keeper = keeper
        self._turns = turns
        self._tell = tell

    async def run(self, slot: Slot, work: Work) -> None:
        """Execute, commit, and go on with what the commit kept, until nothing is kept."""
        again: Work | None = work
        while again is not None:
            again = await self._step(slot, again)

    async def drop(self, slot: Slot, graph: Graph) -> None:
        """A delivery of a draining visit: nobody works on it, so it is over."""
        job = slot.job
        await self._commit(slot, job, drop_source(job), graph, slot.delivery)

    async def _step(self, slot: Slot, work: Work) -> Work | None:
        try:
            event = await self._execute(slot, work)
            if event is None:
                await self.hand_back(slot, work.job, delay=0.0)
                return None
        except asyncio.CancelledError:
            if slot.cause is None or slot.task is None:
                raise
            slot.task.uncancel()
            await self._interrupted(slot, work, slot.cause)
            return None
        except AdapterError as error:
            _LOG.warning("a visit is handed back, the backend fails: %s", error, extra=work.extra)
            never = isinstance(error, Misconfigured)  # in this process; another one may have the key, say
            delay = self._claims.ttl if never else 1.0
            await self.hand_back(slot, work.job, delay=delay, forgive=not slot.poisoned)
            return None
        slot.steps += 1
        age = self._clock.monotonic() - slot.since
        if slot.permit is not None:
            goes_on = slot.cause is None and slot.steps < MAX_STEPS and age < self._claims.ttl
            if goes_on and self._turns.awaited(slot.permit):
                return await self._hand_over(slot, work.job, event, slot.permit, work.graph)
            await self.leave(slot)
        sticky = slot.steps < MAX_STEPS and age < STICKY_SECONDS
        result = await self._commit(slot, work.job, event, work.graph, slot.delivery, self._keeper if sticky else None)
        return self._go_on(slot, result.kept) if isinstance(result, Applied) else None

    def _go_on(self, slot: Slot, kept: Kept | None) -> Work | None:
        if kept is None:
            return None
        old, slot.job, slot.key = slot.key, kept.job, kept.job.claim_key
        self._moved(slot, old)
        return Work.kept(kept)

    async def _hand_over(self, slot: Slot, job: Job, event: EngineEvent, permit: Permit, graph: Graph) -> Work | None:
        """Commit, and go on with a visit that waits for this one's permit; the delivery stays in hand for it."""
        if await self._commit(slot, job, event, graph, None) is None:
            return None
        kept = await self._turns.hand_over(permit)
        if kept is None and slot.delivery is not None:
            await end_delivery(slot.delivery.ack())
        return self._go_on(slot, kept)

    async def leave(self, slot: Slot) -> None:
        """Give back what the visit in the slot was allowed by limits."""
        permit, slot.permit = slot.permit, None
        if permit is not None:
            await self._turns.leave(permit)

    async def _poison(self, slot: Slot, work: Work) -> EngineEvent | None:
        """The failure of a visit whose executions vanish again and again; None: it may be executed once more."""
        job = work.job
        text = await self._claims.poisoned(job.visit_key, self._max_deliveries)
        if text is None:
            return None
        _LOG.error("poisoned: %s", text, extra=work.extra)
        slot.poisoned = True
        await record_poisoned(self._store, job, self._max_deliveries, text)
        return Failed(work.visit, ErrorInfo("Poisoned", text), retryable=False, fatal=True)

    async def _execute(self, slot: Slot, work: Work) -> EngineEvent | None:
        """The visit's outcome; None: it was not begun, because the process goes, or the visit is over."""
        definition, job = work.definition, work.job
        if not self._executor.can_run(definition):
            return Parked(work.visit, f"no function for {definition.uses!r} where it was tried")
        redelivered = slot.delivery is not None and slot.delivery.redelivered and slot.steps == 0
        again = redelivered or job.resend > 0
        if slot.cause is not None:
            return None
        slot.running = True
        try:
            given = await self._input(work)
            if given is MISSING:
                return None
            if slot.permit is None:  # else it was handed over by the visit before
                turn = await self._turns.admit(job, work.node, definition, given)
                if isinstance(turn, Pause):
                    return Parked(work.visit, turn.reason, turn.delay, again)
                slot.permit = turn
            if again and (death := await self._poison(slot, work)) is not None:
                return death
            if self._children is not None and self._is_started(definition):
                return await self._children.start(work, given)
            request = VisitRequest(
                job.run_id, definition, job.visit, job.attempt, given, self._reader(job.run_id),
                self._hinter(work) if self._tell is not None else None,
                -1 if job.item < 0 else job.item * work.size, work.size, timed=True,
                undoes=undone_by(work.graph, work.node, work.runs),
            )  # fmt: skip
            if request.hint is not None:
                request.hint("node:started", {})
            outcome = await self._executor.run(request)
        except (ConditionError, SerializationError) as error:  # of the input: trying again cannot help
            info = ErrorInfo(type(error).__name__, storable_text(str(error)))
            return Failed(work.visit, info, retryable=False, fatal=isinstance(error, ConditionError))
        finally:
            slot.running = False
        return outcome_event(work.visit, outcome)

    def _is_started(self, definition: Node) -> bool:
        """Whether it is no function that is executed, but something that the adapter makes."""
        uses = definition.uses
        return uses == SUBFLOW or (uses == WEBHOOK and not self._executor.replaces(uses))

    async def _input(self, work: Work) -> object:
        """What the visit gets. MISSING: it is over, and what it was to get may be gone."""
        values = dict(work.values)
        missing = [key for key in work.plan.keys if key not in values]
        if missing:
            found = await self._store.read_values(work.job.run_id, missing)
            if len(found) < len(missing):
                if not await self._is_current(work):
                    return MISSING
                found = await self._store.read_values(work.job.run_id, missing)  # there now, if a failover took it back
            values.update(found)
        decode = self._codec.decode
        return work.plan.build(lambda key: decode(values[key]) if key in values else MISSING)

    async def _is_current(self, work: Work) -> bool:
        """Whether the activation is still the run's, as it is stored now."""
        state = await self._committer.load(work.job.run_id)
        slot = -1 if state is None else slot_of(state.graph, work.job.node, work.job.item)
        activation = None if state is None else state.committed().active.get(slot)
        return activation is not None and visit_of(slot, activation) == replace(work.visit, node=slot)

    def _reader(self, run_id: str) -> ReadContext:
        async def read(keys: Sequence[str] | None) -> Mapping[str, object]:
            if keys is None:
                found = await self._store.read_values(run_id, space="context")
            else:
                found = await self._store.read_values(run_id, [ValueKey("context", key) for key in keys])
            return {key.name: self._codec.decode(data) for key, data in found.items()}

        return read

    def _hinter(self, work: Work) -> Callable[[str, Mapping[str, object]], None]:
        job = work.job

        def hint(kind: str, data: Mapping[str, object]) -> None:
            if self._tell is not None:
                at = self._committer.time.now()
                sealed = seal_data(self._codec, dict(data))
                self._tell(Event(job.run_id, 0, kind, at, job.node, job.visit, job.attempt, sealed))

        return hint

    async def _commit(
        self, slot: Slot, job: Job, event: EngineEvent | EventSource, graph: Graph, delivery: Delivery | None,
        keeper: Keeper | None = None,
    ) -> Result | None:  # fmt: skip
        """Submit an outcome; what cannot be committed is handed back (None)."""
        submit = self._committer.submit
        try:
            result = await submit(job.run_id, event, delivery=delivery, keeper=keeper, graph=graph)
        except AdapterError as error:
            _LOG.warning("an outcome is not committed, its visit is handed back: %s", error, extra=_extra(job))
            await self.hand_back(slot, job, delay=1.0)
            return None
        except Exception as error:  # noqa: BLE001 - an event that cannot be folded must not stop the worker
            _LOG.error("an outcome cannot be committed, its visit is handed back: %s", type(error).__name__,
                       exc_info=traceback_of(self._codec, error), extra=_extra(job))  # fmt: skip
            await self.hand_back(slot, job, delay=self._claims.ttl, forgive=False)
            return None
        self._claims.finish(job.claim_key)
        return result

    async def _interrupted(self, slot: Slot, work: Work, cause: Cause) -> None:
        """The user code was cancelled: say so if the visit was to be ended, else leave it to somebody else."""
        _LOG.info("a visit was cancelled: %s", cause, extra=work.extra)
        if cause == "shutdown":
            await self.hand_back(slot, work.job, delay=0.0)
        elif await self._claims.taken_over(work.job.claim_key):
            if slot.delivery is not None:  # the visit is its new owner's, whose safety is the ticker
                await end_delivery(slot.delivery.ack())
        else:
            await self._commit(slot, work.job, drop_source(work.job), work.graph, slot.delivery)

    async def hand_back(self, slot: Slot, job: Job, *, delay: float, forgive: bool = True) -> None:
        """Let another worker have a visit. The lease goes first: whoever gets the message must be able to take it."""
        await self._claims.release([job.claim_key])
        if forgive:
            await self._claims.forgive(job.visit_key)
        longest = self._queue.capabilities.max_delay
        delay = delay if longest is None else min(delay, longest)
        delivery = slot.delivery
        if delivery is not None and delivery.job.claim_key == job.claim_key:
            await end_delivery(delivery.retry(delay=delay))
            return
        # A kept visit has no message of its own; the one in hand belongs to a step before.
        try:
            await self._queue.publish([job], delay=delay)
        except AdapterError as error:
            _LOG.warning("a job could not be published, the ticker will: %s", error, extra=_extra(job))
        if delivery is not None:
            await end_delivery(delivery.ack())


def _extra(job: Job) -> dict[str, object]:
    return {"run_id": job.run_id, "node_id": job.node, "attempt": job.attempt}
