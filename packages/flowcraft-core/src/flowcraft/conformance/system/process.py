"""One process of a scenario: an adapter, and perhaps a worker, behind one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from flowcraft.adapter import Adapter, AdapterOptions
from flowcraft.blueprint import Blueprint
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Violated
from flowcraft.conformance.faulty import FaultyCoordination, FaultyStore, Line, Plan, SkewedClock, Weather, faulty
from flowcraft.conformance.faulty.plans import Call
from flowcraft.conformance.system.behaviour import Behaviour, Ctx, Host
from flowcraft.conformance.system.effects import Effects, Key
from flowcraft.conformance.target import Ports
from flowcraft.leases import StoreLeases
from flowcraft.runtime import FlowRuntime
from flowcraft.worker import Worker

__all__ = ["Process", "Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """How a process is set up. ``worker`` False: a client only · ``uses``: the functions it has, all by default ·
    ``skew``: seconds by which its clock is wrong · ``bound``: let the store push and ack inside commits if it can."""

    worker: bool = True
    concurrency: int = 10
    grace: float = 0.0
    uses: Sequence[str] | None = None
    skew: float = 0.0
    bound: bool = True
    queues: Sequence[str] | None = None
    ticker: bool = True


class Process:
    """Made by a `Fleet`. It opens the place's ports itself, as any process would."""

    def __init__(
        self,
        name: str,
        env: Env,
        weather: Weather,
        effects: Effects,
        behaviours: Mapping[str, Behaviour],
        *,
        blueprints: Sequence[Blueprint],
        options: AdapterOptions,
        setting: Setting,
        plan: Plan | None,
    ) -> None:
        self.name = name
        self.line = Line(weather, name, plan)
        self.worker: Worker | None = None
        self._env = env
        self._effects = effects
        self._options = options
        self._setting = setting
        self._started = asyncio.Event()
        self._stop = asyncio.Event()
        self._adapter: Adapter | None = None
        clock = SkewedClock(env.clock, setting.skew) if setting.skew else env.clock
        host = Host(self.line, clock)
        functions = {uses: self._function(host, uses, behaviours) for uses in setting.uses or behaviours}
        self.runtime = FlowRuntime(blueprints=blueprints, registry=functions, clock=clock)
        self.task = asyncio.create_task(self._live(), name=f"process {name}")

    def _function(self, host: Host, uses: str, behaviours: Mapping[str, Behaviour]) -> Callable[[Ctx], Any]:
        line = self.line

        async def call(ctx: Ctx) -> Any:
            async with line.calling(Call("code", "begin", ctx.node_id)):
                key = Key(ctx.run_id, ctx.node_id, ctx.visit, ctx.item, ctx.attempt)
                self._effects.add(key, self.name, line.weather.generation)
            made = await behaviours[uses](host, ctx)
            async with line.calling(Call("code", "end", ctx.node_id)):
                return made

        return call

    @property
    def adapter(self) -> Adapter:
        """Its adapter. Raises: Violated, if it has not been opened."""
        if self._adapter is None:
            raise Violated(f"process {self.name!r} has no adapter: {self.task!r}")
        return self._adapter

    @property
    def bound(self) -> bool:
        """Whether its store pushes and acks inside commits."""
        store = self.adapter.store
        return isinstance(store, FaultyStore) and store.bound

    @property
    def started(self) -> bool:
        """Whether it is ready, or will never be."""
        return self._started.is_set() or self.task.done() or self.line.dead

    def kill(self) -> None:
        """As SIGKILL."""
        self._effects.deaths.add(self.name)
        self.line.cut()

    def stop(self) -> None:
        """As SIGTERM: it ends in order."""
        self._stop.set()

    def reap(self) -> None:
        """The scenario is over."""
        self.line.resume()
        if self.line.dead:
            self.line.reap()
        self._stop.set()

    async def _live(self) -> None:
        setting = self._setting
        async with AsyncExitStack() as stack:
            ports = await stack.enter_async_context(self._env.again())
            adapter = self._adapter = self._wire(ports)
            await stack.enter_async_context(adapter)
            if setting.worker:
                self.worker = await stack.enter_async_context(
                    adapter.worker(
                        concurrency=setting.concurrency, grace=setting.grace, ticker=setting.ticker,
                        queues=setting.queues,
                    )
                )  # fmt: skip
            self._started.set()
            await self._stop.wait()

    def _wire(self, ports: Ports) -> Adapter:
        mine = faulty(ports, self.line, bound=self._setting.bound)
        if mine.store is None or mine.queue is None:
            raise Violated("a system needs a run store and a job queue")
        if mine.coordination is None:  # so that it can be wiped like any other
            mine = replace(
                mine, coordination=FaultyCoordination(StoreLeases(mine.store, self.runtime.clock), self.line)
            )
        return Adapter(
            self.runtime, queue=mine.queue or _never(), store=mine.store or _never(), coordination=mine.coordination,
            events=mine.events, options=self._options,
        )  # fmt: skip


def _never() -> Any:
    raise Violated("a system needs a run store and a job queue")
