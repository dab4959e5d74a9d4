"""Messages in hand."""

from __future__ import annotations

from typing import Final, NamedTuple

from flowcraft.deliveries import DeliveryHome, HeldDelivery
from flowcraft.model import Job
from flowcraft_redis.keys import Partition

__all__ = ["LEVELS", "Entry", "RedisDelivery", "level_of"]

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


class RedisDelivery(HeldDelivery):
    """See the protocol. Its ``id`` is that of the stream's entry.

    Whenever the message goes to somebody else it becomes another entry, so whatever a late owner does finds nothing.
    """

    __slots__ = ("body", "id", "level", "part", "queue", "stream")

    def __init__(
        self, home: DeliveryHome[RedisDelivery], entry: Entry, body: bytes, job: Job, *, redelivered: bool
    ) -> None:
        super().__init__(home, job, redelivered=redelivered)
        self.part, self.queue, self.level, self.id = entry
        self.stream = self.part.stream(self.queue, self.level)
        self.body = body
