"""What goes wrong around all processes at once, and what did."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from flowcraft.conformance.faulty.plans import Fault, Plan
from flowcraft.model import Job, Page, RunSummary

__all__ = ["Messages", "Weather"]


@dataclass(slots=True)
class Messages:
    """What becomes of messages on their way into the queue, also of those that a bound store pushes.

    ``copies``: so many of each arrive · ``lose``: the share that does not arrive, told to nobody · ``lose_first``: the
    first message about each activation never arrives · ``shuffle``: those that are sent together come in any order ·
    ``delay``: each comes up to so many seconds later · ``sent``: all that anybody wanted to send.
    """

    rng: random.Random
    copies: int = 1
    lose: float = 0.0
    lose_first: bool = False
    shuffle: bool = False
    delay: float = 0.0
    sent: list[Job] = field(default_factory=list[Job])
    lost: int = 0
    _known: set[str] = field(default_factory=set[str])

    def arriving(self, jobs: Sequence[Job]) -> list[tuple[Job, float]]:
        """What really arrives of these, and how much later."""
        self.sent += jobs
        kept = [job for job in jobs for _ in range(self.copies) if not self._loses(job)]
        self._known.update(job.claim_key for job in jobs)
        if self.shuffle:
            self.rng.shuffle(kept)
        return [(job, self.rng.uniform(0.0, self.delay) if self.delay else 0.0) for job in kept]

    def _loses(self, job: Job) -> bool:
        lost = (self.lose_first and job.claim_key not in self._known) or (
            self.lose > 0.0 and self.rng.random() < self.lose
        )
        self.lost += lost
        return lost


class Weather:
    """Shared by all processes of one scenario. ``plan`` is asked after the process's own.

    ``counts``: the faults that happened · ``conflicts``: changes that a store refused · ``in_flight``: calls that ports
    have not answered yet · ``generation``: how often coordination has forgotten everything.
    """

    def __init__(self, rng: random.Random, plan: Plan | None = None) -> None:
        self.rng = rng
        self.plan = plan
        self.messages = Messages(rng)
        self.counts: Counter[Fault] = Counter()
        self.conflicts = 0
        self.in_flight = 0
        self.generation = 0
        self.pages: dict[tuple[str, str | None], Page[RunSummary]] = {}
        #: How long a slow call takes.
        self.lag: Callable[[], Awaitable[None]] = _a_moment
        self._late: list[Callable[[], Awaitable[object]]] = []

    def flush(self) -> None:
        """Let coordination forget everything: every lease, count and slot."""
        self.generation += 1

    def delayed(self, write: Callable[[], Awaitable[object]]) -> None:
        """A write is still on its way."""
        self._late.append(write)

    async def drift(self) -> None:
        """Perhaps something that was on its way arrives now."""
        while self._late and self.rng.random() < 0.5:
            await self._late.pop(0)()

    async def land(self) -> None:
        """All that was on its way arrives now."""
        while self._late:
            await self._late.pop(0)()


async def _a_moment() -> None:
    for _ in range(50):
        await asyncio.sleep(0)
