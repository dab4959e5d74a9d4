"""Run store: documents are listed, newest first, by status and blueprint, each once."""

from __future__ import annotations

import asyncio
import itertools

from flowcraft.conformance.asking import ids, listed, lists, near
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.store_committing import version_of
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Violated, equal, expect
from flowcraft.conformance.making import change, index, new
from flowcraft.errors import InvalidRequest

__all__ = ["checks"]

checks = Collection("store", "list")


@checks.check("newest-first", kills=("store-list-latest-update-first", "store-list-oldest-first"))
async def newest_first(env: Env) -> None:
    """Documents are listed by when they were created, newest first, whatever has happened to them since.

    People look for the run that they have just started.
    """
    times = [3.0, 1.0, 2.0, 5.0, 4.0]
    for number, at in enumerate(times):
        await env.store.create(new(f"r{number}", created_at=at))
    await env.store.commit([change("r1", await version_of(env.store, "r1"), "t1", at=index(updated_at=99.0))])
    for limit in (100, 2):
        await lists(env, ["r3", "r4", "r0", "r2", "r1"], f"what is listed, in pages of {limit}", limit=limit)


@checks.check("by-status-and-blueprint", kills=("store-list-ignores-blueprint",))
async def by_status_and_blueprint(env: Env) -> None:
    """A listing has all documents of a status, of a blueprint, or of both, and no other.

    "All failed orders" must not show other flows' runs, and must not miss one.
    """
    for number in range(12):
        made = new(
            f"r{number}", status="running" if number % 2 else "failed", created_at=float(number),
            blueprint_id=f"b{number % 3}",
        )  # fmt: skip
        await env.store.create(made)
    expected = {
        (None, None): [f"r{n}" for n in range(11, -1, -1)],
        ("failed", None): ["r10", "r8", "r6", "r4", "r2", "r0"],
        (None, "b1"): ["r10", "r7", "r4", "r1"],
        ("failed", "b1"): ["r10", "r4"],
        ("running", "b1"): ["r7", "r1"],
        ("completed", None): [],
        (None, "b"): [],
        ("failed", "b9"): [],
    }
    for (status, blueprint_id), names in expected.items():
        for limit in (100, 2, 1):
            what = f"status {status!r}, blueprint {blueprint_id!r}, in pages of {limit}"
            await lists(env, names, what, status=status, blueprint_id=blueprint_id, limit=limit)


@checks.check("follows-commits", kills=("store-list-stale-status",))
async def follows_commits(env: Env) -> None:
    """A document is listed under the status of its latest commit only, from that commit on.

    A dashboard would show a run as failed and as running at the same time.
    """
    await env.store.create(new("run", status="s0"))
    for number in range(1, 6):
        step = change("run", await version_of(env.store, "run"), f"t{number}", at=index(f"s{number}"))
        await env.store.commit([step])
        await lists(env, ["run"], "listed under the new status", status=f"s{number}")
        await lists(env, [], "listed under the old status", status=f"s{number - 1}")


@checks.check("rows", kills=("store-list-rows-of-creation",))
async def rows_tell(env: Env) -> None:
    """A row tells id, status, blueprint, times and token as of the latest commit.

    Who removes or resumes what is listed does it by the token in the row.
    """
    await env.store.create(new("run", created_at=4.0, blueprint_id="b2", wake_at=1.0))
    step = change("run", await version_of(env.store, "run"), "t1", at=index("failed", 7.5, 8.25))
    await env.store.commit([step])
    await lists(env, ["run"], "documents with the new status", status="failed")
    (row,) = await listed(env.store, status="failed")
    told = (row.run_id, row.status, row.blueprint_id, row.blueprint_hash, row.token)
    equal(told, ("run", "failed", "b2", "", "t1"), "the row")
    for actual, expected, what in (
        (row.created_at, 4.0, "created_at"), (row.updated_at, 8.25, "updated_at"), (row.wake_at, 7.5, "wake_at"),
    ):  # fmt: skip
        near(actual, expected, what)
    expect(await env.store.delete("run", row.token), "the token in the row is good for a removal")


@checks.check("lasting-once", kills=("store-list-by-offset",))
async def lasting_once(env: Env) -> None:
    """A document that exists throughout the paging appears exactly once, whatever comes and goes meanwhile.

    Who pages through all runs to remove or count them would miss some, or meet some twice.
    """
    store, lasting = env.store, [f"old{n:02}" for n in range(40)]
    for number, name in enumerate(lasting):
        await store.create(new(name, created_at=10.0 + number % 5))
    for number in range(4):
        await store.create(new(f"leaves{number}", created_at=14.0))
    everyone = sorted([*lasting, *(f"leaves{number}" for number in range(4))])
    await lists(env, everyone, "documents before the paging", ordered=False)
    found: list[str] = []
    after: str | None = None
    for number in itertools.count():
        page = await store.list(limit=7, after=after)
        found += ids(page.items)
        await store.create(new(f"new{number}", created_at=10.0 + number % 6))
        await store.delete(f"leaves{number}", "t0")
        await store.commit([change("old03", await version_of(store, "old03"), f"t{number}.")])
        after = page.after
        if after is None or number > 40:
            break
    equal(sorted(name for name in found if name in lasting), lasting, "documents that were there all the time")


@checks.check("ties", kills=("store-list-ties-lost",))
async def ties(env: Env) -> None:
    """Documents that were created at the same time are all listed, each once, also where a page ends among them.

    A program that starts a hundred runs at once makes a hundred of the same time.
    """
    names = [f"r{n:02}" for n in range(25)]
    await asyncio.gather(*(env.store.create(new(name, created_at=10.0, blueprint_id="b")) for name in names))
    for limit in (1, 4, 24, 100):
        await lists(env, names, f"what is listed, in pages of {limit}", limit=limit, ordered=False)
        what = f"what is listed by status and blueprint, in pages of {limit}"
        await lists(env, names, what, status="running", blueprint_id="b", limit=limit, ordered=False)


@checks.check("by-kind", kills=("store-list-mixes-kinds",))
async def by_kind(env: Env) -> None:
    """`list` has documents of one kind only.

    Leases and dedup keys among the runs would be cancelled and resumed as runs.
    """
    for kind in ("run", "lease", "dedup", "schedule", "dead", "meta"):
        await env.store.create(new(f"a {kind}", kind=kind))
        await env.store.create(new("same", f"token of {kind}", created_at=6.0, kind=kind))
    for kind in ("run", "lease", "dedup", "schedule", "dead", "meta"):
        await lists(env, ["same", f"a {kind}"], f"documents of kind {kind!r}", kind=kind)
        await lists(env, ["same", f"a {kind}"], f"documents of kind {kind!r}", kind=kind, status="running", limit=1)
        rows = await listed(env.store, kind=kind)
        equal(rows[0].token, f"token of {kind}", f"the token of a document of kind {kind!r}")


@checks.check("cursors-are-input", kills=("store-cursor-error-passes", "store-cursor-is-a-key"))
async def cursors_are_input(env: Env) -> None:
    """A cursor that the store never made is refused with `InvalidRequest`, or understood; nothing else happens.

    It comes with a request over the network; an error of the driver would be told to whoever sent it.
    """
    await env.store.create(new("run", wake_at=1.0))
    tried = (
        "", "x", "[]", "[1]", "null", "[1,2,3]", "[[],[]]", '["a","b"]', "\x00", "'; --", "[" * 100_000, "ab" * 1000,
    )  # fmt: skip
    for cursor in tried:
        for asked in ("list", "due"):
            try:
                await (env.store.list(after=cursor) if asked == "list" else env.store.due(9.0, after=cursor))
            except InvalidRequest:
                continue
            except Exception as error:
                raise Violated(f"{asked}(after={cursor[:20]!r}) raised {type(error).__name__}: {error}") from error


@checks.check("own-commits-at-once", level=2, kills=("store-list-lags",))
async def own_commits_at_once(env: Env) -> None:
    """A commit, a creation and a removal are seen by the `list` that follows, without waiting.

    The contract promises it of `list`, unlike of `due`: a user who has started a run looks for it at once.
    """
    for number in range(10):
        await env.store.create(new(f"r{number}", created_at=float(number)))
        equal(ids(await listed(env.store))[:1], [f"r{number}"], "the newest after a creation")
        await env.store.commit(
            [change(f"r{number}", await version_of(env.store, f"r{number}"), "t1", at=index("done"))]
        )
        equal(len(await listed(env.store, status="done")), number + 1, "documents with the status of a commit")
    expect(await env.store.delete("r9", "t1"), "the removal")
    equal(len(await listed(env.store)), 9, "documents after a removal")
