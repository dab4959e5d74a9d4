"""The target for the conformance suite: ``flowcraft conformance run`` with the Redis at FLOWCRAFT_REDIS_URL."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

from redis.asyncio import Redis

from flowcraft.conformance.target import Place, Ports, target
from flowcraft_redis import RedisBackend

URL = os.environ.get("FLOWCRAFT_REDIS_URL", "redis://127.0.0.1:6379/0")


async def names(place: Place) -> list[str]:
    """Of all keys in a place."""
    async with Redis.from_url(URL) as client:
        return sorted([name.decode("utf-8", "replace") async for name in client.scan_iter(f"*{place.namespace}:*")])


async def drop(place: Place) -> None:
    """Remove a place."""
    async with Redis.from_url(URL) as client:
        found = [name async for name in client.scan_iter(f"*{place.namespace}:*")]
        if found:
            await client.delete(*found)


@target("redis", offers=("store", "queue", "coordination", "events", "system"), unit=0.5, settle=1.0, leftovers=names,
        drop=drop)  # fmt: skip
async def redis(place: Place) -> AsyncGenerator[Ports]:
    """All ports, with a visibility that a check can wait for."""
    async with RedisBackend.open(URL, prefix=place.namespace, visibility=1.0) as backend:
        backend.store.bind(backend.queue)
        yield Ports(backend.store, backend.queue, backend.coordination, backend.events)
