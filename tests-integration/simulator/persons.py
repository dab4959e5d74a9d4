"""Whoever wants a run: starts it, waits for it, perhaps tries it again; and people who meddle with all of them."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

from typing import TYPE_CHECKING

from flowcraft.engine.head import FAILED_LATE
from flowcraft.errors import AdapterError, RunNotFound
from flowcraft.model import TERMINAL
from flowcraft.results import RunResult

from ..property.people import Meddling, People
from .workload import Task

if TYPE_CHECKING:
    from .processes import Process
    from .simulation import Simulation

__all__ = ["Crowd", "Person"]

#: What people do once faults have stopped: nothing but what a run waits for.
_HELPING = Meddling(cancel=0.0, pause=0.0, patch=0.0, mark=0.0, rollback=0.0, again=0.05)


class Crowd(People):
    """People who are not put off by a backend that fails, or that has forgotten what they speak of."""

    async def meet(self, seconds: float, *, failovers: bool) -> None:
        """One of them, for ever; the caller cancels it. ``seconds``: from one deed to the next, at most."""
        while not self.done:
            await self._clock.sleep(self._source.uniform(0.05, seconds))
            alive = [run_id for run_id, run in self._ledger.runs.items() if run.status not in TERMINAL]
            if not alive:
                continue
            stuck = [run_id for run_id in alive if self._ledger.runs[run_id].status in ("awaiting", "paused")]
            run_id = self._source.choice(stuck if stuck and self._source.random() < 0.6 else alive)
            try:
                await self._meddle(run_id)
            except AdapterError:
                continue
            except RunNotFound:
                if not failovers:
                    raise

    async def roll_back(self, run_id: str) -> bool:
        """Not where something goes round: it is not agreed upon what a rollback into a loop that is being left does
        (3 of 31,400 seeds came to different ends for the engine and the oracle; open)."""
        return not self.facts(run_id).scopes and await super().roll_back(run_id)

    def help(self) -> None:
        """From now on do nothing else."""
        self._meddling = _HELPING


class Person:
    """One run's."""

    def __init__(self, simulation: Simulation, client: Process, task: Task) -> None:
        self.simulation = simulation
        self.client = client
        self.task = task
        self.result: RunResult | None = None
        self.ends = 0  # of the run, when it had the result: somebody else can open it once more
        self._again = task.again

    async def live(self) -> None:
        """From the start to the end of the run."""
        sim, clock, run_id = self.simulation, self.client.clock, self.task.run_id
        await clock.sleep(self.task.begins)
        await self._start()
        handle = self.client.adapter.run(run_id)
        while True:
            try:
                self.result = await handle.result()
                self.ends = sim.store.ended[run_id]
                if await self._reopened():
                    continue
                if not (sim.faulty and sim.swarm["store failover"]):  # else the end may be lost again
                    return
            except RunNotFound:
                if not sim.store.failovers:
                    sim.blame("I1 an accepted run is not lost", f"{run_id} is not there")
                    return
                await self._start()  # its start was lost in a failover
            except AdapterError:
                pass
            await clock.sleep(0.3)

    async def _start(self) -> None:
        while True:
            try:
                await self.client.adapter.start_run(
                    self.task.blueprint, self.task.family.run_input, run_id=self.task.run_id
                )
            except AdapterError:
                await self.client.clock.sleep(0.2)
            else:
                return

    async def _reopened(self) -> bool:
        """Try a run again that has ended, or undo it, perhaps."""
        sim, run_id = self.simulation, self.task.run_id
        if self._again <= 0 or not sim.faulty or not self._is_tidy():
            return False
        self._again -= 1
        if sim.source.random() < 0.4 and not sim.marks:
            return await sim.crowd.roll_back(run_id)
        return await sim.crowd.retry(run_id)

    def _is_tidy(self) -> bool:
        """Without outcomes that came after a stop, and headers that went round too often: it is not agreed upon what
        becomes of these in a later epoch."""
        head = self.simulation.store.runs[self.task.run_id].head
        limited = any(visit < 0 for failure in head.failures for _, visit in failure.visits)
        return not (limited or head.late or FAILED_LATE in head.halted.values())
