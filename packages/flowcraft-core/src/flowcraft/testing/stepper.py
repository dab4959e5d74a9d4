"""A run in process, one visit at a time, forward and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Any, Final, Self

from flowcraft.blueprint import Blueprint
from flowcraft.constructs import SUBFLOW, WAIT
from flowcraft.engine.draft import MISSING, Cell, Draft
from flowcraft.engine.events import Completed, Dropped, EngineEvent, Failed, Signal, Tick, Visit
from flowcraft.engine.head import DRAINING, READY, Activation
from flowcraft.engine.headbytes import decode_head, encode_head
from flowcraft.engine.inputs import input_plan
from flowcraft.engine.slots import NODE_MASK, item_of, node_of
from flowcraft.engine.special import judge
from flowcraft.engine.transition import apply, due_work, fresh_head, seal, start
from flowcraft.engine.view import run_view
from flowcraft.errors import InvalidRequest
from flowcraft.executor import ExecutionOutcome, Executor, VisitRequest, error_info
from flowcraft.folding import definition_of, undone_by
from flowcraft.middleware import Middleware
from flowcraft.model import TERMINAL, NodeState, RunStatus, ValueKey
from flowcraft.nodes import Result
from flowcraft.outcome import outcome_event
from flowcraft.registry import Definition
from flowcraft.results import RunResult, build_result
from flowcraft.runtime import FlowRuntime
from flowcraft.subflows import MAX_DEPTH, blueprint_of, child_context, child_id, result_of_child, too_deep
from flowcraft.testing.activity import Activity
from flowcraft.testing.clock import VirtualClock

__all__ = ["Step", "Stepper"]

_RUN_ID: Final = "stepper"


@dataclass(frozen=True, slots=True)
class Step:
    """A visit that was executed; ``item`` is its number in a batch, or -1; ``error`` why this attempt failed."""

    node: str
    visit: int = 1
    attempt: int = 1
    item: int = -1
    output: object = None
    action: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Moment:
    """All there is to a run, so that it can be gone back to."""

    head: bytes
    values: Mapping[ValueKey, Cell]
    ready: tuple[int, ...]
    now: float
    steps: int


class Stepper:
    """Executes a flow one visit at a time: ``async with Stepper(flow, input) as s``, then `forward`, `back`, `reset`.

    Going back undoes what the engine knows: states, outputs, context, time. Effects of your functions stay.

    Args:
        flow, input, context: as for `FlowRuntime.run`.
        deps: what nodes see as ``ctx.deps``, as for `FlowRuntime`.
        clock: the time, which passes when nothing but a timer is left.
        runtime: further options of the `FlowRuntime`.
    """

    def __init__(
        self,
        flow: Definition | Blueprint,
        input: object = None,
        *,
        context: Mapping[str, object] | None = None,
        deps: object = None,
        clock: VirtualClock | None = None,
        **runtime: Any,
    ) -> None:
        self.clock = clock or VirtualClock()
        self._activity = Activity(self.clock)
        middleware: Sequence[Middleware] = runtime.pop("middleware", ())
        self._runtime = FlowRuntime(clock=self.clock, deps=deps, middleware=(self._activity, *middleware), **runtime)
        self._graph = self._runtime.resolve(flow)
        self._runtime.check_functions(self._graph)
        self._input = self._runtime.snapshot(input)
        self._context = {key: self._runtime.snapshot(value) for key, value in (context or {}).items()}
        self._stack = AsyncExitStack()
        self._executor: Executor | None = None
        self._steps: list[Step] = []
        self._past: list[_Moment] = []
        self._signals = 0
        self._began = self.clock.now
        self.reset()

    async def __aenter__(self) -> Self:
        self._executor = await self._stack.enter_async_context(self._runtime.open_executor(self._runtime.snapshot))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # ---- looking

    @property
    def state(self) -> Mapping[str, NodeState]:
        """The state of every node."""
        return {node.id: node.state for node in run_view(self._graph, self._draft.head).nodes.values()}

    @property
    def status(self) -> RunStatus:
        """The status of the run."""
        return run_view(self._graph, self._draft.head).status

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self._draft.head.terminal

    @property
    def ready(self) -> tuple[str, ...]:
        """The nodes that `forward` can execute now, the next one first; a node of a batch once for each item."""
        return tuple(self._graph.ids[node_of(slot)] for slot in self._ready)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was executed on the way here."""
        return tuple(self._steps)

    @property
    def context(self) -> Mapping[str, object]:
        """The context keys."""
        return {key.name: value for key, value in self._values.items() if key.space == "context"}

    @property
    def result(self) -> RunResult:
        """What the run came to so far: outputs, failures, context."""
        view = run_view(self._graph, self._draft.head)
        names = self._runtime.names_of(self._graph)
        return build_result(_RUN_ID, view, lambda key: self._values.get(key, MISSING), self.context, names)

    # ---- moving

    async def forward(
        self, node: str | None = None, *, returns: object = MISSING, raises: BaseException | None = None
    ) -> Step | None:
        """Execute one visit, with its short retries; if only timers are left, time passes until one is due.

        Args:
            node: which of those in `ready`, by default the first.
            returns: what it is to return (a `Result` to choose an action), instead of being executed.
            raises: what its attempt is to fail with, instead of being executed.

        Returns:
            What was executed, or None: the run has ended, or waits for a signal.

        Raises:
            InvalidRequest: ``node`` is not ready.
        """
        before = self._moment()
        while not self._ready and not self.done and (due := self._next_due()) is not None:
            self.clock.move_to(due)
            self._tell(Tick(can=lambda _: True))
        if not self._ready:
            if before.head != encode_head(self._draft.head):
                self._past.append(before)
            return None
        slot = self._chosen(node)
        activation = self._draft.head.active[slot]
        visit = Visit(slot, "", activation.visit, activation.attempt)
        event = await self._execute(visit, activation, returns, raises)
        self._past.append(before)
        self._ready.remove(slot)
        self._tell(event)
        step = self._told(visit, activation, event)
        self._steps.append(step)
        return step

    def back(self, steps: int = 1) -> None:
        """Undo the last `forward`, or so many of them.

        Raises:
            InvalidRequest: there were not so many.
        """
        if not 1 <= steps <= len(self._past):
            raise InvalidRequest(f"cannot go back by {steps}: there are {len(self._past)} steps behind")
        moment = self._past[-steps]
        del self._past[-steps:]
        self._go_to(moment)

    def reset(self) -> None:
        """Go back to the start."""
        self._steps.clear()
        self._past.clear()
        self.clock.now = self._began
        self._values: dict[ValueKey, Cell] = {}
        self._ready: list[int] = []
        head = fresh_head(self._graph, self.clock.now)
        self._draft = self._draft_of(encode_head(head))
        self._draft.begin("", self.clock.now)
        start(self._draft, self._input, self._context)
        self._sealed()

    def signal(self, node: str, payload: object = None, *, action: str | None = None) -> None:
        """Send a signal to a wait. It is a step of its own for `back`.

        Raises:
            InvalidRequest: nobody waits for it, and nobody will.
        """
        number = self._graph.index.get(node)
        before = self._moment()
        self._signals += 1
        signal = Signal(-1 if number is None else number, self._runtime.snapshot(payload), action, str(self._signals))
        waits = number is not None and self._graph.kind[number] == WAIT
        if not waits or judge(self._graph, self._draft.head, signal) not in ("accepted", "early"):
            raise InvalidRequest(f"node {node!r} does not wait for a signal")
        self._past.append(before)
        self._tell(signal)

    # ---- inside

    def _draft_of(self, head: bytes) -> Draft:
        return Draft(
            self._graph, decode_head(head), read=lambda key: self._values.get(key, MISSING), decode=_same,
            encode=self._runtime.snapshot, record=False,
        )  # fmt: skip

    def _moment(self) -> _Moment:
        head = encode_head(self._draft.head)
        return _Moment(head, dict(self._values), tuple(self._ready), self.clock.now, len(self._steps))

    def _go_to(self, moment: _Moment) -> None:
        self._draft = self._draft_of(moment.head)
        self._values = dict(moment.values)
        self._ready = list(moment.ready)
        self.clock.now = moment.now
        del self._steps[moment.steps :]

    def _tell(self, event: EngineEvent) -> None:
        self._draft.begin("", self.clock.now)
        apply(self._draft, event)
        self._sealed()

    def _sealed(self) -> None:
        """Take over what the draft came to; what it wants to be rid of has not begun."""
        effects = seal(self._draft)
        for key in effects.deleted:
            self._values.pop(key, None)
        self._values.update(effects.values)
        head = self._draft.head
        self._ready = [slot for slot in self._ready if slot in head.active and head.state(slot) == READY]
        self._ready += [slot for slot, _ in effects.ready if head.state(slot) == READY]
        for slot, activation in effects.revoked:
            if slot in head.active and head.state(slot) == DRAINING:
                self._tell(Dropped(Visit(slot, "", activation.visit, activation.attempt)))

    def _next_due(self) -> float | None:
        head = self._draft.head
        dues = [head.active[slot].due for slot in due_work(head, inf).timers]
        if head.deadline is not None and head.phase == "running":
            dues.append(head.deadline)
        return min(dues, default=None)

    def _chosen(self, node: str | None) -> int:
        if node is None:
            return self._ready[0]
        for slot in self._ready:
            if self._graph.ids[node_of(slot)] == node:
                return slot
        raise InvalidRequest(f"node {node!r} is not ready; ready: {', '.join(self.ready)}")

    async def _execute(
        self, visit: Visit, activation: Activation, returns: object, raises: BaseException | None
    ) -> EngineEvent:
        if raises is not None:
            return outcome_event(visit, ExecutionOutcome(False, error=error_info(raises), attempts=visit.attempt))
        if returns is not MISSING:
            output, action = (returns.output, returns.action) if isinstance(returns, Result) else (returns, None)
            return Completed(visit, self._runtime.snapshot(output), action)
        request = self._request(visit.node, activation)
        if request.node.uses == SUBFLOW:
            return await self._child(visit, request)
        if self._executor is None:
            raise InvalidRequest("the stepper is not open: use `async with Stepper(…) as s`")
        return outcome_event(visit, await self._activity.drive(self._executor.run(request)))

    def _request(self, slot: int, activation: Activation) -> VisitRequest:
        head = self._draft.head
        value = input_plan(self._graph, head, slot).build(lambda key: self._values.get(key, MISSING))
        definition = definition_of(self._graph, slot, activation)
        request = VisitRequest(_RUN_ID, definition, activation.visit, activation.attempt, value, self._read_context)
        request.undoes = undone_by(self._graph, slot, activation.runs)
        if slot > NODE_MASK:
            request.size = head.batches[node_of(slot)].size
            request.item = item_of(slot) * request.size
        return request

    async def _read_context(self, keys: Sequence[str] | None) -> Mapping[str, object]:
        context = self.context
        return context if keys is None else {key: context[key] for key in keys if key in context}

    async def _child(self, visit: Visit, request: VisitRequest) -> EngineEvent:
        """A subflow is one step: its run from the start to the end."""
        node = request.node
        if self._draft.head.depth >= MAX_DEPTH:
            return Failed(visit, too_deep(node), retryable=False)
        owner = self._graph.ids[node_of(visit.node)]
        fallback = "" if node.id == owner else node.id
        name = child_id(_RUN_ID, owner, item_of(visit.node), visit.visit, visit.attempt, fallback=fallback)
        context = child_context(node, request.input)
        running = self._runtime.run(blueprint_of(node), request.input, context=context, run_id=name)
        result = await self._activity.drive(running)
        if result.status not in TERMINAL:
            raise InvalidRequest(f"subflow {node.id!r} waits for a signal: step through it with a stepper of its own")
        found = result_of_child(node, result)
        if found.error is not None:
            return Failed(visit, found.error, found.retryable)
        return Completed(visit, found.output, None, found.writes)

    def _told(self, visit: Visit, activation: Activation, event: EngineEvent) -> Step:
        node_id = definition_of(self._graph, visit.node, activation).id
        item = item_of(visit.node)
        if isinstance(event, Failed):
            attempts = max(event.attempts, visit.attempt)
            return Step(node_id, visit.visit, attempts, item, error=str(event.error))
        output, action = (event.output, event.action) if isinstance(event, Completed) else (None, None)
        return Step(node_id, visit.visit, visit.attempt, item, output, action)


def _same(cell: Cell) -> object:
    return cell
