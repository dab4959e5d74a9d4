"""Any number of processes on one place of a target, and the time that they live in."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from flowcraft.adapter import AdapterOptions
from flowcraft.blueprint import Blueprint
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Violated, equal
from flowcraft.conformance.faulty import Plan, Weather
from flowcraft.conformance.system.behaviour import BEHAVIOURS, Behaviour
from flowcraft.conformance.system.effects import Effects
from flowcraft.conformance.system.process import Process, Setting
from flowcraft.model import TERMINAL, Event
from flowcraft.results import RunResult
from flowcraft.runs import RunHandle
from flowcraft.testing import VirtualClock

__all__ = ["Fleet", "fleet"]

_LOG = logging.getLogger("flowcraft")
T = TypeVar("T")
#: So many turns of the event loop: whoever was woken has run as far as it can without a thread.
_TURNS: Final = 25
#: How long a call that goes through a thread may take until time passes meanwhile, real seconds.
_STUCK: Final = 5.0


class Fleet:
    """Make it with `fleet`. ``unit``: seconds; leases last two of it, and messages are sent again after two."""

    def __init__(self, env: Env, blueprints: Sequence[Blueprint], **options: Any) -> None:
        self.env = env
        self.unit = unit = env.unit / 5 if env.target.virtual_time else env.unit
        self._look = unit / 4 if env.target.virtual_time else unit / 10
        self.weather = Weather(env.rng)
        self.weather.lag = lambda: env.clock.sleep(unit / 2)
        self.effects = Effects()
        self.blueprints = list(blueprints)
        self.behaviours: dict[str, Behaviour] = dict(BEHAVIOURS)
        self.processes: list[Process] = []
        timing = {"lease_ttl": 2 * unit, "resend_after": 2 * unit, "drain_grace": 2 * unit, "tick": unit / 2}
        chosen: dict[str, Any] = {**timing, **options}
        self.options = AdapterOptions(**chosen)
        self._threads = env.ports.store is not None and env.ports.store.capabilities.durable

    async def process(
        self,
        name: str = "",
        setting: Setting = Setting(),  # noqa: B008 - frozen
        *,
        plan: Plan | None = None,
        blueprints: Sequence[Blueprint] | None = None,
    ) -> Process:
        """One more process, ready, or dead already by its plan."""
        made = Process(
            name or f"p{len(self.processes)}", self.env, self.weather, self.effects, self.behaviours,
            blueprints=self.blueprints if blueprints is None else blueprints, options=self.options, setting=setting,
            plan=plan,
        )  # fmt: skip
        self.processes.append(made)
        await self.until(lambda: made.started, f"process {made.name!r} is ready")
        if made.task.done():
            made.task.result()
        return made

    async def client(self) -> Process:
        """One more process, without a worker."""
        return await self.process("client", Setting(worker=False))

    async def start(
        self, by: Process, flow: Blueprint | str, input: object = None, **options: Any
    ) -> RunHandle:  # fmt: skip
        """Start a run."""
        return await self.finish(by.adapter.start_run(flow, input, **options))

    async def until(self, holds: Callable[[], bool], what: str, *, within: float = 400.0) -> None:
        """Let everything run, and time pass, until ``holds``.

        Raises:
            Violated: it did not, ``within`` so many units.
        """
        clock, end = self.env.clock, self.env.clock.monotonic() + within * self.unit
        while not holds():
            self._mourn()
            if isinstance(clock, VirtualClock):
                await self._settle(holds)
                if holds():
                    return
                clock.step(self.unit)
            else:
                await asyncio.sleep(min(0.02, self.unit / 10))
            if clock.monotonic() > end:
                raise Violated(f"{what}: not within {within:g} units of time{self._state()}")

    async def _settle(self, holds: Callable[[], bool]) -> None:
        """Virtual time must not pass while somebody is at work: a disk is slower than a clock that leaps."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if holds():
                return
        if not (self._threads or self.weather.in_flight):
            return
        loop = asyncio.get_running_loop()
        patience = loop.time() + _STUCK
        await asyncio.sleep(0.001)
        while self.weather.in_flight and loop.time() < patience and not holds():  # noqa: ASYNC110 -- a thread tells nobody
            await asyncio.sleep(0.0005)

    async def finish(self, awaitable: Awaitable[T], *, within: float = 400.0) -> T:
        """The result of something, while time passes."""
        task = asyncio.ensure_future(awaitable)
        try:
            await self.until(task.done, f"{getattr(awaitable, '__qualname__', 'what was asked for')}", within=within)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return task.result()

    async def pass_time(self, units: float) -> None:
        """Let so much time pass."""
        end = self.env.clock.monotonic() + units * self.unit
        await self.until(lambda: self.env.clock.monotonic() >= end, "time passes", within=units + 10)

    async def ended(self, run: RunHandle) -> RunResult:
        """The result of a run; time is somebody else's. Nobody waits for a handle's own looks, which are seconds."""
        while await run.status() not in TERMINAL:
            await self.env.clock.sleep(self._look)
        return await run.result()

    async def seen(self, run: RunHandle, node: str, wanted: str) -> None:
        """Wait for a node's state; time is somebody else's."""
        while (await run.view()).nodes[node].state != wanted:
            await self.env.clock.sleep(self._look)

    async def begun(self, node: str) -> None:
        """Wait for an execution; time is somebody else's."""
        while not self.effects.of(node):
            await self.env.clock.sleep(self._look)

    async def asleep(self, units: float) -> None:
        """Wait; time is somebody else's."""
        await self.env.clock.sleep(units * self.unit)

    async def result(self, run: RunHandle, *, within: float = 400.0) -> RunResult:
        """Wait for the end of a run."""
        try:
            return await self.finish(self.ended(run), within=within)
        except Violated as error:
            raise Violated(f"P1: run {run.run_id!r} does not end: {error}") from error

    def kill(self, process: Process) -> None:
        """As SIGKILL."""
        process.kill()

    def _mourn(self) -> None:
        for process in self.processes:
            if process.line.dead:
                self.effects.deaths.add(process.name)
            elif process.task.done() and not process.task.cancelled() and (error := process.task.exception()):
                raise Violated(f"process {process.name!r} died by itself: {error!r}") from error

    def _state(self) -> str:
        told = ", ".join(f"{p.name}{' (dead)' if p.line.dead else ''} last {p.line.last}" for p in self.processes)
        return f"; processes: {told}; executed: {[(e.key.node, e.process) for e in self.effects.all[-8:]]}"

    # ---- what must hold at the end

    async def check(self, by: Process, *, letters: int = 0) -> None:
        """What holds after every scenario: P2 and P3, and nothing was given up."""
        self._mourn()
        unexplained = self.effects.unexplained()
        equal(unexplained, [], "P3: executions that were repeated without a cause")
        for events in await self.histories(by):
            completed = Counter(
                (e.node, e.visit, e.data.get("item")) for e in events if e.type in ("node:completed", "item:completed")
            )
            twice = [key for key, count in completed.items() if count > 1]
            equal(twice, [], f"P2: visits of run {events[0].run_id!r} that completed twice")
            ended = [e.type for e in events if e.type in ("run:completed", "run:failed", "run:cancelled")]
            reopened = sum(e.type in ("run:restarted", "run:undoing") for e in events)
            if len(ended) > 1 + reopened:
                raise Violated(f"P1: run {events[0].run_id!r} ended {len(ended)} times: {ended}")
        found = await self.finish(by.adapter.dead_letters.list())
        equal(len(found.items), letters, f"dead letters ({[letter.reason for letter in found.items]})")

    async def histories(self, by: Process) -> list[list[Event]]:
        """The events of every run, where history is kept; checked to be without gaps."""
        if not by.adapter.store.capabilities.history:
            return []
        rows = await self.finish(by.adapter.list(limit=1000))
        found: list[list[Event]] = []
        for row in rows.items:
            events = list(await self.finish(by.adapter.run(row.run_id).history()))
            equal([e.seq for e in events], list(range(1, len(events) + 1)), f"the numbers of events of {row.run_id!r}")
            found.append(events)
        return [events for events in found if events]

    async def close(self) -> None:
        """End all processes, in order or not. Nothing goes wrong any more."""
        self.weather.plan = None
        for process in self.processes:
            process.line.plan = None
        seen = asyncio.all_tasks()
        for process in self.processes:
            process.reap()
        for process in self.processes:
            await self._ended(process, seen)
        await asyncio.gather(*(process.task for process in self.processes), return_exceptions=True)
        for task in seen:  # what killed processes left behind may die of that; nobody is to be told
            if task.done() and not task.cancelled():
                task.exception()

    async def _ended(self, process: Process, seen: set[asyncio.Task[Any]]) -> None:
        clock = self.env.clock
        async with asyncio.timeout(30.0):
            while not process.task.done():
                if isinstance(clock, VirtualClock):
                    await self._settle(process.task.done)
                    clock.step(self.unit)
                else:
                    await asyncio.wait({process.task}, timeout=0.05)
                seen |= asyncio.all_tasks()


@asynccontextmanager
async def fleet(env: Env, *blueprints: Blueprint, **options: Any) -> AsyncGenerator[Fleet]:
    """Processes with these blueprints, all ended at the end; ``options`` are those of `AdapterOptions`."""
    made = Fleet(env, blueprints, **options)
    quiet = logging.NullHandler()  # trouble is what all this is about: who wants to read of it sets up logging
    _LOG.addHandler(quiet)
    try:
        yield made
    finally:
        await made.close()
        _LOG.removeHandler(quiet)
