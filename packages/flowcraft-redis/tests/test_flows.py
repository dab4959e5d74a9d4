"""Flows through real workers on a real server give what they give in process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from flowcraft.adapter import Adapter
from flowcraft.clock import SystemClock
from flowcraft.errors import InvalidRequest
from flowcraft.model import Event
from flowcraft_redis import RedisAdapter, RedisContext, RedisRunStore, create_redis_reconciler
from flowcraft_redis.keys import encode

from .conftest import MakeServer
from .flows import INPUTS, runtime
from .waiting import until

HERE = Path(__file__).parent


@pytest.fixture(params=["redis", "valkey"])
def place(request: pytest.FixtureRequest) -> str:
    """The address of either server."""
    if request.param == "redis":
        found: str = request.getfixturevalue("url")
        return found
    make: MakeServer = request.getfixturevalue("make_server")
    server = make(binary=request.getfixturevalue("valkey"))
    server.start()
    return server.url


@asynccontextmanager
async def opened(url: str, prefix: str, **options: float) -> AsyncIterator[RedisAdapter]:
    async with RedisAdapter(runtime(), url=url, prefix=prefix, **{"tick": 0.2, **options}) as adapter:
        yield adapter


@pytest.mark.parametrize("partitions", [1, 3])
async def test_the_same_as_in_process(place: str, prefix: str, partitions: int) -> None:
    async with (
        opened(place, prefix, partitions=partitions) as one,
        opened(place, prefix) as two,
        one.worker(concurrency=20),
        two.worker(concurrency=20),
    ):
        runs = [(name, await one.start_run(name, value)) for name, value in INPUTS.items() for _ in range(3)]
        for name, run in runs:
            result = await run.result(timeout=30)
            expected = await runtime().run(name, INPUTS[name])
            assert (result.status, result.nodes) == (expected.status, expected.nodes), name
            assert (result.outputs, result.context) == (expected.outputs, expected.context), name
            events = await run.history()
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
        await idle(one)


async def test_a_client_without_a_worker_starts_signals_and_cancels(url: str, prefix: str) -> None:
    async with opened(url, prefix) as client:
        answered = await client.start_run("approval", 1)
        forgotten = await client.start_run("approval", 1)
        async with opened(url, prefix) as other, other.worker():
            await status_is(client, answered.run_id, "awaiting")
            await status_is(client, forgotten.run_id, "awaiting")
            await client.signal(answered.run_id, "answer", 21)
            assert (await answered.result(timeout=20)).output("use") == 42
            assert await client.cancel(forgotten.run_id)
            assert (await forgotten.result(timeout=20)).status == "cancelled"
            assert await client.status(answered.run_id) == "completed"


class OnlyEvents(SystemClock):
    """A clock on which nobody wakes by himself."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


async def test_a_result_is_heard_of_at_once(url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the event of the end, within 50 ms, and with one look at the store: the one that finds it."""
    looks: list[str] = []
    load = RedisRunStore.load

    async def counted(store: RedisRunStore, run_id: str, **more: Any) -> Any:
        if store is client.backend.store:
            looks.append(run_id)
        return await load(store, run_id, **more)

    monkeypatch.setattr(RedisRunStore, "load", counted)
    async with (
        RedisAdapter(runtime(OnlyEvents()), url=url, prefix=prefix) as client,
        opened(url, prefix) as other,
        other.worker(),
        other.events.subscribe() as events,  # type: ignore[union-attr] # it has one
    ):
        delays = [await heard(client, other, events, looks) for _ in range(10)]
    # Whatever else the machine does, it does not always do it: the quickest says what the way to the result costs.
    assert min(delays) < 0.05, delays


async def heard(client: Adapter, other: Adapter, events: AsyncIterator[Event], looks: list[str]) -> float:
    """Seconds from the event of a run's end to its result at a client that waits; checks how often it looked."""
    run = await client.start_run("approval", 1)
    await status_is(other, run.run_id, "awaiting")
    looks.clear()
    waiting = asyncio.ensure_future(run.result())
    await until(lambda: looks == [run.run_id])
    await other.signal(run.run_id, "answer", 1)
    async for event in events:
        if (event.run_id, event.type) == (run.run_id, "run:completed"):
            break
    began = asyncio.get_running_loop().time()
    assert (await waiting).status == "completed"
    assert looks == 2 * [run.run_id]
    return asyncio.get_running_loop().time() - began


async def test_an_idle_client_hardly_asks(make_server: MakeServer, prefix: str) -> None:
    server = make_server()
    server.start()
    async with opened(server.url, prefix) as client, Redis.from_url(server.url) as admin:
        run = await client.start_run("approval", 1)
        waiting = asyncio.ensure_future(run.result())
        await until(lambda: subscribed(admin))
        await client.status(run.run_id)  # over the same connection: what came before has been answered
        await admin.config_resetstat()
        await asyncio.sleep(6)  # the time itself is what is tested: it looks every five seconds
        stats = await admin.info("commandstats")
        ours = {
            name: row["calls"] for name, row in stats.items() if not name.startswith(("cmdstat_config", "cmdstat_info"))
        }
        waiting.cancel()
    assert sum(ours.values()) <= 2, ours


async def test_processes_that_die_lose_nothing(url: str, prefix: str) -> None:
    async with opened(url, prefix, lease_ttl=1.0) as client:
        processes = [await started(url, prefix) for _ in range(3)]
        try:
            runs = [await client.start_run(name, INPUTS[name]) for name in ("chain", "fan", "batch", "nap") * 15]
            for victim in range(2):
                await until(lambda at_least=5 * victim + 1: some_completed(client, at_least))  # type: ignore[misc] # bound at once
                processes[victim].kill()
                processes.append(await started(url, prefix))
            for run in runs:
                result = await run.result(timeout=50)
                assert result.status == "completed"
                completed = [event for event in await run.history() if event.type == "node:completed"]
                visits = [(event.node, event.visit) for event in completed]
                assert len(visits) == len(set(visits)), "no node completes twice"
        finally:
            for process in processes:
                if process.returncode is None:
                    process.kill()
                await process.wait()
        await idle(client)


async def test_losing_the_coordination_store_changes_nothing(url: str, prefix: str, client: Redis) -> None:
    async with opened(url, prefix) as adapter, adapter.worker(concurrency=20):
        runs = [await adapter.start_run(name, INPUTS[name]) for name in ("chain", "fan", "loop") * 10]
        wiping = asyncio.ensure_future(wipe(client, f"{{{prefix}:coordination}}*"))
        try:
            for run in runs:
                assert (await run.result(timeout=30)).status == "completed"
        finally:
            wiping.cancel()
            await asyncio.gather(wiping, return_exceptions=True)


async def test_after_retention_nothing_is_left(make_server: MakeServer, prefix: str) -> None:
    server = make_server()
    server.start()
    async with Redis.from_url(server.url) as client, opened(server.url, prefix, retention=5.0) as adapter:
        async with adapter.worker(concurrency=20):
            first = await adapter.start_run("chain", 0)
            await first.result(timeout=20)
            await gone(adapter)
            before = await client.dbsize()
            runs = [await adapter.start_run(name, INPUTS[name]) for name in ("chain", "fan", "batch", "parent") * 5]
            await asyncio.gather(*(run.result(timeout=30) for run in runs))  # each is there for 5 seconds only
            await gone(adapter)
        names = [name.decode() async for name in client.scan_iter()]
        left = [name for name in names if ":coordination}" not in name and ":blueprint:" not in name]
        # What stays, however many runs there were: the agreement, the stream of each queue and its group.
        assert sorted(left) == [f"{prefix}:meta", f"{{{prefix}:0}}:queue:0:flowcraft-queue"]
        assert await client.dbsize() >= 1
        assert before >= 2


async def test_anyone_can_read_context_and_status(url: str, prefix: str, client: Redis) -> None:
    async with opened(url, prefix) as adapter, adapter.worker():
        run = await adapter.start_run("approval", 1, context={"who": "me", "números": [1, 2]}, run_id="ré")
        await status_is(adapter, run.run_id, "awaiting")
        key = f"{{{prefix}:0}}:workflow:state:ré"
        assert await client.hgetall(key) == {b"who": b'"me"', "números".encode(): b"[1,2]"}
        assert await client.get(f"{{{prefix}:0}}:workflow:status:ré") == b"awaiting"
        async with RedisContext(client, run.run_id, prefix=prefix) as context:
            assert await context.key() == key
            assert await context.to_dict() == {"who": "me", "números": [1, 2]}
            assert (await context.get("who"), await context.get("none", 7)) == ("me", 7)
            assert await context.has("who")
            with pytest.raises(InvalidRequest, match="adapter"):
                await context.set("who", "you")
            writing = RedisContext(adapter, run.run_id)
            await writing.set("who", "you")
            assert await writing.delete("números")
            assert not await writing.delete("números")
            assert await context.to_dict() == {"who": "you"}
        await adapter.signal(run.run_id, "answer", 1)
        result = await run.result(timeout=20)
        assert result.context == {"who": "you"}
        assert await client.get(f"{{{prefix}:0}}:workflow:status:ré") == b"completed"


async def test_the_reconciler_sends_again_what_was_lost(url: str, prefix: str, client: Redis) -> None:
    async with opened(url, prefix, resend_after=600.0) as adapter:
        run = await adapter.start_run("chain", 0)
        stream = adapter.backend.queue.meta.keys.of(encode(run.run_id)).stream(b"flowcraft-queue", 0)
        await client.delete(stream)
        stats = await create_redis_reconciler(adapter, stalled_threshold_seconds=0.0).run()
        assert (stats.scanned, stats.stalled_runs, stats.reconciled_runs, stats.failed_runs) == (1, 1, 1, 0)
        async with adapter.worker():
            assert (await run.result(timeout=20)).status == "completed"
        stats = await create_redis_reconciler(adapter, stalled_threshold_seconds=0.0).run()
        assert (stats.scanned, stats.stalled_runs) == (0, 0)


async def test_no_command_walks_over_all_keys(make_server: MakeServer, prefix: str) -> None:
    server = make_server()
    server.start()
    async with Redis.from_url(server.url) as admin, opened(server.url, prefix, retention=5.0) as adapter:
        async with adapter.worker():
            runs = [await adapter.start_run(name, value) for name, value in INPUTS.items()]
            for run in runs:
                await run.result(timeout=30)
            await create_redis_reconciler(adapter).run()
            await gone(adapter)
        used = {name.removeprefix("cmdstat_") for name in await admin.info("commandstats")}
    assert "evalsha" in used
    assert used.isdisjoint({"keys", "scan", "hscan", "sscan", "zscan", "randomkey", "sort"}), used


async def subscribed(admin: Redis) -> bool:
    return bool(await admin.pubsub_channels())


async def some_completed(adapter: Adapter, at_least: int) -> bool:
    return len((await adapter.list(status="completed")).items) >= at_least


async def status_is(adapter: Adapter, run_id: str, wanted: str) -> None:
    async def as_wanted() -> bool:
        return await adapter.status(run_id) == wanted

    await until(as_wanted)


async def idle(adapter: Adapter) -> None:
    """No message is left: those of a process that died come again and are found stale."""

    async def nothing_waits() -> bool:
        return not await adapter.queue.depth("flowcraft-queue")

    await until(nothing_waits)


async def gone(adapter: Adapter) -> None:
    """The ticker has removed all runs."""

    async def nothing_listed() -> bool:
        return not (await adapter.list()).items

    await until(nothing_listed)


async def wipe(client: Redis, pattern: str) -> None:
    while True:
        names = [name async for name in client.scan_iter(pattern, count=10_000)]
        if names:
            await client.delete(*names)
        await asyncio.sleep(0.05)  # from one loss to the next


async def started(url: str, prefix: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "process.py"), url, prefix,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process
