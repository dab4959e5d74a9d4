"""Run store: several processes at once, some of which are killed amid their work."""

from __future__ import annotations

import asyncio
import secrets

from flowcraft.conformance.asking import listed
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.store_committing import version_of
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import change, event, existing, new
from flowcraft.model import ValueKey
from flowcraft.ports import RunStore

__all__ = ["checks"]

checks = Collection("store", "processes")

_NEEDED = ("durable", "elsewhere")
_OUTPUT = ValueKey("output", "n")
_STEPS = 25
#: Runs until a process says what was confirmed; and until it says that the store keeps the event loop to itself.
_ENOUGH, _STARVING = 40, 400


async def count_up(env: Env) -> int:
    """Count a document up, by compare-and-set; how many attempts were refused."""
    refused, stored = 0, existing(await env.store.load("counter"))
    for _ in range(_STEPS):
        while True:
            total = str(int(stored.head) + 1).encode()
            token = secrets.token_hex(8)
            (result,) = await env.store.commit([change("counter", stored.version, token, head=total)])
            stored = existing(await env.store.load("counter"))
            if result.applied:
                break
            refused += 1
    return refused


@checks.check("count-exactly", level=3, requires=_NEEDED, timeout=90.0)
async def count_exactly(env: Env) -> None:
    """Processes that count one document up by compare-and-set lose no count.

    No mutant of its own: a mutant in memory is of one process. It is here because locks, caches and connections of a
    process may hide in one process what happens between two.
    """
    await env.store.create(new("counter"))
    first = change("counter", await version_of(env.store, "counter"), "0", head=b"0")
    expect((await env.store.commit([first]))[0].applied, "the change was applied")
    await asyncio.gather(*(env.elsewhere(count_up) for _ in range(3)))
    equal(int(existing(await env.store.load("counter")).head), 3 * _STEPS, "the count")


async def write_on(env: Env) -> list[str]:
    """Create and change runs for ever; returns those that were confirmed when 40 were, and writes on."""
    confirmed: list[str] = []
    enough, heard = asyncio.Event(), asyncio.Event()

    async def lane(store: RunStore, name: int) -> None:
        for number in range(1_000_000):
            run_id = f"{name}-{number}"
            await store.create(new(run_id, values={_OUTPUT: b"t0" * 500}))
            version, events = await version_of(store, run_id), [event(run_id, 1)]
            await store.commit([change(run_id, version, "t1", values={_OUTPUT: b"t1" * 500}, events=events)])
            confirmed.append(run_id)
            if len(confirmed) >= _ENOUGH:
                enough.set()
            if len(confirmed) >= _STARVING and not heard.is_set():
                return

    lanes = [asyncio.create_task(lane(env.store, name)) for name in range(4)]
    _KEPT.extend(lanes)  # they go on until the process is killed
    await enough.wait()
    heard.set()
    told = f"{len(confirmed)} runs were written in a loop before the task that waited for {_ENOUGH} of them had a turn"
    expect(len(confirmed) < _STARVING, f"{told}: a method that never waits must yield to the event loop")
    return confirmed[:]


_KEPT: list[asyncio.Task[None]] = []


@checks.check("killed-amid-writing", level=2, requires=_NEEDED, timeout=90.0)
async def killed_amid_writing(env: Env) -> None:
    """After a process was killed while it wrote, what it was told is there, and all that is there is whole.

    No mutant of its own: what is torn by a kill lies in a file or a server. It is here because workers are killed, and
    half a commit would stop its run for ever.
    """
    async with env.process(write_on) as confirmed:
        await asyncio.sleep(0.05)  # it writes on; wherever it is when it is killed is as good as any other place
    there: dict[str, str] = {}
    for row in await listed(env.store):
        stored = existing(await env.store.load(row.run_id, want=[_OUTPUT]), "what is listed")
        there[row.run_id] = stored.token
        equal(dict(stored.values), {_OUTPUT: stored.token.encode() * 500}, f"the value beside the token {stored.token}")
        if env.store.capabilities.history:
            seen = len((await env.store.read_events(row.run_id)).items)
            equal(seen, 1 if stored.token == "t1" else 0, f"events beside the token {stored.token}")  # noqa: S105
    expect(isinstance(confirmed, list), "the process told what was confirmed")
    lost = [run_id for run_id in confirmed if there.get(run_id) != "t1"] if isinstance(confirmed, list) else []
    equal(lost, [], "runs that were confirmed and are not there")
