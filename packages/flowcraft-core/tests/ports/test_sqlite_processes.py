"""Several processes on one SQLite file, some of which are killed."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flowcraft.clock import SystemClock
from flowcraft.model import ValueKey
from flowcraft.sqlite import SqliteBackend

from .making import event, existing, job
from .virtual_clock import VirtualClock

PROCESS = Path(__file__).with_name("process.py")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flow.db"


@pytest.fixture
async def backend(path: Path) -> AsyncIterator[SqliteBackend]:
    async with SqliteBackend.open(path, clock=SystemClock(), queue_visibility=1.0) as opened:
        yield opened


@pytest.fixture
async def other(path: Path, backend: SqliteBackend) -> AsyncIterator[SqliteBackend]:
    async with SqliteBackend.open(path, clock=SystemClock()) as opened:
        yield opened


async def start(command: str, path: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", str(PROCESS), command, str(path), *arguments, stdout=asyncio.subprocess.PIPE
    )


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def finish(process: asyncio.subprocess.Process) -> str:
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().strip()


async def kill(process: asyncio.subprocess.Process) -> str:
    process.kill()
    out, _ = await process.communicate()
    return out.decode()


async def test_opening_a_new_file_may_be_raced(path: Path) -> None:
    keys = [f"k{number}" for number in range(10)]
    processes = [await start("claim", path, *keys) for _ in range(4)]
    assert sum([int(await finish(process)) for process in processes]) == len(keys)


async def test_what_a_killed_process_confirmed_is_there_and_whole(path: Path) -> None:
    for _ in range(2):
        process = await start("stream", path)
        confirmed = [await line(process) for _ in range(150)]
        confirmed += (await kill(process)).splitlines()[:-1]  # the last line may be cut
        async with SqliteBackend.open(path, clock=SystemClock()) as backend:
            queued = await backend.queue.depth("q")
            changed = 0
            after: str | None = None
            seen: dict[str, str] = {}
            while True:
                page = await backend.store.list(limit=500, after=after)
                for row in page.items:
                    stored = existing(await backend.store.load(row.run_id, want=[ValueKey("output", row.run_id)]))
                    assert stored.values == {ValueKey("output", row.run_id): row.run_id.encode() * 500}
                    events = (await backend.store.read_events(row.run_id)).items
                    assert (stored.token, stored.head, len(events)) in {("t0", b"0", 0), ("t1", b"1", 1)}
                    changed += stored.token == "t1"
                    seen[row.run_id] = stored.token
                after = page.after
                if after is None:
                    break
            assert queued == changed
            assert [run_id for run_id in confirmed if seen.get(run_id) != "t1"] == []
            for run_id, token in seen.items():
                assert await backend.store.delete(run_id, token)
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.execute("DELETE FROM jobs")
        connection.close()


async def test_jobs_and_events_of_another_process_arrive(path: Path, backend: SqliteBackend) -> None:
    async with backend.queue.deliveries(["q"], prefetch=5) as batches, backend.events.subscribe() as events:
        assert await finish(await start("publish", path, "0", "one", "two")) == "published"
        batch = await anext(batches)
        assert [delivery.job.run_id for delivery in batch] == ["one", "two"]
        for delivery in batch:  # else they come again before the other process, which takes its time, has begun
            await delivery.ack()
        assert [(await anext(events)).run_id for _ in range(2)] == ["one", "two"]
        await finish(await start("publish", path, "0.1", "delayed"))
        assert (await anext(batches))[0].job.run_id == "delayed"


async def test_messages_of_a_killed_process_come_again(path: Path, backend: SqliteBackend) -> None:
    process = await start("hold", path)
    await backend.queue.publish([job("run")])
    assert await line(process) == "run"
    async with backend.queue.deliveries(["q"], prefetch=1) as batches:
        await kill(process)
        (delivery,) = await anext(batches)
        assert (delivery.job, delivery.redelivered) == (job("run"), True)
        await delivery.ack()


async def test_nothing_is_written_for_subscribers_that_are_not_there(path: Path, backend: SqliteBackend) -> None:
    async with SqliteBackend.open(path, clock=SystemClock()) as other:
        async with other.events.subscribe() as events:
            await backend.events.publish([event("run", 1)])
            assert (await anext(events)).seq == 1
        await other.store.ping()
        async with backend.events.subscribe() as own:
            await backend.events.publish([event("run", 2)])
            assert (await anext(own)).seq == 2
    async with SqliteBackend.open(path, clock=SystemClock()):
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT seq FROM bus").fetchall() == [(1,)]
        connection.close()


async def test_own_events_come_once(backend: SqliteBackend, other: SqliteBackend) -> None:
    async with backend.events.subscribe() as ours, other.events.subscribe() as theirs:
        await backend.events.publish([event("run", 1)])
        assert (await anext(theirs)).seq == 1
        await other.events.publish([event("run", 2)])
        assert [(await anext(ours)).seq for _ in range(2)] == [1, 2]


async def test_a_forked_child_is_refused(path: Path) -> None:
    assert await finish(await start("fork", path)) == "3"


async def test_leases_and_deliveries_last_from_when_they_are_written(path: Path) -> None:
    """Not from when they were asked for: another process, paused amid a commit, may hold the file for long."""
    clock = VirtualClock()
    async with SqliteBackend.open(path, clock=clock, queue_visibility=30.0) as backend:
        await backend.queue.publish([job("run")])
        assert await backend.coordination.claim(["kept"], "me", 1000.0) == [True]
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        async with backend.queue.deliveries(["q"], prefetch=10) as stream:
            received = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)  # it has asked; so have the next two
            claimed = asyncio.create_task(backend.coordination.claim(["new"], "me", 30.0))
            renewed = asyncio.create_task(backend.coordination.renew(["kept"], "me", 30.0))
            await asyncio.sleep(0.05)  # long enough for threads to meet the lock; nobody says when
            await clock.advance(100.0)
            holder.execute("COMMIT")
            holder.close()
            assert await claimed == [True]
            assert await renewed == ["mine"]
            assert await backend.coordination.holders(["new", "kept"]) == ["me", "me"]
            assert len(await received) == 1
            assert await backend.queue.depth("q") == 0, "nobody else gets it meanwhile"
