"""A flow through real workers, in memory and on virtual time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint
from flowcraft.memory import MemoryBackend
from flowcraft.middleware import Middleware
from flowcraft.model import TERMINAL, Event
from flowcraft.registry import Definition
from flowcraft.results import RunResult
from flowcraft.runs import RunHandle
from flowcraft.runtime import FlowRuntime
from flowcraft.signals import Answered
from flowcraft.testing.activity import Activity
from flowcraft.testing.clock import HouseClock, VirtualClock
from flowcraft.testing.recorder import Recorder, RecordingBus
from flowcraft.ticker import Ticker
from flowcraft.worker import Worker

__all__ = ["FlowTest"]


class FlowTest:
    """A flow with workers of its own for the length of the block: ``async with FlowTest(flow) as t``.

    What a run does here it does on any backend: it is the distributed engine, in memory. Time stands still until
    `advance` or `result` moves it; real time is spent only in blocking functions and other input and output of nodes.
    A node's ``timeout`` is over when it has passed in virtual or in real time.

    Args:
        flow: what `start` starts.
        deps: what nodes see as ``ctx.deps``, as for `FlowRuntime`.
        workers: how many workers there are at first; see `set_workers`.
        clock: the time of the test, for dependencies that need it, too.
        adapter: options of the adapter, see `AdapterOptions`.
        runtime: further options of the `FlowRuntime`, such as ``registry``, ``middleware`` and ``codec``.
    """

    def __init__(
        self,
        flow: Definition | Blueprint,
        *,
        deps: object = None,
        workers: int = 1,
        clock: VirtualClock | None = None,
        adapter: Mapping[str, Any] | None = None,
        **runtime: Any,
    ) -> None:
        #: The time of the test.
        self.clock = clock or VirtualClock()
        #: Everything that happened, hints included.
        self.events = Recorder()
        self._flow = flow
        self._activity = Activity(self.clock)
        engine_clock = HouseClock(self.clock)
        middleware: Sequence[Middleware] = runtime.pop("middleware", ())
        #: The runtime under the workers.
        self.runtime = FlowRuntime(clock=engine_clock, deps=deps, middleware=(self._activity, *middleware), **runtime)
        self.runtime.check_functions(self.runtime.resolve(flow))
        backend = MemoryBackend(engine_clock)
        #: The adapter, for everything that this class has no method for.
        self.adapter = Adapter(
            self.runtime, queue=backend.queue, store=backend.store, coordination=backend.coordination,
            events=RecordingBus(backend.events, self._heard), owned=(backend,), **(adapter or {}),
        )  # fmt: skip
        self._wanted = workers
        self._workers: list[tuple[Worker, AsyncExitStack]] = []
        self._ticker: Ticker | None = None

    async def __aenter__(self) -> Self:
        await self.adapter.open()
        try:
            await self.set_workers(self._wanted)
        except BaseException:
            await self.adapter.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.set_workers(0)
        finally:
            await self.adapter.close()

    async def set_workers(self, count: int) -> None:
        """Have so many workers from now on. Those that go hand back what they have; without any, nothing happens."""
        while len(self._workers) > count:
            await self._workers.pop()[1].aclose()
        while len(self._workers) < count:
            stack = AsyncExitStack()
            worker = await stack.enter_async_context(self.adapter.worker(grace=0.0, ticker=False))
            self._workers.append((worker, stack))

    async def start(
        self,
        input: object = None,
        *,
        run_id: str | None = None,
        context: Mapping[str, object] | None = None,
        flow: Definition | Blueprint | str | None = None,
    ) -> RunHandle:
        """Start a run of the flow, or of another one that it knows; see `Adapter.start_run`."""
        return await self.adapter.start_run(self._flow if flow is None else flow, input, run_id=run_id, context=context)

    async def settle(self) -> None:
        """Return when nothing can happen any more without time or somebody from outside.

        Raises:
            TimeoutError: a node waits for something else, for more than ten seconds of real time.
        """
        await self._activity.settle()

    async def advance(
        self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """Let time pass: what becomes due happens in the order of its times, and everything that follows settles.

        Raises:
            TimeoutError: as `settle`.
        """
        end = self.clock.now + seconds + 60.0 * minutes + 3600.0 * hours + 86400.0 * days
        await self.settle()
        while (at := await self._next_stop(end)) is not None:
            await self._go_to(at)
        await self._go_to(end)

    async def result(self, run: RunHandle | str, *, within: float = 60.0) -> RunResult:
        """The result of a run. Up to ``within`` seconds may pass for it, no more than it needs.

        Raises:
            AssertionError: the run has not ended then; the message has its timeline. RunNotFound. TimeoutError: as
            `settle`.
        """
        handle = self._handle(run)
        end = self.clock.now + within
        await self.settle()
        while (await handle.status()) not in TERMINAL:
            at = await self._next_stop(end)
            if at is None:
                raise AssertionError(await self._why_not(handle, within))
            await self._go_to(at)
        return await handle.result()

    async def signal(
        self, run: RunHandle | str, node: object, payload: object = None, *, action: str | None = None
    ) -> Answered:
        """Send a signal to a wait, as somebody outside would, and let everything that follows settle.

        Raises:
            As `RunHandle.signal`: TooLate, SignalConflict, NotWaiting, InvalidPayload …
        """
        await self.settle()
        answer = await self._handle(run).signal(node, payload, action=action)
        await self.settle()
        return answer

    def _handle(self, run: RunHandle | str) -> RunHandle:
        return self.adapter.run(run) if isinstance(run, str) else run

    def _heard(self, event: Event) -> None:
        self._activity.touch()
        self.events(event)

    async def _next_stop(self, end: float) -> float | None:
        """When the next thing becomes due, until ``end``."""
        in_hand = any(worker.in_hand for worker, _ in self._workers)
        stops = [self.clock.next_wake(housekeeping=in_hand), await self._next_due(end) if self._workers else None]
        return min((at for at in stops if at is not None and at <= end), default=None)

    async def _next_due(self, end: float) -> float | None:
        dues = [await self._due_of(kind, end) for kind in _TIMED]
        return min((at for at in dues if at is not None), default=None)

    async def _due_of(self, kind: str, end: float) -> float | None:
        """When the next document of a kind becomes due; those that are already have been looked at."""
        after: str | None = None
        while True:
            page = await self.adapter.store.due(end, kind=kind, after=after)
            for row in page.items:
                if row.wake_at is not None and row.wake_at > self.clock.now:
                    return row.wake_at
            after = page.after
            if after is None:
                return None

    async def _go_to(self, at: float) -> None:
        self.clock.move_to(at)
        await self.settle()
        if self._workers:
            self._ticker = self._ticker or self.adapter.ticker(can=lambda _: True)
            await self._ticker.run_once()
            await self.settle()

    async def _why_not(self, run: RunHandle, within: float) -> str:
        view = await run.view()
        left = ", ".join(f"{node.id} is {node.state}" for node in view.nodes.values() if node.state in _UNDER_WAY)
        what = f"run {run.run_id!r} is {view.status} after {within:g} s of virtual time"
        return f"{what} ({left or 'nothing is under way'}):\n{self.events.run(run.run_id).timeline()}"


#: The kinds of documents that a ticker does something about in time.
_TIMED = ("run", "schedule")
_UNDER_WAY = frozenset({"ready", "held", "parked", "waiting", "retrying", "draining"})
