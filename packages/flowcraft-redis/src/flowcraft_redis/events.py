"""The event bus over publish and subscribe: a channel for each run, and one for its end."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import groupby
from operator import attrgetter
from typing import Any, cast

from flowcraft.model import Event
from flowcraft.ports import ENDS
from flowcraft_redis import scripts
from flowcraft_redis.keys import Keyspace, encode
from flowcraft_redis.link import Link
from flowcraft_redis.listening import Listener
from flowcraft_redis.wire import Argument

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
        self._subscriptions: dict[bytes, set[_Subscription]] = {}
        self._listener = Listener(link, self._keys.channel(b""), self._heard)

    async def publish(self, events: Sequence[Event]) -> None:
        """See the protocol. One message for the events of a run that come together, one call for all messages."""
        told: list[Argument] = []
        for run_id, group in groupby(events, attrgetter("run_id")):
            some, id = list(group), encode(run_id)
            told += (self._keys.channel(id), _encoded(run_id, some))
            ends = [event for event in some if event.type in ENDS]
            if ends:
                told += (self._keys.ends(id), _encoded(run_id, ends))
        if told:
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
        subscription = _Subscription(self._buffer)
        self._subscriptions.setdefault(channel, set()).add(subscription)
        try:
            await self._listener.listen(channel, pattern=pattern)
            yield subscription
        finally:
            subscription.end()
            group = self._subscriptions.get(channel, set())
            group.discard(subscription)
            if not group:
                self._subscriptions.pop(channel, None)
                self._listener.leave(channel, pattern=pattern)

    def _heard(self, channel: bytes, data: bytes) -> None:
        group = self._subscriptions.get(channel)
        if not group:
            return
        try:
            events = _decoded(data)
        except (ValueError, TypeError, KeyError, IndexError):
            return  # a foreign message
        for subscription in group:
            subscription.offer(events)


class _Subscription:
    """A buffer that forgets the oldest, and an iterator over it."""

    def __init__(self, buffer: int) -> None:
        self._waiting: deque[Event] = deque(maxlen=buffer)
        self._changed = asyncio.Event()
        self._over = False

    def offer(self, events: Sequence[Event]) -> None:
        """Buffer them; never waits."""
        self._waiting.extend(events)
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


def _encoded(run_id: str, events: Iterable[Event]) -> bytes:
    """A JSON list of the run's id, and of the number and the fields of each event."""
    rows = ",".join(f"{event.seq},{event.to_json()}" for event in events)
    return f"[{json.dumps(run_id)},{rows}]".encode()


def _decoded(data: bytes) -> list[Event]:
    run_id, *flat = cast("list[Any]", json.loads(data))
    return [
        Event(run_id, seq, row["type"], row["at"], row["node"], row["visit"], row["attempt"], row["data"])
        for seq, row in zip(flat[::2], flat[1::2], strict=True)
    ]
