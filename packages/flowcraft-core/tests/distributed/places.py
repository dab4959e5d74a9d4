"""One embedded backend, a clock that moves only when a test says so, and any number of processes on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Node
from flowcraft.codec import Codec
from flowcraft.errors import UnknownOutcome
from flowcraft.memory import MemoryBackend
from flowcraft.model import RunSummary
from flowcraft.nodes import NodeContext
from flowcraft.runtime import FlowRuntime
from flowcraft.sqlite import SqliteBackend

from .world import SimClock

__all__ = ["Call", "FaultyStore", "Place", "faults", "killed", "report"]

report = Blueprint("report", (Node("only", "record"),))


@dataclass(frozen=True)
class Call:
    """A call of a store, as a fault sees it: ``commit`` of a ``schedule`` …"""

    name: str
    kind: str


class FaultyStore:
    """A store as one process sees it. ``fault`` says what becomes of a call:

    ``before``, ``after``: the process dies, which is to say that this call, done or not, and every later one never
    returns · ``lost before``, ``lost after``: `UnknownOutcome`.
    """

    def __init__(self, store: Any) -> None:
        self.store = store
        self.fault: Callable[[Call], Literal["before", "after", "lost before", "lost after"] | None] = lambda _: None
        self.dead = asyncio.Event()
        self.calls: Counter[Call] = Counter()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.store, name)
        if not asyncio.iscoroutinefunction(value):
            return value

        async def call(*args: Any, **named: Any) -> Any:
            kind = (
                args[0].kind if name == "create" else args[0][0].kind if name == "commit" else named.get("kind", "run")
            )
            await self._live()
            asked = Call(name, kind)
            self.calls[asked] += 1
            fault = self.fault(asked)
            if fault in ("before", "lost before"):
                await self._fail(fault)
            result = await value(*args, **named)
            if fault in ("after", "lost after"):
                await self._fail(fault)
            return result

        return call

    async def _live(self) -> None:
        if self.dead.is_set():
            await asyncio.Event().wait()

    async def _fail(self, fault: str) -> None:
        if fault.startswith("lost"):
            raise UnknownOutcome("cut off")
        self.dead.set()
        await self._live()


@dataclass
class Place:
    """``executed``: for each execution of a node of `report`, its run's id and input."""

    kind: str
    folder: Path
    clock: SimClock = field(default_factory=SimClock)
    executed: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Place]:
        async with self.stack:
            self.memory = MemoryBackend(self.clock)
            self.stack.push_async_callback(self.memory.aclose)
            self.adapter = await self.process(report)
            self.store = self.adapter.store
            yield self

    async def process(
        self, *blueprints: Blueprint, faulty: bool = False, codec: Codec | None = None, **options: Any
    ) -> Adapter:
        """One more process: on SQLite with a connection of its own."""
        backend: Any = self.memory
        if self.kind == "sqlite":
            path = self.folder / "flow.db"
            backend = await self.stack.enter_async_context(SqliteBackend.open(path, clock=self.clock))

        async def record(ctx: NodeContext[Any, Any]) -> Any:
            self.executed.append((ctx.run_id, ctx.input))
            return ctx.input

        runtime = FlowRuntime(blueprints=blueprints, registry={"record": record}, clock=self.clock, codec=codec)
        store = FaultyStore(backend.store) if faulty else backend.store
        adapter = Adapter(
            runtime, queue=backend.queue, store=store, coordination=backend.coordination, events=backend.events,
            **options,
        )  # fmt: skip
        return await self.stack.enter_async_context(adapter)

    async def documents(self, kind: str) -> list[RunSummary]:
        """All documents of a kind, newest first."""
        found: list[RunSummary] = []
        after: str | None = None
        while True:
            page = await self.store.list(kind=kind, limit=1000, after=after)
            found += page.items
            if (after := page.after) is None:
                return found

    async def until(self, condition: Callable[[], bool], *, step: float = 0.001) -> None:
        """Let everything run, in threads too, and a little time pass, until the condition holds."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0)
                self.clock.step(step)

    async def run_ids(self) -> list[str]:
        return sorted(row.run_id for row in await self.documents("run"))


async def killed(store: Any, work: Coroutine[Any, Any, Any]) -> None:
    """Run ``work`` until its process dies at a fault of its store, and take away what is left of it."""
    task = asyncio.create_task(work)
    died = asyncio.create_task(store.dead.wait())
    await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
    assert store.dead.is_set(), f"it did not die, but returned {task.result()}"
    task.cancel()
    await asyncio.gather(task, died, return_exceptions=True)
    assert task.cancelled()


def faults(store: Any, name: str, kind: str, what: str, *, times: int = 1) -> None:
    """Let the next calls of this name on this kind go wrong."""
    left = times

    def fault(call: Call) -> Any:
        nonlocal left
        if call != Call(name, kind) or left == 0:
            return None
        left -= 1
        return what

    store.fault = fault
