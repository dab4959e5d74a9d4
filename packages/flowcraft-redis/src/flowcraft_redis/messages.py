"""Messages in hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from flowcraft.model import Job
from flowcraft_redis.keys import Partition

__all__ = ["LEVELS", "Entry", "Home", "RedisDelivery", "level_of"]

#: There is a stream for each urgency from -10 to 10; what is more or less urgent counts as that.
LEVELS: Final = 10


def level_of(priority: int) -> int:
    """The urgency of a job as far as the queue tells them apart."""
    return max(-LEVELS, min(LEVELS, priority))


class Entry(NamedTuple):
    """Where a message lies: its stream is that of a partition, queue and level."""

    part: Partition
    queue: bytes
    level: int
    id: bytes


class Home(Protocol):
    """What deliveries need of their queue."""

    async def settle(self, delivery: RedisDelivery) -> None:
        """Remove the message."""
        ...

    async def retry(self, delivery: RedisDelivery, delay: float) -> None:
        """Make the message anyone's, now or later, if the delivery is still its latest."""
        ...

    async def extend(self, delivery: RedisDelivery, seconds: float) -> None:
        """Keep the message for so long, if the delivery is still its latest."""
        ...

    async def bury(self, delivery: RedisDelivery, reason: str) -> None:
        """Move the message to the dead letters, if the delivery is still its latest."""
        ...


class RedisDelivery:
    """See the protocol. A second ending of one delivery does nothing.

    Its ``id`` is that of the stream's entry. Whenever the message goes to somebody else it becomes another entry, so
    whatever a late owner does finds nothing.
    """

    __slots__ = ("_home", "body", "ended", "id", "job", "level", "part", "queue", "redelivered", "stream")

    def __init__(self, home: Home, entry: Entry, body: bytes, job: Job, *, redelivered: bool) -> None:
        self._home = home
        self.part, self.queue, self.level, self.id = entry
        self.stream = self.part.stream(self.queue, self.level)
        self.body = body
        self.job = job
        self.redelivered = redelivered
        #: Called when it ends; None once it has.
        self.ended: Callable[[RedisDelivery], None] | None = None

    async def ack(self) -> None:
        """See the protocol."""
        if self._end():
            await self._home.settle(self)

    async def retry(self, *, delay: float = 0.0) -> None:
        """See the protocol."""
        if self._end():
            await self._home.retry(self, delay)

    async def reject(self, reason: str) -> None:
        """See the protocol."""
        if self._end():
            await self._home.bury(self, reason)

    async def extend(self, seconds: float) -> None:
        """See the protocol."""
        if self.ended is not None:
            await self._home.extend(self, seconds)

    def settled(self) -> None:
        """See the protocol."""
        self._end()

    def _end(self) -> bool:
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self)
        return ended is not None
