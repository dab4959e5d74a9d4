"""Run store: documents of every kind, blueprints, and places that know nothing of each other."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.asking import apart, finds_due, listed
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.store_committing import version_of
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Violated, equal, expect
from flowcraft.conformance.hostile import IDS, NO_IDS
from flowcraft.conformance.making import change, event, existing, index, new
from flowcraft.errors import FlowcraftError
from flowcraft.model import ValueKey
from flowcraft.ports import RunStore

__all__ = ["checks"]

kinds = Collection("store", "kinds")
blueprints = Collection("store", "blueprints")
places = Collection("store", "places")
_KINDS = ("run", "lease", "dedup", "schedule", "dead", "meta")


@kinds.check("all-are-documents", kills=("store-kind-never-due", "store-kind-without-values"))
async def all_are_documents(env: Env) -> None:
    """Documents of every kind are created, changed, loaded with values and removed alike.

    Schedules and dedup keys hold the input of the runs that they start.
    """
    store, key, other = env.store, ValueKey("output", ""), ValueKey("context", "k")
    for kind in _KINDS:
        made = await store.create(new("id", wake_at=2.0, values={key: kind.encode(), other: b"x"}, kind=kind))
        expect(made.made, f"a {kind} was made")
        stored = existing(await store.load("id", want=[key, other], kind=kind), kind)
        equal((stored.fingerprint, dict(stored.values)), ("f-t0", {key: kind.encode(), other: b"x"}), f"the {kind}")
        step = change("id", stored.version, "t1", values={key: b"new"}, deleted=[other], at=index("s1", 3.0), kind=kind)
        (result,) = await store.commit([step])
        expect(result.applied, f"a change of a {kind} was applied")
        (lost,) = await store.commit([change("id", stored.version, "t2", kind=kind)])
        equal((lost.applied, existing(lost.stored, kind).token), (False, "t1"), f"a stale change of a {kind}")
        stored = existing(await store.load("id", want=[key, other], kind=kind), kind)
        told = (stored.token, stored.index.status, dict(stored.values))
        equal(told, ("t1", "s1", {key: b"new"}), f"the {kind} after a change")
        await finds_due(env, 3.0, ["id"], f"what is due of kind {kind!r}", kind=kind)
        expect(not await store.delete("id", "t0", kind=kind), f"a removal of a {kind} with an old token")
        expect(await store.delete("id", "t1", kind=kind), f"the removal of a {kind}")
        equal(await store.load("id", kind=kind), None, f"the {kind} that was removed")


@kinds.check("are-apart", kills=("store-kinds-share-values",))
async def are_apart(env: Env) -> None:
    """Documents of different kinds with one id have nothing in common.

    The lease, the dedup key and the run of one name are three things; one must not overwrite another.
    """
    store, key = env.store, ValueKey("context", "k")
    for kind in _KINDS:
        await store.create(new("same", f"{kind}-1", values={key: kind.encode()}, kind=kind))
    stored = existing(await store.load("same", kind="lease"))
    await store.commit([change("same", stored.version, "lease-2", values={key: b"new"}, kind="lease")])
    for kind in _KINDS:
        stored = existing(await store.load("same", want=[key], kind=kind), f"the {kind}")
        token, value = ("lease-2", b"new") if kind == "lease" else (f"{kind}-1", kind.encode())
        equal((stored.token, dict(stored.values)), (token, {key: value}), f"token and values of the {kind}")
    equal(dict(await store.read_values("same", [key])), {key: b"run"}, "what `read_values` reads is the run's")


@kinds.check("hostile-ids", kills=("store-kind-and-id-joined",), timeout=20.0)
async def hostile_ids(env: Env) -> None:
    """An id of any text is found again in `load`, `list` and `due`, in its kind and in no other.

    A kind and an id that are joined by a character which both may have are the key of another document.
    """
    store, tried = env.store, (*IDS, "lease", "lease:a", "run:a", "a:run", "lease/a", "run#a")
    for kind in ("run", "lease"):
        tokens = {run_id: f"{kind} {number}" for number, run_id in enumerate(tried)}
        made = await asyncio.gather(
            *(
                store.create(new(run_id, tokens[run_id], wake_at=1.0 + n / 100, kind=kind))
                for n, run_id in enumerate(tried)
            )
        )
        expect(all(each.made for each in made), f"ids of kind {kind!r} that were taken")
        for run_id in tried:
            stored = existing(await store.load(run_id, kind=kind), f"the {kind} {run_id!r}")
            equal((stored.run_id, stored.token), (run_id, tokens[run_id]), f"what is loaded as {run_id!r}")
        await finds_due(env, 9.0, sorted(tried), f"what is due of kind {kind!r}", kind=kind, limit=30, ordered=False)
        rows = {row.run_id: row.token for row in await listed(store, kind=kind, limit=30)}
        equal(rows, tokens, f"ids and tokens that are listed of kind {kind!r}")


@kinds.check("what-is-no-id", kills=("store-driver-error-passes",))
async def what_is_no_id(env: Env) -> None:
    """A text that is no id is refused with an error of `flowcraft.errors`, or kept as any other.

    The core refuses such ids before. If one comes through, the driver's error must not be shown to whoever sent it.
    """
    for run_id in NO_IDS:
        try:
            made = await env.store.create(new(run_id))
            stored = existing(await env.store.load(run_id))
        except FlowcraftError:
            continue
        except Violated:
            raise
        except Exception as error:
            raise Violated(f"the id {run_id[:20]!r} raised {type(error).__name__}: {error}") from error
        expect(made.made and stored.run_id == run_id, f"the id {run_id[:20]!r} was kept as {stored.run_id[:20]!r}")


@blueprints.check("stored-once", kills=("store-blueprint-overwritten",))
async def stored_once(env: Env) -> None:
    """A blueprint is found under its hash as it was stored first; storing again, or removing twice, changes nothing.

    Every run that goes on needs the blueprint it began with, byte for byte.
    """
    store = env.store
    equal(await store.load_blueprint("h"), None, "a blueprint that was never stored")
    await store.save_blueprint("h", b"one")
    await store.save_blueprint("h", b"two")
    equal(_bytes(await store.load_blueprint("h")), b"one", "the stored blueprint")
    await store.delete_blueprint("h")
    await store.delete_blueprint("h")
    equal(await store.load_blueprint("h"), None, "the removed blueprint")
    await store.save_blueprint("h", b"three")
    equal(_bytes(await store.load_blueprint("h")), b"three", "the blueprint that was stored again")


@blueprints.check("any-content", kills=("store-blueprint-cut",))
async def any_content(env: Env) -> None:
    """A blueprint of 200 KB, empty or binary, comes back as it was; blueprints with different hashes are different.

    A flow of a thousand nodes has as much; cut, no run of it can ever go on.
    """
    rng, contents = env.rng, {"0" * 64: b"", "a" * 64: bytes(range(256)), "A" * 64: b"{}", "f" * 64: b"\x00'--"}
    most = env.store.capabilities.max_value_bytes
    contents["e" * 64] = rng.randbytes(200_000 if most is None else min(200_000, most))
    await asyncio.gather(*(env.store.save_blueprint(name, data) for name, data in contents.items()))
    for name, data in contents.items():
        stored = await env.store.load_blueprint(name)
        expect(stored is not None and bytes(stored) == data, f"a blueprint of {len(data)} bytes came back otherwise")


@blueprints.check("raced", kills=("store-blueprint-race-fails",))
async def raced(env: Env) -> None:
    """Any number of processes may store one blueprint at the same time.

    All workers that start together with a new version of the code do.
    """
    await asyncio.gather(*(env.store.save_blueprint("h", b"data") for _ in range(30)))
    equal(_bytes(await env.store.load_blueprint("h")), b"data", "the stored blueprint")


@places.check("are-apart", kills=("store-places-shared",))
async def places_are_apart(env: Env) -> None:
    """Two namespaces on one backend share no document, value, event, blueprint, index or listing.

    Two teams, or production and staging, must not execute each other's runs.
    """
    store, key = env.store, ValueKey("context", "k")
    async with apart(env) as ports:
        other = existing_store(ports.store)
        await store.create(new("run", wake_at=1.0, values={key: b"ours"}, events=[event("run", 1)]))
        await store.save_blueprint("h", b"ours")
        equal(await other.load("run"), None, "our run, elsewhere")
        equal(await other.load_blueprint("h"), None, "our blueprint, elsewhere")
        made = await other.create(new("run", "theirs", values={key: b"theirs"}))
        expect(made.made, "the id is free elsewhere")
        await other.commit([change("run", await version_of(other, "run"), "theirs 2", at=index("other"))])
        equal([row.token for row in await listed(other)], ["theirs 2"], "what is listed elsewhere")
        equal([row.token for row in await listed(store)], ["t0"], "what is listed here")
        await finds_due(env, 9.0, [], "what is due elsewhere", store=other)
        equal(len((await other.read_events("run")).items), 0, "events elsewhere")
        await other.delete_blueprint("h")
        expect(await other.delete("run", "theirs 2"), "the removal elsewhere")
        stored = existing(await store.load("run", want=[key]), "our run")
        equal((stored.token, dict(stored.values)), ("t0", {key: b"ours"}), "our run after a removal elsewhere")
        equal(_bytes(await store.load_blueprint("h")), b"ours", "our blueprint after a removal elsewhere")


def existing_store(store: RunStore | None) -> RunStore:
    """The store of another place."""
    if store is None:
        raise Violated("another place has no store")
    return store


def _bytes(data: bytes | None) -> bytes | None:
    return None if data is None else bytes(data)


checks = (*kinds, *blueprints, *places)
