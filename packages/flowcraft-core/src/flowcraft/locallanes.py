"""The lanes of a run in process: tasks that take the next READY slot, await its function and hand over the outcome.

A lane goes on without a task switch as long as functions return at once; one spare lane stands by for the moment one
blocks. So a chain of quick nodes costs no tasks, and a thousand slow ones run side by side up to the concurrency limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine
from contextvars import copy_context
from typing import Any, Final, Protocol

from flowcraft.engine.draft import Draft
from flowcraft.engine.head import DRAINING, Activation
from flowcraft.engine.slots import node_of
from flowcraft.errors import NodeFailed
from flowcraft.executor import ExecutionOutcome, error_info
from flowcraft.localtasks import Tasks
from flowcraft.stepping import resumed

__all__ = ["Lanes", "Visits"]

#: So many nodes may run in a row before other tasks of the application get a turn.
_TURN: Final = 200


class Visits(Protocol):
    """The run that lanes work for."""

    def begin(self, slot: int, activation: Activation) -> Coroutine[Any, Any, ExecutionOutcome] | None:
        """The execution of a READY slot; None: it takes no lane."""
        ...

    def settle(self, slot: int, activation: Activation, outcome: ExecutionOutcome | None) -> None:
        """What came of it; None: it was cancelled, as the run wanted."""
        ...

    def look(self) -> None:
        """See whether there is anything more to do."""
        ...


class Lanes:
    """The lanes of one run, at most ``limit``. `ready` is what they take from."""

    def __init__(self, name: str, draft: Draft, limit: int, visits: Visits, tasks: Tasks) -> None:
        self._name = name
        self._draft = draft
        self._limit = limit
        self._visits = visits
        self._tasks = tasks
        #: Slots that are to be executed, in this order.
        self.ready: deque[int] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._dropped: set[int] = set()
        self._standby = False
        self._closing = True
        self._turn = _TURN

    def open(self) -> None:
        """From now on `wake` does something."""
        self._closing = False
        self._standby = False

    def close(self) -> None:
        """Begin nothing more: the tasks of the run are about to be cancelled."""
        self._closing = True

    def wake(self) -> None:
        """See to it that a lane takes what is ready."""
        if self.ready and not self._standby and not self._closing and len(self._lanes) < self._limit:
            self._standby = True
            task = self._tasks.spawn(self._lane(), f"flowcraft run {self._name}")
            self._lanes.add(task)
            task.add_done_callback(self._lanes.discard)

    def cancel(self, slot: int) -> bool:
        """Cancel what runs in a slot; False: nothing does."""
        task = self._running.get(slot)
        if task is None:
            return False
        self._dropped.add(slot)
        task.cancel()
        return True

    async def _lane(self) -> None:
        self._standby = False
        ready = self.ready
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a lane is a task")
        head, active, visits, copy = self._draft.head, self._draft.head.active, self._visits, copy_context
        while ready and not self._closing:
            slot = ready.popleft()
            if ready and not self._standby:
                self.wake()
            activation = active.get(slot)
            if activation is None or head.state(slot) == DRAINING:
                if not ready:
                    visits.look()  # when it was given up, the run could not know that nothing else was left
                continue
            call = visits.begin(slot, activation)
            if call is None:
                continue
            context = copy()
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
                outcome = await self._finish(slot, task, rest, outcome)
            visits.settle(slot, activation, outcome)
            self._turn -= 1
            if self._turn <= 0:
                self._turn = _TURN
                await asyncio.sleep(0)
        self._lanes.discard(task)  # at once: another lane may need the place before this task's callbacks run

    async def _finish(
        self,
        slot: int,
        task: asyncio.Task[None],
        rest: Awaitable[ExecutionOutcome] | None,
        outcome: ExecutionOutcome | None,
    ) -> ExecutionOutcome | None:
        """The outcome of a node that waits for something, or None if it was dropped."""
        outcome = await self._suspended(slot, task, rest, outcome)
        if slot in self._dropped:
            self._dropped.discard(slot)
        elif outcome is None:
            draft = self._draft
            error = NodeFailed(f"node {draft.graph.ids[node_of(slot)]!r} was cancelled by its own code")
            outcome = ExecutionOutcome(False, error=error_info(error), attempts=draft.head.active[slot].attempt)
        return outcome

    async def _suspended(
        self,
        slot: int,
        task: asyncio.Task[None],
        rest: Awaitable[ExecutionOutcome] | None,
        outcome: ExecutionOutcome | None,
    ) -> ExecutionOutcome | None:
        """The outcome, or None if the node was cancelled: the lane goes on, unless the run is being closed."""
        self._running[slot] = task
        try:
            if rest is not None:
                outcome = await rest
        except asyncio.CancelledError:
            if self._closing:
                raise
        finally:
            if task.cancelling() and not self._closing:
                await self._forget_cancellation(task)
            del self._running[slot]
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
