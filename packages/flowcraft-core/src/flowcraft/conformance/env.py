"""What a check gets: ports in a namespace of their own, and time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from flowcraft.conformance.expecting import Violated
from flowcraft.conformance.otherprocess import Named, elsewhere
from flowcraft.conformance.target import Place, PortName, Ports, Target
from flowcraft.ports import Clock, CoordinationStore, EventBus, JobQueue, RunStore, ValueStore
from flowcraft.testing import VirtualClock

__all__ = ["Env", "Step"]

T = TypeVar("T")


class Step(Named, Protocol):
    """What another process does; what it returns is carried as JSON."""

    async def __call__(self, env: Env, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Env:
    """One check's world. ``rng``: the same numbers in every run of the check."""

    target: Target
    place: Place
    ports: Ports
    rng: random.Random

    @property
    def clock(self) -> Clock:
        """The clock of the place: virtual, or the machine's."""
        return self.place.clock

    @property
    def unit(self) -> float:
        """The shortest time to live that the target can tell from none, seconds; use multiples of it."""
        return 10.0 if self.target.virtual_time else self.target.unit

    @property
    def store(self) -> RunStore:
        """The run store. Raises: Violated, if the target says that it offers one and opens none; so do the others."""
        return self._offered(self.ports.store, "store")

    @property
    def queue(self) -> JobQueue:
        """The job queue."""
        return self._offered(self.ports.queue, "queue")

    @property
    def coordination(self) -> CoordinationStore:
        """The coordination store."""
        return self._offered(self.ports.coordination, "coordination")

    @property
    def events(self) -> EventBus:
        """The event bus."""
        return self._offered(self.ports.events, "events")

    @property
    def values(self) -> ValueStore:
        """The value store."""
        return self._offered(self.ports.values, "values")

    def again(self) -> AbstractAsyncContextManager[Ports]:
        """The same place, opened once more, as another process would."""
        return self.target.open(self.place)

    async def lapse(self, seconds: float) -> None:
        """Let time pass for the ports: at once where it is virtual, really where it is not."""
        if isinstance(self.clock, VirtualClock):
            await self.clock.advance(seconds)
        else:
            await self.clock.sleep(seconds)

    async def eventually(self, probe: Callable[[], Awaitable[T]], within: float, what: str) -> T:
        """The first true answer of ``probe``, asked again and again.

        Raises:
            Violated: there was none ``within`` seconds of the target's time.
        """
        end = self.clock.monotonic() + within
        while True:
            found = await probe()
            if found:
                return found
            if self.clock.monotonic() >= end:
                raise Violated(f"{what}: not within {within:g} s")
            await self.lapse(min(0.02, within / 20))

    def process(self, step: Step) -> AbstractAsyncContextManager[object]:
        """Do ``step`` in another process on the same place; the block gets what it returned, as JSON carries it.

        The process keeps its ports open until the block ends, and is killed then (SIGKILL): nothing of it is closed.
        ``step`` is an ``async def`` at the top of a module, and gets an `Env` of its own. Where time is virtual, its
        clock begins with the time of now, and nobody moves it but the step. Only for checks that require ``durable``.

        Raises:
            Violated: the step raised something. Blocked: another process does not find the target.
        """
        return elsewhere(self.target, self.place, step)

    async def elsewhere(self, step: Step) -> object:
        """The same, and kill the process as soon as the step is done; returns what the step returned."""
        async with self.process(step) as value:
            return value

    @staticmethod
    def _offered(port: T | None, name: PortName) -> T:
        if port is None:
            raise Violated(f"the target offers {name!r}, but opened none")
        return port
