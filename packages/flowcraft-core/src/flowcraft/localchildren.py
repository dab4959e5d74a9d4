"""Subflows of runs in process: each child is a run of its own beside its parent's lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from flowcraft.blueprint import Node
from flowcraft.engine.draft import Cell, Draft
from flowcraft.engine.events import ChildEnded, ChildStarted, EngineEvent, Failed, Visit
from flowcraft.engine.head import Activation
from flowcraft.engine.slots import item_of, node_of
from flowcraft.executor import Executor
from flowcraft.folding import definition_of
from flowcraft.localtasks import Tasks
from flowcraft.results import RunResult
from flowcraft.subflows import MAX_DEPTH, blueprint_of, child_context, child_id, result_of_child, too_deep

__all__ = ["ChildRun", "LocalChild", "LocalChildren", "Parent"]


class ChildRun(Protocol):
    """What is needed of a run in process."""

    run_id: str

    async def run(self, run_input: Cell, context: Mapping[str, Cell]) -> None:
        """Execute until it has ended, or waits for signals."""
        ...

    async def go_on(self, event: EngineEvent | None = None) -> None:
        """The same, after a signal."""
        ...

    def reopen(self, executor: Executor) -> None:
        """Execute with other functions and dependencies from now on."""
        ...

    def cancel(self, reason: str = "") -> None:
        """End it."""
        ...

    def result(self) -> RunResult:
        """What it came to so far."""
        ...

    @property
    def stuck(self) -> bool:
        """Whether it waits for signals."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        ...


class LocalChild:
    """A child and the task that runs it; its parent is told when it has ended, or waits for signals."""

    def __init__(self, run: ChildRun, node: Node, slot: int, told: Callable[[ChildEnded | None], None]) -> None:
        self.run = run
        self.suspended = False
        #: Whether it is to go on when its parent does.
        self.woken = False
        self._event: EngineEvent | None = None
        self._node = node
        self._slot = slot
        self._told = told

    async def start(self, given: Cell) -> None:
        """Run the child on its input until it has ended or waits."""
        await self._until_quiet(given=given)

    def wake(self, event: EngineEvent | None) -> None:
        """Let it go on together with its parent, after ``event``."""
        self.suspended, self.woken, self._event = False, True, event

    async def go_on(self) -> None:
        """Run it on after it was woken."""
        await self._until_quiet()

    async def _until_quiet(self, **start: Cell) -> None:
        self.suspended = False
        if start:
            await self.run.run(start["given"], child_context(self._node, start["given"]))
        else:
            self.woken, event, self._event = False, self._event, None
            await self.run.go_on(event)
        self.suspended = not self.run.ended
        self._told(None if self.suspended else self.ended())

    def ended(self) -> ChildEnded:
        """The event that tells the parent what its child came to."""
        found = result_of_child(self._node, self.run.result())
        return ChildEnded(self._slot, self.run.run_id, found.output, found.writes, found.error, found.retryable)


class Parent(Protocol):
    """The run whose subflows they are."""

    run_id: str
    draft: Draft

    def input_of(self, slot: int, activation: Activation) -> Cell:
        """What an active slot is given."""
        ...

    def child(self, blueprint_id: str, run_id: str) -> ChildRun:
        """A run of its own, one deeper."""
        ...

    def tell(self, event: EngineEvent) -> bool:
        """Apply an event."""
        ...

    def look(self) -> None:
        """See what is to be done now, and whether anything is."""
        ...


class LocalChildren:
    """The children of one run."""

    def __init__(self, parent: Parent, tasks: Tasks) -> None:
        self._parent = parent
        self._tasks = tasks
        self._children: dict[str, LocalChild] = {}

    def start(self, slot: int, activation: Activation) -> None:
        """A subflow is READY: its run begins."""
        parent, draft = self._parent, self._parent.draft
        node = definition_of(draft.graph, slot, activation)
        visit = Visit(slot, "", activation.visit, activation.attempt)
        if draft.head.depth >= MAX_DEPTH:
            parent.tell(Failed(visit, too_deep(node), retryable=False))
            return
        ids = draft.graph.ids
        name = child_id(parent.run_id, ids[node_of(slot)], item_of(slot), activation.visit, activation.attempt)
        given = parent.input_of(slot, activation)
        child = self._children[name] = LocalChild(parent.child(blueprint_of(node), name), node, slot, self._told)
        _ = self._tasks.spawn(child.start(given), f"flowcraft subflow of {parent.run_id}")
        parent.tell(ChildStarted(visit, name))

    def cancel(self, names: Sequence[str]) -> None:
        """Nobody needs these any more."""
        for name in names:
            child = self._children.get(name)
            if child is not None:
                child.run.cancel("its parent needs it no more")
                if child.suspended:  # nobody runs it
                    self._told(child.ended())

    def find(self, name: str) -> LocalChild | None:
        """The child with this run id, if it has not ended."""
        return self._children.get(name)

    def reopen(self, executor: Executor) -> None:
        """Execute with other functions and dependencies from now on."""
        for child in self._children.values():
            child.run.reopen(executor)

    def go_on(self) -> None:
        """The parent goes on: those that were woken do, too."""
        for child in self._children.values():
            if child.woken:
                _ = self._tasks.spawn(child.go_on(), f"flowcraft subflow of {self._parent.run_id}")

    def suspended(self, name: str) -> bool:
        """Whether this one waits for signals, so that nothing will happen in it by itself."""
        child = self._children.get(name)
        return child is not None and child.suspended

    def _told(self, event: ChildEnded | None) -> None:
        """One has ended, or waits for signals."""
        if event is None:
            self._parent.look()
        else:
            self._children.pop(event.child, None)
            self._parent.tell(event)
