"""One seed: a world is drawn, goes on with faults, then without them until all runs have ended, and is checked."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from flowcraft.graph import Graph
from flowcraft.memory import MemoryEventBus
from flowcraft.model import TERMINAL

from .accounting import SimAccount, SimExecutions, accounts_of
from .checks import CHECKS
from .happenings import disturb
from .links import SimClock
from .loop import NothingLeft, SimLoop
from .persons import Crowd, Person
from .ports import Weather
from .processes import GRACE, LEASE, Effect, Process
from .shared import FlushedCoordination, Violation, WildQueue, Witness
from .swarm import Swarm, draw_swarm
from .trace import Trace
from .workload import Task, blueprints_of, draw_tasks, graph_of, meddling_of

__all__ = ["Outcome", "Simulation", "simulate"]

#: Seconds that runs may take to end once nothing goes wrong any more.
PATIENCE = 1800.0
_MOST_STEPS = 400_000


@dataclass
class Outcome:
    """What one seed came to."""

    seed: int
    swarm: str
    digest: str
    steps: int
    seconds: float
    counts: Counter[str]
    violations: list[str] = field(default_factory=list[str])
    trace: list[str] = field(default_factory=list[str])


class Simulation:
    """Everything there is in one seed."""

    def __init__(self, seed: int, *, without: Collection[str] = (), most: int = 8) -> None:
        self.seed = seed
        self.source = random.Random(f"schedule {seed}")
        self.loop = SimLoop(self.source)
        self.trace = Trace(self.loop)
        drawn = random.Random(f"world {seed}")
        self.swarm: Swarm = draw_swarm(seed, drawn, without)
        steered = not self.swarm["store failover"]
        self.tasks: list[Task] = draw_tasks(
            seed, drawn, rolling=self.swarm["rolling"], steered=steered, horizon=self.swarm.horizon, most=most
        )
        self._meddling = meddling_of(drawn, steered=steered)
        self.marks = self._meddling.mark > 0
        self.weather = Weather(self.swarm, self.source.random)
        self.clock = SimClock(self.loop)
        self.store = Witness(self.clock, self.trace)
        self.queue = WildQueue(self.clock, self.weather, self.trace, self.store, visibility=LEASE)
        self.coordination = FlushedCoordination(self.clock)
        self.bus = MemoryEventBus()
        self.faulty = True
        self.counts: Counter[str] = Counter()
        self.violations: list[Violation] = self.store.violations
        self.executions: dict[str, SimExecutions] = defaultdict(SimExecutions)
        self.effects: list[Effect] = []
        self.pauses: list[tuple[str, float, float]] = []
        self.flushes: list[float] = []
        self.processes: dict[str, Process] = {}
        self.persons: list[Person] = []
        self.accounts: dict[str, SimAccount] = {}
        #: Runs that nothing can be told of; see `accounting.LostTimeline`.
        self.excused: set[str] = set()
        self.crowd: Crowd  # once there is a client
        self._minted = random.Random(f"tokens {seed}")

    # ---- what processes and persons ask

    def token_hex(self, size: int) -> str:
        """Ids, nonces and tokens come from the seed."""
        return f"{self._minted.getrandbits(8 * size):0{2 * size}x}"

    def blame(self, name: str, text: str) -> None:
        """An invariant does not hold."""
        self.store.blame(name, text)

    def process(self, name: str) -> Process:
        """By its name."""
        return self.processes[name]

    @staticmethod
    def graph(content_hash: str) -> Graph:
        """A compiled blueprint."""
        return graph_of(content_hash)

    # ---- processes

    def add_worker(self, *, calm: bool = False) -> Process:
        """One more. While code is rolled out some have the old one and some the new one; in the end all have both."""
        number = sum(name.startswith("w") for name in self.processes)
        new = self.source.random() < self.swarm["rolling"]
        uses = ["behave", "other"]
        if self.swarm["rolling"] and not calm:
            uses = self.source.choice((uses, ["behave"], ["other"]))
        made = Process(self, f"w{number}", blueprints_of(self.tasks, self.seed, new=new), uses=uses)
        self.processes[made.name] = made
        made.start(self.source.choice((1, 2, 5, 10)))
        return made

    def workers(self) -> list[Process]:
        """Those that work."""
        return [process for process in self.processes.values() if process.name.startswith("w") and process.alive]

    # ---- the two phases

    def run(self) -> Outcome:
        """All of it."""
        began = random.getstate()
        random.seed(self.seed)  # the library's jitter: what spreads load and decides nothing
        collecting = gc.isenabled()
        gc.disable()
        errors = _Errors(self)
        try:
            self.loop.run_until_complete(self._lead())
            self._check()
        except NothingLeft:
            self.blame("I1 every run ends", f"everybody waits: {self.store.status}")
        finally:
            errors.close()
            self._end()
            if collecting:
                gc.enable()
            random.setstate(began)
        return Outcome(
            self.seed, str(self.swarm), self.trace.digest(), self.loop.steps, self.loop.time(), self.counts,
            [str(violation) for violation in self.violations], self.trace.lines() if self.violations else [],
        )  # fmt: skip

    async def _lead(self) -> None:
        for new in (False, True):
            client = Process(self, "new client" if new else "client", blueprints_of(self.tasks, self.seed, new=new))
            self.processes[client.name] = client
            if new and not any(task.new for task in self.tasks):
                continue
            await client.adapter.open()
        for _ in range(self.swarm.workers):
            self.add_worker()
        wanted = []
        for task in self.tasks:
            person = Person(self, self.processes["new client" if task.new else "client"], task)
            self.persons.append(person)
            wanted.append(self.loop.create_task(person.live(), name=f"person {task.run_id}"))
        everybody = asyncio.gather(*wanted)
        self.crowd = Crowd(self.processes["client"], self.store, self.clock, self.source, self.graph, self._meddling)
        failovers = self.swarm["store failover"] > 0
        meddling = self.loop.create_task(self.crowd.meet(2.0, failovers=failovers))
        disturbing = self.loop.create_task(disturb(self))
        await asyncio.wait({everybody, disturbing}, timeout=self.swarm.horizon, return_when=asyncio.ALL_COMPLETED)
        disturbing.cancel()
        await asyncio.gather(disturbing, return_exceptions=True)
        self._calm_down()
        try:
            async with asyncio.timeout(PATIENCE):
                await everybody
        except TimeoutError:
            stuck = {run_id: status for run_id, status in self.store.status.items() if status not in TERMINAL}
            meddling.cancel()
            self.blame("I1 every run ends", f"not within {PATIENCE} s without faults: {stuck}")
            return
        if not self.violations:
            await self._settle()
        self.crowd.done = True
        await asyncio.wait({meddling}, timeout=60.0)
        meddling.result()

    def _calm_down(self) -> None:
        self.trace.add("faults", "stop")
        self.faulty = False
        self.weather.calm()
        self.crowd.help()
        for process in self.processes.values():
            process.link.skew = 0.0
            process.link.dies_before = process.link.dies_after = 0
        for process in self.workers():
            if self.swarm["rolling"]:
                process.stop()
        while len(self.workers()) < 2:
            self.add_worker(calm=True)

    async def _settle(self) -> None:
        """Let zombies wake and children end; then the workers end in order, and leases run out."""
        awake = max((process.link.paused_until for process in self.processes.values()), default=0.0)
        await asyncio.sleep(max(0.0, awake - self.loop.time()) + GRACE)
        end = self.loop.time() + PATIENCE
        while self.loop.time() < end and not self._is_idle():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(LEASE)
        self.counts["virtual seconds"] = round(self.loop.time())
        ending = [process for process in self.processes.values() if process.task is not None and not process.link.dead]
        for process in ending:
            process.stop()
        await asyncio.wait([process.task for process in ending if process.task is not None], timeout=120.0)
        for process in ending:
            if process.task is not None and not process.task.done():
                self.blame("a worker ends when it is told to", process.name)
        await asyncio.sleep(2 * LEASE)

    def _is_idle(self) -> bool:
        ended = all(run.status in TERMINAL for run in self.store.runs.values())
        return ended and not (self.queue.messages() or self.coordination.leases() or self.coordination.slots())

    # ---- checks

    def _check(self) -> None:
        if self.violations:
            return
        self.accounts = accounts_of(self)
        for name, check in CHECKS.items():
            try:
                check(self)
            except AssertionError as error:
                self.blame(name, "\n".join([str(error), *getattr(error, "__notes__", ())]))
                break
        self.counts.update({f"fault: {name}": count for name, count in self.weather.counts.items()})
        self.counts["runs"] += len(self.store.status)
        self.counts["executions"] += len(self.effects)
        self.counts["commits"] += self.store.commits

    def _end(self) -> None:
        """Nothing of a seed outlives it."""
        for process in self.processes.values():
            process.link.over = True
        for _ in range(100):
            left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(left, timeout=1.0))
        self.loop.close()


class _Errors(logging.Handler):
    """What the library says only if something went wrong that must not."""

    _MARKS = ("unexpected", "cannot be committed", "a run's tick failed")

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(logging.ERROR)
        self._simulation = simulation
        self._logger = logging.getLogger("flowcraft")
        self._logger.addHandler(self)
        self._level, self._propagate = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.ERROR)
        self._logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self._simulation.trace.add("log", text)
        if record.exc_info and record.exc_info is not True:
            self._simulation.blame(
                "nothing unexpected is raised", f"{text}: {logging.Formatter().formatException(record.exc_info)}"
            )

    def close(self) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)
        self._logger.propagate = self._propagate
        super().close()


def simulate(seed: int, *, without: Collection[str] = (), most: int = 8) -> Outcome:
    """Run one seed."""
    return Simulation(seed, without=without, most=most).run()
