"""One run in process, on the same engine as everywhere else; nothing is stored.

Nodes are executed by *lanes*: tasks that take the next READY node, await its function and apply the outcome. A lane
goes on without a task switch as long as functions return at once; one spare lane stands by for the moment one blocks.
So a chain of quick nodes costs no tasks, and a thousand slow ones run side by side up to the concurrency limit.
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextvars import Context, copy_context
from typing import Any, Final, TypeVar

from flowcraft.blueprint import Node
from flowcraft.engine.draft import MISSING, Cell, Draft
from flowcraft.engine.head import DRAINING, PARKED, RETRYING, Activation
from flowcraft.engine.inputs import input_plan
from flowcraft.engine.notes import keep_notes
from flowcraft.engine.transition import (
    Cancel,
    Dropped,
    Failed,
    Tick,
    Visit,
    apply,
    apply_completed,
    fresh_head,
    seal,
    start,
)
from flowcraft.errors import NodeFailed
from flowcraft.executor import ExecutionOutcome, Executor, VisitRequest, error_info
from flowcraft.graph import Graph
from flowcraft.model import Event, ValueKey
from flowcraft.ports import Clock

__all__ = ["Listener", "LocalRun"]

Listener = Callable[[Event], None]
#: So many nodes may run in a row before other tasks of the application get a turn.
_TURN: Final = 200
T = TypeVar("T")


class LocalRun:
    """One execution. `run` may be awaited once; afterwards ``draft.head`` and ``values`` hold all that happened."""

    def __init__(
        self,
        graph: Graph,
        executor: Executor,
        *,
        run_id: str,
        clock: Clock,
        concurrency: int,
        listeners: Sequence[Listener] = (),
        to_cell: Callable[[object], Cell],
    ) -> None:
        self.graph = graph
        self.run_id = run_id
        self._executor = executor
        self._clock = clock
        self._concurrency = concurrency
        self._listeners = tuple(listeners)
        head = fresh_head(graph, clock.time())
        self.draft = Draft(
            graph, head, read=lambda _: MISSING, decode=_same, encode=to_cell, record=bool(self._listeners)
        )
        self.draft.begin("", head.started_at)
        #: All values of the run: a draft that is never committed keeps what it wrote.
        self.values: dict[ValueKey, Cell] = self.draft.values
        self._ready: deque[int] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._dropped: set[int] = set()
        self._standby = False
        self._closing = False
        self._timer: asyncio.Task[None] | None = None
        self._timers: set[asyncio.Task[None]] = set()
        self._wakes_at = 0.0
        self._seq = 0
        self._turn = _TURN

    async def run(self, run_input: Cell, context: Mapping[str, Cell]) -> None:
        """Execute from the start to a terminal status.

        Raises:
            asyncio.CancelledError: the caller was cancelled; running nodes were cancelled first.
        """
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            start(self.draft, run_input, context)
            self._after()
            self._spawn_lane()
            await self._done
        finally:
            await self._close()

    async def _close(self) -> None:
        self._closing = True
        leftovers = [*self._lanes, *self._timers]
        for task in leftovers:
            task.cancel()
        if leftovers:
            await asyncio.gather(*leftovers, return_exceptions=True)

    def cancel(self, reason: str = "") -> None:
        """End the run as ``cancelled``: running nodes are cancelled, nothing new starts. May be repeated."""
        self.draft.now = self._clock.time()
        apply(self.draft, Cancel(reason))
        self._after()

    def _spawn_lane(self) -> None:
        self._standby = True
        task = asyncio.create_task(self._lane(), name=f"flowcraft run {self.run_id}")
        self._lanes.add(task)
        task.add_done_callback(self._lane_ended)

    def _lane_ended(self, task: asyncio.Task[None]) -> None:
        self._lanes.discard(task)
        self._timers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._done.done():
            self._done.set_exception(error)

    async def _lane(self) -> None:
        self._standby = False
        ready = self._ready
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a lane is a task")
        active, states, copy = self.draft.head.active, self.draft.head.states, copy_context
        while ready and not self._closing:
            node = ready.popleft()
            if ready and not self._standby and len(self._lanes) < self._concurrency:
                self._spawn_lane()
            activation = active.get(node)
            if activation is None or states[node] == DRAINING:
                continue
            call, context = self._executor.run(self._request(node, activation)), copy()
            outcome: ExecutionOutcome | None = None
            rest: Awaitable[ExecutionOutcome] | None = None
            try:
                waiting = context.run(call.send, None)
            except StopIteration as done:  # it waited for nothing, like most quick nodes
                outcome = done.value
            except asyncio.CancelledError:
                pass
            else:
                rest = _resumed(call, context, waiting)
            if rest is not None or task.cancelling():
                outcome = await self._finish(node, task, rest, outcome)
            self._settle(node, activation, outcome)
            self._turn -= 1
            if self._turn <= 0:
                self._turn = _TURN
                await asyncio.sleep(0)
        self._lanes.discard(task)  # at once: another lane may need the place before this task's callbacks run

    def _request(self, node: int, activation: Activation) -> VisitRequest:
        graph = self.graph
        direct = graph.direct[node]
        if direct is None or activation.before:
            value = input_plan(graph, self.draft.head, node).build(self._value)
        else:
            value = self.values.get(direct)
        definition = graph.nodes[node if activation.runs < 0 else activation.runs]
        request = VisitRequest(self.run_id, definition, activation.visit, activation.attempt, value, self._context)
        if self._listeners:
            request.hint = self._hinter(definition, activation)
            request.hint("node:started", {})
        return request

    async def _finish(
        self,
        node: int,
        task: asyncio.Task[None],
        rest: Awaitable[ExecutionOutcome] | None,
        outcome: ExecutionOutcome | None,
    ) -> ExecutionOutcome | None:
        """The outcome of a node that waits for something, or None if it was dropped."""
        outcome = await self._suspended(node, task, rest, outcome)
        if node in self._dropped:
            self._dropped.discard(node)
        elif outcome is None:
            error = NodeFailed(f"node {self.graph.ids[node]!r} was cancelled by its own code")
            outcome = ExecutionOutcome(False, error=error_info(error), attempts=self.draft.head.active[node].attempt)
        return outcome

    async def _suspended(
        self,
        node: int,
        task: asyncio.Task[None],
        rest: Awaitable[ExecutionOutcome] | None,
        outcome: ExecutionOutcome | None,
    ) -> ExecutionOutcome | None:
        """The outcome, or None if the node was cancelled: the lane goes on, unless the run is being closed."""
        self._running[node] = task
        try:
            if rest is not None:
                outcome = await rest
        except asyncio.CancelledError:
            if self._closing:
                raise
        finally:
            if task.cancelling() and not self._closing:
                await self._forget_cancellation(task)
            del self._running[node]
        return outcome

    async def _forget_cancellation(self, task: asyncio.Task[None]) -> None:
        """What cancelled a node, and whatever of it is still to be delivered, ends with the node."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self._closing:
                raise
        while task.uncancel():
            pass

    def _settle(self, node: int, activation: Activation, outcome: ExecutionOutcome | None) -> None:
        draft = self.draft
        if self._listeners:
            draft.now = self._clock.time()
        if outcome is not None and outcome.notes is not None:
            keep_notes(draft, outcome.notes)
        if outcome is not None and outcome.ok:
            apply_completed(draft, node, outcome.output, outcome.action, outcome.writes)
        elif outcome is None:
            apply(draft, Dropped(Visit(node, "", activation.visit, activation.attempt)))
        elif outcome.error is not None:
            draft.now = self._clock.time()
            visit = Visit(node, "", activation.visit, activation.attempt)
            event = Failed(visit, outcome.error, outcome.retryable, outcome.fatal, outcome.attempts, outcome.random)
            apply(draft, event)
            if draft.head.states[node] == RETRYING:
                self._watch_clock(draft.head.active[node].due)
        self._after()

    def _after(self) -> None:
        """Take over what the draft made ready or wants to be rid of, and end the run when nothing is active."""
        draft = self.draft
        if draft.ready:
            self._ready.extend(draft.ready)
            draft.ready.clear()
        if draft.revoked:
            self._revoke()
        if not draft.head.active:
            self._number(seal(draft).facts)
            if not self._done.done():
                self._done.set_result(None)
        elif draft.facts:
            facts, draft.facts = draft.facts, []
            self._number(facts)
        if draft.head.deadline is not None and self._timer is None:
            self._watch_clock(draft.head.deadline)

    def _revoke(self) -> None:
        """Cancel what runs; what has not begun is dropped at once."""
        revoked, self.draft.revoked = self.draft.revoked, []
        for node, activation in revoked:
            task = self._running.get(node)
            if task is not None:
                self._dropped.add(node)
                task.cancel()
            else:
                apply(self.draft, Dropped(Visit(node, "", activation.visit, activation.attempt)))
        if self.draft.ready:
            self._ready.extend(self.draft.ready)
            self.draft.ready.clear()

    def _value(self, key: ValueKey) -> object:
        return self.values.get(key, MISSING)

    async def _context(self, keys: Sequence[str] | None) -> Mapping[str, object]:
        if keys is None:
            return {key.name: value for key, value in self.values.items() if key.space == "context"}
        found = {key: self.values.get(ValueKey("context", key), MISSING) for key in keys}
        return {key: value for key, value in found.items() if value is not MISSING}

    def _watch_clock(self, due: float) -> None:
        """Wake up at ``due``, or earlier."""
        if self._timer is not None and not self._timer.done():
            if self._wakes_at <= due:
                return
            self._timer.cancel()
        self._wakes_at = due
        self._timer = asyncio.create_task(self._wake_when_due(), name=f"flowcraft timers {self.run_id}")
        self._timers.add(self._timer)
        self._timer.add_done_callback(self._lane_ended)

    async def _wake_when_due(self) -> None:
        head = self.draft.head
        while not head.terminal:
            dues = [a.due for n, a in head.active.items() if head.states[n] in (RETRYING, PARKED)]
            if head.deadline is not None and head.phase == "running":
                dues.append(head.deadline)
            if not dues:
                return
            self._wakes_at = min(dues)
            await self._clock.sleep(max(0.0, self._wakes_at - self._clock.time()))
            self.draft.now = self._clock.time()
            apply(self.draft, Tick(can=lambda _: True))
            self._after()
            if self._ready and not self._standby and len(self._lanes) < self._concurrency:
                self._spawn_lane()

    def _hinter(self, node: Node, activation: Activation) -> Callable[[str, Mapping[str, object]], None]:
        def hint(kind: str, data: Mapping[str, object]) -> None:
            at = self._clock.time()
            self._emit(Event(self.run_id, 0, kind, at, node.id, activation.visit, activation.attempt, data))

        return hint

    def _number(self, facts: Sequence[tuple[str, int, int, int, dict[str, object]]]) -> None:
        for kind, node, visit, attempt, data in facts:
            self._seq += 1
            node_id = None if node < 0 else self.graph.ids[node]
            self._emit(Event(self.run_id, self._seq, kind, self.draft.now, node_id, visit, attempt, data))

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)


def _same(cell: Cell) -> object:
    return cell


@types.coroutine
def _resumed(call: Coroutine[Any, Any, T], context: Context, waiting: Any) -> Generator[Any, Any, T]:
    """Await the rest of a coroutine in its own context: what a node sets in it ends with the node, as in a task."""
    try:
        while True:
            try:
                told = yield waiting
            except GeneratorExit:
                context.run(call.close)
                raise
            except BaseException as error:  # noqa: BLE001 - thrown into the coroutine, whatever it is
                waiting = context.run(call.throw, error)
            else:
                waiting = context.run(call.send, told)
    except StopIteration as done:
        value: T = done.value
        return value
