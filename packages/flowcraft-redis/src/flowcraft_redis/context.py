"""A run's context, seen from outside of its nodes."""

from __future__ import annotations

from flowcraft.codec import Codec, JsonCodec
from flowcraft.contexts import StoredContext
from flowcraft_redis.adapter import RedisAdapter
from flowcraft_redis.backend import DEFAULT_PREFIX
from flowcraft_redis.clients import AnyClient, link_of
from flowcraft_redis.keys import encode
from flowcraft_redis.meta import Meta
from flowcraft_redis.store import RedisRunStore

__all__ = ["RedisContext"]


class RedisContext(StoredContext):
    """The keys that a run's nodes share, as they were last committed; ``async with`` closes its connection.

    In Redis it is a hash of JSON texts, ``{prefix:0}:workflow:state:{run_id}``, which ``HGETALL`` shows to anyone. That
    hash must not be written: the run would not know. `set` and `delete` are events of the run instead, like
    `RunHandle.patch_context`, and need an adapter.

    Args:
        source: a client of redis-py's asyncio part, which stays the caller's; or an adapter that is open.
        run_id: of the run.
        prefix, codec: those of the adapter that the run was started with, if ``source`` is a client.
    """

    def __init__(
        self,
        source: AnyClient | RedisAdapter,
        run_id: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        codec: Codec | None = None,
    ) -> None:
        if isinstance(source, RedisAdapter):
            self._link = None
            self._meta = source.backend.queue.meta
            super().__init__(source.store, run_id, codec or source.runtime.codec, source)
        else:
            self._link = link_of(source)
            self._meta = Meta(self._link, prefix, None)
            super().__init__(RedisRunStore(self._link, self._meta), run_id, codec or JsonCodec())
        self._looked = False

    async def aclose(self) -> None:
        """Give the connection back. The client, or the adapter, stays open."""
        if self._link is not None:
            await self._link.aclose()

    async def prepare(self) -> None:
        """See `StoredContext`. The number of partitions says where the run is."""
        if not self._looked:
            await self._meta.look()
            self._looked = True

    async def key(self) -> str:
        """The name of the hash in Redis."""
        await self.prepare()
        id = encode(self.run_id)
        return self._meta.keys.of(id).state(id).decode()
