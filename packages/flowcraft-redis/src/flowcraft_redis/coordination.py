"""Leases, counters and limits in Redis, by its clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final, Literal, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from flowcraft.errors import InvalidRequest
from flowcraft.tokenbucket import check_limit
from flowcraft_redis import scripts
from flowcraft_redis.clients import link_of
from flowcraft_redis.keys import Keyspace, encode
from flowcraft_redis.link import Link
from flowcraft_redis.scripts import Script
from flowcraft_redis.wire import Argument

__all__ = ["RedisCoordinationStore"]

_SLICE: Final = 2000  # leases of one call
_STANDINGS: Final[dict[int, Literal["mine", "other", "gone"]]] = {1: "mine", 0: "other", -1: "gone"}


class RedisCoordinationStore:
    """See the protocol. A revoked lease belongs to nobody new until its time is over or its holder releases it.

    It goes with any queue and store. On a cluster all of it lies on one node.

    Args:
        client: of redis-py's asyncio part; it stays the caller's.
        prefix: how the names of all keys begin.
    """

    def __init__(self, client: Redis | RedisCluster | Link, *, prefix: str = "flowcraft") -> None:
        self._owned = isinstance(client, Redis | RedisCluster)
        self._link: Link = link_of(client) if isinstance(client, Redis | RedisCluster) else client
        self._keys = Keyspace(prefix, 1)

    async def setup(self) -> None:
        """Nothing to create."""

    async def aclose(self) -> None:
        """Close the connection, unless it is shared with other ports. The client stays open."""
        if self._owned:
            await self._link.aclose()

    async def increment(self, key: str, ttl_seconds: float) -> int:
        """See the protocol. A key that holds other text is refused with `InvalidRequest`."""
        total = await self._link.run(scripts.INCREMENT, [self._name(b"text", key)], (_ms(ttl_seconds),))
        if total is None:
            raise InvalidRequest(f"the key {key!r} holds no number")
        return cast("int", total)

    async def set_if_not_exist(self, key: str, value: str, ttl_seconds: float) -> bool:
        """See the protocol."""
        name = self._name(b"text", key)
        done = await self._link.call(b"SET", name, encode(value), b"NX", b"PX", _ms(ttl_seconds), writing=True)
        return done is not None

    async def extend_ttl(self, key: str, ttl_seconds: float) -> bool:
        """See the protocol."""
        extended = await self._link.call(b"PEXPIRE", self._name(b"text", key), _ms(ttl_seconds), writing=True)
        return bool(extended)

    async def get(self, key: str) -> str | None:
        """See the protocol."""
        found = await self._link.call(b"GET", self._name(b"text", key))
        return None if found is None else cast("bytes", found).decode()

    async def delete(self, key: str) -> None:
        """See the protocol."""
        await self._link.call(b"DEL", self._name(b"text", key), writing=True)

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        """See the protocol."""
        answers = await self._many(scripts.CLAIM, keys, (encode(owner), _ms(ttl)))
        return [answer == 1 for answer in answers]

    async def renew(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[Literal["mine", "other", "gone"]]:
        """See the protocol."""
        answers = await self._many(scripts.RENEW, keys, (encode(owner), _ms(ttl)))
        return [_STANDINGS[answer] for answer in answers]

    async def release(self, keys: Sequence[str], owner: str) -> None:
        """See the protocol."""
        await self._many(scripts.RELEASE, keys, (encode(owner),))

    async def holders(self, keys: Sequence[str]) -> Sequence[str | None]:
        """See the protocol. The holder of a revoked lease is still named: it may still be at work."""
        if not keys:
            return []
        found = await self._link.call(b"MGET", *(self._name(b"lease", key) for key in keys))
        return [None if lease is None else lease[1:].decode() for lease in found]

    async def revoke(self, keys: Sequence[str]) -> None:
        """See the protocol."""
        await self._many(scripts.REVOKE, keys, ())

    async def acquire_slot(self, key: str, holder: str, limit: int, ttl: float) -> bool:
        """See the protocol."""
        arguments = (encode(holder), limit, repr(float(ttl)).encode())
        return bool(await self._link.run(scripts.ACQUIRE, [self._name(b"slots", key)], arguments))

    async def release_slot(self, key: str, holder: str) -> None:
        """See the protocol."""
        await self._link.call(b"ZREM", self._name(b"slots", key), encode(holder), writing=True)

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        """See the protocol. At most ``burst`` tokens are saved up."""
        check_limit(rate, per, burst)
        arguments = (repr(float(per / rate)).encode(), burst)
        return float(await self._link.run(scripts.TAKE, [self._name(b"rate", key)], arguments))

    async def _many(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> list[int]:
        names = [self._name(b"lease", key) for key in keys]
        if not names:
            return []
        if len(names) <= _SLICE:
            return _answers(await self._link.run(script, names, arguments))
        slices = [names[start : start + _SLICE] for start in range(0, len(names), _SLICE)]
        replies = await asyncio.gather(*(self._link.run(script, some, arguments) for some in slices))
        return [answer for reply in replies for answer in _answers(reply)]

    def _name(self, what: bytes, key: str) -> bytes:
        return self._keys.coordination(what, key)


def _answers(reply: object) -> list[int]:
    return cast("list[int]", reply) if isinstance(reply, list) else []


def _ms(seconds: float) -> int:
    """At least one: a key without a time to live would stay for ever."""
    return max(1, math.ceil(seconds * 1000))
