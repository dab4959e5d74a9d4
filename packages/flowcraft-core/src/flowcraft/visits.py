"""The visits that a worker has in hand: each slot executes one, commits its outcome and goes on with what it keeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from flowcraft.blueprint import Node
from flowcraft.claims import Claims
from flowcraft.codec import Codec
from flowcraft.committer import Committer
from flowcraft.constructs import SUBFLOW, WEBHOOK
from flowcraft.dropping import drop_source
from flowcraft.engine.draft import MISSING
from flowcraft.engine.head import Head, group_size
from flowcraft.engine.inputs import InputPlan, input_plan
from flowcraft.engine.slots import node_of
from flowcraft.engine.transition import EngineEvent, Failed, Parked, Visit
from flowcraft.errors import AdapterError, ConditionError, Misconfigured, SerializationError
from flowcraft.executor import Executor, VisitRequest
from flowcraft.folding import Applied, EventSource, Keeper, Kept
from flowcraft.graph import Graph
from flowcraft.model import ErrorInfo, Event, Job, ValueKey
from flowcraft.nodes import ReadContext
from flowcraft.outcome import outcome_event, storable_text
from flowcraft.ports import Clock, Delivery, JobQueue, RunStore
from flowcraft.runstate import slot_of
from flowcraft.sealing import seal_data, traceback_of

__all__ = ["MAX_STEPS", "STICKY_SECONDS", "Cause", "Slot", "VisitRunner", "Work", "end_delivery"]

#: A chain goes through the queue again after so many steps, or so many seconds: other runs want their turn.
MAX_STEPS: Final = 16
STICKY_SECONDS: Final = 0.05
#: Why the worker cancels a visit: somebody else has it or wants it ended, or the process goes.
Cause = Literal["lost", "shutdown"]
_LOG = logging.getLogger("flowcraft.worker")


@dataclass(frozen=True, slots=True)
class Work:
    """An activation that is current and claimed. ``values`` are those of its input that are known already."""

    job: Job
    graph: Graph
    node: int
    runs: int
    plan: InputPlan
    values: Mapping[ValueKey, bytes]
    depth: int
    size: int

    @staticmethod
    def of(job: Job, graph: Graph, head: Head, known: Mapping[ValueKey, bytes]) -> Work:
        """For an active node of ``head``."""
        slot = slot_of(graph, job.node, job.item)
        runs = head.active[slot].runs
        plan = input_plan(graph, head, slot)
        values = {key: known[key] for key in plan.keys if key in known}
        runs = node_of(slot) if runs < 0 else runs
        return Work(job, graph, slot, runs, plan, values, head.depth, group_size(head, slot))

    @staticmethod
    def kept(kept: Kept) -> Work:
        """For what a commit of this worker made READY."""
        return Work(kept.job, kept.graph, kept.node, kept.runs, kept.plan, kept.values, kept.depth, kept.size)

    @property
    def definition(self) -> Node:
        """The node whose function runs."""
        return self.graph.nodes[self.runs]

    @property
    def visit(self) -> Visit:
        """The fence."""
        return Visit(self.node, self.job.nonce, self.job.visit, self.job.attempt)

    @property
    def is_webhook(self) -> bool:
        """Whether it is a webhook, not a subflow, of the nodes that have no function."""
        return self.definition.uses == WEBHOOK

    @property
    def extra(self) -> dict[str, object]:
        """For the log."""
        return {"run_id": self.job.run_id, "node_id": self.job.node, "attempt": self.job.attempt}


class Slot:
    """One place of a worker's concurrency. Its delivery stays in hand through all steps of a chain.

    So the queue counts it against the prefetch, and the worker never has more in hand than it may. A visit that the
    ticker woke for its own worker comes without a delivery.
    """

    __slots__ = ("cause", "delivery", "job", "key", "running", "since", "steps", "task")

    def __init__(self, job: Job, delivery: Delivery | None, since: float) -> None:
        self.delivery = delivery
        self.job = job
        self.key = job.claim_key
        self.since = since
        self.steps = 0
        self.running = False
        self.cause: Cause | None = None
        self.task: asyncio.Task[None] | None = None

    def lose(self) -> None:
        """The lease is gone: cancel the user code, if it runs; an outcome that is being committed goes its way."""
        if self.running and self.cause is None and self.task is not None:
            self.cause = "lost"
            self.task.cancel()

    def shut(self) -> None:
        """The process goes: cancel the user code, if it runs, and begin no other."""
        running = self.running and self.cause is None
        self.cause = self.cause or "shutdown"
        if running and self.task is not None:
            self.task.cancel()


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
        self._tell = tell

    async def run(self, slot: Slot, work: Work) -> None:
        """Execute, commit, and go on with what the commit kept, until nothing is kept."""
        again: Work | None = work
        while again is not None:
            again = await self._step(slot, again)

    async def drop(self, slot: Slot, node: int) -> None:
        """A delivery of a draining visit: nobody works on it, so it is over."""
        job = slot.job
        await self._commit(slot, job, drop_source(job.run_id, Visit(node, job.nonce, job.visit, job.attempt)), None)

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
            await self.hand_back(slot, work.job, delay=self._claims.ttl if never else 1.0)
            return None
        slot.steps += 1
        sticky = slot.steps < MAX_STEPS and self._clock.monotonic() - slot.since < STICKY_SECONDS
        kept = await self._commit(slot, work.job, event, self._keeper if sticky else None)
        if kept is None:
            return None
        old, slot.job, slot.key = slot.key, kept.job, kept.job.claim_key
        self._moved(slot, old)
        return Work.kept(kept)

    async def _execute(self, slot: Slot, work: Work) -> EngineEvent | None:
        """The visit's outcome; None: it was not begun, because the process goes."""
        definition, job = work.definition, work.job
        if not self._executor.can_run(definition):
            return Parked(work.visit, f"no function for {definition.uses!r} where it was tried")
        again = slot.delivery is not None and slot.delivery.redelivered and slot.steps == 0
        if again or job.resend > 0:
            deaths = await self._claims.begun(job.claim_key)
            if deaths >= self._max_deliveries:
                text = f"{deaths} executions of this visit began and left no outcome; it is not tried again"
                _LOG.error("poisoned: %s", text, extra=work.extra)
                return Failed(work.visit, ErrorInfo("Poisoned", text), retryable=False, fatal=True)
        if slot.cause is not None:
            return None
        slot.running = True
        try:
            given = await self._input(work)
            if self._children is not None and self._is_started(definition):
                return await self._children.start(work, given)
            request = VisitRequest(
                job.run_id, definition, job.visit, job.attempt, given, self._reader(job.run_id),
                self._hinter(work) if self._tell is not None else None,
                -1 if job.item < 0 else job.item * work.size, work.size,
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
        values = dict(work.values)
        missing = [key for key in work.plan.keys if key not in values]
        if missing:
            values.update(await self._store.read_values(work.job.run_id, missing))
        decode = self._codec.decode
        return work.plan.build(lambda key: decode(values[key]) if key in values else MISSING)

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
        self, slot: Slot, job: Job, event: EngineEvent | EventSource, keeper: Keeper | None
    ) -> Kept | None:
        """Submit an outcome; what cannot be committed is handed back."""
        try:
            result = await self._committer.submit(job.run_id, event, delivery=slot.delivery, keeper=keeper)
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
        return result.kept if isinstance(result, Applied) else None

    async def _interrupted(self, slot: Slot, work: Work, cause: Cause) -> None:
        """The user code was cancelled: say so if the visit was to be ended, else leave it to somebody else."""
        _LOG.info("a visit was cancelled: %s", cause, extra=work.extra)
        if cause == "shutdown":
            await self.hand_back(slot, work.job, delay=0.0)
        elif await self._claims.taken_over(work.job.claim_key):
            if slot.delivery is not None:  # the visit is its new owner's, whose safety is the ticker
                await end_delivery(slot.delivery.ack())
        else:
            await self._commit(slot, work.job, drop_source(work.job.run_id, work.visit), None)

    async def hand_back(self, slot: Slot, job: Job, *, delay: float, forgive: bool = True) -> None:
        """Let another worker have a visit. The lease goes first: whoever gets the message must be able to take it."""
        await self._claims.release([job.claim_key])
        if forgive:
            await self._claims.forgive(job.claim_key)
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


async def end_delivery(ending: Awaitable[None]) -> None:
    """Await an ack, a retry or the like; if the broker does not take it, the message comes again by itself."""
    try:
        await ending
    except AdapterError as error:
        _LOG.warning("a delivery could not be ended: %s", error)
