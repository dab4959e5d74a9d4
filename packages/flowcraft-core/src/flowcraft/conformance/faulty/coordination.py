"""A coordination store as one process sees it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal

from flowcraft.conformance.faulty.line import Line
from flowcraft.conformance.faulty.plans import Call, Fault
from flowcraft.ports import CoordinationStore

__all__ = ["FaultyCoordination"]


class FaultyCoordination:
    """See `CoordinationStore`; ``inner`` is the real one.

    Keys carry the weather's generation, so that any store can forget everything at a moment's notice.
    """

    def __init__(self, inner: CoordinationStore, line: Line) -> None:
        self.inner = inner
        self._line = line

    def _calling(self, method: str) -> AbstractAsyncContextManager[Fault | None]:
        return self._line.calling(Call("coordination", method))

    def _key(self, key: str) -> str:
        generation = self._line.weather.generation
        return f"{generation}:{key}" if generation else key

    def _keys(self, keys: Sequence[str]) -> Sequence[str]:
        return [self._key(key) for key in keys]

    async def setup(self) -> None:
        """See the protocol."""
        async with self._calling("setup"):
            await self.inner.setup()

    async def aclose(self) -> None:
        """See the protocol. The real port belongs to whoever opened it."""

    async def increment(self, key: str, ttl_seconds: float) -> int:
        """See the protocol."""
        async with self._calling("increment"):
            return await self.inner.increment(self._key(key), ttl_seconds)

    async def set_if_not_exist(self, key: str, value: str, ttl_seconds: float) -> bool:
        """See the protocol."""
        async with self._calling("set_if_not_exist"):
            return await self.inner.set_if_not_exist(self._key(key), value, ttl_seconds)

    async def extend_ttl(self, key: str, ttl_seconds: float) -> bool:
        """See the protocol."""
        async with self._calling("extend_ttl"):
            return await self.inner.extend_ttl(self._key(key), ttl_seconds)

    async def get(self, key: str) -> str | None:
        """See the protocol."""
        async with self._calling("get"):
            return await self.inner.get(self._key(key))

    async def delete(self, key: str) -> None:
        """See the protocol."""
        async with self._calling("delete"):
            await self.inner.delete(self._key(key))

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        """See the protocol."""
        async with self._calling("claim"):
            return await self.inner.claim(self._keys(keys), owner, ttl)

    async def renew(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[Literal["mine", "other", "gone"]]:
        """See the protocol."""
        async with self._calling("renew"):
            return await self.inner.renew(self._keys(keys), owner, ttl)

    async def release(self, keys: Sequence[str], owner: str) -> None:
        """See the protocol."""
        async with self._calling("release") as fault:
            if fault != "dropped":
                await self.inner.release(self._keys(keys), owner)

    async def holders(self, keys: Sequence[str]) -> Sequence[str | None]:
        """See the protocol."""
        async with self._calling("holders"):
            return await self.inner.holders(self._keys(keys))

    async def revoke(self, keys: Sequence[str]) -> None:
        """See the protocol."""
        async with self._calling("revoke") as fault:
            if fault != "dropped":
                await self.inner.revoke(self._keys(keys))

    async def acquire_slot(self, key: str, holder: str, limit: int, ttl: float) -> bool:
        """See the protocol."""
        async with self._calling("acquire_slot"):
            return await self.inner.acquire_slot(self._key(key), holder, limit, ttl)

    async def release_slot(self, key: str, holder: str) -> None:
        """See the protocol."""
        async with self._calling("release_slot"):
            await self.inner.release_slot(self._key(key), holder)

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        """See the protocol."""
        async with self._calling("take"):
            return await self.inner.take(self._key(key), rate, per, burst)
