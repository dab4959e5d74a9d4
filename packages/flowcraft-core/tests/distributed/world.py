"""A small world: virtual time, one shared backend with faults in it, and processes that can be killed.

A *process* is an adapter with a worker whose every port goes through its own `Link`. Killing a process cuts the link:
whatever it awaits from then on never returns, so that no clean-up of it has any effect, as after SIGKILL.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Edge, Node, Retry
from flowcraft.errors import FatalError, Unavailable, UnknownOutcome
from flowcraft.memory import MemoryCoordination, MemoryEventBus, MemoryJobQueue, MemoryRunStore
from flowcraft.model import Change, Committed, Job
from flowcraft.nodes import NodeContext, Result
from flowcraft.runtime import FlowRuntime
from flowcraft.testing import VirtualClock
from flowcraft.worker import Worker

__all__ = ["Link", "Process", "StoreFaults", "World", "blueprint", "chain", "diamond", "fan"]


#: Time that moves when `World.until` says so.
SimClock = VirtualClock


class ChaosQueue(MemoryJobQueue):
    """Delivers every message ``copies`` times, in any order, and loses some. Binds to the store like its parent."""

    def __init__(self, clock: SimClock, rng: random.Random, *, copies: int = 1, lose: float = 0.0) -> None:
        super().__init__(clock)
        self.rng = rng
        self.copies = copies
        self.lose = lose
        self.pushed: list[Job] = []

    def push(self, jobs: Sequence[Job], *, delay: float = 0.0) -> None:
        sent = [job for job in jobs for _ in range(self.copies) if self.rng.random() >= self.lose]
        if self.copies > 1:
            self.rng.shuffle(sent)
        self.pushed += jobs
        super().push(sent, delay=delay)


@dataclass
class StoreFaults:
    """Rates of what goes wrong with commits, and counts of what did."""

    rng: random.Random
    lost_before: float = 0.0  # UnknownOutcome, not applied
    lost_after: float = 0.0  # UnknownOutcome, applied
    late: float = 0.0  # UnknownOutcome, applied some calls later
    unavailable: float = 0.0
    counts: Counter[str] = field(default_factory=Counter[str])
    delayed: list[Sequence[Change]] = field(default_factory=list[Sequence[Change]])

    def draw(self, rate: float, name: str) -> bool:
        happens = self.rng.random() < rate
        self.counts[name] += happens
        return happens


class Link:
    """The way of one process to everything outside of it."""

    def __init__(self) -> None:
        self.dead = False
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end.add_done_callback(lambda future: future.exception())

    async def check(self) -> None:
        if self.dead:
            await asyncio.shield(self._end)

    def cut(self) -> None:
        self.dead = True

    def reap(self) -> None:
        """The test is over: let the dead tasks end."""
        self.dead = True
        if not self._end.done():
            self._end.set_exception(Unavailable("this process is dead"))


class Linked:
    """Any port behind a link: nothing gets through in either direction after the cut."""

    def __init__(self, port: Any, link: Link) -> None:
        self.port = port
        self.link = link

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.port, name)
        if not asyncio.iscoroutinefunction(value):
            return value

        async def call(*args: Any, **named: Any) -> Any:
            await self.link.check()
            result = await value(*args, **named)
            await self.link.check()
            return result

        return call


class LinkedStore(Linked):
    def __init__(self, port: MemoryRunStore, link: Link, faults: StoreFaults, *, bound: bool) -> None:
        super().__init__(port, link)
        self.faults = faults
        self._bound = bound

    def bind(self, queue: Any) -> bool:
        return self._bound and bool(self.port.bind(queue.port))

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        await self.link.check()
        faults = self.faults
        while faults.delayed and faults.rng.random() < 0.5:
            await self.port.commit(faults.delayed.pop())
        if faults.draw(faults.unavailable, "unavailable"):
            raise Unavailable("no connection")
        plain = [replace(c, deliveries=[d.port for d in c.deliveries if isinstance(d, Linked)]) for c in changes]
        if faults.draw(faults.lost_before, "lost before"):
            raise UnknownOutcome("cut before the request arrived")
        if faults.draw(faults.late, "late"):
            faults.delayed.append(plain)
            raise UnknownOutcome("the request is still on its way")
        results: Sequence[Committed] = await self.port.commit(plain)
        await self.link.check()
        if faults.draw(faults.lost_after, "lost after"):
            raise UnknownOutcome("cut before the answer arrived")
        return results


class LinkedQueue(Linked):
    @asynccontextmanager
    async def deliveries(self, queues: Sequence[str], *, prefetch: int) -> AsyncIterator[Any]:
        await self.link.check()
        async with self.port.deliveries(queues, prefetch=prefetch) as stream:
            yield self._receive(stream)
            await self.link.check()

    async def _receive(self, stream: AsyncIterator[Sequence[Any]]) -> AsyncIterator[Sequence[Any]]:
        async for batch in stream:
            await self.link.check()
            yield [Linked(delivery, self.link) for delivery in batch]


class Coordination:
    """The shared coordination store, which can lose everything or not answer."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self.inner = MemoryCoordination(clock)
        self.down = False
        self.deaf = False  # revocations are lost
        self.flushes = 0

    def flush(self) -> None:
        self.inner = MemoryCoordination(self._clock)
        self.flushes += 1

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **named: Any) -> Any:
            if self.down:
                raise Unavailable("no coordination")
            if self.deaf and name == "revoke":
                return None
            return await getattr(self.inner, name)(*args, **named)

        return call


@dataclass(frozen=True)
class Effect:
    """One execution of user code."""

    run_id: str
    node: str
    visit: int
    attempt: int
    process: str

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.run_id, self.node, self.visit, self.attempt


Behaviour = Callable[["Process", NodeContext[Any, Any]], Awaitable[Any]]


class World:
    """Shared parts, processes, and what happened."""

    def __init__(
        self,
        *,
        seed: int = 0,
        bound: bool = True,
        copies: int = 1,
        lose: float = 0.0,
        blueprints: Sequence[Blueprint] = (),
    ) -> None:
        self.rng = random.Random(seed)
        self.clock = SimClock()
        self.bound = bound
        self.store = MemoryRunStore(self.clock)
        self.queue = ChaosQueue(self.clock, self.rng, copies=copies, lose=lose)
        self.coordination = Coordination(self.clock)
        self.events = MemoryEventBus()
        self.faults = StoreFaults(self.rng)
        self.blueprints = list(blueprints)
        self.effects: list[Effect] = []
        self.processes: list[Process] = []
        self.behaviours: dict[str, Behaviour] = dict(BEHAVIOURS)

    async def until(self, condition: Callable[[], bool], *, within: float = 1800.0, step: float = 0.5) -> None:
        """Let everything run, and time pass, until the condition holds."""
        end = self.clock.now + within
        while not condition():
            for _ in range(30):
                await asyncio.sleep(0)
                if condition():
                    return
            assert self.clock.now < end, f"not within {within} s"
            self.clock.step(step)

    async def finish(self, awaitable: Awaitable[Any], *, within: float = 1800.0) -> Any:
        """The result of an awaitable, driving the clock meanwhile."""
        task = asyncio.ensure_future(awaitable)
        try:
            await self.until(task.done, within=within)
        finally:
            if not task.done():
                task.cancel()
        return task.result()

    async def pass_time(self, seconds: float) -> None:
        end = self.clock.now + seconds
        await self.until(lambda: self.clock.now >= end, within=seconds + 10)

    def process(self, name: str = "p", **options: Any) -> Process:
        made = Process(self, name, **options)
        self.processes.append(made)
        return made

    async def close(self) -> None:
        for process in self.processes:
            await process.end()
        await self.finish(self.queue.aclose())
        await self.events.aclose()

    def executions(self, run_id: str | None = None, node: str | None = None) -> int:
        return sum(run_id in (None, e.run_id) and node in (None, e.node) for e in self.effects)

    @property
    def duplicates(self) -> dict[tuple[str, str, int, int], int]:
        counts = Counter(effect.key for effect in self.effects)
        return {key: count - 1 for key, count in counts.items() if count > 1}

    def runtime(self, process: Process | None = None, uses: Sequence[str] | None = None) -> FlowRuntime:
        functions = {name: self._function(process, name) for name in uses or self.behaviours}
        return FlowRuntime(blueprints=self.blueprints, registry=functions, clock=self.clock)

    def _function(self, process: Process | None, name: str) -> Any:
        async def call(ctx: NodeContext[Any, Any]) -> Any:
            if process is None:
                return await self.behaviours[name](Process.__new__(Process), ctx)
            await process.link.check()
            self.effects.append(Effect(ctx.run_id, ctx.node_id, ctx.visit, ctx.attempt, process.name))
            result = await self.behaviours[name](process, ctx)
            await process.link.check()
            return result

        return call


class Process:
    """An adapter, and perhaps a worker, behind one link."""

    def __init__(
        self,
        world: World,
        name: str,
        *,
        uses: Sequence[str] | None = None,
        worker: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.world = world
        self.name = name
        self.link = Link()
        self.runtime = world.runtime(self, uses)
        self.store = LinkedStore(world.store, self.link, world.faults, bound=world.bound)
        self.adapter = Adapter(
            self.runtime,
            queue=LinkedQueue(world.queue, self.link),  # type: ignore[arg-type] # a transparent proxy
            store=self.store,  # type: ignore[arg-type] # likewise
            coordination=Linked(world.coordination, self.link),  # type: ignore[arg-type] # likewise
            events=Linked(world.events, self.link),  # type: ignore[arg-type] # likewise
            **options,
        )
        self.worker: Worker | None = None
        self._worker_options = {"concurrency": 10, "grace": 20.0, **(worker or {})}
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> Process:
        """Without a worker."""
        await self.world.finish(self.adapter.open())
        return self

    async def start(self) -> Process:
        started = asyncio.Event()

        async def live() -> None:
            async with self.adapter, self.adapter.worker(**self._worker_options) as self.worker:
                started.set()
                await self._stop.wait()

        self._task = asyncio.create_task(live(), name=f"process {self.name}")
        await self.world.until(lambda: started.is_set() or self._task is None or self._task.done())
        return self

    async def stop(self) -> None:
        """In order, as after SIGTERM."""
        self._stop.set()
        assert self._task is not None
        await self.world.finish(self._task)

    def kill(self) -> None:
        self.link.cut()

    async def end(self) -> None:
        """However it is now: gone, with nothing left behind."""
        if self._task is None:
            self.link.reap()
            await self.world.finish(self.adapter.close())
            return
        if self._task.done():
            return
        if self.link.dead:
            self.link.reap()
            self._task.cancel()
        self._stop.set()
        await self.world.until(self._task.done)


# ---- user code


async def _value(_: Process, ctx: NodeContext[Any, Any]) -> Any:
    return {"node": ctx.node_id, "input": _digest(ctx.input), "context": await ctx.context.get("key")}


async def _slow(process: Process, ctx: NodeContext[Any, Any]) -> Any:
    if ctx.params.get("seconds") and hasattr(process, "world"):
        await process.world.clock.sleep(ctx.params["seconds"])
    return await _value(process, ctx)


async def _flaky(process: Process, ctx: NodeContext[Any, Any]) -> Any:
    if ctx.attempt <= ctx.params.get("failures", 1):
        raise RuntimeError(f"attempt {ctx.attempt}")
    return await _value(process, ctx)


async def _fail(_: Process, ctx: NodeContext[Any, Any]) -> Any:
    raise FatalError("for good") if ctx.params.get("fatal") else RuntimeError("broken")


async def _write(process: Process, ctx: NodeContext[Any, Any]) -> Any:
    await ctx.context.set("key", ctx.node_id)
    return await _value(process, ctx)


async def _choose(process: Process, ctx: NodeContext[Any, Any]) -> Any:
    return Result({"score": ctx.params.get("score", 5), "node": ctx.node_id}, action=ctx.params.get("action"))


async def _count(_: Process, ctx: NodeContext[Any, Any]) -> Any:
    before = ctx.input if isinstance(ctx.input, int) else 0
    return before + 1


async def _killer(process: Process, ctx: NodeContext[Any, Any]) -> Any:
    process.kill()
    await process.link.check()


async def _big(_: Process, ctx: NodeContext[Any, Any]) -> Any:
    return "x" * ctx.params["size"]


BEHAVIOURS: dict[str, Behaviour] = {
    "value": _value, "slow": _slow, "flaky": _flaky, "fail": _fail, "write": _write, "choose": _choose, "count": _count,
    "killer": _killer, "big": _big,
}  # fmt: skip


def _digest(value: Any) -> str:
    """Short, and different for every mix-up of inputs; a traceback is another one in every process."""
    if isinstance(value, dict) and isinstance(value.get("error"), dict):
        value = {**value, "error": {**value["error"], "trace": ""}}
    return f"{hash_of(value):016x}"


def hash_of(value: Any) -> int:
    result = 1469598103934665603
    for byte in repr(value).encode():
        result = (result ^ byte) * 1099511628211 % (1 << 64)
    return result


# ---- blueprints


def blueprint(name: str, nodes: Mapping[str, Node | str], edges: Sequence[str | Edge], **options: Any) -> Blueprint:
    made = tuple(node if isinstance(node, Node) else Node(key, node) for key, node in nodes.items())
    joined = tuple(edge if isinstance(edge, Edge) else Edge(*edge.split(">")) for edge in edges)
    return Blueprint(name, made, joined, **options)


def chain(length: int = 10, uses: str = "value", *, name: str = "chain", **more: Any) -> Blueprint:
    nodes: dict[str, Node | str] = {f"n{i}": Node(f"n{i}", uses, **more) for i in range(length)}
    return blueprint(name, nodes, [f"n{i}>n{i + 1}" for i in range(length - 1)])


def fan(width: int = 20, uses: str = "value", *, name: str = "fan", **more: Any) -> Blueprint:
    nodes: dict[str, Node | str] = {"start": "value", "end": "value"}
    nodes |= {f"w{i}": Node(f"w{i}", uses, **more) for i in range(width)}
    return blueprint(name, nodes, [e for i in range(width) for e in (f"start>w{i}", f"w{i}>end")])


def diamond(*, name: str = "diamond") -> Blueprint:
    return blueprint(name, {"a": "value", "b": "value", "c": "value", "d": "value"}, ["a>b", "a>c", "b>d", "c>d"])


RETRY_LATER = Retry(attempts=3, delay=60.0, backoff=2.0, jitter=0.0)
