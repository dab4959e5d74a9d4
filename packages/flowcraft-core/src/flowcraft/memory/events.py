"""The event bus in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from flowcraft.model import Event
from flowcraft.subscriptions import Subscription

__all__ = ["MemoryEventBus"]


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
