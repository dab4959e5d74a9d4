"""Run store: due documents are found, in time, each once; `defer` moves them."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.asking import becomes, due_ids, finds_due, lists, near
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.store_committing import version_of
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import change, existing, index, new

__all__ = ["checks"]

checks = Collection("store", "due")


@checks.check("earliest-first", kills=("store-due-by-whole-seconds",))
async def earliest_first(env: Env) -> None:
    """Due documents come earliest first, none that is due later, none that is never due.

    What is late already must not wait behind what has just become due.
    """
    times = [5.0, 1.0, 7.0, 3.0, 9.0, 2.5, 10.0, 11.0, 4.0, 2.25]
    await asyncio.gather(*(env.store.create(new(f"r{n}", wake_at=at)) for n, at in enumerate(times)))
    await env.store.create(new("never"))
    expected = [f"r{n}" for n in (1, 9, 5, 3, 8, 0, 2, 4, 6)]
    await finds_due(env, 10.0, expected, "what is due at 10")
    await finds_due(env, 0.5, [], "what is due at 0.5")


@checks.check("never-late", kills=("store-due-late", "store-due-exclusive"))
async def never_late(env: Env) -> None:
    """A document is due from its time on: a stored time may be early by a millisecond, never late.

    A timer that is rounded up is missed by the tick that was made for it, and waits for the next one.
    """
    base = 1_700_000_000.0
    times = [base, base + 0.0004, base + 0.0005, base + 0.001, base + 0.0019, base + 0.123456, base + 0.9999]
    await asyncio.gather(*(env.store.create(new(f"r{n}", wake_at=at)) for n, at in enumerate(times)))
    for number, at in enumerate(times):
        expected = f"r{number}"

        async def there(at: float = at, expected: str = expected) -> bool:
            return expected in await due_ids(env.store, at)

        await becomes(env, there, True, f"{at!r} is due at {at!r}")
    rows = {row.run_id: row.wake_at for row in (await env.store.due(base + 10)).items}
    for number, at in enumerate(times):
        wake_at = rows.get(f"r{number}")
        near(wake_at, at, "the time in a row")
        expect(wake_at is not None and wake_at <= at, f"a row tells {wake_at!r} for {at!r}, which is late")
    await finds_due(env, base - 0.5, [], "what is due half a second early")


@checks.check("zero-is-a-time", kills=("store-wake-zero-is-never", "store-wake-none-is-now"))
async def zero_is_a_time(env: Env) -> None:
    """A document with the due time 0 is due; one without a due time never is.

    "As soon as possible" is written as 0; taken for "never", the run would stand still for ever.
    """
    await env.store.create(new("zero", wake_at=0.0))
    await env.store.create(new("never"))
    await env.store.create(new("later", wake_at=5.0))
    version = await version_of(env.store, "later")
    await env.store.commit([change("later", version, "t1", at=index(wake_at=0.0))])
    await finds_due(env, 1e11, ["later", "zero"], "what is due", ordered=False)
    near(existing(await env.store.load("zero")).index.wake_at, 0.0, "the due time that was 0")
    equal(existing(await env.store.load("never")).index.wake_at, None, "the due time of what is never due")


@checks.check("pages", kills=("store-due-last-row-lost", "store-due-pages-repeat"))
async def pages(env: Env) -> None:
    """`due` returns at most ``limit`` rows and a cursor, by which all are found, each once.

    A ticker that meets only the first page leaves the rest of a backlog where it is.
    """
    names = [f"r{n:02}" for n in range(23)]
    await asyncio.gather(*(env.store.create(new(name, wake_at=n + 1.0)) for n, name in enumerate(names)))
    for limit in (1, 7, 22, 23, 100):
        await finds_due(env, 50.0, names, f"pages of {limit}", limit=limit)


@checks.check("ties", kills=("store-due-ties-lost",))
async def ties(env: Env) -> None:
    """Documents that are due at the same time are all found, also where a page ends among them.

    A batch makes a thousand timers of one time; a cursor that is only a time skips most of them.
    """
    names = [f"r{n:02}" for n in range(20)]
    await asyncio.gather(*(env.store.create(new(name, wake_at=3.0)) for name in names))
    for limit in (1, 6, 100):
        await finds_due(env, 3.0, names, f"pages of {limit}", limit=limit, ordered=False)


@checks.check("follows-commits", kills=("store-due-stale",))
async def follows_commits(env: Env) -> None:
    """The index is that of the latest commit: earlier, later, never.

    A document that stays due under an old time is looked at for ever.
    """
    store = env.store
    await store.create(new("run", wake_at=1.0))
    version = await version_of(store, "run")
    for number, at in enumerate([8.0, 3.0, 30.0, 2.0, 2.0, 40.0]):
        (result,) = await store.commit([change("run", version, f"t{number}.", at=index(wake_at=at))])
        version = result.version
        await finds_due(env, at - 0.5, [], f"due before {at}, after step {number}")
        await finds_due(env, at, ["run"], f"due at {at}, after step {number}")

    async def row() -> list[tuple[str, float | None, str, str]]:
        return [(row.run_id, row.wake_at, row.token, row.status) for row in (await store.due(40.0)).items]

    await becomes(env, row, [("run", 40.0, "t5.", "running")], "the row")
    await store.commit([change("run", version, "end", at=index("completed"))])
    await finds_due(env, 1e11, [], "due after a commit without a due time")


@checks.check("names-each-once", kills=("store-due-duplicates",))
async def names_each_once(env: Env) -> None:
    """A document is in `due` once, however often its time has changed, there and back.

    Two rows for one run make two workers look at it with every tick.
    """
    store = env.store
    await store.create(new("run", wake_at=1.0))
    await store.create(new("other", wake_at=2.5))
    version = await version_of(store, "run")
    for number, at in enumerate([2.0, 1.0, 2.0, 1.0, 3.0, 1.0]):
        (result,) = await store.commit([change("run", version, f"t{number}.", at=index(wake_at=at))])
        version = result.version
    await finds_due(env, 5.0, ["run", "other"], "what is due")
    await finds_due(env, 5.0, ["run", "other"], "what is due, in pages of 1", limit=1)


@checks.check("by-kind", kills=("store-due-mixes-kinds",))
async def by_kind(env: Env) -> None:
    """`due` names documents of one kind only.

    The ticker would take an expired lease for a run, or remove a run as an expired lease.
    """
    for kind, at in (("run", 1.0), ("lease", 2.0), ("schedule", 3.0)):
        await env.store.create(new(f"a {kind}", wake_at=at, kind=kind))
        await env.store.create(new("same", f"token of {kind}", wake_at=at + 0.5, kind=kind))
    for kind in ("run", "lease", "schedule"):
        await finds_due(env, 9.0, [f"a {kind}", "same"], f"due of kind {kind!r}", kind=kind)
        rows = (await env.store.due(9.0, kind=kind)).items
        equal(rows[-1].token, f"token of {kind}", f"the token in a row of kind {kind!r}")
    await finds_due(env, 9.0, [], "due of a kind without documents", kind="dead")


@checks.check("defer-moves-the-time", kills=("store-defer-only-later", "store-due-ignores-defer"))
async def defer_moves_the_time(env: Env) -> None:
    """`defer` moves when a document is due; the next commit moves it again.

    The ticker puts what it cannot serve now out of its own way; else it meets the same hundred runs with every tick.
    """
    store = env.store
    await store.create(new("run", wake_at=1.0))
    expect(await store.defer("run", "t0", 50.0), "a deferral with the stored token was refused")
    await finds_due(env, 49.0, [], "due before the time it was deferred to")
    await finds_due(env, 50.0, ["run"], "due at the time it was deferred to")
    expect(await store.defer("run", "t0", 20.0), "a second deferral was refused")
    await finds_due(env, 20.0, ["run"], "due at the time it was deferred to, earlier")
    await store.commit([change("run", await version_of(store, "run"), "t1", at=index(wake_at=60.0))])
    await finds_due(env, 59.0, [], "due before the time of the next commit")
    await finds_due(env, 60.0, ["run"], "due at the time of the next commit")


@checks.check("defer-is-fenced", kills=("store-defer-any-token",))
async def defer_is_fenced(env: Env) -> None:
    """`defer` does nothing to a document that has another token by now, or is gone.

    A ticker that saw an old state would put off a timer that was set since.
    """
    store = env.store
    await store.create(new("run", wake_at=1.0))
    await store.commit([change("run", await version_of(store, "run"), "t1", at=index(wake_at=2.0))])
    expect(not await store.defer("run", "t0", 50.0), "a deferral with an old token")
    expect(not await store.defer("missing", "t1", 50.0), "a deferral of what is not there")
    expect(not await store.defer("run", "t1", 50.0, kind="lease"), "a deferral of another kind")
    await finds_due(env, 2.0, ["run"], "what is due")
    near(existing(await store.load("run")).index.wake_at, 2.0, "the stored time")
    await finds_due(env, 99.0, [], "leases that are due", kind="lease")


@checks.check("defer-moves-only-the-index", kills=("store-defer-updates", "store-defer-makes-a-version"))
async def defer_moves_only_the_index(env: Env) -> None:
    """`defer` leaves head, token and version: a commit that is under way still holds.

    Else every look of a ticker would make the work of a worker a conflict.
    """
    store = env.store
    await store.create(new("run", wake_at=1.0))
    before = existing(await store.load("run"))
    expect(await store.defer("run", "t0", 50.0), "the deferral was refused")
    after = existing(await store.load("run"))
    told = (after.head, after.token, after.version, after.index.status, after.index.updated_at)
    expected = (before.head, before.token, before.version, before.index.status, before.index.updated_at)
    equal(told, expected, "head, token, version, status and time of the last update")
    near(after.index.wake_at, 50.0, "the due time that is loaded")
    (result,) = await store.commit([change("run", before.version, "t1")])
    expect(result.applied, "a change of the version before the deferral was refused")


@checks.check("large-backlog", kills=("store-due-first-hundred",), timeout=30.0)
async def large_backlog(env: Env) -> None:
    """Any number of due documents is found, earliest first, whatever the size of a page.

    After an outage thousands are due at once; those beyond what the backend answers in one go would never be.
    """
    names = [f"r{n:03}" for n in range(250)]
    for start in range(0, len(names), 50):
        rows = [new(name, wake_at=1000.0 - n) for n, name in enumerate(names)][start : start + 50]
        await asyncio.gather(*(env.store.create(row) for row in rows))
    for limit in (100, 240):
        await finds_due(env, 2000.0, names[::-1], f"by {limit}", limit=limit)
    await lists(env, names, "what is listed", limit=90, ordered=False)
