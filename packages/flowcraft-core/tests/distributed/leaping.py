"""A stand for tests of waits on any backend: real time that can leap, and adapters that share one store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint
from flowcraft.engine.view import RunView
from flowcraft.memory import MemoryBackend
from flowcraft.runs import RunHandle
from flowcraft.runtime import FlowRuntime
from flowcraft.sqlite import SqliteBackend

__all__ = ["LeapClock", "Stand", "reaches", "stand_on", "states"]


class LeapClock:
    """Real time, and whatever it has leapt; sleepers wake when their time has come either way."""

    def __init__(self) -> None:
        self._leapt = 0.0
        self._wakers: set[asyncio.Event] = set()

    def time(self) -> float:
        return time.time() + self._leapt

    def monotonic(self) -> float:
        return time.monotonic() + self._leapt

    async def sleep(self, seconds: float) -> None:
        end = self.monotonic() + seconds
        while (left := end - self.monotonic()) > 0:
            waker = asyncio.Event()
            self._wakers.add(waker)
            try:
                async with asyncio.timeout(left):
                    await waker.wait()
            except TimeoutError:
                pass
            finally:
                self._wakers.discard(waker)

    def leap(self, seconds: float) -> None:
        self._leapt += seconds
        for waker in self._wakers:
            waker.set()


class Stand:
    """One store, and any number of adapters on it."""

    def __init__(self, backend: MemoryBackend | SqliteBackend, clock: LeapClock) -> None:
        self.backend = backend
        self.clock = clock

    def adapter(
        self,
        blueprints: Sequence[Blueprint] = (),
        registry: Mapping[str, Any] | None = None,
        *,
        flows: Sequence[Any] = (),
        **options: Any,
    ) -> Adapter:
        runtime = FlowRuntime(flows, blueprints=blueprints, registry=registry or {}, clock=self.clock)
        parts = self.backend
        return Adapter(
            runtime, queue=parts.queue, store=parts.store, coordination=parts.coordination, events=parts.events,
            **{"tick": 0.02, **options},
        )  # fmt: skip


@asynccontextmanager
async def stand_on(kind: str, folder: Path) -> AsyncIterator[Stand]:
    clock = LeapClock()
    if kind == "memory":
        memory = MemoryBackend(clock)
        yield Stand(memory, clock)
        await memory.aclose()
    else:
        async with SqliteBackend.open(folder / "stand.db", clock=clock) as sqlite:
            yield Stand(sqlite, clock)


async def reaches(handle: RunHandle, condition: Callable[[RunView], bool]) -> RunView:
    """The run as soon as the condition holds; asked again after each event."""
    async with asyncio.timeout(20), aclosing(handle.watch()) as events:
        view = await handle.view()
        if condition(view):
            return view
        async for _ in events:
            view = await handle.view()
            if condition(view):
                return view
    view = await handle.view()
    assert condition(view), (view.status, states(view))
    return view


def states(view: RunView) -> dict[str, str]:
    return {node.id: node.state for node in view.nodes.values()}
