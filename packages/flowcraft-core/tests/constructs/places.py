"""Where a flow can run: in process, on the memory backend, on SQLite. The same test asks all three, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from flowcraft import Flow, FlowRuntime
from flowcraft.adapter import Adapter
from flowcraft.engine.events import Command, EngineEvent
from flowcraft.errors import SignalConflict, TooLate
from flowcraft.folding import Applied
from flowcraft.memory import MemoryBackend
from flowcraft.results import RunResult
from flowcraft.runs import RunHandle
from flowcraft.sqlite import SqliteBackend
from flowcraft.testing import Recorder, VirtualClock
from flowcraft.testing.recorder import RecordingBus

__all__ = ["LocalPlace", "Place", "StoredPlace", "command", "signal"]

#: Virtual time goes by faster than a disk writes: nothing may lapse because of that.
PATIENT = {"lease_ttl": 36_000.0, "resend_after": 36_000.0}


class LocalPlace:
    """Runs in process."""

    kind = "local"

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.events = Recorder()

    async def run(self, flow: Flow[Any], input: object = None, *, deps: object = None, **options: Any) -> RunResult:
        """From the start to the end, or until it waits."""
        runtime = FlowRuntime([flow], deps=deps, clock=self.clock, listeners=[self.events])
        return await self.clock.run(runtime.run(flow, input, **options))


class StoredPlace:
    """Workers on a backend. On SQLite every process has a connection of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.clock = VirtualClock()
        self.events = Recorder()
        self.stack = AsyncExitStack()
        self.adapters: list[Adapter] = []
        self._path = folder / "flow.db"
        self._memory = MemoryBackend(self.clock, visibility=36_000.0)

    async def process(self, flows: Sequence[Flow[Any]], *, worker: bool = True, **options: Any) -> Adapter:
        """One more process with these flows; its worker has the ``concurrency`` of the options."""
        runtime = FlowRuntime(flows, deps=options.pop("deps", None), clock=self.clock)
        backend: Any = self._memory
        if self.kind == "sqlite":
            backend = await self.stack.enter_async_context(
                SqliteBackend.open(self._path, clock=self.clock, queue_visibility=36_000.0)
            )
        concurrency = options.pop("concurrency", 50)
        adapter = Adapter(
            runtime, queue=backend.queue, store=backend.store, coordination=backend.coordination,
            events=RecordingBus(backend.events, self.events), **{**PATIENT, **options},
        )  # fmt: skip
        await self.stack.enter_async_context(adapter)
        if worker:
            await self.stack.enter_async_context(adapter.worker(concurrency=concurrency, grace=0.0))
        self.adapters.append(adapter)
        return adapter

    async def close(self) -> None:
        await self.until(asyncio.ensure_future(self.stack.aclose()).done)
        await self._memory.aclose()

    async def until(self, condition: Callable[[], bool], *, within: float = 3600.0, real: float = 50.0) -> None:
        """Let everything run, in threads, too, and time pass, until the condition holds."""
        turns, step = (1, 0.005) if self.kind == "sqlite" else (30, 0.5)
        end = self.clock.now + within
        async with asyncio.timeout(real):
            while True:
                for _ in range(turns):
                    if condition():
                        return
                    await asyncio.sleep(0)
                assert self.clock.now < end, f"not within {within} s\n{self.events}"
                self.clock.step(step)

    async def finish(self, awaitable: Awaitable[Any], **limits: float) -> Any:
        """The result of something, while time passes."""
        task = asyncio.ensure_future(awaitable)
        try:
            await self.until(task.done, **limits)
        finally:
            if not task.done():
                task.cancel()
        return task.result()

    async def start(self, flow: Flow[Any], input: object = None, **options: Any) -> RunHandle:
        """Start a run; with a first process, if there is none."""
        if not self.adapters:
            await self.process([flow], deps=options.pop("deps", None))
        run: RunHandle = await self.finish(self.adapters[0].start_run(flow, input, **options))
        return run

    async def run(self, flow: Flow[Any], input: object = None, **options: Any) -> RunResult:
        """From the start to the end."""
        run = await self.start(flow, input, **options)
        return await self.result(run)

    async def result(self, run: RunHandle, **limits: float) -> RunResult:
        """Wait for the end of a run."""
        found: RunResult = await self.finish(run.result(), **limits)
        return found

    async def reach(self, run: RunHandle, status: str) -> None:
        """Wait for a status."""

        async def look() -> None:
            while await run.status() != status:
                await self.clock.sleep(0.01)

        await self.finish(look())

    async def happened(self, event: str, node: str | None = None, count: int = 1) -> None:
        """Wait until so many events of this type were told."""

        def enough() -> bool:
            found = self.events.of(event)
            return len(found if node is None else found.node(node)) >= count

        await self.until(enough)

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.clock.now + seconds
        await self.until(lambda: self.clock.now >= end, within=seconds + 10)

    async def tell(self, run: RunHandle, event: Command) -> bool:
        """A command to a run; True if it changed anything."""
        changed: bool = await self.finish(command(run, event))
        return changed


Place = LocalPlace | StoredPlace


async def command(run: RunHandle, event: EngineEvent) -> bool:
    """Give a run an event; True if it changed anything."""
    return isinstance(await run._access.committer.submit(run.run_id, event), Applied)


async def signal(
    run: RunHandle,
    node: str,
    payload: object = None,
    *,
    action: str | None = None,
    id: str = "s",
    visit: int | None = None,
) -> str:
    """Send a signal; what became of it, a refusal as a word."""
    try:
        return await run.signal(node, payload, action=action, signal_id=id, visit=visit)
    except TooLate:
        return "late"
    except SignalConflict:
        return "conflict"
