"""Subflows of runs in process: each child is a run of its own beside its parent's lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from flowcraft.blueprint import Node
from flowcraft.dropping import coming_child
from flowcraft.engine.draft import Cell, Draft
from flowcraft.engine.events import ChildEnded, ChildStarted, EngineEvent, Failed, Visit
from flowcraft.engine.head import Activation
from flowcraft.executor import Executor
from flowcraft.folding import definition_of
from flowcraft.localtasks import Tasks
from flowcraft.results import RunResult
from flowcraft.subflows import MAX_DEPTH, blueprint_of, child_context, result_of_child, too_deep

__all__ = ["ChildRun", "LocalChild", "LocalChildren", "Parent"]


class ChildRun(Protocol):
    """What is needed of a run in process."""

    run_id: str

    def start(self, run_input: Cell, context: Mapping[str, Cell]) -> None:
        """Begin, without executing anything."""
        ...

    async def go_on(self, event: EngineEvent | None = None) -> None:
        """Execute, perhaps after a signal, until it has ended, or waits for signals."""
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

    def start(self, given: Cell) -> None:
        """Begin with this input. From now on the child can be cancelled, also before it goes on for the first time."""
        self.run.start(given, child_context(self._node, given))

    def wake(self, event: EngineEvent | None) -> None:
        """Let it go on together with its parent, after ``event``."""
        self.suspended, self.woken, self._event = False, True, event

    async def go_on(self) -> None:
        """Run it until it has ended or waits: at first, or after it was woken."""
        self.suspended = self.woken = False
        event, self._event = self._event, None
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
        name = coming_child(draft.graph, parent.run_id, slot, activation)
        given = parent.input_of(slot, activation)
        child = self._children[name] = LocalChild(parent.child(blueprint_of(node), name), node, slot, self._told)
        child.start(given)
        _ = self._tasks.spawn(child.go_on(), f"flowcraft subflow of {parent.run_id}")
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
