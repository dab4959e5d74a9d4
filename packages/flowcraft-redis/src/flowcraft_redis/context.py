"""A run's context, seen from outside of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from flowcraft.codec import Codec, JsonCodec
from flowcraft.errors import InvalidRequest
from flowcraft.model import ValueKey
from flowcraft.ports import RunStore
from flowcraft_redis.adapter import RedisAdapter
from flowcraft_redis.backend import DEFAULT_PREFIX
from flowcraft_redis.clients import AnyClient, link_of
from flowcraft_redis.keys import encode
from flowcraft_redis.meta import Meta
from flowcraft_redis.store import RedisRunStore

__all__ = ["RedisContext"]


class RedisContext:
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
        self.run_id = run_id
        self._adapter = source if isinstance(source, RedisAdapter) else None
        if isinstance(source, RedisAdapter):
            self._link = None
            self._store: RunStore = source.store
            self._meta = source.backend.queue.meta
            self._codec: Codec = codec or source.runtime.codec
        else:
            self._link = link_of(source)
            self._meta = Meta(self._link, prefix, None)
            self._store = RedisRunStore(self._link, self._meta)
            self._codec = codec or JsonCodec()
        self._looked = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give the connection back. The client, or the adapter, stays open."""
        if self._link is not None:
            await self._link.aclose()

    async def key(self) -> str:
        """The name of the hash in Redis."""
        await self._look()
        id = encode(self.run_id)
        return self._meta.keys.of(id).state(id).decode()

    async def get(self, key: str, default: object = None) -> Any:
        """The value of ``key``, or ``default``."""
        return (await self._read(key)).get(key, default)

    async def has(self, key: str) -> bool:
        """Whether ``key`` exists; None is a value."""
        return key in await self._read(key)

    async def to_dict(self) -> dict[str, object]:
        """All keys with their values."""
        await self._look()
        found = await self._store.read_values(self.run_id, space="context")
        return self._decoded(found)

    async def set(self, key: str, value: object) -> None:
        """Set ``key``, in a commit of its own.

        Raises:
            InvalidRequest: this context was made of a client. RunNotFound, CommandRefused: see
            `RunHandle.patch_context`.
        """
        await self._patching().patch_context(self.run_id, {key: value})

    async def delete(self, key: str) -> bool:
        """Delete ``key``, in a commit of its own; True if it existed before. Raises what `set` raises."""
        adapter = self._patching()
        existed = await self.has(key)
        await adapter.patch_context(self.run_id, {}, [key])
        return existed

    async def _read(self, key: str) -> dict[str, object]:
        await self._look()
        name = ValueKey("context", key)
        return self._decoded(await self._store.read_values(self.run_id, [name]))

    def _decoded(self, found: Mapping[ValueKey, bytes]) -> dict[str, object]:
        return {key.name: self._codec.decode(data) for key, data in found.items()}

    async def _look(self) -> None:
        if not self._looked:
            await self._meta.look()
            self._looked = True

    def _patching(self) -> RedisAdapter:
        if self._adapter is None:
            raise InvalidRequest("a write to a run's context is an event of the run: make RedisContext of an adapter")
        return self._adapter
