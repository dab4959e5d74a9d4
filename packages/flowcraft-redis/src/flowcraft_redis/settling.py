"""Acks, and deliveries to be kept: what comes at the same time goes in one call for each partition."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from flowcraft_redis import scripts
from flowcraft_redis.keys import Partition
from flowcraft_redis.link import Link
from flowcraft_redis.messages import RedisDelivery
from flowcraft_redis.wire import Argument
from flowcraft_redis.writing import Keys

__all__ = ["Settler"]


class Settler:
    """Gathers what is asked for in one turn of the event loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._acks: list[RedisDelivery] = []
        self._acking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._extending: dict[tuple[bytes, float], tuple[list[RedisDelivery], asyncio.Task[None]]] = {}

    async def settle(self, delivery: RedisDelivery) -> None:
        """Remove a message. Raises what the call raises."""
        self._acks.append(delivery)
        if self._acking is None:
            self._acking = self._spawn(self._settle())
        await asyncio.shield(self._acking)

    async def extend(self, delivery: RedisDelivery, seconds: float, visibility: float) -> None:
        """Keep a message. Raises what the call raises."""
        key = delivery.stream, seconds
        if key not in self._extending:
            group: list[RedisDelivery] = []
            self._extending[key] = group, self._spawn(self._extend(key, visibility))
        group, task = self._extending[key]
        group.append(delivery)
        await asyncio.shield(task)

    async def aclose(self) -> None:
        """Let what is under way end."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, name="flowcraft redis acks")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits gets it; if nobody does any more, that is no trouble

    async def _settle(self) -> None:
        acks, self._acks, self._acking = self._acks, [], None
        parts: dict[Partition, list[RedisDelivery]] = {}
        for delivery in acks:
            parts.setdefault(delivery.part, []).append(delivery)
        await asyncio.gather(*(self._remove(group) for group in parts.values()))

    async def _remove(self, group: Sequence[RedisDelivery]) -> None:
        streams: dict[bytes, list[Argument]] = {}
        for delivery in group:
            streams.setdefault(delivery.stream, []).append(delivery.id)
        keys = Keys()
        arguments: list[Argument] = [len(streams)]
        for stream, ids in streams.items():
            arguments += (keys.number(stream), len(ids), *ids)
        await self._link.run(scripts.SETTLE, keys.names, arguments)

    async def _extend(self, key: tuple[bytes, float], visibility: float) -> None:
        group, _ = self._extending.pop(key)
        stream, seconds = key
        first = group[0]
        arguments: list[Argument] = [int(visibility * 1000), repr(float(seconds)).encode()]
        arguments += [delivery.id for delivery in group]
        await self._link.run(scripts.EXTEND, (stream, first.part.kept(first.queue)), arguments)
