"""One block of `RedisJobQueue.deliveries`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final, Protocol

from flowcraft.errors import Misconfigured, SerializationError, Unavailable
from flowcraft.model import Job
from flowcraft_redis.keys import Partition, encode
from flowcraft_redis.link import Link
from flowcraft_redis.messages import Entry, Home, RedisDelivery
from flowcraft_redis.meta import Meta
from flowcraft_redis.receiving import Message, Reader, Tender

__all__ = ["Reception"]


class _Queue(Home, Protocol):
    @property
    def visibility(self) -> float: ...
    def opened(self, reception: Reception) -> None: ...
    async def closed(self, reception: Reception, held: Sequence[RedisDelivery]) -> None: ...
    async def hand_back(self, deliveries: Sequence[RedisDelivery], delay: float, *, again: bool) -> None: ...


class Reception:
    """An iterator over batches.

    Nothing is read before it is asked for; what comes after its asker was cancelled is kept for the next one.
    """

    def __init__(self, home: _Queue, link: Link, meta: Meta, queues: Sequence[str], prefetch: int) -> None:
        self._home = home
        self._link = link
        self._meta = meta
        self.queues = [encode(queue) for queue in dict.fromkeys(queues)]
        self.levels: dict[tuple[Partition, bytes], tuple[int, ...]] = {}
        self._prefetch = prefetch
        self._held: dict[int, RedisDelivery] = {}
        self._reserved = 0
        self._reading = 0
        self._waiting = 0
        self._wanted = False
        self._batch: list[RedisDelivery] = []
        self._trouble: Exception | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False
        self._readers: list[Reader] = []
        self._tender: Tender | None = None

    # ---- the block

    async def __aenter__(self) -> AsyncIterator[Sequence[RedisDelivery]]:
        await self._meta.agree()
        self._home.opened(self)
        parts = self._meta.keys.partitions
        self._tender = Tender(self._link, parts, self, self._home.visibility)
        self._readers = [Reader(self._link, part, self) for part in parts]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        try:
            await asyncio.gather(*(reader.stop() for reader in self._readers))
        finally:
            if self._tender is not None:
                await self._tender.stop()
            held = list(self._held.values())
            self._held.clear()
            await self._home.closed(self, held)

    def __aiter__(self) -> AsyncIterator[Sequence[RedisDelivery]]:
        return self

    async def __anext__(self) -> Sequence[RedisDelivery]:
        while not self._over:
            if self._batch:
                batch, self._batch = self._batch, []
                return batch
            if self._trouble is not None:
                raise self._trouble
            self._changed.clear()
            self._wanted = True
            self._room.set()
            try:
                await self._changed.wait()
            finally:
                self._wanted = False
        raise StopAsyncIteration

    def end(self) -> None:
        """Let the iterator stop."""
        self._over = True
        self._changed.set()
        self._room.set()

    def look_in(self, seconds: float) -> None:
        """Something will be due then."""
        if self._tender is not None:
            self._tender.look_in(seconds)

    # ---- what readers need

    @property
    def over(self) -> bool:
        """Whether the block is being left."""
        return self._over

    @property
    def shared(self) -> bool:
        """Whether several readers divide the room."""
        return len(self._readers) > 1

    @property
    def patience(self) -> float:
        """Seconds that a reader may wait with room that another one may need."""
        if self._waiting:
            return _HASTE
        return _SHORT if self.shared and self._prefetch < 8 * len(self._readers) else math.inf

    async def reserve(self) -> int:
        """Wait until somebody asks and there is room; take a fair part of it, or 0 when it is over."""
        if self._waiting:
            await asyncio.sleep(0)  # whoever has waited goes first
        while not self._over:
            room = self._prefetch - len(self._held) - self._reserved
            if room > 0 and self._wanted:
                share = max(1, room // max(1, len(self._readers) - self._reading))
                self._reading += 1
                self._reserved += share
                return share
            self._waiting += 1
            self._room.clear()
            try:
                await self._room.wait()
            finally:
                self._waiting -= 1
        return 0

    def give_back(self, reserved: int) -> None:
        """Somebody else may have so much of what was reserved."""
        if reserved:
            self._reserved -= reserved
            self._room.set()

    async def arrived(self, part: Partition, messages: Sequence[Message], reserved: int) -> None:
        """A read has ended. What is more than was reserved goes back at once."""
        if reserved == 0:
            return
        self._reading -= 1
        self._reserved -= reserved
        good: list[RedisDelivery] = []
        bad: list[tuple[RedisDelivery, str]] = []
        for queue, level, name, fields in messages:
            made, reason = self._open(Entry(part, queue, level, name), fields)
            if reason is None:
                good.append(made)
            else:
                bad.append((made, reason))
        for delivery in good[:reserved]:
            delivery.ended = self._let_go
            self._held[id(delivery)] = delivery
            self._batch.append(delivery)
        if messages:
            # The next read begins with another queue, so that a busy one does not starve the others.
            self.queues.append(self.queues.pop(0))
            self._changed.set()
        self._room.set()
        if bad or good[reserved:]:
            await self._sort_out(bad, good[reserved:])

    def _open(self, entry: Entry, fields: dict[bytes, bytes]) -> tuple[RedisDelivery, str | None]:
        """A delivery; and why it is none: no reason if it is only to be removed."""
        body = fields.get(b"b")
        if body is None:  # a knock, or an entry that was removed meanwhile
            return RedisDelivery(self._home, entry, b"", _NOTHING, redelivered=False), ""
        redelivered = fields.get(b"d") == b"1"
        try:
            return RedisDelivery(self._home, entry, body, Job.from_bytes(body), redelivered=redelivered), None
        except SerializationError as error:
            return RedisDelivery(self._home, entry, body, _NOTHING, redelivered=redelivered), str(error)

    async def _sort_out(self, bad: Sequence[tuple[RedisDelivery, str]], excess: Sequence[RedisDelivery]) -> None:
        await self._home.hand_back(excess, 0.0, again=False)
        for delivery, reason in bad:
            if reason:
                await self._home.bury(delivery, reason)
            else:
                await self._home.settle(delivery)
        if self._tender is not None and not all(reason for _, reason in bad):
            await self._tender.look()  # the next read must know of the stream that a knock told of

    def failed(self, error: Exception) -> None:
        """A task died of this: whoever iterates is told, and may open another block."""
        if self._trouble is None:
            never = isinstance(error, Misconfigured)
            self._trouble = error if never else Unavailable(f"messages cannot be received: {error}")
            self._trouble.__cause__ = None if never else error
        self._changed.set()

    def _let_go(self, delivery: RedisDelivery) -> None:
        self._held.pop(id(delivery), None)
        self._room.set()
        self._changed.set()


#: What a message that names no visit is taken for, until it is out of the way.
_NOTHING: Final = Job("", "", 0, 0, "")
#: Seconds that a partition without messages keeps some of a small room …
_SHORT: Final = 0.1
#: … and while others wait for it.
_HASTE: Final = 0.03
