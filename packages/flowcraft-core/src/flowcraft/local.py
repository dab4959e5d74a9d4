"""One run in process, on the same engine as everywhere else; nothing is stored.

Nodes are executed by *lanes*: tasks that take the next READY node, await its function and apply the outcome. A lane
goes on without a task switch as long as functions return at once; one spare lane stands by for the moment one blocks.
So a chain of quick nodes costs no tasks, and a thousand slow ones run side by side up to the concurrency limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

from flowcraft.blueprint import Node
from flowcraft.constructs import SUBFLOW
from flowcraft.engine.draft import MISSING, Cell, Draft
from flowcraft.engine.events import ChildEnded, ChildStarted
from flowcraft.engine.head import DRAINING, READY, WAITING, Activation
from flowcraft.engine.inputs import input_plan
from flowcraft.engine.slots import NODE_MASK, item_of, node_of
from flowcraft.engine.transition import (
    Cancel,
    Dropped,
    EngineEvent,
    Failed,
    Tick,
    Visit,
    apply,
    apply_completed,
    due_work,
    fresh_head,
    seal,
    start,
)
from flowcraft.engine.view import run_view
from flowcraft.errors import NodeFailed
from flowcraft.executor import ExecutionOutcome, Executor, VisitRequest, error_info
from flowcraft.folding import definition_of
from flowcraft.graph import Graph
from flowcraft.localchildren import LocalChild
from flowcraft.model import Event, ValueKey
from flowcraft.outcome import outcome_event
from flowcraft.ports import Clock
from flowcraft.results import RunResult, build_result
from flowcraft.stepping import resumed
from flowcraft.subflows import MAX_DEPTH, blueprint_of, child_id, too_deep

__all__ = ["Listener", "LocalRun", "Surroundings"]

Listener = Callable[[Event], None]
#: So many nodes may run in a row before other tasks of the application get a turn.
_TURN: Final = 200


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run in process shares with the runs of its subflows."""

    executor: Executor
    clock: Clock
    concurrency: int
    to_cell: Callable[[object], Cell]
    resolve: Callable[[str], Graph]
    names_of: Callable[[Graph], Callable[[object], str] | None]
    listeners: Sequence[Listener] = ()


class LocalRun:
    """One execution. `run` may be awaited once; afterwards ``draft.head`` and ``values`` hold all that happened."""

    def __init__(self, graph: Graph, run_id: str, around: Surroundings) -> None:
        self.graph = graph
        self.run_id = run_id
        self.around = around
        self._clock = around.clock
        self._concurrency = around.concurrency
        self._listeners = tuple(around.listeners)
        head = fresh_head(graph, around.clock.time())
        self.draft = Draft(
            graph, head, read=lambda _: MISSING, decode=_same, encode=around.to_cell, record=bool(self._listeners)
        )
        self.draft.begin("", head.started_at)
        #: All values of the run: a draft that is never committed keeps what it wrote.
        self.values: dict[ValueKey, Cell] = self.draft.values
        self._ready: deque[int] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._dropped: set[int] = set()
        self._children: dict[str, LocalChild] = {}
        self._child_tasks: set[asyncio.Task[None]] = set()
        self._standby = False
        self._closing = False
        self._timer: asyncio.Task[None] | None = None
        self._timers: set[asyncio.Task[None]] = set()
        self._wakes_at = 0.0
        self._seq = 0
        self._turn = _TURN
        self._timed = bool(self._listeners) or any(graph.kind)

    async def run(self, run_input: Cell, context: Mapping[str, Cell]) -> None:
        """Execute from the start to a terminal status, or until nothing happens any more without a signal.

        Raises:
            asyncio.CancelledError: the caller was cancelled; running nodes were cancelled first.
        """
        start(self.draft, run_input, context)
        await self.go_on()

    async def go_on(self, event: EngineEvent | None = None) -> None:
        """Execute on, from where the run waits: after ``event``, or what a child was woken with."""
        self._closing = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            if event is not None:
                self.draft.now = self._clock.time()
                apply(self.draft, event)
            for child in self._children.values():
                if child.woken:
                    self._watch_child(child.go_on())
            self._after()
            self._spawn_lane()
            await self._done
        finally:
            await self._close()

    @property
    def _watching(self) -> bool:
        return self._timer is not None and not self._timer.done()

    def child_at(self, slot: int) -> LocalChild | None:
        """The run of the subflow at ``slot``, if that waits for it."""
        activation = self.draft.head.active.get(slot)
        return None if activation is None else self._children.get(activation.reason)

    def reopen(self, executor: Executor) -> None:
        """Execute with these functions and dependencies from now on, in subflows too."""
        self.around = replace(self.around, executor=executor)
        for child in self._children.values():
            child.run.reopen(executor)

    def result(self) -> RunResult:
        """What the run came to so far."""
        shared = {key.name: value for key, value in self.values.items() if key.space == "context"}
        view = run_view(self.graph, self.draft.head)
        names = self.around.names_of(self.graph)
        return build_result(self.run_id, view, lambda key: self.values.get(key, MISSING), shared, names)

    @property
    def ended(self) -> bool:
        """Whether the run is terminal."""
        return self.draft.head.terminal

    async def _close(self) -> None:
        self._closing = True
        leftovers = [*self._lanes, *self._timers, *self._child_tasks]
        for task in leftovers:
            task.cancel()
        if leftovers:
            await asyncio.gather(*leftovers, return_exceptions=True)

    def cancel(self, reason: str = "") -> None:
        """End the run as ``cancelled``: running nodes are cancelled, nothing new starts. May be repeated."""
        self.tell(Cancel(reason))

    def tell(self, event: EngineEvent) -> bool:
        """Apply an event from outside; True if it changed anything."""
        self.draft.now = self._clock.time()
        applied = apply(self.draft, event)
        self._after()
        if self._ready and not self._standby and len(self._lanes) < self._concurrency and not self._closing:
            self._spawn_lane()
        return applied

    @property
    def stuck(self) -> bool:
        """Whether nothing will happen by itself any more: the run waits for signals, or is paused."""
        head = self.draft.head
        for slot, activation in head.active.items():
            state = head.state(slot)
            if state == READY and head.paused:
                continue
            child = self._children.get(activation.reason)
            if (
                state != WAITING
                or (activation.due and not activation.reason)
                or (activation.reason and (child is None or not child.suspended))
            ):
                return False
        return not head.terminal

    def _spawn_lane(self) -> None:
        self._standby = True
        task = asyncio.create_task(self._lane(), name=f"flowcraft run {self.run_id}")
        self._lanes.add(task)
        task.add_done_callback(self._lane_ended)

    def _lane_ended(self, task: asyncio.Task[None]) -> None:
        self._lanes.discard(task)
        self._timers.discard(task)
        self._child_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._done.done():
            self._done.set_exception(error)

    async def _lane(self) -> None:
        self._standby = False
        ready = self._ready
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a lane is a task")
        head, active, copy = self.draft.head, self.draft.head.active, copy_context
        while ready and not self._closing:
            node = ready.popleft()
            if ready and not self._standby and len(self._lanes) < self._concurrency:
                self._spawn_lane()
            activation = active.get(node)
            if activation is None or head.state(node) == DRAINING:
                continue
            if definition_of(self.graph, node, activation).uses == SUBFLOW:
                self._start_child(node, activation)
                continue
            call, context = self.around.executor.run(self._request(node, activation)), copy()
            outcome: ExecutionOutcome | None = None
            rest: Awaitable[ExecutionOutcome] | None = None
            try:
                waiting = context.run(call.send, None)
            except StopIteration as done:  # it waited for nothing, like most quick nodes
                outcome = done.value
            except asyncio.CancelledError:
                pass
            else:
                rest = resumed(call, context, waiting)
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
        direct = graph.direct[node] if node <= NODE_MASK and self.draft.head.epoch == 1 else None
        if direct is None or activation.before:
            value = input_plan(graph, self.draft.head, node).build(self._value)
        else:
            value = self.values.get(direct)
        definition = definition_of(graph, node, activation)
        request = VisitRequest(self.run_id, definition, activation.visit, activation.attempt, value, self._context)
        if node > NODE_MASK:
            request.size = self.draft.head.batches[node_of(node)].size
            request.item = item_of(node) * request.size
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
            error = NodeFailed(f"node {self.graph.ids[node_of(node)]!r} was cancelled by its own code")
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
        if self._timed:
            draft.now = self._clock.time()
        if outcome is not None and outcome.ok and node <= NODE_MASK and draft.head.phase == "running":
            apply_completed(draft, node, outcome.output, outcome.action, outcome.writes, outcome.items)
        else:
            draft.now = self._clock.time()
            visit = Visit(node, "", activation.visit, activation.attempt)
            apply(draft, Dropped(visit) if outcome is None else outcome_event(visit, outcome))
        self._after()

    def _after(self) -> None:
        """Take over what the draft made ready or wants to be rid of, and end the run when nothing is active."""
        draft = self.draft
        if draft.revoked:
            self._revoke()
        if draft.children:
            self._cancel_children()
        while not draft.head.active and not draft.head.terminal:
            self._number(seal(draft).facts)  # undoing, it may go on
            draft.facts = None if draft.facts is None else []
        if draft.ready and not draft.head.paused:
            self._ready.extend(draft.ready)
            draft.ready.clear()
        if draft.facts:
            facts, draft.facts = draft.facts, []
            self._number(facts)
        if draft.scheduled is not None:
            due, draft.scheduled = draft.scheduled, None
            self._watch_clock(due)
        if draft.head.deadline is not None and draft.head.phase == "running" and not self._watching:
            self._watch_clock(draft.head.deadline)
        if not self._done.done() and (draft.head.terminal or (not self._ready and self.stuck)):
            self._done.set_result(None)

    def _revoke(self) -> None:
        """Cancel what runs; what has not begun is dropped at once."""
        revoked, self.draft.revoked = self.draft.revoked, []
        for node, activation in revoked:
            task = self._running.get(node)
            if task is not None:
                self._dropped.add(node)
                task.cancel()
            elif not activation.reason:
                apply(self.draft, Dropped(Visit(node, "", activation.visit, activation.attempt)))

    def _start_child(self, slot: int, activation: Activation) -> None:
        """A subflow: its run begins beside this one's lanes."""
        graph, head = self.graph, self.draft.head
        node = definition_of(graph, slot, activation)
        visit = Visit(slot, "", activation.visit, activation.attempt)
        if head.depth >= MAX_DEPTH:
            self.tell(Failed(visit, too_deep(node), retryable=False))
            return
        name = child_id(self.run_id, graph.ids[node_of(slot)], item_of(slot), activation.visit, activation.attempt)
        given = input_plan(graph, head, slot).build(self._value)
        run = LocalRun(self.around.resolve(blueprint_of(node)), name, self.around)
        run.draft.head.depth = head.depth + 1
        child = self._children[name] = LocalChild(run, node, slot, self._child_told)
        self._watch_child(child.start(given))
        self.tell(ChildStarted(visit, name))

    def _watch_child(self, running: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(running, name=f"flowcraft subflow of {self.run_id}")
        self._child_tasks.add(task)
        task.add_done_callback(self._lane_ended)

    def _child_told(self, event: ChildEnded | None) -> None:
        """A child has ended, or waits for signals."""
        if event is None:
            self._after()
        else:
            self._children.pop(event.child, None)
            self.tell(event)

    def _cancel_children(self) -> None:
        names, self.draft.children = self.draft.children, []
        for name in names:
            child = self._children.get(name)
            if child is not None:
                child.run.cancel("its parent needs it no more")
                if child.suspended:  # nobody runs it
                    self._child_told(child.ended())

    def _value(self, key: ValueKey) -> object:
        return self.values.get(key, MISSING)

    async def _context(self, keys: Sequence[str] | None) -> Mapping[str, object]:
        if keys is None:
            return {key.name: value for key, value in self.values.items() if key.space == "context"}
        found = {key: self.values.get(ValueKey("context", key), MISSING) for key in keys}
        return {key: value for key, value in found.items() if value is not MISSING}

    def _watch_clock(self, due: float) -> None:
        """Wake up at ``due``, or earlier."""
        if self._timer is not None and self._watching:
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
            work = due_work(head, inf)
            dues = [head.active[slot].due for slot in work.timers]
            if head.deadline is not None and head.phase == "running":
                dues.append(head.deadline)
            if not dues:
                return
            self._wakes_at = min(dues)
            await self._clock.sleep(max(0.0, self._wakes_at - self._clock.time()))
            self.tell(Tick(can=lambda _: True))

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
