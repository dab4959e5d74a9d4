"""What befalls processes and shared parts at moments that the seed chooses, while faults go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .processes import LEASE

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["disturb"]


async def disturb(simulation: Simulation) -> None:
    """Let all of them happen."""
    swarm = simulation.swarm
    happenings = [
        *[_kill(simulation) for _ in range(swarm.times("kills"))],
        *[_pause(simulation) for _ in range(swarm.times("pauses"))],
        *[_scale(simulation) for _ in range(swarm.times("scaling"))],
        *[_skew(simulation) for _ in range(swarm.times("skew"))],
        *[_flush(simulation) for _ in range(swarm.times("flush"))],
        *[_store_failover(simulation) for _ in range(swarm.times("store failover"))],
        *[_queue_failover(simulation) for _ in range(swarm.times("queue failover"))],
    ]
    tasks = [simulation.loop.create_task(happening) for happening in happenings]
    try:
        if tasks:
            await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


async def _sometime(simulation: Simulation) -> None:
    """Early more often than late: most runs take no time."""
    source = simulation.source
    await asyncio.sleep(source.random() ** 2 * simulation.swarm.horizon * 0.9)
    for _ in range(source.choice((0, 0, 10, 50))):
        await asyncio.sleep(0)


async def _kill(simulation: Simulation) -> None:
    """One dies at one of its next operations, before or after it; another one is started some time later."""
    source = simulation.source
    if source.random() < 0.6:
        await _sometime(simulation)
    workers = simulation.workers()
    if not workers:
        return
    victim = source.choice(workers)
    at = victim.link.operations + 1 + int(source.random() ** 2 * 120)
    if source.random() < 0.5:
        victim.link.dies_before = at
    else:
        victim.link.dies_after = at
    simulation.counts["fault: kills"] += 1
    while not victim.link.dead:  # noqa: ASYNC110 - it is not told to anyone
        await asyncio.sleep(0.5)
    await asyncio.sleep(source.random() ** 2 * 10.0)
    simulation.add_worker()


async def _pause(simulation: Simulation) -> None:
    source = simulation.source
    await _sometime(simulation)
    workers = simulation.workers()
    if workers:
        victim = source.choice(workers)
        seconds = source.choice((0.5, LEASE / 2, 1.5 * LEASE, 3 * LEASE)) * (0.5 + source.random())
        now = simulation.loop.time()
        simulation.pauses.append((victim.name, now, now + seconds))
        simulation.counts["fault: pauses"] += 1
        victim.link.pause(seconds)


async def _scale(simulation: Simulation) -> None:
    source = simulation.source
    await _sometime(simulation)
    workers = simulation.workers()
    simulation.counts["fault: scaling"] += 1
    if workers and source.random() < 0.5:
        source.choice(workers).stop()
    else:
        simulation.add_worker()


async def _skew(simulation: Simulation) -> None:
    source = simulation.source
    process = source.choice([p for p in simulation.processes.values() if p.alive])
    process.link.skew = source.choice((-3600.0, -30.0, -2.0, 2.0, 30.0, 3600.0)) * source.random()
    simulation.counts["fault: skew"] += 1
    await _sometime(simulation)
    process.link.skew = source.choice((0.0, -7200.0, 7200.0)) * source.random()


async def _flush(simulation: Simulation) -> None:
    await _sometime(simulation)
    simulation.coordination.flush()
    simulation.flushes.append(simulation.loop.time())
    simulation.counts["fault: flush"] += 1
    simulation.trace.add("coordination", "is flushed")


async def _store_failover(simulation: Simulation) -> None:
    """Back to what was stored some time, or some steps, ago."""
    await _sometime(simulation)
    kept = simulation.store.snapshot()
    await _meanwhile(simulation)
    simulation.store.fail_over(kept, simulation.loop.time())
    simulation.counts["fault: store failover"] += 1
    simulation.trace.add("store", "fails over")


async def _queue_failover(simulation: Simulation) -> None:
    await _sometime(simulation)
    kept = simulation.queue.messages()
    await _meanwhile(simulation)
    simulation.queue.fail_over(kept)
    simulation.counts["fault: queue failover"] += 1
    simulation.trace.add("queue", "fails over")


async def _meanwhile(simulation: Simulation) -> None:
    source = simulation.source
    if source.random() < 0.4:
        await asyncio.sleep(source.random() * 3.0)
    for _ in range(source.randrange(200)):
        await asyncio.sleep(0)
