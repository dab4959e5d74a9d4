"""Limits of runs in this process: a visit that may not run now waits for its turn, first come first served.

What a limit is and what it asks for is decided by `flowcraft.limits`, as everywhere else.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cached_property
from math import inf
from typing import Any

from flowcraft.blueprint import Node
from flowcraft.errors import ConditionError
from flowcraft.executor import ExecutionOutcome, Executor, VisitRequest, error_info
from flowcraft.limits import Demands, Limits, Permit, exchange, give_back
from flowcraft.ports import Clock, CoordinationStore

__all__ = ["Gate", "GatedExecutor"]


class _Door:
    """Visits that need the same: one of them asks, the others stand behind it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Gate:
    """The turns of all runs of one `FlowRuntime`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits = Limits()
        self._numbers = itertools.count()
        self._doors: dict[Demands, _Door] = {}
        self._freed: dict[str, asyncio.Event] = {}  # by the keys of slots that somebody waits for

    @cached_property
    def _coordination(self) -> CoordinationStore:
        # late: the package of the memory backend needs the runtime, which has this gate
        from flowcraft.memory.coordination import MemoryCoordination  # noqa: PLC0415

        return MemoryCoordination(self._clock)

    def demands(self, node: Node, value: object) -> Demands:
        """See `Limits.demands`."""
        return self._limits.demands(node, value)

    @asynccontextmanager
    async def turn(self, demands: Demands) -> AsyncGenerator[None]:
        """Wait until the demands can be met, and hold the slots inside the block."""
        permit = Permit(str(next(self._numbers)))
        try:
            await self._enter(permit, demands)
            yield
        finally:
            # The wide ones first: else the next visit of the same key would always be quicker than those of others.
            for slot in reversed(await give_back(self._coordination, permit)):
                if (freed := self._freed.pop(slot.key, None)) is not None:
                    freed.set()

    async def _enter(self, permit: Permit, demands: Demands) -> None:
        door = self._doors.setdefault(demands, _Door())
        door.users += 1
        try:
            async with door.lock:
                while (refusal := await exchange(self._coordination, permit, demands, inf)) is not None:
                    if refusal.wait:
                        await self._clock.sleep(refusal.wait)
                    else:
                        await self._freed.setdefault(refusal.demand.key, asyncio.Event()).wait()
        finally:
            door.users -= 1
            if not door.users:
                del self._doors[demands]


class GatedExecutor(Executor):
    """An executor for runs in process of a blueprint with limits."""

    def __init__(self, gate: Gate, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._gate = gate

    async def run(self, request: VisitRequest) -> ExecutionOutcome:
        """See `Executor.run`; a visit under a limit waits for its turn first."""
        if not request.node.limits:
            return await super().run(request)
        try:
            demands = self._gate.demands(request.node, request.input)
        except ConditionError as error:
            return ExecutionOutcome(
                False, error=error_info(error), retryable=False, fatal=True, attempts=request.attempt
            )
        async with self._gate.turn(demands):
            return await super().run(request)
