"""Targets for the conformance suite: ``flowcraft conformance run`` with the server that FLOWCRAFT_REDIS_URL names.

The address is looked up whenever a place is opened, so that a test can name a server that it has just started.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from flowcraft.conformance.target import Place, Ports, Target, target
from flowcraft_redis import RedisBackend

#: Seconds: as short as a check can wait for, as long as a busy machine needs to keep what it has in hand.
VISIBILITY = 2.0


def address() -> str:
    """Of a single server, or of any node of a cluster."""
    return os.environ.get("FLOWCRAFT_REDIS_URL", "redis://127.0.0.1:6379/0")


def made(name: str, *, partitions: int = 1, cluster: bool = False) -> Target:
    """All ports of `RedisBackend`."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[Redis | RedisCluster]:
        async with RedisCluster.from_url(address()) if cluster else Redis.from_url(address()) as client:
            yield client

    async def keys(client: Redis | RedisCluster, place: Place) -> list[bytes]:
        return [name async for name in client.scan_iter(f"*{place.namespace}:*", count=10_000)]

    async def names(place: Place) -> list[str]:
        """Of all keys in a place."""
        async with connected() as client:
            return sorted(name.decode("utf-8", "replace") for name in await keys(client, place))

    async def drop(place: Place) -> None:
        """Remove a place."""
        async with connected() as client:
            found = await keys(client, place)
            if found:
                await client.delete(*found)

    @target(name, offers=("store", "queue", "coordination", "events", "system"), unit=0.5, settle=1.0,
            leftovers=names, drop=drop)  # fmt: skip
    async def opened(place: Place) -> AsyncGenerator[Ports]:
        url = f"{address()}?cluster=true" if cluster else address()
        async with RedisBackend.open(
            url, prefix=place.namespace, partitions=partitions, visibility=VISIBILITY
        ) as backend:
            backend.store.bind(backend.queue)
            yield Ports(backend.store, backend.queue, backend.coordination, backend.events)

    return opened


redis = made("redis")
partitioned = made("redis-partitioned", partitions=3)
cluster = made("redis-cluster", partitions=3, cluster=True)
