"""Another process on the same SQLite file, for `test_sqlite_processes.py`: ``python process.py COMMAND FILE ...``."""

from __future__ import annotations

import asyncio
import os
import sys

from flowcraft.clock import SystemClock
from flowcraft.errors import Misconfigured
from flowcraft.model import Change, Event, Index, Job, NewRun, ValueKey
from flowcraft.sqlite import SqliteBackend

INDEX = Index("running", 1.0, 1.0)


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def stream(backend: SqliteBackend, *_: str) -> None:
    """Create and change runs until killed, saying each that was confirmed."""
    backend.store.bind(backend.queue)

    async def lane(name: int) -> None:
        number = 0
        while True:
            run_id = f"{name}-{number}"
            data = {ValueKey("output", run_id): run_id.encode() * 500}
            await backend.store.create(NewRun(run_id, "", "t0", b"0", INDEX, 1.0, values=data))
            jobs, events = [Job(run_id, "n", 0, 1, "x", "q")], [Event(run_id, 1, "made", 1.0)]
            await backend.store.commit([Change(run_id, "t0", "t1", b"1", INDEX, jobs=jobs, events=events)])
            say(run_id)
            number += 1

    await asyncio.gather(*(lane(name) for name in range(8)))


async def publish(backend: SqliteBackend, delay: str, *runs: str) -> None:
    """Send jobs for these runs, and an event for each."""
    await backend.queue.publish([Job(run_id, "n", 0, 1, "x", "q") for run_id in runs], delay=float(delay))
    await backend.events.publish([Event(run_id, 0, "hint", 1.0) for run_id in runs])
    say("published")


async def hold(backend: SqliteBackend, *_: str) -> None:
    """Receive one message, say it, and keep it until killed."""
    async with backend.queue.deliveries(["q"], prefetch=1) as batches:
        async for batch in batches:
            say(batch[0].job.run_id)


async def claim(backend: SqliteBackend, *keys: str) -> None:
    """Claim leases, and say how many were free."""
    won = await backend.coordination.claim(keys, f"process {os.getpid()}", 60)
    say(sum(won))


async def fork(backend: SqliteBackend, *_: str) -> None:
    """Use the backend in a forked child, which must be refused."""
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (backend.store.ping(), backend.coordination.increment("k", 1), backend.queue.depth("q")):
            try:
                call.send(None)
            except Misconfigured as error:
                refused += "fork" in str(error)
        os._exit(refused)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))  # noqa: ASYNC222 -- the child ends at once


async def main(command: str, path: str, *arguments: str) -> None:
    async with SqliteBackend.open(path, clock=SystemClock(), queue_visibility=1.0) as backend:
        commands = {f.__name__: f for f in (stream, publish, hold, claim, fork)}
        await commands[command](backend, *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
