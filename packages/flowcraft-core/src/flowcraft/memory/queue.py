"""The job queue in memory: heaps of ready and of hidden messages."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from flowcraft.alarm import Alarm
from flowcraft.deliveries import DeliveryBlock, HeldDelivery
from flowcraft.errors import SerializationError
from flowcraft.memory.dead import DeadBox
from flowcraft.model import Capabilities, DeadLetter, Job, Page
from flowcraft.ports import Clock

__all__ = ["MemoryDelivery", "MemoryJobQueue"]


class _Message:
    """``hidden_until`` is None while it can be received; ``receipt`` counts deliveries and fences late owners."""

    __slots__ = ("body", "gone", "hidden_until", "priority", "queue", "receipt", "seen")

    def __init__(self, queue: str, priority: int, body: Job | bytes) -> None:
        self.queue = queue
        self.priority = priority
        self.body = body
        self.receipt = 0
        self.seen = False
        self.gone = False
        self.hidden_until: float | None = None

    def raw(self) -> bytes:
        return self.body.to_bytes() if isinstance(self.body, Job) else self.body


class MemoryJobQueue:
    """All queues of one process. Differs from the protocol in nothing; every publish is confirmed.

    Times are durations here (visibility, delay), so they follow the clock's ``monotonic``.
    """

    def __init__(self, clock: Clock, *, visibility: float = 30.0) -> None:
        self.capabilities = Capabilities(durable=False, priorities=True, visibility=visibility)
        self._now = clock.monotonic
        self._visibility = visibility
        self._numbers = itertools.count()
        self._ready: dict[str, list[tuple[int, float, int, _Message]]] = {}
        self._depth: dict[str, int] = {}
        self._hidden: list[tuple[float, int, _Message]] = []
        self._hidden_live = 0
        self._receivers: dict[str, dict[_Reception, None]] = {}  # in the order in which they came
        self._alarm = Alarm(clock, clock.monotonic, self._ring)
        self._dead = DeadBox(clock)

    async def setup(self) -> None:
        """Nothing to create."""

    async def aclose(self) -> None:
        """End the receivers; the messages stay for whoever opens the next block."""
        for reception in {r: None for group in self._receivers.values() for r in group}:
            reception.end()
        await self._alarm.close()

    async def publish(self, jobs: Sequence[Job], *, delay: float = 0.0) -> Sequence[Job]:
        """See the protocol. Nothing is ever unconfirmed."""
        self.push(jobs, delay=delay)
        return ()

    async def publish_bytes(self, queue: str, body: bytes, *, priority: int = 0) -> None:
        """Put any bytes into a queue, as a foreign or newer producer would."""
        self._show(_Message(queue, priority, body), self._now())

    async def depth(self, queue: str) -> int | None:
        """Messages that can be received now, exactly."""
        self._promote()
        return self._depth.get(queue, 0)

    async def dead_letters(self, *, limit: int = 100, after: str | None = None) -> Page[DeadLetter]:
        """See the protocol. Oldest first, each once."""
        return self._dead.page(limit, after)

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """See the protocol."""
        return self._dead.get(letter_id)

    async def discard(self, letter_id: str) -> bool:
        """See the protocol."""
        return self._dead.discard(letter_id)

    def deliveries(
        self, queues: Sequence[str], *, prefetch: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[MemoryDelivery]]]:
        """See the protocol."""
        return _Reception(self, queues, prefetch)

    def push(self, jobs: Sequence[Job], *, delay: float = 0.0) -> None:
        """Publish within the caller's step: nothing else of the event loop runs in between."""
        now = self._now()
        for job in jobs:
            message = _Message(job.queue, job.priority, job)
            if delay > 0:
                self._hide(message, now + delay)
            else:
                self._show(message, now)

    def drop(self, delivery: MemoryDelivery) -> None:
        """Ack within the caller's step, if the delivery is still the message's latest."""
        message = delivery.message
        if message.receipt == delivery.receipt and not message.gone:
            self._remove(message)

    async def settle(self, delivery: MemoryDelivery) -> None:
        """See `DeliveryHome`."""
        self.drop(delivery)

    async def retry(self, delivery: MemoryDelivery, delay: float) -> None:
        """See `DeliveryHome`."""
        message = delivery.message
        if message.receipt == delivery.receipt and message.hidden_until is not None and not message.gone:
            self._unhide(message)
            if delay > 0:
                self._hide(message, self._now() + delay)
            else:
                self._show(message, self._now())

    async def extend(self, delivery: MemoryDelivery, seconds: float) -> None:
        """See `DeliveryHome`."""
        message = delivery.message
        if message.receipt == delivery.receipt and message.hidden_until is not None and not message.gone:
            self._unhide(message)
            self._hide(message, self._now() + seconds)

    async def bury(self, delivery: MemoryDelivery, reason: str) -> None:
        """See `DeliveryHome`."""
        message = delivery.message
        if message.receipt == delivery.receipt and not message.gone:
            self._remove(message)
            self._dead.add(message.queue, reason, message.raw())

    def take(self, queues: Sequence[str], room: int) -> list[MemoryDelivery]:
        """Up to ``room`` deliveries, the most urgent of each queue first; the alarm is set for what stays hidden."""
        now = self._promote()
        taken: list[MemoryDelivery] = []
        for queue in queues:
            heap = self._ready.get(queue)
            while heap and len(taken) < room:
                message = heapq.heappop(heap)[3]
                if message.gone:
                    continue
                self._depth[queue] -= 1
                delivery = self._deliver(message, now)
                if delivery is not None:
                    taken.append(delivery)
        return taken

    def _deliver(self, message: _Message, now: float) -> MemoryDelivery | None:
        body = message.body
        try:
            job = body if isinstance(body, Job) else Job.from_bytes(body)
        except SerializationError as error:
            message.gone = True
            self._dead.add(message.queue, str(error), message.raw())
            return None
        message.receipt += 1
        delivery = MemoryDelivery(self, message, job, redelivered=message.seen)
        message.seen = True
        self._hide(message, now + self._visibility)
        return delivery

    def _show(self, message: _Message, since: float) -> None:
        message.hidden_until = None
        number = next(self._numbers)
        heapq.heappush(self._ready.setdefault(message.queue, []), (-message.priority, since, number, message))
        self._depth[message.queue] = self._depth.get(message.queue, 0) + 1
        for reception in self._receivers.get(message.queue, ()):
            reception.wake()

    def _hide(self, message: _Message, until: float) -> None:
        message.hidden_until = until
        self._hidden_live += 1
        heapq.heappush(self._hidden, (until, next(self._numbers), message))
        # Most entries are left behind by an ack long before their time; dropping them in bulk keeps that cheap.
        if len(self._hidden) > 2 * self._hidden_live + 64:
            self._hidden = [entry for entry in self._hidden if _is_hidden(entry[2], entry[0])]
            heapq.heapify(self._hidden)
        if self._receivers:
            self._alarm.set(self._hidden[0][0])

    def _unhide(self, message: _Message) -> None:
        message.hidden_until = None
        self._hidden_live -= 1

    def _remove(self, message: _Message) -> None:
        message.gone = True
        if message.hidden_until is not None:
            self._unhide(message)
        else:
            self._depth[message.queue] -= 1  # it became visible again, but nobody took it

    def _promote(self) -> float:
        now = self._now()
        while self._hidden and self._hidden[0][0] <= now:
            until, _, message = heapq.heappop(self._hidden)
            if _is_hidden(message, until):
                self._unhide(message)
                self._show(message, until)
        return now

    def _ring(self) -> None:
        self._promote()
        self._set_alarm()

    def _set_alarm(self) -> None:
        while self._hidden and not _is_hidden(self._hidden[0][2], self._hidden[0][0]):
            heapq.heappop(self._hidden)
        if self._hidden and self._receivers:
            self._alarm.set(self._hidden[0][0])

    def open(self, reception: _Reception) -> None:
        """A receiver is there."""
        for queue in reception.queues:
            self._receivers.setdefault(queue, {})[reception] = None
        self._set_alarm()

    async def close(self, reception: _Reception, held: Sequence[MemoryDelivery]) -> None:
        """A receiver left: what it still held is anyone's again, as if it had never been delivered."""
        for queue in reception.queues:
            group = self._receivers.get(queue, {})
            group.pop(reception, None)
            if not group:
                self._receivers.pop(queue, None)
        for delivery in held:
            if delivery.message.receipt == delivery.receipt:
                delivery.message.seen = delivery.redelivered
            await self.retry(delivery, 0.0)
        if not self._receivers:
            await self._alarm.close()


def _is_hidden(message: _Message, until: float) -> bool:
    return message.hidden_until == until and not message.gone


class MemoryDelivery(HeldDelivery):
    """See the protocol. Counts only while its message has the receipt that it had."""

    __slots__ = ("message", "receipt")

    def __init__(self, queue: MemoryJobQueue, message: _Message, job: Job, *, redelivered: bool) -> None:
        super().__init__(queue, job, redelivered=redelivered)
        self.message = message
        self.receipt = message.receipt


class _Reception(DeliveryBlock[MemoryDelivery]):
    """Takes when it is asked, as much as there is."""

    def __init__(self, queue: MemoryJobQueue, queues: Sequence[str], prefetch: int) -> None:
        super().__init__(prefetch)
        self._queue = queue
        self.queues = list(dict.fromkeys(queues))

    async def enter(self) -> None:
        self._queue.open(self)

    async def leave(self, held: Sequence[MemoryDelivery]) -> None:
        await self._queue.close(self, held)

    async def more(self) -> None:
        self.changed.clear()
        if self.free > 0 and (batch := self._queue.take(self.queues, self.free)):
            self.hold(batch)
            # The next batch begins with another queue, so that a busy one does not starve the others.
            self.queues.append(self.queues.pop(0))
        else:
            await self.changed.wait()

    def wake(self) -> None:
        """There may be something to take."""
        self.changed.set()
