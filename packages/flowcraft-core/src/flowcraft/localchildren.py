"""Subflows of runs in process: each child is a run of its own beside its parent's lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from flowcraft.blueprint import Node
from flowcraft.engine.draft import Cell
from flowcraft.engine.events import ChildEnded, EngineEvent
from flowcraft.executor import Executor
from flowcraft.results import RunResult
from flowcraft.subflows import child_context, result_of_child

__all__ = ["ChildRun", "LocalChild"]


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
