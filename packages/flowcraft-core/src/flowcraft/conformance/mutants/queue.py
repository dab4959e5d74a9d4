"""Job queues that are broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flowcraft.conformance.mutants.breaking import mutant
from flowcraft.conformance.mutants.mutant import Mutant
from flowcraft.memory import MemoryJobQueue
from flowcraft.memory.queue import MemoryDelivery
from flowcraft.model import Capabilities, Job
from flowcraft.ports import Clock

__all__ = ["mutants"]


class _AckForgets(MemoryJobQueue):
    """An ack does nothing."""

    async def settle(self, delivery: MemoryDelivery) -> None:
        pass


class _LateAckCounts(MemoryJobQueue):
    """A late ack removes the message under the hands of its next owner."""

    async def settle(self, delivery: MemoryDelivery) -> None:
        delivery.receipt = delivery.message.receipt
        await super().settle(delivery)


class _LateRejectCounts(MemoryJobQueue):
    """A late reject buries the message under the hands of its next owner."""

    async def bury(self, delivery: MemoryDelivery, reason: str) -> None:
        delivery.receipt = delivery.message.receipt
        await super().bury(delivery, reason)


class _TakesTooMany(MemoryJobQueue):
    """A receiver gets more than it has room for."""

    def take(self, queues: Sequence[str], room: int) -> list[MemoryDelivery]:
        return super().take(queues, room + 2)


class _OneQueue(MemoryJobQueue):
    """A receiver of several queues gets what is in the first of them."""

    def take(self, queues: Sequence[str], room: int) -> list[MemoryDelivery]:
        return super().take(sorted(queues)[:1], room)


class _NoDelay(MemoryJobQueue):
    """A message that is to come later comes at once."""

    def push(self, jobs: Sequence[Job], *, delay: float = 0.0) -> None:
        super().push(jobs)


class _RetriesAtOnce(MemoryJobQueue):
    """A delivery that is handed back for later comes again at once."""

    async def retry(self, delivery: MemoryDelivery, delay: float) -> None:
        await super().retry(delivery, 0.0)


class _NoExtend(MemoryJobQueue):
    """A delivery is not kept any longer than the others."""

    async def extend(self, delivery: MemoryDelivery, seconds: float) -> None:
        pass


class _Abandons(MemoryJobQueue):
    """What nobody ends never comes again."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, visibility=1e12)
        self.capabilities = Capabilities(durable=False, priorities=True, visibility=30.0)


class _KeepsOnLeaving(MemoryJobQueue):
    """What a receiver has in hand when it leaves comes again only when its visibility is over."""

    async def close(self, reception: Any, held: Sequence[MemoryDelivery]) -> None:
        await super().close(reception, ())


class _RejectForgets(MemoryJobQueue):
    """A rejected message is gone."""

    async def bury(self, delivery: MemoryDelivery, reason: str) -> None:
        await self.settle(delivery)


class _NoPriorities(MemoryJobQueue):
    """All messages are equally urgent."""

    def push(self, jobs: Sequence[Job], *, delay: float = 0.0) -> None:
        for job in jobs:
            super().push([Job(job.run_id, job.node, job.visit, job.attempt, job.nonce, job.queue)], delay=delay)


class _LosesAMessage(MemoryJobQueue):
    """One message of a hundred that are published gets lost."""

    def push(self, jobs: Sequence[Job], *, delay: float = 0.0) -> None:
        super().push([job for job in jobs if not job.run_id.endswith("77")], delay=delay)


mutants: Final[tuple[Mutant, ...]] = (
    mutant("queue-ack-forgets", "queue.end.ack-is-final", queue=_AckForgets),
    mutant("queue-late-ack-counts", "queue.end.late-owner", queue=_LateAckCounts),
    mutant("queue-late-reject-counts", "queue.end.late-reject", queue=_LateRejectCounts),
    mutant("queue-takes-too-many", "queue.deliver.prefetch", queue=_TakesTooMany),
    mutant("queue-one-queue", "queue.deliver.only-its-queues", queue=_OneQueue),
    mutant("queue-no-delay", "queue.delay.not-early", queue=_NoDelay),
    mutant("queue-retries-at-once", "queue.end.retry-later", queue=_RetriesAtOnce),
    mutant("queue-no-extend", "queue.end.extend", queue=_NoExtend),
    mutant("queue-abandons", "queue.end.abandoned-comes-again", queue=_Abandons),
    mutant("queue-keeps-on-leaving", "queue.end.leaving-hands-back", queue=_KeepsOnLeaving),
    mutant("queue-reject-forgets", "queue.dead.rejected", queue=_RejectForgets),
    mutant("queue-no-priorities", "queue.delay.urgent-first", queue=_NoPriorities),
    mutant("queue-loses-a-message", "queue.deliver.thousand", queue=_LosesAMessage),
)
