"""One block of `RedisJobQueue.deliveries`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final, Protocol

from flowcraft.deliveries import DeliveryBlock, DeliveryHome
from flowcraft.errors import Misconfigured, SerializationError, Unavailable
from flowcraft.model import Job
from flowcraft_redis.keys import Partition, encode
from flowcraft_redis.link import Link
from flowcraft_redis.messages import Entry, RedisDelivery
from flowcraft_redis.meta import Meta
from flowcraft_redis.receiving import Message, Reader, Tender

__all__ = ["Reception"]


class _Queue(DeliveryHome[RedisDelivery], Protocol):
    @property
    def visibility(self) -> float: ...
    def opened(self, reception: Reception) -> None: ...
    async def closed(self, reception: Reception, held: Sequence[RedisDelivery]) -> None: ...
    async def hand_back(self, deliveries: Sequence[RedisDelivery], delay: float, *, again: bool) -> None: ...


class Reception(DeliveryBlock[RedisDelivery]):
    """An iterator over batches.

    Nothing is read before it is asked for; what comes after its asker was cancelled is kept for the next one.
    """

    def __init__(self, home: _Queue, link: Link, meta: Meta, queues: Sequence[str], prefetch: int) -> None:
        super().__init__(prefetch)
        self._home = home
        self._link = link
        self._meta = meta
        self.queues = [encode(queue) for queue in dict.fromkeys(queues)]
        self.levels: dict[tuple[Partition, bytes], tuple[int, ...]] = {}
        self._reserved = 0
        self._reading = 0
        self._waiting = 0
        self._wanted = False
        self._trouble: Exception | None = None
        self._room = asyncio.Event()
        self._readers: list[Reader] = []
        self._tender: Tender | None = None

    # ---- the block

    async def enter(self) -> None:
        """See `DeliveryBlock`."""
        await self._meta.agree()
        self._home.opened(self)
        parts = self._meta.keys.partitions
        self._tender = Tender(self._link, parts, self, self._home.visibility)
        self._readers = [Reader(self._link, part, self) for part in parts]

    async def stop(self) -> None:
        """See `DeliveryBlock`."""
        try:
            await asyncio.gather(*(reader.stop() for reader in self._readers))
        finally:
            if self._tender is not None:
                await self._tender.stop()

    async def leave(self, held: Sequence[RedisDelivery]) -> None:
        """See `DeliveryBlock`."""
        await self._home.closed(self, held)

    async def more(self) -> None:
        """See `DeliveryBlock`."""
        if self._trouble is not None:
            raise self._trouble
        self.changed.clear()
        self._wanted = True
        self._room.set()
        try:
            await self.changed.wait()
        finally:
            self._wanted = False

    def end(self) -> None:
        """Let the iterator stop, and the readers."""
        super().end()
        self._room.set()

    def let_go(self, delivery: RedisDelivery) -> None:
        """A delivery has ended: there is room for another one."""
        super().let_go(delivery)
        self._room.set()

    def look_in(self, seconds: float) -> None:
        """Something will be due then."""
        if self._tender is not None:
            self._tender.look_in(seconds)

    # ---- what readers need

    @property
    def shared(self) -> bool:
        """Whether several readers divide the room."""
        return len(self._readers) > 1

    @property
    def patience(self) -> float:
        """Seconds that a reader may wait with room that another one may need."""
        if self._waiting:
            return _HASTE
        return _SHORT if self.shared and self.prefetch < 8 * len(self._readers) else math.inf

    async def reserve(self) -> int:
        """Wait until somebody asks and there is room; take a fair part of it, or 0 when it is over."""
        if self._waiting:
            await asyncio.sleep(0)  # whoever has waited goes first
        while not self.over:
            room = self.free - self._reserved
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
        if messages:
            self.hold(good[:reserved])
            # The next read begins with another queue, so that a busy one does not starve the others.
            self.queues.append(self.queues.pop(0))
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
        self.changed.set()


#: What a message that names no visit is taken for, until it is out of the way.
_NOTHING: Final = Job("", "", 0, 0, "")
#: Seconds that a partition without messages keeps some of a small room …
_SHORT: Final = 0.1
#: … and while others wait for it.
_HASTE: Final = 0.03
