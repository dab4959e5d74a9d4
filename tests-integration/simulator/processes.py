"""Processes: an adapter, and perhaps a worker, whose every port goes through a link of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint
from flowcraft.nodes import NodeContext
from flowcraft.worker import Worker

from .links import Link, SimClock
from .ports import FaultyBus, FaultyCoordination, FaultyQueue, FaultyStore
from .shared import PATIENCE
from .workload import SharedRuntime

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["LEASE", "Effect", "Process"]

#: Seconds; short for the same reason as `PATIENCE`.
LEASE = 6.0
GRACE = 4.0


@dataclass(slots=True)
class Effect:
    """One execution of user code. ``ended``: when it gave back its outcome, or was cancelled; None: never."""

    run_id: str
    node: str
    visit: int
    attempt: int
    item: int
    process: str
    began: float
    ended: float | None = None
    cancelled: bool = False

    @property
    def key(self) -> tuple[str, str, int, int, int]:
        """Whoever executes this twice needs a cause."""
        return self.run_id, self.node, self.visit, self.attempt, self.item


class Process:
    """``uses``: the functions that it has; ``blueprints``: the versions that it knows."""

    def __init__(
        self, simulation: Simulation, name: str, blueprints: Sequence[Blueprint], *, uses: Sequence[str] = ()
    ) -> None:
        self.simulation = simulation
        self.name = name
        sim = simulation
        self.link = Link(name, sim.loop, sim.source, sim.trace, sim.swarm["latency"])
        self.clock = SimClock(sim.loop, self.link)
        self.runtime = SharedRuntime(
            blueprints=blueprints, registry=dict.fromkeys(uses, self._behave), clock=self.clock,
            token_hex=sim.token_hex, keep_logs=None,
        )  # fmt: skip
        self.adapter = Adapter(
            self.runtime,
            queue=FaultyQueue(sim.queue, self.link, sim.weather),  # type: ignore[arg-type] # a transparent proxy
            store=FaultyStore(sim.store, self.link, sim.weather),  # type: ignore[arg-type] # likewise
            coordination=None
            if sim.swarm.own_leases
            else FaultyCoordination(sim.coordination.inner, self.link, sim.weather),  # type: ignore[arg-type] # likewise
            events=FaultyBus(sim.bus, self.link, sim.weather),  # type: ignore[arg-type] # likewise
            lease_ttl=LEASE, resend_after=PATIENCE.resend, drain_grace=PATIENCE.drain, tick=1.5,
        )  # fmt: skip
        self.worker: Worker | None = None
        self.task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self.stopped_at: float | None = None

    def start(self, concurrency: int) -> None:
        """Begin to work."""
        self.task = self.simulation.loop.create_task(self._live(concurrency), name=f"process {self.name}")

    async def _live(self, concurrency: int) -> None:
        while True:
            try:
                async with self.adapter, self.adapter.worker(concurrency=concurrency, grace=GRACE) as self.worker:
                    stopping = asyncio.ensure_future(self._stop.wait())
                    ended = asyncio.ensure_future(self.worker.wait())
                    await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
                    stopping.cancel()
                    if ended.done():
                        await ended
                    ended.cancel()
                return
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self.simulation.blame("no worker dies by itself", f"{self.name}: {error!r}")
                raise

    def stop(self) -> None:
        """End in order, as after SIGTERM."""
        if self.stopped_at is None:
            self.stopped_at = self.simulation.loop.time()
            self.simulation.trace.add(self.name, "is told to end")
            self._stop.set()

    @property
    def alive(self) -> bool:
        """Whether it receives, and is to."""
        return not self.link.dead and self.stopped_at is None

    async def _behave(self, ctx: NodeContext[Any, Any]) -> object:
        """User code: it takes some time, and what it comes to is a hash of its input."""
        sim, link = self.simulation, self.link
        if link.dead or link.paused_until > sim.loop.time():
            await link.held()
        item = -1 if ctx.item is None else ctx.item
        effect = Effect(ctx.run_id, ctx.node_id, ctx.visit, ctx.attempt, item, self.name, sim.loop.time())
        sim.effects.append(effect)
        sim.trace.add(self.name, "executes", ctx.run_id, ctx.node_id, ctx.visit, ctx.attempt, item)
        try:
            slow = sim.source.random()
            if slow < sim.swarm["slow nodes"]:
                await self.clock.sleep(sim.source.random() ** 3 * 3 * LEASE)
            elif slow < 0.5:
                await asyncio.sleep(0)
            return sim.executions[ctx.run_id].perform(ctx, self.name)
        except asyncio.CancelledError:
            effect.cancelled = True
            raise
        finally:
            if not link.dead:
                effect.ended = sim.loop.time()
