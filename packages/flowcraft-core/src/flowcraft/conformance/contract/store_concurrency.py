"""Run store: many writers through several connections lose nothing and see each other."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.asking import handles
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.store_committing import version_of
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import change, event, existing, new
from flowcraft.model import Change, ValueKey
from flowcraft.ports import RunStore

__all__ = ["checks"]

checks = Collection("store", "concurrency")


@checks.check("counts-exactly", level=3, kills=("store-lock-of-one-handle",), timeout=60.0)
async def counts_exactly(env: Env) -> None:
    """64 writers through four handles that count one document up, each by compare-and-set, lose no count.

    This is a join: every finished branch is a count, and one that is lost is a run that never ends.
    """
    await env.store.create(new("shared"))
    (result,) = await env.store.commit([change("shared", await version_of(env.store, "shared"), "0", head=b"0")])
    expect(result.applied, "the change was applied")

    async def count(store: RunStore, number: int) -> None:
        stored = existing(await store.load("shared"))
        for attempt in range(1000):
            total = str(int(stored.head) + 1).encode()
            (result,) = await store.commit([change("shared", stored.version, f"{number}-{attempt}", head=total)])
            if result.applied:
                return
            stored = existing(result.stored)

    async with handles(env, 4, lambda ports: ports.store) as stores:
        await asyncio.gather(*(count(stores[number % 4], number) for number in range(64)))
    equal(int(existing(await env.store.load("shared")).head), 64, "the count")


@checks.check("each-its-own", level=3, kills=("store-commits-cross",), timeout=60.0)
async def each_its_own(env: Env) -> None:
    """64 writers at once, each with a document of its own, never meet a conflict and always read their own writes.

    Workers share the backend, not their runs: one's work must not cost another's.
    """

    async def work(store: RunStore, run_id: str) -> None:
        key = ValueKey("context", "k")
        await store.create(new(run_id))
        version = await version_of(store, run_id)
        for step in range(1, 6):
            value = f"{run_id} {step}".encode()
            (result,) = await store.commit([change(run_id, version, f"t{step}", values={key: value})])
            expect(result.applied, f"change {step} of {run_id}, which nobody else writes, was applied")
            version = result.version
            stored = existing(await store.load(run_id, want=[key]))
            equal((stored.token, dict(stored.values)), (f"t{step}", {key: value}), f"what {run_id} reads")

    async with handles(env, 4, lambda ports: ports.store) as stores:
        await asyncio.gather(*(work(stores[number % 4], f"r{number}") for number in range(64)))


@checks.check("one-creator", level=3, kills=("store-create-lock-of-one-handle",), timeout=30.0)
async def one_creator(env: Env) -> None:
    """Of creations of one id through several handles exactly one is made.

    The web servers that take the same request twice are two processes.
    """
    async with handles(env, 4, lambda ports: ports.store) as stores:
        for round_ in range(5):
            run_id = f"r{round_}"
            made = await asyncio.gather(*(stores[n % 4].create(new(run_id, f"t{n}")) for n in range(32)))
            winners = [answer for answer in made if answer.made]
            equal(len(winners), 1, "creations that were made")
            equal({answer.token for answer in made}, {winners[0].token}, "the tokens that the creators were told")
            equal(existing(await env.store.load(run_id)).token, winners[0].token, "the token that is stored")


@checks.check("overlapping-calls", level=3, kills=("store-call-is-one-lock",), timeout=60.0)
async def overlapping_calls(env: Env) -> None:
    """Calls with many changes that overlap, in any order, all end, and each change is applied or refused on its own.

    Committers write many runs at once; two that lock the same runs in other orders must not wait for each other.
    """
    names = [f"r{n}" for n in range(12)]
    for name in names:
        await env.store.create(new(name))
    applied = dict.fromkeys(names, 0)

    async def write(store: RunStore, number: int) -> None:
        order = names[number % 12 :] + names[: number % 12]
        if number % 2:
            order.reverse()
        versions = {name: await version_of(store, name) for name in order}
        results = await store.commit([change(name, versions[name], f"{number}") for name in order])
        equal(len(results), len(order), "results")
        for name, result in zip(order, results, strict=True):
            applied[name] += result.applied
            if not result.applied:
                equal(existing(result.stored).run_id, name, "the document that a conflict brings")

    async with handles(env, 4, lambda ports: ports.store) as stores:
        await asyncio.gather(*(write(stores[number % 4], number) for number in range(16)))
    for name in names:
        expect(applied[name] >= 1, f"of all changes of {name} one was applied")


@checks.check("history-of-many", level=4, requires=["history"], kills=("store-events-of-late-writers",), timeout=60.0)
async def history_of_many(env: Env) -> None:
    """Writers that compete for one document leave a history without gaps, in which every applied change is once.

    Each numbers its events by the head it has seen; only the store decides whose count.
    """
    await env.store.create(new("run"))
    await env.store.commit([change("run", await version_of(env.store, "run"), "0", head=b"0")])
    applied: list[str] = []

    async def write(store: RunStore, number: int) -> None:
        stored = existing(await store.load("run"))
        for attempt in range(3):
            seq, token = int(stored.head) + 1, f"{number}-{attempt}"
            step = Change(
                "run", stored.version, token, str(seq).encode(), stored.index, events=[event("run", seq, by=token)]
            )
            (result,) = await store.commit([step])
            if result.applied:
                applied.append(token)
            stored = existing(await store.load("run"))

    async with handles(env, 4, lambda ports: ports.store) as stores:
        await asyncio.gather(*(write(stores[number % 4], number) for number in range(24)))
    rows = (await env.store.read_events("run")).items
    equal([row.seq for row in rows], list(range(1, len(applied) + 1)), "the numbers")
    equal(sorted(str(row.data["by"]) for row in rows), sorted(applied), "who is told of")
