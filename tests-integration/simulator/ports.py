"""The ports as one process sees them: behind its link, and with what goes wrong on the way."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from flowcraft.errors import Unavailable, UnknownOutcome
from flowcraft.model import Change, Committed, Created, Event, Job, NewRun, Page, RunSummary

from .links import Link
from .swarm import Swarm

__all__ = ["FaultyBus", "FaultyCoordination", "FaultyQueue", "FaultyStore", "Weather"]


class Weather:
    """Whether something goes wrong now. After `calm` nothing does any more."""

    def __init__(self, swarm: Swarm, random: Callable[[], float]) -> None:
        self.swarm = swarm
        self.rates = dict(swarm.rates)
        self.random = random
        self.counts: Counter[str] = Counter()
        #: When leases may have been lost, or not taken, by the fault of coordination; and when outcomes could not be
        #: handed in.
        self.blows: list[tuple[float, str, str]] = []

    def calm(self) -> None:
        """The faults stop."""
        self.rates = dict.fromkeys(self.rates, 0.0)

    def strikes(self, name: str) -> bool:
        """Whether this fault happens now."""
        rate = self.rates[name]
        if rate and self.random() < rate:
            self.counts[name] += 1
            return True
        return False


class _Port:
    """A port behind a link. What is no coroutine function passes."""

    def __init__(self, port: Any, link: Link, weather: Weather, label: str) -> None:
        self.port = port
        self.link = link
        self.weather = weather
        self.label = label

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.port, name)
        if not inspect.iscoroutinefunction(value):
            return value
        link, told, trouble = self.link, f"{self.label}.{name}", self.trouble

        async def call(*args: Any, **named: Any) -> Any:
            await link.enter(told)
            trouble(name)
            result = await value(*args, **named)
            await link.leave()
            return result

        setattr(self, name, call)
        return call

    def trouble(self, name: str) -> None:
        """Raise what goes wrong with a plain operation."""

    def blow(self, kind: str) -> None:
        """Remember that something went wrong which may make work double."""
        self.weather.blows.append((self.link.loop.time(), kind, self.link.name))


class FaultyStore(_Port):
    """The run store."""

    def __init__(self, port: Any, link: Link, weather: Weather) -> None:
        super().__init__(port, link, weather, "store")
        self._looked: dict[str, Page[RunSummary]] = {}

    def bind(self, queue: Any) -> bool:
        """Whether jobs are pushed within commits; it depends on the seed."""
        return self.weather.swarm.store_bound and bool(self.port.bind(queue.port))

    def trouble(self, name: str) -> None:
        """It does not answer."""
        if name != "setup" and self.weather.strikes("unavailable"):
            self.blow("unavailable")
            raise Unavailable("no connection to the store")

    async def create(self, new: NewRun) -> Created:
        """See the protocol."""
        return await self._write("create", lambda: self.port.create(new), new.run_id)

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        """See the protocol."""
        return await self._write("delete", lambda: self.port.delete(run_id, token, kind=kind), run_id)

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        """See the protocol."""
        plain = [
            replace(change, deliveries=[delivery.port for delivery in change.deliveries if isinstance(delivery, _Port)])
            if change.deliveries
            else change
            for change in changes
        ]
        names = [f"{change.run_id}:{change.token}" for change in changes]
        if len(changes) > 1 and self.weather.strikes("partial"):
            await self.link.enter(f"store.commit in part {names}")
            some = [change for change in plain if self.weather.random() < 0.5]
            await self.port.commit(some)
            self.blow("unknown")
            raise UnknownOutcome("cut in the middle of several commits")
        results: Sequence[Committed] = await self._write("commit", lambda: self.port.commit(plain), *names)
        return results

    async def _write(self, name: str, write: Callable[[], Any], *names: str) -> Any:
        await self.link.enter(f"store.{name} {' '.join(names)}")
        self.trouble(name)
        weather = self.weather
        if weather.strikes("unknown before"):
            self.blow("unknown")
            raise UnknownOutcome("cut before the request arrived")
        if weather.strikes("unknown late"):
            self.blow("unknown")
            self.link.loop.create_task(self._later(write(), weather.random() * 3.0))
            raise UnknownOutcome("the request is still on its way")
        result = await write()
        await self.link.leave()
        if weather.strikes("unknown after"):
            self.blow("unknown")
            raise UnknownOutcome("cut before the answer arrived")
        return result

    async def _later(self, write: Any, seconds: float) -> None:
        """What a client gave up, and what arrives all the same."""
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            write.close()
            raise
        await write

    async def due(
        self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None
    ) -> Page[RunSummary]:
        """See the protocol: it may lag."""
        await self.link.enter("store.due")
        self.trouble("due")
        page: Page[RunSummary] = await self.port.due(now, kind=kind, limit=limit, after=after)
        old = self._looked.get(kind)
        if after is None:
            self._looked[kind] = page
        await self.link.leave()
        if after is None and old is not None and self.weather.strikes("stale due"):
            return old
        return page


class FaultyQueue(_Port):
    """The job queue."""

    def __init__(self, port: Any, link: Link, weather: Weather) -> None:
        super().__init__(port, link, weather, "queue")

    async def publish(self, jobs: Sequence[Job], *, delay: float = 0.0) -> Sequence[Job]:
        """See the protocol."""
        await self.link.enter(f"queue.publish {len(jobs)}")
        weather = self.weather
        if weather.strikes("publish"):
            kind = int(weather.random() * 3)
            some = [job for job in jobs if weather.random() < 0.5]
            if kind == 0:
                raise Unavailable("no connection to the queue")
            await self.port.publish(some, delay=delay)
            if kind == 1:
                raise UnknownOutcome("the queue did not say whether it has them")
            return [job for job in jobs if weather.random() < 0.5 or job not in some]
        lost: Sequence[Job] = await self.port.publish(jobs, delay=delay)
        await self.link.leave()
        return lost

    def deliveries(self, queues: Sequence[str], *, prefetch: int) -> AbstractAsyncContextManager[Any]:
        """See the protocol."""
        return _Reception(self.port.deliveries(queues, prefetch=prefetch), self.link, self.weather)


class _Reception:
    def __init__(self, inner: Any, link: Link, weather: Weather) -> None:
        self._inner = inner
        self._stream: Any = None
        self._link = link
        self._weather = weather

    async def __aenter__(self) -> AsyncIterator[Sequence[Any]]:
        await self._link.enter("queue.deliveries")
        if self._weather.strikes("cut off"):
            raise Unavailable("no connection to the queue")
        self._stream = await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        if not self._link.over:
            await self._link.held()
        await self._inner.__aexit__(*error)

    def __aiter__(self) -> AsyncIterator[Sequence[Any]]:
        return self

    async def __anext__(self) -> Sequence[Any]:
        batch = await self._stream.__anext__()
        if self._link.dead:
            await self._link.held()
        if self._weather.strikes("cut off"):
            raise Unavailable("the queue hung up")
        self._link.trace.add(self._link.name, "receives", *(f"{d.job.run_id}:{d.job.node}" for d in batch))
        return [_Delivery(delivery, self._link, self._weather) for delivery in batch]


class _Delivery(_Port):
    def __init__(self, port: Any, link: Link, weather: Weather) -> None:
        super().__init__(port, link, weather, "delivery")
        self.job = port.job
        self.redelivered = port.redelivered

    def trouble(self, name: str) -> None:
        if self.weather.strikes("acks lost"):
            if name != "extend":
                self.port.settled()  # its receiver has let go of it, whatever the queue knows
            raise Unavailable(f"the {name} of a delivery did not arrive")


class FaultyCoordination(_Port):
    """The coordination store."""

    def __init__(self, port: Any, link: Link, weather: Weather) -> None:
        super().__init__(port, link, weather, "coordination")

    def trouble(self, name: str) -> None:
        """It does not answer."""
        if name != "setup" and self.weather.strikes("coordination"):
            self.blow("coordination")
            raise Unavailable("no connection to the coordination store")

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        """See the protocol. Some claims are taken, and nobody is told."""
        await self.link.enter("coordination.claim")
        silent = self.weather.random() < 0.5
        if not silent:
            self.trouble("claim")
        won: Sequence[bool] = await self.port.claim(keys, owner, ttl)
        if silent:
            self.trouble("claim")
        await self.link.leave()
        return won

    async def revoke(self, keys: Sequence[str]) -> None:
        """See the protocol. Some revocations are lost."""
        await self.link.enter("coordination.revoke")
        if not self.weather.strikes("deaf"):
            await self.port.revoke(keys)


class FaultyBus(_Port):
    """The event bus. Hints only: nobody may depend on it."""

    def __init__(self, port: Any, link: Link, weather: Weather) -> None:
        super().__init__(port, link, weather, "bus")

    async def publish(self, events: Sequence[Event]) -> None:
        """See the protocol."""
        await self.link.enter(f"bus.publish {len(events)}")
        if self.weather.strikes("bus"):
            if self.weather.random() < 0.5:
                return
            raise Unavailable("no connection to the bus")
        await self.port.publish(events)
