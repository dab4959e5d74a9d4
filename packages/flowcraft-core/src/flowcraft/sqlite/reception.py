"""Messages in hand: one delivery, and one block of `deliveries` that decides when to ask the file for more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Protocol

from flowcraft.model import Job

__all__ = ["Home", "Receiver", "SqliteDelivery", "Taken"]

#: Rows of (id, receipt, redelivered, job), and when the next hidden message of any queue is due.
Taken = tuple[list[tuple[int, int, bool, Job]], float | None]


class Home(Protocol):
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

    async def settle(self, delivery: SqliteDelivery) -> None:
        """Remove the message, if the delivery is still its latest."""
        ...

    async def retry(self, delivery: SqliteDelivery, delay: float) -> None:
        """Make the message visible, now or later, if the delivery is still its latest."""
        ...

    async def extend(self, delivery: SqliteDelivery, seconds: float) -> None:
        """Hide the message until then, if the delivery is still its latest and nobody else can have it yet."""
        ...

    async def bury(self, delivery: SqliteDelivery, reason: str) -> None:
        """Move the message to the dead letters, if the delivery is still its latest."""
        ...


class SqliteDelivery:
    """See the protocol. A second ending of one delivery does nothing."""

    __slots__ = ("_queue", "ended", "job", "number", "receipt", "redelivered")

    def __init__(self, queue: Home, number: int, receipt: int, redelivered: bool, job: Job) -> None:
        self._queue = queue
        self.number = number
        self.receipt = receipt
        self.redelivered = redelivered
        self.job = job
        #: Called when it ends; None once it has.
        self.ended: Callable[[SqliteDelivery], None] | None = None

    async def ack(self) -> None:
        """See the protocol."""
        if self._end():
            await self._queue.settle(self)

    async def retry(self, *, delay: float = 0.0) -> None:
        """See the protocol."""
        if self._end():
            await self._queue.retry(self, delay)

    async def reject(self, reason: str) -> None:
        """See the protocol."""
        if self._end():
            await self._queue.bury(self, reason)

    async def extend(self, seconds: float) -> None:
        """See the protocol."""
        if self.ended is not None:
            await self._queue.extend(self, seconds)

    def settled(self) -> None:
        """See the protocol."""
        self._end()

    def _end(self) -> bool:
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self)
        return ended is not None


class Receiver:
    """Asks only when there may be something: at first, when woken, and after a batch that filled its room."""

    def __init__(self, queue: Home, queues: Sequence[str], prefetch: int) -> None:
        self._queue = queue
        self.queues = list(dict.fromkeys(queues))
        self._prefetch = prefetch
        self._held: dict[int, SqliteDelivery] = {}
        self._batch: list[SqliteDelivery] = []
        self._asking: asyncio.Future[Taken] | None = None
        self._maybe = True
        self._changed = asyncio.Event()
        self._over = False

    async def __aenter__(self) -> AsyncIterator[Sequence[SqliteDelivery]]:
        self._queue.open(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        try:
            if self._asking is not None:  # what a cancelled question still brings must be handed back, too
                await asyncio.wait([self._asking])
        finally:
            held = list(self._held.values())
            self._held.clear()
            await self._queue.close(self, held)

    def __aiter__(self) -> AsyncIterator[Sequence[SqliteDelivery]]:
        return self

    async def __anext__(self) -> Sequence[SqliteDelivery]:
        while not self._over:
            if self._batch:
                batch, self._batch = self._batch, []
                return batch
            room = self._prefetch - len(self._held)
            if room > 0 and self._maybe and self._asking is None:
                self._maybe = False
                await self._ask(room)
            else:
                self._changed.clear()
                await self._changed.wait()
        raise StopAsyncIteration

    def wake(self) -> None:
        """There may be something to take."""
        self._maybe = True
        self._changed.set()

    def end(self) -> None:
        """Let the iterator stop."""
        self._over = True
        self._changed.set()

    async def _ask(self, room: int) -> None:
        def then(batch: list[SqliteDelivery]) -> None:
            for delivery in batch:
                delivery.ended = self._let_go
                self._held[id(delivery)] = delivery
            self._batch += batch
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
        self._changed.set()

    def _let_go(self, delivery: SqliteDelivery) -> None:
        self._held.pop(id(delivery), None)
        self._changed.set()
