"""Conditions that a test waits for, where nothing tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import cast

from redis.asyncio import Redis

from flowcraft.ports import Delivery
from flowcraft_redis import RedisBackend
from flowcraft_redis.reception import Reception

__all__ = ["depth_is", "until", "waits_for_messages"]


async def until(condition: Callable[[], Awaitable[bool] | bool], *, within: float = 40.0) -> None:
    """Ask again and again until it holds. Raises: TimeoutError, after so many seconds."""
    async with asyncio.timeout(within):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)  # between two questions, so that there is time for what is asked about


async def depth_is(backend: RedisBackend, wanted: int, *, queue: str = "q") -> None:
    """So many messages wait."""

    async def as_wanted() -> bool:
        return await backend.queue.depth(queue) == wanted

    await until(as_wanted)


async def waits_for_messages(client: Redis, batches: AsyncIterator[Sequence[Delivery]]) -> None:
    """A read of this block of `deliveries` has found nothing, and waits on the server."""
    readers = cast("Reception", batches)._readers

    async def blocked() -> bool:
        known = [reader._client for reader in readers if reader._client is not None]
        rows = await client.client_list(client_id=known) if known else []
        return any("b" in row["flags"] for row in rows)

    await until(blocked)
