"""The job queue in Redis: a stream for each urgency of each queue, and one consumer group."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, cast

from flowcraft.model import Capabilities, DeadLetter, Job, Page
from flowcraft_redis import dead, scripts
from flowcraft_redis.keys import Partition, encode
from flowcraft_redis.link import Link
from flowcraft_redis.messages import RedisDelivery, level_of
from flowcraft_redis.meta import Meta
from flowcraft_redis.reception import Reception
from flowcraft_redis.settling import Settler
from flowcraft_redis.wire import Argument
from flowcraft_redis.writing import Keys, announce, messages, real

__all__ = ["RedisJobQueue"]

#: Dead letters that a partition keeps, about; then the oldest go.
_MOST_LETTERS: Final = 100_000


class RedisJobQueue:
    """See the protocol. Times are of the clock of Redis; a delayed message may come up to a second late.

    Urgencies are told apart from -10 to 10. A message that comes back goes to the end of its stream.
    """

    def __init__(self, link: Link, meta: Meta, *, visibility: float = 30.0) -> None:
        self.capabilities = Capabilities(priorities=True, visibility=visibility)
        self.meta = meta
        self._link = link
        self._receptions: set[Reception] = set()
        self._settler = Settler(link)

    async def setup(self) -> None:
        """See the protocol. Streams are made when they are needed."""
        await self.meta.agree()

    async def aclose(self) -> None:
        """End the receivers. The connection belongs to the backend."""
        for reception in tuple(self._receptions):
            reception.end()
        await self._settler.aclose()

    async def publish(self, jobs: Sequence[Job], *, delay: float = 0.0) -> Sequence[Job]:
        """See the protocol. Nothing is ever unconfirmed: trouble is raised."""
        groups: dict[Partition, list[Job]] = {}
        for job in jobs:
            groups.setdefault(self.meta.keys.of(encode(job.run_id)), []).append(job)
        calls = (self._publish(part, group, delay) for part, group in groups.items())
        await asyncio.gather(*calls)
        if delay > 0:
            self._due({encode(job.queue) for job in jobs}, delay)
        return ()

    async def _publish(self, part: Partition, group: Sequence[Job], delay: float) -> None:
        keys, arguments = Keys(), list[Argument]()
        if delay <= 0:
            messages(keys, part, group, arguments)
            arguments.append(0)
        else:
            announce(keys, part, group, arguments)
            arguments += (0, len(group), real(delay))
            for job in group:
                member = b"%b0%d:%b" % (unique(), level_of(job.priority), job.to_bytes())
                arguments += (keys.number(part.delayed(encode(job.queue))), member)
        await self._link.run(scripts.PUBLISH, keys.names, arguments)

    async def publish_bytes(self, queue: str, body: bytes, *, priority: int = 0) -> None:
        """Put any bytes into a queue, as a foreign or newer producer would."""
        part, name, level = self.meta.keys.partitions[0], encode(queue), level_of(priority)
        keys, arguments = Keys(), list[Argument]()
        arguments.append(1 if level else 0)
        if level:
            arguments += (keys.number(part.levels(name)), level, keys.number(part.stream(name, 0)))
        arguments += (1, keys.number(part.stream(name, level)), body, 0)
        await self._link.run(scripts.PUBLISH, keys.names, arguments)

    async def depth(self, queue: str) -> int | None:
        """See the protocol. What is in nobody's hand and due, exactly."""
        name = encode(queue)
        calls = (
            self._link.run(
                scripts.DEPTH, (part.stream(name, 0), part.levels(name), part.delayed(name)), part.around(name)
            )
            for part in self.meta.keys.partitions
        )
        depths = cast("list[int]", await asyncio.gather(*calls))
        return sum(depths)

    async def dead_letters(self, *, limit: int = 100, after: str | None = None) -> Page[DeadLetter]:
        """See the protocol. Oldest first, each once."""
        return await dead.page(self._link, self.meta.keys, limit, after)

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """See the protocol."""
        return await dead.read(self._link, self.meta.keys, letter_id)

    async def discard(self, letter_id: str) -> bool:
        """See the protocol."""
        return await dead.discard(self._link, self.meta.keys, letter_id)

    def deliveries(
        self, queues: Sequence[str], *, prefetch: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[RedisDelivery]]]:
        """See the protocol. Takes one connection for each partition."""
        return Reception(self, self._link, self.meta, queues, prefetch)

    # ---- what deliveries and receptions need

    @property
    def visibility(self) -> float:
        """Seconds until a delivery that nobody ended comes again."""
        return self.capabilities.visibility or 0.0

    def opened(self, reception: Reception) -> None:
        """A receiver is there."""
        self._receptions.add(reception)

    async def closed(self, reception: Reception, held: Sequence[RedisDelivery]) -> None:
        """A receiver left: what it still held is anyone's again, as if it had never been delivered."""
        self._receptions.discard(reception)
        await self.hand_back(held, 0.0, again=False)

    async def settle(self, delivery: RedisDelivery) -> None:
        """See `Home`. All that is acked at the same time leaves in one call."""
        await self._settler.settle(delivery)

    async def retry(self, delivery: RedisDelivery, delay: float) -> None:
        """See `Home`."""
        await self.hand_back([delivery], max(0.0, delay), again=True)
        if delay > 0:
            self._due({delivery.queue}, delay)

    async def hand_back(self, deliveries: Sequence[RedisDelivery], delay: float, *, again: bool) -> None:
        """Make messages anyone's; ``again``: whoever gets them learns that they were delivered before."""
        groups: dict[bytes, list[RedisDelivery]] = {}
        for delivery in deliveries:
            groups.setdefault(delivery.stream, []).append(delivery)
        await asyncio.gather(*(self._hand_back(group, delay, again=again) for group in groups.values()))

    async def _hand_back(self, group: Sequence[RedisDelivery], delay: float, *, again: bool) -> None:
        first = group[0]
        arguments: list[Argument] = [first.level, real(delay)]
        for delivery in group:
            seen = b"1" if again or delivery.redelivered else b"0"
            arguments += (delivery.id, unique(), seen, delivery.body)
        await self._link.run(scripts.HAND_BACK, (first.stream, first.part.delayed(first.queue)), arguments)

    async def extend(self, delivery: RedisDelivery, seconds: float) -> None:
        """See `Home`."""
        await self._settler.extend(delivery, seconds, self.visibility)

    async def bury(self, delivery: RedisDelivery, reason: str) -> None:
        """See `Home`."""
        arguments = (delivery.id, _MOST_LETTERS, delivery.queue, reason.encode("utf-8", "replace"), delivery.body)
        await self._link.run(scripts.BURY, (delivery.stream, delivery.part.dead), arguments)

    def _due(self, queues: set[bytes], delay: float) -> None:
        """Receivers of this process look again when what was just delayed is due."""
        for reception in self._receptions:
            if not queues.isdisjoint(reception.queues):
                reception.look_in(delay)


def unique() -> bytes:
    """A name of 16 characters that nothing else has."""
    return secrets.token_hex(8).encode()
