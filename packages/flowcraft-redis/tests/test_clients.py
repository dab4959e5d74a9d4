"""Clients and addresses as people have them: they work as they are configured, or are refused clearly."""

from __future__ import annotations

import asyncio
import logging

import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis

from flowcraft.errors import Misconfigured, Unavailable
from flowcraft.model import ValueKey
from flowcraft_redis import RedisBackend, RedisCoordinationStore
from flowcraft_redis.clients import split_options

from .conftest import MakeServer
from .making import change, event, existing, job, new


async def everything_works(backend: RedisBackend) -> None:
    """A little of each port."""
    key = ValueKey("output", "n", 1)
    await backend.store.setup()
    await backend.store.create(new("run", values={key: b"\xff\x00"}, events=[event("run", 1)], wake_at=1.0))
    (result,) = await backend.store.commit([change("run", "t0", "t1", head=b"\xfe\x00")])
    assert result.applied
    assert existing(await backend.store.load("run", want=[key])).values == {key: b"\xff\x00"}
    assert existing(await backend.store.load("run")).head == b"\xfe\x00"
    assert await backend.store.read_values("run", space="output") == {key: b"\xff\x00"}
    assert len((await backend.store.read_events("run")).items) == 1
    assert len((await backend.store.list()).items) == 1
    assert await backend.store.clock() > 1e9
    async with backend.events.subscribe() as every, backend.queue.deliveries(["é"], prefetch=2) as batches:
        await backend.events.publish([event("rün", 1)])
        assert (await anext(every)).run_id == "rün"
        waiting = asyncio.ensure_future(anext(batches))
        # The time itself is what is tested: longer than one read blocks, and than the shortest timeout of a client.
        await asyncio.sleep(1.3)
        await backend.queue.publish([job("run", "é"), job("run", "é", priority=1)])
        got = list(await waiting)
        while len(got) < 2:
            got += await anext(batches)
        await got[0].ack()
        await got[1].reject("réason")
    assert [letter.reason for letter in (await backend.queue.dead_letters()).items] == ["réason"]
    assert await backend.coordination.claim(["ä"], "mé", 30) == [True]
    assert await backend.coordination.holders(["ä"]) == ["mé"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decode_responses": True},
        {"protocol": 3},
        {"protocol": 3, "decode_responses": True},
        {"socket_timeout": 0.2},
        {"encoding": "latin-1", "decode_responses": True},
        {"health_check_interval": 1},
        {"single_connection_client": True},
    ],
    ids=str,
)
async def test_a_callers_client_works_and_stays_open(url: str, prefix: str, options: dict[str, object]) -> None:
    settings: dict[str, object] = {"protocol": 2} | options
    async with Redis.from_url(url, **settings) as client:
        async with RedisBackend.open(client, prefix=prefix) as backend:
            await everything_works(backend)
        assert await client.ping()


async def test_a_pool_of_three_is_enough(url: str, prefix: str) -> None:
    pool = BlockingConnectionPool.from_url(url, max_connections=3, timeout=1, protocol=2)
    async with Redis(connection_pool=pool) as client, RedisBackend.open(client, prefix=prefix) as backend:
        await everything_works(backend)
    await pool.aclose()


@pytest.mark.parametrize("most", [1, 2])
async def test_a_smaller_pool_is_refused(url: str, prefix: str, most: int) -> None:
    async with Redis(connection_pool=ConnectionPool.from_url(url, max_connections=most)) as client:
        with pytest.raises(Misconfigured, match="max_connections"):
            RedisBackend(client, prefix=prefix)


async def test_another_client_is_refused() -> None:
    with pytest.raises(Misconfigured, match="asyncio"):
        RedisBackend(object())  # type: ignore[arg-type] # that is the point


async def test_coordination_alone_on_a_client(client: Redis, prefix: str) -> None:
    """As it goes with any other queue and store."""
    store = RedisCoordinationStore(client, prefix=prefix)
    await store.setup()
    assert await store.claim(["a"], "me", 30) == [True]
    await store.aclose()
    await store.aclose()
    assert await client.ping()


async def test_passwords_and_users(make_server: MakeServer, prefix: str) -> None:
    server = make_server("--requirepass", "s3cret@:/")
    server.start()
    place = f"127.0.0.1:{server.port}"
    async with RedisBackend.open(f"redis://:s3cret%40%3A%2F@{place}/0", prefix=prefix) as backend:
        await everything_works(backend)
    for wrong in (f"redis://:no-such-thing@{place}/0", f"redis://nobody:no-such-thing@{place}/0", f"redis://{place}/0"):
        with pytest.raises(Misconfigured, match=place) as caught:
            async with RedisBackend.open(wrong, prefix=prefix):
                pass
        assert "no-such-thing" not in str(caught.value)


async def test_a_user_with_few_rights_and_no_config(make_server: MakeServer, prefix: str) -> None:
    """As managed services have it: neither CONFIG nor INFO."""
    server = make_server()
    server.start()
    async with Redis.from_url(server.url) as admin:
        await admin.execute_command(
            "ACL", "SETUSER", "app", "on", ">pw", f"~*{prefix}*", f"&{prefix}:events:*", f"&{prefix}:ends:*", "+@all",
            "-@admin", "-@dangerous", "-@keyspace", "+exists", "+del", "+unlink", "+pexpire", "+pexpireat",
        )  # fmt: skip
        await admin.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@read", "+@connection")
    async with RedisBackend.open(f"redis://app:pw@127.0.0.1:{server.port}/0", prefix=prefix) as backend:
        await everything_works(backend)
    with pytest.raises(Misconfigured, match="ACL"):
        async with RedisBackend.open(f"redis://reader:pw@127.0.0.1:{server.port}/0", prefix=prefix):
            pass


async def test_a_memory_policy_that_loses_runs_is_warned_of(
    make_server: MakeServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server("--maxmemory-policy", "allkeys-lru")
    server.start()
    with caplog.at_level(logging.WARNING, logger="flowcraft.redis"):
        async with RedisBackend.open(server.url, prefix=prefix):
            pass
    assert "noeviction" in caplog.text
    assert "allkeys-lru" in caplog.text


async def test_processes_agree_on_the_partitions(url: str, prefix: str) -> None:
    async with RedisBackend.open(url, prefix=prefix, partitions=3) as first:
        await first.store.create(new("run"))
        async with RedisBackend.open(url, prefix=prefix) as second:
            assert len(second.queue.meta.keys.partitions) == 3
            assert await second.store.load("run") is not None
        with pytest.raises(Misconfigured, match="3 partitions, not 2"):
            async with RedisBackend.open(url, prefix=prefix, partitions=2):
                pass


async def test_keys_of_a_later_version_are_refused(url: str, prefix: str, client: Redis) -> None:
    await client.hset(f"{prefix}:meta", mapping={"format": 99, "partitions": 1})
    with pytest.raises(Misconfigured, match="format 99"):
        async with RedisBackend.open(url, prefix=prefix):
            pass


@pytest.mark.parametrize(
    "address",
    ["", "redis://", "http://localhost", "redis://localhost:notaport", "redis://localhost:6379/0?nonsense=1",
     "redis://localhost/notanumber", "redis://localhost?partitions=many", "redis://localhost?partitions=0",
     "redis://localhost?prefix={x}", "redis://localhost:99999999"],
)  # fmt: skip
async def test_an_address_that_cannot_be_is_refused(address: str) -> None:
    with pytest.raises(Misconfigured):
        async with RedisBackend.open(address):
            pass


async def test_an_address_carries_our_options(url: str, prefix: str) -> None:
    async with RedisBackend.open(f"{url}?prefix={prefix}&partitions=2") as backend:
        await backend.store.create(new("run"))
        assert len(backend.queue.meta.keys.partitions) == 2
    async with RedisBackend.open(url, prefix=prefix) as again:
        assert await again.store.load("run") is not None
    assert (
        split_options("valkeys://u:p@h:1/2?prefix=x&ssl_cert_reqs=none")[0] == "rediss://u:p@h:1/2?ssl_cert_reqs=none"
    )


async def test_nobody_listens_there(prefix: str) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 "):
        async with RedisBackend.open("redis://127.0.0.1:1/0", prefix=prefix):
            pass
