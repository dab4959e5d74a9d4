"""The event bus over publish and subscribe: a channel for each run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import groupby
from operator import attrgetter

from flowcraft.model import Event
from flowcraft.subscriptions import Subscription, decode_events, encode_events
from flowcraft_redis.keys import Keyspace, encode
from flowcraft_redis.link import Link
from flowcraft_redis.listening import Listener

__all__ = ["RedisEventBus"]


class RedisEventBus:
    """See the protocol. One connection for all subscriptions of a process, from the first one on until it is closed.

    If it breaks it is opened again; what is told meanwhile is missed. ``buffer``: events that wait for one slow reader
    before the oldest are dropped.
    """

    def __init__(self, link: Link, prefix: str, *, buffer: int = 1024) -> None:
        self._link = link
        self._keys = Keyspace(prefix, 1)
        self._buffer = buffer
        self._subscriptions: dict[bytes, set[Subscription]] = {}
        self._listener = Listener(link, self._keys.channel(b""), self._heard)

    async def publish(self, events: Sequence[Event]) -> None:
        """See the protocol. One message for the events of a run that come together."""
        commands = [
            (b"PUBLISH", self._keys.channel(encode(run_id)), encode_events(run_id, some))
            for run_id, some in groupby(events, attrgetter("run_id"))
        ]
        # Not as something that must not be sent twice: a hint may come twice, and should rather not be lost.
        await self._link.call_each(commands)

    def subscribe(self, *, run_id: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """See the protocol."""
        return self._subscribe(run_id)

    async def aclose(self) -> None:
        """End the subscriptions; each reader still gets what is in its buffer."""
        for group in self._subscriptions.values():
            for subscription in group:
                subscription.end()
        await self._listener.aclose()

    @asynccontextmanager
    async def _subscribe(self, run_id: str | None) -> AsyncGenerator[AsyncIterator[Event], None]:
        channel = self._keys.channel(b"*" if run_id is None else encode(run_id))

        def opened(subscription: Subscription) -> None:
            self._subscriptions.setdefault(channel, set()).add(subscription)

        def closed(subscription: Subscription) -> None:
            group = self._subscriptions.get(channel, set())
            group.discard(subscription)
            if not group:
                self._subscriptions.pop(channel, None)
                self._listener.leave(channel, pattern=run_id is None)

        # The channel is that of the run: there is nothing to be left out.
        async with Subscription(None, self._buffer, opened, closed) as events:
            await self._listener.listen(channel, pattern=run_id is None)
            yield events

    def _heard(self, channel: bytes, data: bytes) -> None:
        group = self._subscriptions.get(channel)
        if not group:
            return
        events = decode_events(data)
        for subscription in group:
            subscription.offer(events)
