"""Leases, counters and limits: what is particular to Redis. The contract itself is checked in `test_conformance`."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from flowcraft.errors import InvalidRequest
from flowcraft_redis import RedisBackend


async def test_increment_of_a_text_is_refused_as_such(backend: RedisBackend) -> None:
    assert await backend.coordination.set_if_not_exist("k", "text", 60)
    with pytest.raises(InvalidRequest):
        await backend.coordination.increment("k", 60)


async def test_more_leases_than_one_script_takes(backend: RedisBackend) -> None:
    leases = backend.coordination
    keys = [f"lease {number}" for number in range(4500)]
    assert await leases.claim(keys[:2], "other", 60) == [True, True]
    assert await leases.claim(keys, "me", 60) == [False, False] + [True] * 4498
    assert await leases.renew(keys, "me", 60) == ["other", "other"] + ["mine"] * 4498
    await leases.revoke(keys[:3000])
    await leases.release(keys, "me")
    assert await leases.holders(keys) == ["other", "other"] + [None] * 4498


async def test_everything_has_a_time_to_live(backend: RedisBackend, client: Redis, prefix: str) -> None:
    """What nobody asks for again goes by itself."""
    keys = backend.coordination
    await keys.increment("counter", 50)
    await keys.increment("counter", 50)
    await keys.set_if_not_exist("text", "value", 50)
    await keys.claim(["lease", "revoked"], "me", 50)
    await keys.revoke(["revoked"])
    await keys.acquire_slot("slot", "me", 2, 50)
    await keys.take("rate", 1, 50.0, 2)
    names = [name async for name in client.scan_iter(f"{{{prefix}:coordination}}*")]
    assert len(names) == 6
    for name in names:
        assert 0 < await client.ttl(name) <= 52
