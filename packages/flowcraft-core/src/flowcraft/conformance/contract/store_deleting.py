"""Run store: a document goes with all that is its own, and with nothing else."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.asking import cut_off, finds_due, handles, listed, lists
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.store_committing import version_of
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.hostile import IDS
from flowcraft.conformance.making import change, event, existing, index, new
from flowcraft.model import ValueKey

__all__ = ["checks"]

checks = Collection("store", "delete")


@checks.check("is-fenced", kills=("store-delete-refused-takes-events", "store-delete-any-token"))
async def is_fenced(env: Env) -> None:
    """A document that has another token by now is not removed, and nothing of it is.

    A run that was resumed after its retention time was looked at must not vanish while it works.
    """
    key = ValueKey("context", "k")
    await env.store.create(new("run", values={key: b"v"}, events=[event("run", 1)]))
    await env.store.commit([change("run", await version_of(env.store, "run"), "t1", at=index(wake_at=1.0))])
    expect(not await env.store.delete("run", "t0"), "a removal with an old token said that the document is gone")
    stored = existing(await env.store.load("run", want=[key]))
    equal((stored.token, dict(stored.values)), ("t1", {key: b"v"}), "token and values after a refused removal")
    await finds_due(env, 1.0, ["run"], "what is due after a refused removal")
    if env.store.capabilities.history:
        equal(len((await env.store.read_events("run")).items), 1, "events after a refused removal")


@checks.check("takes-everything", kills=("store-delete-leaves-outputs", "store-delete-leaves-events"))
async def takes_everything(env: Env) -> None:
    """A removal takes the document, its values, its events, and its places in the index and in listings.

    What stays is found by the next run with this id, and is never removed again.
    """
    store, keys = env.store, [ValueKey("context", "k"), ValueKey("output", "n", 3)]
    first = new("run", wake_at=1.0, fingerprint="old", values=dict.fromkeys(keys, b"v"), events=[event("run", 1)])
    await store.create(first)
    expect(await store.delete("run", "t0"), "the removal")
    equal(await store.load("run"), None, "the document")
    equal(dict(await store.read_values("run", keys)), {}, "its values")
    equal(dict(await store.read_values("run", space="context")), {}, "its context")
    equal(len((await store.read_events("run")).items), 0, "its events")
    await finds_due(env, 9.0, [], "what is due")
    await lists(env, [], "what is listed")
    expect((await store.create(new("run", "t9", fingerprint="new"))).made, "the id is free again")
    stored = existing(await store.load("run", want=keys))
    equal((dict(stored.values), stored.fingerprint), ({}, "new"), "values and fingerprint of the next with its id")
    equal(dict(await store.read_values("run", space="output")), {}, "outputs of the next with its id")
    equal(len((await store.read_events("run")).items), 0, "events of the next with its id")
    await finds_due(env, 9.0, [], "whether the next with its id is due")


@checks.check("may-be-repeated", kills=("store-delete-twice-fails",))
async def may_be_repeated(env: Env) -> None:
    """A removal of what is gone, or never was, is a success.

    It is repeated after a crash or an unknown outcome, and must come to an end.
    """
    await env.store.create(new("run"))
    answers = [await env.store.delete("run", "t0") for _ in range(3)]
    equal(answers, [True, True, True], "three removals")
    expect(await env.store.delete("never was", "t0"), "the removal of what never was")
    expect(await env.store.delete("never was", "t0", kind="lease"), "the removal of a kind that never was")


@checks.check("only-its-own", kills=("store-delete-by-prefix",))
async def only_its_own(env: Env) -> None:
    """A removal leaves every other document with all of its values and events, whatever the ids.

    A pattern or a prefix in an id would remove a neighbour's data.
    """
    store, key, tried = (
        env.store,
        ValueKey("context", "k"),
        (*IDS, "ru", "run", "run1", "run/1", "run:1", "run#1", "run.1"),
    )
    await asyncio.gather(
        *(store.create(new(name, values={key: name.encode()}, events=[event(name, 1)])) for name in tried)
    )
    gone = [name for number, name in enumerate(tried) if number % 3 == 0 or name == "run"]
    for name in gone:
        expect(await store.delete(name, "t0"), f"the removal of {name!r}")
    for name in tried:
        stored = await store.load(name, want=[key])
        equal(stored is None, name in gone, f"{name!r} is gone")
        if stored is not None:
            equal(dict(stored.values), {key: name.encode()}, f"what {name!r} holds")
            if store.capabilities.history:
                equal(len((await store.read_events(name)).items), 1, f"events of {name!r}")


@checks.check("only-its-kind", kills=("store-delete-takes-all-kinds",))
async def only_its_kind(env: Env) -> None:
    """A removal is of one kind: a document of another kind with the same id stays, with its values.

    A dedup key that expires must not take the run of its name along.
    """
    key = ValueKey("context", "k")
    for kind in ("run", "dedup", "schedule"):
        await env.store.create(new("same", values={key: kind.encode()}, kind=kind))
    expect(await env.store.delete("same", "t0", kind="dedup"), "the removal")
    equal(await env.store.load("same", kind="dedup"), None, "what was removed")
    for kind in ("run", "schedule"):
        stored = existing(await env.store.load("same", want=[key], kind=kind), f"the {kind}")
        equal(dict(stored.values), {key: kind.encode()}, f"the values of the {kind}")


@checks.check("cut-off-can-be-repeated", kills=("store-delete-head-first",))
async def cut_off_can_be_repeated(env: Env) -> None:
    """A removal that was interrupted can be repeated, and then nothing is left.

    With the head gone first, nobody would ever find the values again.
    """
    keys = [ValueKey("context", f"k{n}") for n in range(30)]
    for turns in range(12):
        run_id = f"r{turns}"
        await env.store.create(new(run_id, values=dict.fromkeys(keys, b"v"), events=[event(run_id, 1)]))
        await cut_off(env, env.store.delete(run_id, "t0"), turns)
        stored = await env.store.load(run_id)
        expect(stored is None or existing(stored).token[:2] == "t0", "an interrupted removal made another token")
        if stored is not None:
            expect(await env.store.delete(run_id, "t0"), "the removal that was repeated")
        equal(await env.store.load(run_id), None, "the document")
        equal(dict(await env.store.read_values(run_id, keys)), {}, f"values after {turns} turns and a repetition")
        await env.store.create(new(run_id, "again"))
        equal(existing(await env.store.load(run_id, want=keys)).values, {}, "values of the next with its id")
        equal(len((await env.store.read_events(run_id)).items), 0, "events of the next with its id")


@checks.check("races-a-commit", kills=("store-delete-races",), timeout=20.0)
async def races_a_commit(env: Env) -> None:
    """Of a removal and a change at the same time one wins: the document is gone, or is there with all of its values.

    A run that is resumed in the moment in which it is cleaned up is resumed, or is gone; never half of it.
    """
    key, won = ValueKey("context", "k"), [0, 0]
    async with handles(env, 2, lambda ports: ports.store) as (one, two):
        for number in range(30):
            run_id = f"r{number}"
            await one.create(new(run_id, values={key: b"old"}))
            version = await version_of(one, run_id)
            step = change(run_id, version, "t1", values={ValueKey("context", "more"): b"new"})
            if number % 2:
                gone, (result,) = await asyncio.gather(one.delete(run_id, "t0"), two.commit([step]))
            else:
                (result,), gone = await asyncio.gather(two.commit([step]), one.delete(run_id, "t0"))
            equal(gone, not result.applied, "the document is gone exactly if the change was refused")
            won[gone] += 1
            stored = await one.load(run_id, want=[key, *step.values])
            equal(stored is None, gone, "the document is not there")
            if stored is not None:
                equal(dict(stored.values), {key: b"old", **step.values}, "the values of what won over a removal")
    equal(sum(won), 30, f"races (changes {won[0]}, removals {won[1]})")


@checks.check("many-values", kills=("store-delete-first-hundred",), timeout=30.0)
async def many_values(env: Env) -> None:
    """A removal takes any number of values and events.

    Backends remove a bounded number of rows at a time; what is beyond the first bunch would stay for ever.
    """
    keys = [ValueKey("result", "n", visit) for visit in range(260)]
    most = env.store.capabilities.max_commit_items
    step = 40 if most is None else max(1, min(40, most // 3))
    await env.store.create(new("run"))
    for start in range(0, len(keys), step):
        part = keys[start : start + step]
        rows = [event("run", key.visit + 1) for key in part]
        version = await version_of(env.store, "run")
        await env.store.commit([change("run", version, f"t{start}.", values=dict.fromkeys(part, b"v"), events=rows)])
    stored = existing(await env.store.load("run"))
    expect(await env.store.delete("run", stored.token), "the removal")
    equal(len(await listed(env.store)), 0, "documents that are listed")
    await env.store.create(new("run", "again"))
    equal(len(await env.store.read_values("run", space="result")), 0, "values of the next with its id")
    equal(len((await env.store.read_events("run")).items), 0, "events of the next with its id")
