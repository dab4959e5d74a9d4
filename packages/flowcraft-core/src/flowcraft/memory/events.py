"""The event bus in memory: one bounded buffer per subscriber."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from flowcraft.model import Event
from flowcraft.ports import ENDS

__all__ = ["MemoryEventBus", "Subscription"]


class MemoryEventBus:
    """See the protocol. ``buffer``: events that wait for one slow reader before the oldest are dropped."""

    def __init__(self, *, buffer: int = 1024) -> None:
        self._buffer = buffer
        self._subscriptions: dict[Subscription, None] = {}  # in the order in which they came

    async def publish(self, events: Sequence[Event]) -> None:
        """See the protocol."""
        self.tell(events)

    def tell(self, events: Sequence[Event]) -> None:
        """Publish within the caller's step."""
        for subscription in self._subscriptions:
            subscription.offer(events)

    def subscribe(
        self, *, run_id: str | None = None, ends: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """See the protocol."""
        return Subscription(run_id, self._buffer, self._opened, self._closed, ends=ends)

    def _opened(self, subscription: Subscription) -> None:
        self._subscriptions[subscription] = None

    def _closed(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription, None)

    async def aclose(self) -> None:
        """End the subscriptions; each reader still gets what is in its buffer."""
        for subscription in tuple(self._subscriptions):
            subscription.end()


class Subscription:
    """One block of `MemoryEventBus.subscribe`: a buffer that forgets the oldest, and an iterator over it."""

    def __init__(
        self,
        run_id: str | None,
        buffer: int,
        opened: Callable[[Subscription], object],
        closed: Callable[[Subscription], object],
        *,
        ends: bool = False,
    ) -> None:
        self._run_id = run_id
        self._ends = ends
        self._waiting: deque[Event] = deque(maxlen=buffer)
        self._changed = asyncio.Event()
        self._over = False
        self._opened = opened
        self._closed = closed

    async def __aenter__(self) -> AsyncIterator[Event]:
        self._opened(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed(self)
        self.end()

    def offer(self, events: Sequence[Event]) -> None:
        """Buffer those of the events that the subscriber wants; never waits."""
        wanted = events if self._run_id is None else [event for event in events if event.run_id == self._run_id]
        if self._ends:
            wanted = [event for event in wanted if event.type in ENDS]
        if wanted:
            self._waiting.extend(wanted)
            self._changed.set()

    def end(self) -> None:
        """Let the iterator stop after what is buffered."""
        self._over = True
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._over:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()
