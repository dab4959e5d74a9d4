"""The event bus over publish and subscribe: a channel for each run, and one for its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import groupby
from operator import attrgetter
from typing import Final

from flowcraft.model import Event
from flowcraft.ports import ENDS
from flowcraft.subscriptions import Subscription, decode_events, encode_events
from flowcraft_redis import scripts
from flowcraft_redis.keys import Keyspace, encode
from flowcraft_redis.link import Link
from flowcraft_redis.listening import Listener
from flowcraft_redis.wire import Argument

__all__ = ["RedisEventBus"]

_ONE: Final = 2  # a channel and a message


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
        """See the protocol. One message for the events of a run that come together, one call for all messages."""
        told: list[Argument] = []
        for run_id, group in groupby(events, attrgetter("run_id")):
            some, id = list(group), encode(run_id)
            told += (self._keys.channel(id), encode_events(run_id, some))
            ends = [event for event in some if event.type in ENDS]
            if ends:
                told += (self._keys.ends(id), encode_events(run_id, ends))
        if len(told) == _ONE:
            await self._link.call(b"PUBLISH", *told)
        elif told:
            await self._link.run(scripts.TELL, (), told)

    def subscribe(
        self, *, run_id: str | None = None, ends: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """See the protocol."""
        name = self._keys.ends if ends else self._keys.channel
        return self._subscribe(name(b"*" if run_id is None else encode(run_id)), pattern=run_id is None)

    async def aclose(self) -> None:
        """End the subscriptions; each reader still gets what is in its buffer."""
        for group in self._subscriptions.values():
            for subscription in group:
                subscription.end()
        await self._listener.aclose()

    @asynccontextmanager
    async def _subscribe(self, channel: bytes, *, pattern: bool) -> AsyncGenerator[AsyncIterator[Event], None]:
        def opened(subscription: Subscription) -> None:
            self._subscriptions.setdefault(channel, set()).add(subscription)

        def closed(subscription: Subscription) -> None:
            group = self._subscriptions.get(channel, set())
            group.discard(subscription)
            if not group:
                self._subscriptions.pop(channel, None)
                self._listener.leave(channel, pattern=pattern)

        # The channel has what is wanted: there is nothing to be left out.
        async with Subscription(None, self._buffer, opened, closed) as events:
            await self._listener.listen(channel, pattern=pattern)
            yield events

    def _heard(self, channel: bytes, data: bytes) -> None:
        group = self._subscriptions.get(channel)
        if not group:
            return
        events = decode_events(data)
        for subscription in group:
            subscription.offer(events)
