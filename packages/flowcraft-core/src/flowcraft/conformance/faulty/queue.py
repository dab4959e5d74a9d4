"""A job queue as one process sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from flowcraft.conformance.faulty.line import Line
from flowcraft.conformance.faulty.plans import Call
from flowcraft.model import Capabilities, DeadLetter, Job, Page
from flowcraft.ports import Delivery, JobQueue

__all__ = ["FaultyDelivery", "FaultyQueue", "send"]


class FaultyDelivery:
    """See `Delivery`; ``inner`` is the real one."""

    __slots__ = ("_line", "inner")

    def __init__(self, inner: Delivery, line: Line) -> None:
        self.inner = inner
        self._line = line

    @property
    def job(self) -> Job:
        """See the protocol."""
        return self.inner.job

    @property
    def redelivered(self) -> bool:
        """See the protocol."""
        return self.inner.redelivered

    async def ack(self) -> None:
        """See the protocol."""
        async with self._line.calling(Call("delivery", "ack")) as fault:
            if fault != "dropped":
                await self.inner.ack()

    async def retry(self, *, delay: float = 0.0) -> None:
        """See the protocol."""
        async with self._line.calling(Call("delivery", "retry")) as fault:
            if fault != "dropped":
                await self.inner.retry(delay=delay)

    async def reject(self, reason: str) -> None:
        """See the protocol."""
        async with self._line.calling(Call("delivery", "reject")):
            await self.inner.reject(reason)

    async def extend(self, seconds: float) -> None:
        """See the protocol."""
        async with self._line.calling(Call("delivery", "extend")) as fault:
            if fault != "dropped":
                await self.inner.extend(seconds)

    def settled(self) -> None:
        """See the protocol."""
        self.inner.settled()


class FaultyQueue:
    """See `JobQueue`; ``inner`` is the real one."""

    def __init__(self, inner: JobQueue, line: Line) -> None:
        self.inner = inner
        self._line = line
        self.capabilities: Capabilities = inner.capabilities

    async def setup(self) -> None:
        """See the protocol."""
        async with self._line.calling(Call("queue", "setup")):
            await self.inner.setup()

    async def aclose(self) -> None:
        """See the protocol. The real port belongs to whoever opened it."""

    async def publish(self, jobs: Sequence[Job], *, delay: float = 0.0) -> Sequence[Job]:
        """See the protocol."""
        async with self._line.calling(Call("queue", "publish")) as fault:
            unsent: set[int] = set()
            if fault == "unconfirmed":
                unsent = {n for n in range(len(jobs)) if n == 0 or self._line.weather.rng.random() < 0.5}
            sent = [job for n, job in enumerate(jobs) if n not in unsent]
            unconfirmed = await send(self.inner, self._line.weather.messages.arriving(sent), delay)
            return [*(jobs[n] for n in sorted(unsent)), *unconfirmed]

    async def depth(self, queue: str) -> int | None:
        """See the protocol."""
        async with self._line.calling(Call("queue", "depth")):
            return await self.inner.depth(queue)

    async def dead_letters(self, *, limit: int = 100, after: str | None = None) -> Page[DeadLetter]:
        """See the protocol."""
        async with self._line.calling(Call("queue", "dead_letters")):
            return await self.inner.dead_letters(limit=limit, after=after)

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """See the protocol."""
        async with self._line.calling(Call("queue", "dead_letter")):
            return await self.inner.dead_letter(letter_id)

    async def discard(self, letter_id: str) -> bool:
        """See the protocol."""
        async with self._line.calling(Call("queue", "discard")):
            return await self.inner.discard(letter_id)

    def deliveries(
        self, queues: Sequence[str], *, prefetch: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[FaultyDelivery]]]:
        """See the protocol. What a process had in hand that died comes again when the broker finds out."""
        return self._receiving(queues, prefetch)

    @asynccontextmanager
    async def _receiving(
        self, queues: Sequence[str], prefetch: int
    ) -> AsyncGenerator[AsyncIterator[Sequence[FaultyDelivery]]]:
        async with self._line.calling(Call("queue", "deliveries")):
            pass
        async with self.inner.deliveries(queues, prefetch=prefetch) as stream:
            try:
                yield _Stream(stream, self._line)
            finally:
                await self._line.alive()


class _Stream:
    """Batches, until the process dies: from then on it takes nothing out of the queue."""

    def __init__(self, inner: AsyncIterator[Sequence[Delivery]], line: Line) -> None:
        self._inner = inner
        self._line = line

    def __aiter__(self) -> AsyncIterator[Sequence[FaultyDelivery]]:
        return self

    async def __anext__(self) -> Sequence[FaultyDelivery]:
        line = self._line
        await line.alive()
        asked = asyncio.ensure_future(anext(self._inner))
        either: set[asyncio.Future[Any]] = {asked, line.died}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not asked.done():
                asked.cancel()
                await asyncio.wait({asked})
        await line.alive()
        async with line.calling(Call("queue", "receive")):
            return [FaultyDelivery(delivery, line) for delivery in asked.result()]


async def send(queue: JobQueue, arriving: Sequence[tuple[Job, float]], delay: float = 0.0) -> Sequence[Job]:
    """Publish each job with its own delay, as far as the queue can delay; those that were not confirmed."""
    most = queue.capabilities.max_delay
    unconfirmed: list[Job] = []
    at_once = [job for job, later in arriving if not later]
    if at_once:
        unconfirmed += await queue.publish(at_once, delay=delay)
    for job, later in arriving:
        if later:
            unconfirmed += await queue.publish([job], delay=delay + later if most is None else min(most, delay + later))
    return unconfirmed
