"""One run in process, on the same engine as everywhere else; nothing is stored.

Its nodes are executed by lanes (`flowcraft.locallanes`), its subflows are runs beside them (`flowcraft.localchildren`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowcraft.blueprint import Node
from flowcraft.constructs import SUBFLOW
from flowcraft.engine.draft import MISSING, Cell, Draft
from flowcraft.engine.head import READY, WAITING, Activation
from flowcraft.engine.inputs import input_plan
from flowcraft.engine.slots import NODE_MASK, item_of, node_of
from flowcraft.engine.transition import (
    Cancel,
    Dropped,
    EngineEvent,
    Tick,
    Visit,
    apply,
    apply_completed,
    fresh_head,
    seal,
    start,
)
from flowcraft.engine.view import run_view
from flowcraft.executor import ExecutionOutcome, Executor, VisitRequest
from flowcraft.folding import definition_of, undone_by
from flowcraft.graph import Graph
from flowcraft.localchildren import LocalChild, LocalChildren
from flowcraft.locallanes import Lanes
from flowcraft.localtasks import Tasks, Timers
from flowcraft.model import Event, ValueKey
from flowcraft.outcome import outcome_event
from flowcraft.ports import Clock
from flowcraft.results import RunResult, build_result

__all__ = ["Listener", "LocalRun", "Surroundings"]

Listener = Callable[[Event], None]


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

    def __init__(self, graph: Graph, run_id: str, around: Surroundings, depth: int = 0) -> None:
        self.graph = graph
        self.run_id = run_id
        self.around = around
        self._clock = around.clock
        self._listeners = tuple(around.listeners)
        head = fresh_head(graph, around.clock.time())
        head.depth = depth
        self.draft = Draft(
            graph, head, read=lambda _: MISSING, decode=_same, encode=around.to_cell, record=bool(self._listeners)
        )
        self.draft.begin("", head.started_at)
        #: All values of the run: a draft that is never committed keeps what it wrote.
        self.values: dict[ValueKey, Cell] = self.draft.values
        self._tasks = Tasks(self._died)
        self._lanes = Lanes(run_id, self.draft, around.concurrency, self, self._tasks)
        self._children = LocalChildren(self, self._tasks)
        self._timers = Timers(run_id, head, around.clock, self._tasks, self._due)
        self._done: asyncio.Future[None] | None = None  # None: it does not go on yet
        self._deadline: float | None = None
        self._seq = 0
        self._timed = bool(self._listeners) or any(graph.kind)

    def start(self, run_input: Cell, context: Mapping[str, Cell]) -> None:
        """Make the start nodes READY; `go_on` executes them. The run can be cancelled in between."""
        start(self.draft, run_input, context)

    async def run(self, run_input: Cell, context: Mapping[str, Cell]) -> None:
        """Execute from the start to a terminal status, or until nothing happens any more without a signal.

        Raises:
            asyncio.CancelledError: the caller was cancelled; running nodes were cancelled first.
        """
        self.start(run_input, context)
        await self.go_on()

    async def go_on(self, event: EngineEvent | None = None) -> None:
        """Execute on, from where the run is: after ``event``, or what a child was woken with."""
        self._done = asyncio.get_running_loop().create_future()
        self._deadline = None
        self._lanes.open()
        try:
            if event is not None:
                self.draft.now = self._clock.time()
                apply(self.draft, event)
            self._children.go_on()
            self.look()
            await self._done
        finally:
            self._lanes.close()
            await self._tasks.close()

    def child_at(self, slot: int) -> LocalChild | None:
        """The run of the subflow at ``slot``, if that waits for it."""
        activation = self.draft.head.active.get(slot)
        return None if activation is None else self._children.find(activation.reason)

    def reopen(self, executor: Executor) -> None:
        """Execute with these functions and dependencies from now on, in subflows too."""
        self.around = replace(self.around, executor=executor)
        self._children.reopen(executor)

    def result(self) -> RunResult:
        """What the run came to so far."""
        values = self.values
        shared = {key.name: value for key, value in values.items() if key.space == "context"}
        view = run_view(self.graph, self.draft.head)
        said = [value for key, value in values.items() if key.space == "log"] if view.logged else []
        names = self.around.names_of(self.graph)
        return build_result(self.run_id, view, lambda key: values.get(key, MISSING), shared, names, said)

    @property
    def ended(self) -> bool:
        """Whether the run is terminal."""
        return self.draft.head.terminal

    def cancel(self, reason: str = "") -> None:
        """End the run as ``cancelled``: running nodes are cancelled, nothing new starts. May be repeated."""
        self.tell(Cancel(reason))

    def tell(self, event: EngineEvent) -> bool:
        """Apply an event from outside; True if it changed anything."""
        self.draft.now = self._clock.time()
        applied = apply(self.draft, event)
        self.look()
        return applied

    @property
    def stuck(self) -> bool:
        """Whether nothing will happen by itself any more: the run waits for signals, or is paused."""
        head = self.draft.head
        for slot, activation in head.active.items():
            state = head.state(slot)
            if state == READY and head.paused:
                continue
            if state != WAITING or (activation.due and not activation.reason):
                return False
            if activation.reason and not self._children.suspended(activation.reason):
                return False
        return not head.terminal

    def look(self) -> None:
        """Take over what the draft wants done, and end the run, or let it wait, when there is nothing more to do."""
        self._after()
        self._lanes.wake()

    # ---- what lanes and children call

    def begin(self, slot: int, activation: Activation) -> Coroutine[Any, Any, ExecutionOutcome] | None:
        """The execution of a READY slot; None: it is a subflow, whose run begins beside the lanes."""
        definition = definition_of(self.graph, slot, activation)
        if definition.uses == SUBFLOW:
            self._children.start(slot, activation)
            return None
        value = self.input_of(slot, activation)
        request = VisitRequest(self.run_id, definition, activation.visit, activation.attempt, value, self._context)
        if activation.runs >= 0:
            request.undoes = undone_by(self.graph, slot, activation.runs)
        if slot > NODE_MASK:
            request.size = self.draft.head.batches[node_of(slot)].size
            request.item = item_of(slot) * request.size
        if self._listeners:
            request.hint = self._hinter(definition, activation)
            request.hint("node:started", {})
        return self.around.executor.run(request)

    def settle(self, slot: int, activation: Activation, outcome: ExecutionOutcome | None) -> None:
        """What came of an execution; None: it was cancelled, as the run wanted."""
        draft = self.draft
        if self._timed:
            draft.now = self._clock.time()
        plain = slot <= NODE_MASK and draft.head.phase == "running"
        if plain and outcome is not None and outcome.ok and outcome.notes is None:
            apply_completed(draft, slot, outcome.output, outcome.action, outcome.writes, outcome.items)
        else:
            draft.now = self._clock.time()
            visit = Visit(slot, "", activation.visit, activation.attempt)
            apply(draft, Dropped(visit) if outcome is None else outcome_event(visit, outcome))
        self._after()

    def child(self, blueprint_id: str, run_id: str) -> LocalRun:
        """A run of its own, one deeper."""
        return LocalRun(self.around.resolve(blueprint_id), run_id, self.around, self.draft.head.depth + 1)

    def input_of(self, slot: int, activation: Activation) -> Cell:
        """What an active slot is given."""
        direct = self.graph.direct[slot] if slot <= NODE_MASK and self.draft.head.epoch == 1 else None
        if direct is None or activation.before:
            return input_plan(self.graph, self.draft.head, slot).build(self._value)
        return self.values.get(direct)

    def _after(self) -> None:
        """Take over what the draft made ready or wants to be rid of, and end the run when nothing is active."""
        draft = self.draft
        draft.deleted.clear()  # there is no store that has to hear of it
        if draft.revoked:
            self._revoke()
        if draft.children:
            names, draft.children = draft.children, []
            self._children.cancel(names)
        while not draft.head.active and not draft.head.terminal:
            self._number(seal(draft).facts)  # undoing, it may go on
            draft.facts = None if draft.facts is None else []
        if draft.ready and not draft.head.paused:
            self._lanes.ready.extend(draft.ready)
            draft.ready.clear()
        if draft.facts:
            facts, draft.facts = draft.facts, []
            self._number(facts)
        if draft.scheduled is not None:
            due, draft.scheduled = draft.scheduled, None
            self._timers.watch(due)
        if draft.head.deadline != self._deadline:  # at first, and when it was started again
            self._deadline = draft.head.deadline
            if self._deadline is not None:
                self._timers.watch(self._deadline)
        done = self._done
        if done is not None and not done.done() and (draft.head.terminal or (not self._lanes.ready and self.stuck)):
            done.set_result(None)

    def _revoke(self) -> None:
        """Cancel what runs; what has not begun is dropped at once."""
        revoked, self.draft.revoked = self.draft.revoked, []
        for slot, activation in revoked:
            if not self._lanes.cancel(slot) and not activation.reason:
                apply(self.draft, Dropped(Visit(slot, "", activation.visit, activation.attempt)))

    def _died(self, error: BaseException) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    def _due(self) -> None:
        self.tell(Tick(can=lambda _: True))

    def _value(self, key: ValueKey) -> object:
        return self.values.get(key, MISSING)

    async def _context(self, keys: Sequence[str] | None) -> Mapping[str, object]:
        if keys is None:
            return {key.name: value for key, value in self.values.items() if key.space == "context"}
        found = {key: self.values.get(ValueKey("context", key), MISSING) for key in keys}
        return {key: value for key, value in found.items() if value is not MISSING}

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
