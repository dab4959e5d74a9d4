"""Whose turn it is: the visits of one worker that run under limits, and letting out those that wait for them.

A visit that may not run now is parked, so that it occupies nothing, and stands in a line for what refused it. Three
things let it out:

* a visit under the same limit ends: it hands its slots, and its place in the worker, to the first of the line;
* the loop in here finds, about once a second or when a token is due, that there is room again;
* another process does so: a line is a hint, and whoever comes second finds the visit gone.

What nobody remembers (its worker died, or there are too many) a ticker finds when its time has come, and tells.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from flowcraft.blueprint import Node
from flowcraft.codec import Codec
from flowcraft.committer import Committer
from flowcraft.engine.draft import MISSING
from flowcraft.engine.head import PARKED
from flowcraft.engine.inputs import InputPlan, input_plan
from flowcraft.engine.slots import item_of, node_of
from flowcraft.engine.transition import LIMITED, Unparked, limited
from flowcraft.errors import AdapterError, FlowcraftError
from flowcraft.folding import Applied, Keeper, Kept, definition_of, job_of
from flowcraft.limits import Demands, Limits, Permit, Refusal, exchange, give_back, renew
from flowcraft.model import Job
from flowcraft.ports import Clock, CoordinationStore, RunStore
from flowcraft.runstate import RunState
from flowcraft.waiting import Lines, Waiter

__all__ = ["Host", "Pause", "Turns"]

_LOG = logging.getLogger("flowcraft.limits")
#: So many of those that wait are tried for one permit: some may be gone.
_TRIES: Final = 16
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Pause:
    """The visit may not run now: why, and after how many seconds the tickers are to look at it."""

    reason: str
    delay: float


class Host(Keeper, Protocol):
    """The worker whose visits these are."""

    @property
    def room(self) -> int:
        """For how many visits that come without a delivery it has a place."""
        ...

    def adopt(self, kept: Kept, permit: Permit | None = None) -> object:
        """Execute it."""
        ...


class _Only:
    """A keeper of one visit: the permit is for no other."""

    def __init__(self, host: Host, waiter: Waiter) -> None:
        self._host = host
        self._waiter = waiter
        self.claim = host.claim
        self.forget = host.forget

    def wants(self, job: Job, node: Node) -> bool:
        waiter = self._waiter
        same = (job.node, job.item, job.visit) == (waiter.node_id, item_of(waiter.node), waiter.visit)
        return same and self._host.wants(job, node)


class Turns:
    """The limits at work in one worker. ``ttl``: seconds after which the slots of a dead worker are free."""

    def __init__(
        self,
        limits: Limits,
        committer: Committer,
        *,
        store: RunStore,
        coordination: CoordinationStore,
        codec: Codec,
        clock: Clock,
        owner: str,
        ttl: float,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._limits = limits
        self._committer = committer
        self._store = store
        self._coordination = coordination
        self._codec = codec
        self._clock = clock
        self._owner = owner
        self._ttl = ttl
        self._numbers = itertools.count()
        self._poked = asyncio.Event()
        self._lines = Lines(clock, self._poked.set, spread)
        self._permits: set[Permit] = set()
        self._coming = 0  # visits that are being woken for a place in the worker
        self._host: Host  # by `serve`, before anything is admitted

    def serve(self, host: Host) -> None:
        """Let this worker have what is woken, if it has room."""
        self._host = host

    # ---- what a visit asks

    async def admit(self, job: Job, node: int, definition: Node, value: object) -> Permit | Pause | None:
        """A permit to run, None if there is no limit, or a pause: then the visit is in line, and must be parked.

        Raises:
            ConditionError: a key cannot be evaluated. AdapterError: the coordination store does not answer.
        """
        demands = self._limits.demands(definition, value, job.queue)
        if not demands:
            return None
        waiter = Waiter(job.run_id, node, job.node, job.visit)
        permit = self._permit()
        refusal = self._lines.closed(demands) or await self._get(permit, demands)
        if refusal is None:
            permit.tokens = ()  # used
            self._lines.forget(waiter)
            return permit
        self._lines.add(refusal, demands, [waiter])
        return Pause(LIMITED + refusal.demand.name, self._lines.patience(refusal, demands))

    def awaited(self, permit: Permit) -> bool:
        """Whether somebody here waits for what the permit holds."""
        return not permit.lost and any(slot.key in self._lines for slot in permit.slots)

    async def hand_over(self, permit: Permit) -> Kept | None:
        """The visit that goes on with the permit in the same place. None: there is none, and it was given back."""
        return await self._hand(permit, [slot.key for slot in permit.slots])

    async def leave(self, permit: Permit) -> None:
        """Give the slots back; whoever waits for them here is let out at once, if there is room."""
        self._lines.freed(await self._drop(permit))

    async def renew(self) -> None:
        """Keep all slots; to be called by the heartbeat."""
        permits = tuple(self._permits)
        results = await asyncio.gather(
            *(renew(self._coordination, permit, self._ttl) for permit in permits), return_exceptions=True
        )
        for error in results:
            if isinstance(error, AdapterError):
                _LOG.warning("slots of a limit could not be renewed: %s", error)
            elif error is not None:
                raise error

    # ---- what the ticker tells

    async def meet(self, state: RunState) -> None:
        """Take those visits of a due run into line that wait for a limit, and whose time has come without a turn."""
        head, graph = state.committed(), state.graph
        if head.paused:
            return  # when it is resumed, the tickers find it due
        now, queue_name = self._committer.time.now(), self._committer.rules.queue_name
        found: list[tuple[Waiter, Job, Node, InputPlan]] = []
        for slot, activation in head.active.items():
            if head.state(slot) != PARKED or activation.due > now or not limited(activation):
                continue
            waiter = Waiter(state.run_id, slot, graph.ids[node_of(slot)], activation.visit)
            definition = definition_of(graph, slot, activation)
            job = job_of(graph, state.run_id, slot, activation, queue_name)
            if not self._lines.knows(waiter) and self._host.wants(job, definition):
                found.append((waiter, job, definition, input_plan(graph, head, slot)))
        for waiter, job, definition, plan in found[:_AT_ONCE]:
            demands = await self._demands(job, definition, plan)
            if demands and not self._lines.full:
                self._lines.add(Refusal(demands[0]), demands, [waiter], ask=True)
            else:
                await self._committer.submit(waiter.run_id, Unparked(waiter.node, waiter.visit))

    async def _demands(self, job: Job, definition: Node, plan: InputPlan) -> Demands:
        """Nothing if it cannot be told: then the visit is let out, to fail where that is seen."""
        values = await self._store.read_values(job.run_id, plan.keys)
        decode = self._codec.decode
        try:
            value = plan.build(lambda key: decode(values[key]) if key in values else MISSING)
            return self._limits.demands(definition, value, job.queue)
        except FlowcraftError:
            return ()

    # ---- the loop

    async def run(self) -> None:
        """Look at lines whose time has come, for ever; the caller cancels it."""
        while True:
            await self._until_due()
            due = self._lines.due()
            for start in range(0, len(due), _AT_ONCE):
                await asyncio.gather(*map(self._look_at, due[start : start + _AT_ONCE]))

    async def _until_due(self) -> None:
        self._poked.clear()
        due = self._lines.first_due()
        waits: list[Coroutine[Any, Any, object]] = [self._poked.wait()]
        if due is not None:
            waits.append(self._clock.sleep(max(0.0, due - self._clock.monotonic())))
        tasks = [asyncio.create_task(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_at(self, key: str) -> None:
        """Let out as many of a line as may run now, each with its permit, while there is room for them."""
        while (line := self._lines.look(key)) is not None:
            if self._host.room <= self._coming:
                await self._send_round(key)
                return
            permit = self._permit()
            self._coming += 1
            try:
                kept = await self._hand(permit, [key])
                if kept is not None:
                    line.due = 0.0
                    self._host.adopt(kept, permit)
                    permit = self._permit()  # that one is the visit's now
            finally:
                self._coming -= 1
                await self._drop(permit)

    async def _send_round(self, key: str) -> None:
        """No room here: the first in line goes through the queue, if there is a slot for it at this moment."""
        turn = self._lines.pop([key])
        if turn is None:
            return
        _, demands, waiter = turn
        permit = self._permit()
        try:
            refusal = await self._get(permit, tuple(demand for demand in demands if demand.slots))
            if refusal is not None:
                self._lines.move(key, refusal, demands, waiter)
                return
            await self._drop(permit)
            await self._committer.submit(waiter.run_id, Unparked(waiter.node, waiter.visit))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others want their turn; a ticker finds this one
            _LOG.warning("a visit under a limit was not woken: %s", error, extra=_extra(waiter))
        finally:
            await self._drop(permit)

    # ---- permits

    async def _hand(self, permit: Permit, keys: Sequence[str]) -> Kept | None:
        """Let the first in these lines that can use it go on with the permit; if none can, it is given back."""
        for _ in range(_TRIES):
            turn = self._lines.pop(keys)
            if turn is None:
                break
            key, demands, waiter = turn
            try:
                if not demands[-1].slots and not await self._waits(waiter):
                    continue  # a token for it would be lost
                refusal = await self._get(permit, demands)
                if refusal is not None:
                    self._lines.move(key, refusal, demands, waiter)
                    if refusal.demand.key in keys:
                        break
                    continue
                event = Unparked(waiter.node, waiter.visit)
                result = await self._committer.submit(waiter.run_id, event, keeper=_Only(self._host, waiter))
            except Exception as error:  # noqa: BLE001 - as above
                _LOG.warning("a visit under a limit was not woken: %s", error, extra=_extra(waiter))
                break
            if isinstance(result, Applied):
                permit.tokens = ()  # used
                if result.kept is None:  # it comes through the queue, and will need what is given back now
                    await self._drop(permit)
                return result.kept
        await self.leave(permit)
        return None

    async def _waits(self, waiter: Waiter) -> bool:
        """Whether it is still parked, and may go on."""
        state = await self._committer.load(waiter.run_id)
        if state is None:
            return False
        head = state.committed()
        activation = None if head.paused else head.active.get(waiter.node)
        return activation is not None and activation.visit == waiter.visit and head.state(waiter.node) == PARKED

    async def _get(self, permit: Permit, demands: Demands) -> Refusal | None:
        before = permit.slots
        refusal = await exchange(self._coordination, permit, demands, self._ttl)
        if permit.slots:
            self._permits.add(permit)
        self._lines.freed(slot for slot in before if slot not in permit.slots)
        return refusal

    async def _drop(self, permit: Permit) -> Demands:
        self._permits.discard(permit)
        return await give_back(self._coordination, permit)

    def _permit(self) -> Permit:
        return Permit(f"{self._owner}\x1f{next(self._numbers)}")


def _extra(waiter: Waiter) -> dict[str, object]:
    return {"run_id": waiter.run_id, "node_id": waiter.node_id}
