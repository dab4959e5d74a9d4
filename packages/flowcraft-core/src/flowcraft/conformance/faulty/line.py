"""The way of one process to everything outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

from flowcraft.conformance.faulty.plans import Call, Fault, Plan, writes
from flowcraft.conformance.faulty.weather import Weather
from flowcraft.errors import AdapterError, Misconfigured, Unavailable, UnknownOutcome

__all__ = ["Line", "Reaped"]


class Reaped(Misconfigured):
    """What a dead process is told when all is over: nothing is tried again because of it."""


class Line:
    """One process's ports hang on it. Make it in a running event loop; `reap` it when all is over.

    ``plan``: what goes wrong with the calls of this process · ``calls``: how many there were · ``last``: the latest.
    """

    def __init__(self, weather: Weather, name: str = "process", plan: Plan | None = None) -> None:
        self.weather = weather
        self.name = name
        self.plan = plan
        self.calls = 0
        self.last: Call | None = None
        #: Done when the process has died.
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over.add_done_callback(lambda over: over.exception())
        self._awake = asyncio.Event()
        self._awake.set()
        self._at_work = 0
        self._halts = 0

    @property
    def dead(self) -> bool:
        """Whether it was killed."""
        return self.died.done()

    def cut(self) -> None:
        """Kill the process: nothing that it awaits returns any more."""
        if not self.died.done():
            self.died.set_result(None)
            self._halt()

    def pause(self) -> None:
        """Stop the process where it is, as SIGSTOP does, or a partition: each call hangs until `resume`."""
        self._awake.clear()
        self._halt()

    def resume(self) -> None:
        """Let it go on as if no time had passed."""
        self._awake.set()

    def reap(self) -> None:
        """All is over: let the tasks of the dead process end. What they wait or ask for raises `Reaped`."""
        self.cut()
        self._awake.set()
        if not self._over.done():
            self._over.set_exception(Reaped("this process is dead"))

    async def alive(self) -> None:
        """Return if the process lives, after a pause if there is one; else never."""
        if self.dead:
            await asyncio.shield(self._over)
        if not self._awake.is_set():
            await self._awake.wait()
            await self.alive()

    @contextmanager
    def working(self) -> Generator[None]:
        """While the process is in this block virtual time waits for it; not for one that died or stopped in there."""
        halts = self._halts
        self._at_work += 1
        self.weather.in_flight += 1
        try:
            yield
        finally:
            if halts == self._halts:
                self._at_work -= 1
                self.weather.in_flight -= 1

    def _halt(self) -> None:
        self.weather.in_flight -= self._at_work
        self._at_work = 0
        self._halts += 1

    @asynccontextmanager
    async def calling(self, call: Call) -> AsyncGenerator[Fault | None]:
        """Around one call of a port. Gives the faults that only the port itself can act out.

        Raises:
            Unavailable, UnknownOutcome: as planned; the latter before or after the block.
        """
        await self.alive()
        fault = self._fault(call)
        if fault == "die before":
            self.cut()
            await self.alive()
        if fault == "slow":
            await self.weather.lag()
            await self.alive()
        if fault == "unavailable":
            raise Unavailable(f"{call}: no connection")
        if fault == "lost before":
            raise UnknownOutcome(f"{call}: cut before the request arrived")
        try:
            with self.working():
                yield fault
        except AdapterError:  # the dead hear of nothing
            await self.alive()
            raise
        if fault == "die after":
            self.cut()
        await self.alive()
        if fault == "lost after":
            raise UnknownOutcome(f"{call}: cut before the answer arrived")

    def _fault(self, call: Call) -> Fault | None:
        self.calls += 1
        self.last = call
        mine = None if self.plan is None else self.plan(call)
        all_of_us = None if self.weather.plan is None else self.weather.plan(call)
        fault = _sensible(call, mine or all_of_us)
        if fault is not None:
            self.weather.counts[fault] += 1
        return fault


#: Faults that only these calls can have.
_OWN: dict[Fault, frozenset[tuple[str, str]]] = {
    "late": frozenset({("store", "commit")}),
    "unconfirmed": frozenset({("queue", "publish")}),
    "stale": frozenset({("store", "due")}),
    "dropped": frozenset(
        {("delivery", "ack"), ("delivery", "retry"), ("delivery", "extend"), ("coordination", "revoke"),
         ("coordination", "release"), ("events", "publish")}
    ),
}  # fmt: skip


def _sensible(call: Call, fault: Fault | None) -> Fault | None:
    if fault is None or call.port == "code":
        return fault if fault in ("die before", "die after") else None
    if fault in ("lost before", "lost after"):
        return fault if writes(call) else "unavailable"
    if fault in _OWN and (call.port, call.method) not in _OWN[fault]:
        return "unavailable"
    return fault
