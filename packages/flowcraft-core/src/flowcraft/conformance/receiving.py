"""Receiving from a queue, for checks: whatever the order, and as long as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol, runtime_checkable

from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Violated, fail
from flowcraft.model import DeadLetter, Job
from flowcraft.ports import Delivery, JobQueue

__all__ = ["Receiver", "bury", "letters", "publish_raw", "receiving"]

#: Turns of the event loop in which an embedded queue has answered.
_TURNS: Final = 50


class Receiver:
    """One block of `deliveries`, read by a task that is never cancelled in the middle of a batch."""

    def __init__(self, env: Env, batches: AsyncIterator[Sequence[Delivery]]) -> None:
        self._env = env
        self._batches = batches
        self._asked: asyncio.Future[Sequence[Delivery]] | None = None
        self._waiting: list[Delivery] = []

    async def one(self, what: str = "a message", *, within: float = 60.0) -> Delivery:
        """The next delivery; time passes meanwhile. ``within`` so many units. Raises: Violated, if none comes."""
        found = await self._next(within)
        return fail(f"{what}: not delivered within {within:g} units") if found is None else found

    async def some(self, count: int, *, within: float = 60.0) -> list[Delivery]:
        """So many deliveries, not ended. Raises: Violated."""
        return [await self.one(f"message {n + 1} of {count}", within=within) for n in range(count)]

    async def acked(self, count: int, *, within: float = 60.0) -> list[str]:
        """The runs of the next so many deliveries, each acked."""
        runs: list[str] = []
        for _ in range(count):
            delivery = await self.one(f"message {len(runs) + 1} of {count}", within=within)
            await delivery.ack()
            runs.append(delivery.job.run_id)
        return runs

    async def nothing(self, units: float) -> None:
        """Raises: Violated, if something is delivered within so many units."""
        found = await self._next(units)
        if found is not None:
            raise Violated(f"{found.job} is delivered, which nobody may get now")

    async def batch(self, *, within: float = 60.0) -> Sequence[Delivery]:
        """The next batch as it comes. Raises: Violated."""
        if self._waiting:
            raise Violated("a batch was asked for after single messages")
        if not await self._asking(within):
            return fail(f"no message within {within:g} units")
        return self._take()

    async def _next(self, units: float) -> Delivery | None:
        if not self._waiting and await self._asking(units):
            self._waiting += self._take()
        return self._waiting.pop(0) if self._waiting else None

    async def _asking(self, units: float) -> bool:
        asked = self._asked = self._asked or asyncio.ensure_future(anext(self._batches))
        clock, unit = self._env.clock, self._env.unit
        end = clock.monotonic() + units * unit
        while not asked.done() and clock.monotonic() < end:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            # What is there comes without any time passing; through threads it needs a moment all the same.
            await asyncio.wait({asked}, timeout=0.05)
            if not asked.done():
                await self._env.lapse(min(unit / 4, max(0.0, end - clock.monotonic())))
        return asked.done()

    def _take(self) -> Sequence[Delivery]:
        asked, self._asked = self._asked, None
        return fail("nothing was asked for") if asked is None else asked.result()

    async def close(self) -> None:
        """Stop reading."""
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.gather(self._asked, return_exceptions=True)


@asynccontextmanager
async def receiving(
    env: Env, *queues: str, prefetch: int = 10, queue: JobQueue | None = None
) -> AsyncGenerator[Receiver]:
    """A block of `deliveries` of these queues (``q`` if none is named), of the check's own queue or another one."""
    async with (queue or env.queue).deliveries(queues or ("q",), prefetch=prefetch) as batches:
        made = Receiver(env, batches)
        try:
            yield made
        finally:
            await made.close()


async def letters(env: Env, count: int) -> list[DeadLetter]:
    """All dead letters, as soon as there are so many. Raises: Violated."""
    found: dict[str, DeadLetter] = {}

    async def enough() -> bool:
        found.clear()
        after: str | None = None
        while True:
            page = await env.queue.dead_letters(after=after)
            found.update((letter.id, letter) for letter in page.items)
            if (after := page.after) is None:
                return len(found) >= count

    await env.eventually(enough, 20 * env.unit + env.target.settle, f"{count} dead letters")
    if len(found) > count:
        raise Violated(f"{len(found)} dead letters instead of {count}: {[letter.reason for letter in found.values()]}")
    return list(found.values())


async def bury(receiver: Receiver, reasons: Sequence[str]) -> None:
    """Reject the next messages."""
    for reason in reasons:
        await (await receiver.one()).reject(reason)


@runtime_checkable
class _Raw(Protocol):
    async def publish_bytes(self, queue: str, body: bytes) -> None: ...


async def publish_raw(env: Env, queue: str, body: bytes) -> None:
    """Put any bytes into a queue, as a foreign or newer producer would.

    A queue that does not encode jobs when they are published offers ``publish_bytes`` for it.
    """
    if isinstance(env.queue, _Raw):
        await env.queue.publish_bytes(queue, body)
        return

    class Foreign(Job):
        def to_bytes(self) -> bytes:
            return body

    await env.queue.publish([Foreign("foreign", "node", 1, 1, "nonce", queue)])
