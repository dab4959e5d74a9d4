"""What happens when something breaks: each fault is made on a real server, and told as the contract says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis

from flowcraft.errors import AdapterError, Misconfigured, Unavailable, UnknownOutcome
from flowcraft_redis import RedisBackend

from .conftest import MakeServer
from .making import change, event, existing, job, new
from .proxy import Proxy, proxy_to
from .waiting import depth_is, until, waits_for_messages


@asynccontextmanager
async def broken_network(url: str, prefix: str) -> AsyncIterator[tuple[RedisBackend, Proxy]]:
    async with proxy_to(url) as proxy, RedisBackend.open(proxy.url, prefix=prefix, visibility=0.5) as backend:
        yield backend, proxy


async def test_scripts_are_loaded_again_after_a_flush(url: str, prefix: str, client: Redis) -> None:
    async with RedisBackend.open(url, prefix=prefix) as backend:
        await backend.store.create(new("run"))
        await client.script_flush()
        changes = [change("run", "t0", "t1"), change("none", "t0", "t1")]
        results = await backend.store.commit(changes)
        assert [result.applied for result in results] == [True, False]
        assert await backend.coordination.claim(["a"], "me", 30) == [True]


async def test_a_lost_reply_is_of_unknown_outcome_and_the_commit_is_there(url: str, prefix: str) -> None:
    async with broken_network(url, prefix) as (backend, proxy):
        await backend.store.create(new("run"))
        proxy.deaf = True
        before = proxy.passed
        waiting = asyncio.ensure_future(backend.store.commit([change("run", "t0", "t1")]))
        await passed(proxy, before)
        await applied(url, prefix, "run", "t1")
        proxy.cut()
        with pytest.raises(UnknownOutcome):
            await waiting
        proxy.deaf = False
        assert existing(await backend.store.load("run")).token == "t1"
        (again,) = await backend.store.commit([change("run", "t0", "t1")])
        assert not again.applied
        assert existing(again.stored).token == "t1", "whoever tries again finds its own token"


async def test_one_lost_reply_makes_the_whole_call_unknown(url: str, prefix: str) -> None:
    async with broken_network(url, prefix) as (backend, proxy):
        await backend.store.create(new("a"))
        await backend.store.create(new("b"))
        proxy.deaf = True
        waiting = asyncio.ensure_future(backend.store.commit([change("a", "t0", "t1"), change("b", "wrong", "t1")]))
        await applied(url, prefix, "a", "t1")
        proxy.cut()
        with pytest.raises(UnknownOutcome):
            await waiting


async def test_a_question_is_asked_again(url: str, prefix: str) -> None:
    """A read changes nothing, so a broken connection is no trouble of the caller's."""
    async with broken_network(url, prefix) as (backend, proxy):
        await backend.store.create(new("run"))
        proxy.deaf = True
        before = proxy.passed
        waiting = asyncio.ensure_future(backend.store.load("run"))
        await passed(proxy, before)
        proxy.deaf = False
        proxy.cut()
        assert existing(await waiting).token == "t0"


async def test_agreeing_with_the_others_is_asked_again(url: str, prefix: str) -> None:
    """Whoever opens has no use for an unknown outcome: what is agreed on is the same the second time."""
    async with proxy_to(url) as proxy:
        backend = RedisBackend(proxy.url, prefix=prefix)
        await backend.store.ping()
        proxy.deaf = True
        before = proxy.passed
        opening = asyncio.ensure_future(backend.store.setup())
        await passed(proxy, before)
        proxy.deaf = False
        proxy.cut()
        await opening
        await backend.aclose()


async def test_an_idle_connection_that_died_loses_nothing(url: str, prefix: str, client: Redis) -> None:
    async with RedisBackend.open(url, prefix=prefix) as backend:
        await backend.store.create(new("run"))
        for number in range(5):
            await kill_clients(client)
            (result,) = await backend.store.commit([change("run", f"t{number}", f"t{number + 1}")])
            assert result.applied, "it was noticed before anything was sent"


async def test_no_server_is_unavailable(url: str, prefix: str) -> None:
    async with broken_network(url, prefix) as (backend, proxy):
        proxy.refusing = True
        proxy.cut()
        for call in (
            backend.store.ping(),
            backend.store.commit([change("run", "t0", "t1")]),
            backend.queue.publish([job("run")]),
            backend.coordination.claim(["a"], "me", 30),
            backend.events.publish([event("run", 1)]),
        ):
            with pytest.raises(Unavailable, match=str(proxy.port)):
                await call
        with pytest.raises(Unavailable):
            async with backend.events.subscribe():
                pass
        proxy.refusing = False
        await backend.store.ping()


async def test_a_receiver_says_so_and_the_next_block_works(url: str, prefix: str, client: Redis) -> None:
    async with broken_network(url, prefix) as (backend, proxy):
        async with backend.queue.deliveries(["q"], prefetch=5) as batches:
            waiting = asyncio.ensure_future(anext(batches))
            await waits_for_messages(client, batches)
            proxy.cut()
            with pytest.raises(Unavailable):
                await waiting
        await backend.queue.publish([job("run")])
        async with backend.queue.deliveries(["q"], prefetch=5) as batches:
            (delivery,) = await anext(batches)
            await delivery.ack()


async def test_a_message_in_a_lost_reply_comes_again(url: str, prefix: str, client: Redis) -> None:
    async with broken_network(url, prefix) as (backend, proxy):
        async with (
            RedisBackend.open(url, prefix=prefix) as other,
            backend.queue.deliveries(["q"], prefetch=5) as batches,
        ):
            waiting = asyncio.ensure_future(anext(batches))
            await waits_for_messages(client, batches)
            proxy.deaf = True
            await other.queue.publish([job("run")])
            await depth_is(other, 0)
            proxy.deaf = False
            proxy.cut()
            with pytest.raises(Unavailable):
                await waiting
        async with backend.queue.deliveries(["q"], prefetch=5) as batches:
            (delivery,) = await anext(batches)
            assert (delivery.job.run_id, delivery.redelivered) == ("run", True)
            await delivery.ack()


async def test_a_stalled_connection_is_given_up(url: str, prefix: str) -> None:
    async with proxy_to(url) as proxy:
        client = Redis.from_url(proxy.url, protocol=2)
        async with client, RedisBackend.open(client, prefix=prefix) as backend:
            backend.store._link._main._patience = 0.3  # type: ignore[attr-defined] # else the test would wait
            await backend.store.create(new("run"))
            proxy.stalled = True
            with pytest.raises(UnknownOutcome):
                await backend.store.commit([change("run", "t0", "t1")])
            proxy.stalled = False
            assert existing(await backend.store.load("run")).token in ("t0", "t1")


async def test_subscriptions_come_back(url: str, prefix: str) -> None:
    async with broken_network(url, prefix) as (backend, proxy), backend.events.subscribe(run_id="run") as events:
        await backend.events.publish([event("run", 1)])
        assert (await anext(events)).seq == 1
        proxy.cut()
        heard = asyncio.ensure_future(anext(events))
        async with asyncio.timeout(20):
            while not heard.done():  # what is told while it is cut off is missed
                with suppress(AdapterError):
                    await backend.events.publish([event("run", 2)])
                await asyncio.sleep(0.05)  # from one event to the next
        assert heard.result().seq == 2


async def test_a_restart_with_a_log_keeps_everything(make_server: MakeServer, prefix: str) -> None:
    server = make_server("--appendonly", "yes", "--appendfsync", "always")
    server.start()
    async with RedisBackend.open(server.url, prefix=prefix, visibility=0.5) as backend:
        await backend.store.create(new("run", wake_at=1.0))
        for number in range(5):
            await backend.queue.publish([job(f"r{number}", priority=number % 2)])
        await backend.coordination.claim(["a"], "me", 60)
        server.kill()
        with pytest.raises(Unavailable):
            await backend.store.ping()
        server.start()
        (result,) = await backend.store.commit([change("run", "t0", "t1", events=[event("run", 1)])])
        assert result.applied
        assert await backend.coordination.holders(["a"]) == ["me"]
        found: set[str] = set()
        async with backend.queue.deliveries(["q"], prefetch=5) as batches:
            while len(found) < 5:
                for delivery in await anext(batches):
                    found.add(delivery.job.run_id)
                    await delivery.ack()


async def test_a_receiver_survives_the_loss_of_all_keys(make_server: MakeServer, prefix: str) -> None:
    server = make_server()
    server.start()
    async with (
        Redis.from_url(server.url) as client,
        RedisBackend.open(server.url, prefix=prefix) as backend,
        backend.queue.deliveries(["q"], prefetch=5) as batches,
    ):
        for name in ("before", "after"):
            waiting = asyncio.ensure_future(anext(batches))
            await backend.queue.publish([job(name)])
            (delivery,) = await waiting
            assert delivery.job.run_id == name
            await delivery.ack()
            waiting = asyncio.ensure_future(anext(batches))
            await waits_for_messages(client, batches)
            await client.flushall()
            await backend.queue.publish([job("while blocked")])
            (delivery,) = await waiting
            await delivery.ack()


async def test_a_replica_takes_no_writes(make_server: MakeServer, prefix: str) -> None:
    server = make_server()
    server.start()
    async with RedisBackend.open(server.url, prefix=prefix) as backend, Redis.from_url(server.url) as client:
        await backend.store.create(new("run"))
        await client.replicaof("127.0.0.1", 1)
        with pytest.raises(Unavailable, match="replica"):
            await backend.store.commit([change("run", "t0", "t1")])
        await client.replicaof("NO", "ONE")
        assert (await backend.store.commit([change("run", "t0", "t1")]))[0].applied


async def test_no_memory_is_unavailable_and_writes_nothing(make_server: MakeServer, prefix: str) -> None:
    server = make_server()
    server.start()
    async with RedisBackend.open(server.url, prefix=prefix) as backend, Redis.from_url(server.url) as client:
        await backend.store.create(new("run"))
        await client.config_set("maxmemory", 1)
        with pytest.raises(Unavailable, match="memory"):
            await backend.store.commit([change("run", "t0", "t1", events=[event("run", 1)])])
        assert existing(await backend.store.load("run")).token == "t0"
        await client.config_set("maxmemory", 0)
        assert (await backend.store.read_events("run")).items == ()
        assert (await backend.store.commit([change("run", "t0", "t1")]))[0].applied


async def test_a_key_of_another_program_is_misconfigured(url: str, prefix: str, client: Redis) -> None:
    async with RedisBackend.open(url, prefix=prefix) as backend:
        await client.set(f"{{{prefix}:0}}:run:head:run", "not ours")
        with pytest.raises(Misconfigured, match="another prefix"):
            await backend.store.create(new("run"))


async def kill_clients(client: Redis) -> None:
    for row in await client.client_list():
        if row["name"] == "flowcraft":
            await client.client_kill_filter(_id=row["id"])


async def passed(proxy: Proxy, before: int) -> None:
    await until(lambda: proxy.passed > before)


async def applied(url: str, prefix: str, run_id: str, token: str) -> None:
    """The commit has arrived, whoever got to know."""
    async with RedisBackend.open(url, prefix=prefix) as other:

        async def is_there() -> bool:
            return existing(await other.store.load(run_id)).token == token

        await until(is_there)
