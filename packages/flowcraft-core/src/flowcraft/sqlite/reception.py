"""Messages in hand: one delivery, and one block of `deliveries` that decides when to ask the file for more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from flowcraft.deliveries import DeliveryBlock, DeliveryHome, HeldDelivery
from flowcraft.model import Job

__all__ = ["Home", "Receiver", "SqliteDelivery", "Taken"]

#: Rows of (id, receipt, redelivered, job), and when the next hidden message of any queue is due.
Taken = tuple[list[tuple[int, int, bool, Job]], float | None]


class SqliteDelivery(HeldDelivery):
    """See the protocol. Counts only while its row has the receipt that it had."""

    __slots__ = ("number", "receipt")

    def __init__(self, queue: Home, number: int, receipt: int, redelivered: bool, job: Job) -> None:
        super().__init__(queue, job, redelivered=redelivered)
        self.number = number
        self.receipt = receipt


class Home(DeliveryHome[SqliteDelivery], Protocol):
    """What deliveries and receivers need of their queue."""

    def receive(
        self, queues: Sequence[str], room: int, then: Callable[[list[SqliteDelivery]], None]
    ) -> asyncio.Future[Taken]:
        """Take up to ``room`` messages; ``then`` gets them before the future is done."""
        ...

    def open(self, receiver: Receiver) -> None:
        """A receiver is there."""
        ...

    async def close(self, receiver: Receiver, held: Sequence[SqliteDelivery]) -> None:
        """A receiver left: what it still held is anyone's again, as if it had never been delivered."""
        ...


class Receiver(DeliveryBlock[SqliteDelivery]):
    """Asks only when there may be something: at first, when woken, and after a batch that filled its room."""

    def __init__(self, queue: Home, queues: Sequence[str], prefetch: int) -> None:
        super().__init__(prefetch)
        self._queue = queue
        self.queues = list(dict.fromkeys(queues))
        self._asking: asyncio.Future[Taken] | None = None
        self._maybe = True

    async def enter(self) -> None:
        """See `DeliveryBlock`."""
        self._queue.open(self)

    async def stop(self) -> None:
        """See `DeliveryBlock`."""
        if self._asking is not None:  # what a cancelled question still brings must be handed back, too
            await asyncio.wait([self._asking])

    async def leave(self, held: Sequence[SqliteDelivery]) -> None:
        """See `DeliveryBlock`."""
        await self._queue.close(self, held)

    async def more(self) -> None:
        """See `DeliveryBlock`."""
        if self.free > 0 and self._maybe and self._asking is None:
            self._maybe = False
            await self._ask(self.free)
        else:
            self.changed.clear()
            await self.changed.wait()

    def wake(self) -> None:
        """There may be something to take."""
        self._maybe = True
        self.changed.set()

    async def _ask(self, room: int) -> None:
        def then(batch: list[SqliteDelivery]) -> None:
            self.hold(batch)
            if len(batch) == room:
                self._maybe = True

        # The next question begins with another queue, so that a busy one does not starve the others.
        self.queues.append(self.queues.pop(0))
        self._asking = asking = self._queue.receive(self.queues, room, then)
        asking.add_done_callback(self._answered)
        # Shielded: if the reader is cancelled, the answer is kept for the next time or handed back on leaving.
        await asyncio.shield(asking)

    def _answered(self, asked: asyncio.Future[Taken]) -> None:
        self._asking = None
        if asked.cancelled() or asked.exception() is not None:
            self._maybe = True
        self.changed.set()
