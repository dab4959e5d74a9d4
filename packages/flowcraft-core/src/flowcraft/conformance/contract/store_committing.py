"""Run store: a document changes by compare-and-set, one step at a time, each on its own."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.asking import becomes, cut_off, finds_due, handles, ids, listed, lists, same_index
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import change, event, existing, index, new
from flowcraft.model import ValueKey
from flowcraft.ports import RunStore

__all__ = ["checks"]

checks = Collection("store", "commit")


async def version_of(store: RunStore, run_id: str, kind: str = "run") -> str:
    """The version of a document that must be there."""
    return existing(await store.load(run_id, kind=kind), f"{kind} {run_id!r}").version


async def outdated(store: RunStore, run_id: str, token: str = "t1") -> str:  # noqa: S107 -- no secret
    """Change the document, so that it has this token; returns the version that it had before."""
    version = await version_of(store, run_id)
    (result,) = await store.commit([change(run_id, version, token, head=b"head")])
    expect(result.applied, "a change of the version that was loaded was refused")
    return version


@checks.check("one-winner", kills=("store-commit-races",))
async def one_winner(env: Env) -> None:
    """Of any number of concurrent changes of one version exactly one is applied; the others are told what is stored.

    Two workers that end branches of one run at the same time would overwrite each other: a finished node would be
    forgotten, and a join would wait for ever.
    """
    await env.store.create(new("run"))
    version = await version_of(env.store, "run")
    results = await asyncio.gather(*(env.store.commit([change("run", version, f"t{n}")]) for n in range(1, 101)))
    applied = [result for (result,) in results if result.applied]
    equal(len(applied), 1, "changes that were applied")
    stored = existing(await env.store.load("run"))
    equal(stored.version, applied[0].version, "the version")
    for (result,) in results:
        if not result.applied:
            equal(existing(result.stored, "what a loser is told").token, stored.token, "the token that it is told")


@checks.check("replaces-what-it-names", kills=("store-load-tells-old-update", "store-commit-keeps-deleted"))
async def replaces_what_it_names(env: Env) -> None:
    """An applied change replaces head, token, index and the values it names, and removes those it deletes.

    This is a step of a run; the rest of its values stay as they are, which is why a step is cheap.
    """
    one, two, three, four = (ValueKey("context", name) for name in ("one", "two", "three", "four"))
    await env.store.create(new("run", values={one: b"1", two: b"2", four: b"4"}))
    step = change("run", await version_of(env.store, "run"), "t1", at=index("awaiting", 3.0, 6.0),
                  values={two: b"22", three: b"3"}, deleted=[one, ValueKey("context", "never there")])  # fmt: skip
    (result,) = await env.store.commit([step])
    expect(result.applied, "the change was applied")
    stored = existing(await env.store.load("run", want=[one, two, three, four]))
    equal((stored.head, stored.token, stored.version), (b"head t1", "t1", result.version), "head, token and version")
    same_index(stored.index, index("awaiting", 3.0, 6.0), "the document")
    equal(dict(stored.values), {two: b"22", three: b"3", four: b"4"}, "the values")
    equal(stored.fingerprint, "f-t0", "the fingerprint, which stays")


@checks.check("refused-changes-nothing", kills=("store-refused-moves-index", "store-refused-keeps-values"))
async def refused_changes_nothing(env: Env) -> None:
    """Of a change whose version is not the stored one, nothing happens.

    A late worker's output would stand beside another worker's outcome, or its due time would wake a finished run.
    """
    store, key, more = env.store, ValueKey("context", "old"), ValueKey("context", "k")
    await store.create(new("run", values={key: b"1"}, blueprint_id="b1"))
    version = await outdated(store, "run")
    before = existing(await store.load("run"))
    stale = change("run", version, "t2", values={key: b"2", more: b"2"}, at=index("failed", 1.0),
                   blueprint=("b2", "h2"))  # fmt: skip
    (result,) = await store.commit([stale])
    expect(not result.applied, "a change of another version was applied")
    equal(existing(await store.load("run")), before, "the document")
    equal(dict(await store.read_values("run", [key, more])), {key: b"1"}, "its values")
    equal(ids(await listed(store, status="failed")), [], "documents with the refused status")
    equal(ids(await listed(store, blueprint_id="b2")), [], "documents under the refused blueprint")
    await finds_due(env, 10.0, [], "documents that are due")


@checks.check("refused-deletes-nothing", kills=("store-conflict-loses-values",))
async def refused_deletes_nothing(env: Env) -> None:
    """A refused change removes no value.

    The values that a late worker wants to drop belong to whoever was faster, who may still need them.
    """
    key = ValueKey("output", "n", 1)
    await env.store.create(new("run", values={key: b"1"}))
    version = await outdated(env.store, "run")
    (result,) = await env.store.commit([change("run", version, "t2", deleted=[key])])
    expect(not result.applied, "a change of another version was applied")
    equal(dict(await env.store.read_values("run", [key])), {key: b"1"}, "its values")


@checks.check("others-stand", kills=("store-conflict-rolls-back",))
async def others_stand(env: Env) -> None:
    """One change's conflict never touches the other changes of the call.

    A commit of many runs would fail as a whole for one of them, and user code of all would be executed again. "Answers
    in order" finds its mutant, too; it is here because it names what is wrong.
    """
    store = env.store
    for run_id in ("a", "b", "c"):
        await store.create(new(run_id))
    versions = [await version_of(store, "a"), await outdated(store, "b"), await version_of(store, "c")]
    steps = [change(run_id, version, "t2") for run_id, version in zip(("a", "b", "c"), versions, strict=True)]
    results = await store.commit(steps)
    equal([result.applied for result in results], [True, False, True], "what was applied")
    tokens = [existing(await store.load(run_id)).token for run_id in ("a", "b", "c")]
    equal(tokens, ["t2", "t1", "t2"], "the tokens")


@checks.check("answers-in-order", kills=("store-commit-answers-disordered", "store-commit-forgets-the-rest"))
async def answers_in_order(env: Env) -> None:
    """The results of a call are in the order of its changes, however many there are.

    A conflict that is told of the wrong run makes one run stand still and another one execute twice.
    """
    store, names = env.store, [f"r{n:02}" for n in range(60)]
    await asyncio.gather(*(store.create(new(name)) for name in names))
    versions = {name: await version_of(store, name) for name in names}
    await asyncio.gather(*(store.delete(name, "t0") for name in names[1::4]))
    await store.commit([change(name, versions[name], "meanwhile") for name in names[3::4]])
    results = await store.commit([change(name, versions[name], f"new {name}") for name in names])
    equal([result.applied for result in results], [n % 2 == 0 for n in range(60)], "what was applied")
    for number, (name, result) in enumerate(zip(names, results, strict=True)):
        stored = await store.load(name)
        if result.applied:
            told = (existing(stored).token, existing(stored).version)
            equal(told, (f"new {name}", result.version), f"token and version of {name}")
        else:
            equal(result.stored, stored, f"what is told of {name}")
            equal(stored is None, number % 4 == 1, f"{name} is missing")
    equal(list(await store.commit([])), [], "results of no changes")


@checks.check("conflict-tells-what-is-stored", kills=("store-conflict-tells-nothing",))
async def conflict_tells_what_is_stored(env: Env) -> None:
    """A conflict brings the document as it is now, good for the next attempt.

    The committer plans again on it; without head and version it would have to guess. Others find its mutant, too; it
    is here because it proves that the next attempt holds.
    """
    store = env.store
    await store.create(new("run", fingerprint="fp"))
    (lost,) = await store.commit([change("run", await outdated(store, "run", "t2"), "t3")])
    told = existing(lost.stored, "what a conflict brings")
    equal((told.run_id, told.head, told.token, told.fingerprint), ("run", b"head", "t2", "fp"), "what it brings")
    same_index(told.index, index(), "the document that it brings")
    (again,) = await store.commit([change("run", told.version, "t3")])
    expect(again.applied, "a change of the version that the conflict brought was refused")


@checks.check("missing-is-a-conflict", kills=("store-commit-creates",))
async def missing_is_a_conflict(env: Env) -> None:
    """A change of a document that is not there is a conflict with nothing, and creates nothing.

    A worker that is late would bring back a run that was deleted. Others that remove find its mutant, too; it is here
    because it names what is wrong.
    """
    await env.store.create(new("run"))
    version = await version_of(env.store, "run")
    await env.store.delete("run", "t0")
    (result,) = await env.store.commit([change("run", version, "t1", values={ValueKey("context", "k"): b"v"})])
    equal((result.applied, result.stored), (False, None), "the result")
    equal(await env.store.load("run"), None, "the document")
    equal(ids(await listed(env.store)), [], "documents")


@checks.check("versions-never-return", kills=("store-version-of-content",))
async def versions_never_return(env: Env) -> None:
    """No version comes back, also when a document holds what it held before.

    A worker that slept through a whole round of a loop would commit on what looks like its own state. Others find its
    mutant where they set a head that was there before; it is here because none of them means to.
    """
    store = env.store
    await store.create(new("run"))
    first = await version_of(store, "run")
    versions = {first}
    for number in range(1, 7):
        head = b"head" if number % 2 == 0 else b"other"
        (result,) = await store.commit([change("run", await version_of(store, "run"), f"t{number}", head=head)])
        expect(result.applied, "the change was applied")
        versions.add(result.version)
    equal(len(versions), 7, "different versions")
    (late,) = await store.commit([change("run", first, "late")])
    expect(not late.applied, "a change of a version of long ago was applied")


@checks.check("versions-end-with-the-document", kills=("store-version-counts",))
async def versions_end_with_the_document(env: Env) -> None:
    """A version of a deleted document is never one of a later document with its id.

    A store that counts 1, 2, 3 would let a worker of the deleted run commit into the new one.
    """
    store, seen, version = env.store, set[str](), ""
    for life in range(3):
        await store.create(new("run", f"{life}-0"))
        for number in range(3):
            version = await version_of(store, "run")
            expect(version not in seen, f"the version {version!r} was that of a deleted document")
            for old in seen:
                (late,) = await store.commit([change("run", old, "late")])
                expect(not late.applied, "a change of a deleted document's version was applied")
            (result,) = await store.commit([change("run", version, f"{life}-{number + 1}")])
            expect(result.applied, "the change was applied")
        stored = existing(await store.load("run"))
        seen |= {stored.version, version}
        expect(await store.delete("run", stored.token), "the document was deleted")


@checks.check("tells-the-new-version", kills=("store-commit-tells-old-version",))
async def tells_the_new_version(env: Env) -> None:
    """The version that a commit returns is the document's, and good for the next change without loading it.

    A worker that keeps a run to itself goes on from it; a wrong one costs a conflict and a load with every step. Most
    others go on from it, too, and find its mutant; it is here to say why they fail.
    """
    await env.store.create(new("run"))
    version = await version_of(env.store, "run")
    for number in range(1, 6):
        (result,) = await env.store.commit([change("run", version, f"t{number}")])
        expect(result.applied, f"change {number} was applied")
        version = result.version
        equal(version, await version_of(env.store, "run"), "the version that was told")


@checks.check("token-is-the-callers", kills=("store-commit-drops-token",))
async def token_is_the_callers(env: Env) -> None:
    """The token of the change is stored, so that whoever lost the answer finds its own change by it.

    After an unknown outcome the committer looks for its token. Without it, it would apply its step twice. Most others
    look at tokens and find its mutant, too; it is here because it does what the committer does.
    """
    await env.store.create(new("run"))
    step = change("run", await version_of(env.store, "run"), "mine")
    (first,) = await env.store.commit([step])
    (again,) = await env.store.commit([step])
    equal((first.applied, again.applied), (True, False), "what was applied")
    equal(existing(again.stored).token, "mine", "the token that the repetition is told")
    equal(existing(await env.store.load("run")).token, "mine", "the token that is stored")


@checks.check("is-read-by-anyone", kills=("store-reads-cached",))
async def is_read_by_anyone(env: Env) -> None:
    """What was committed is loaded and listed from then on, by anyone.

    A worker that is handed a message right after a commit must see that commit.
    """
    async with handles(env, 2, lambda ports: ports.store) as (one, two):
        await one.create(new("run"))
        for number, (writer, reader) in enumerate([(one, two), (two, one)] * 5, 1):
            stored = existing(await reader.load("run"), "what another handle has just created")
            (result,) = await writer.commit([change("run", stored.version, f"t{number}", at=index(f"s{number}"))])
            expect(result.applied, "the change was applied")
            equal(existing(await reader.load("run")).token, f"t{number}", "the token that another handle loads")
            await lists(env, ["run"], "the documents that are listed", status=f"s{number}")


@checks.check("cancelled-is-whole", kills=("store-commit-cancelled-in-parts",))
async def cancelled_is_whole(env: Env) -> None:
    """A commit that is cancelled happened wholly or not at all.

    A worker that is shut down in the middle of a commit would leave a run whose head names outputs that are not there.
    """
    store, key, history = env.store, ValueKey("output", "n"), env.store.capabilities.history
    for turns in range(12):
        run_id = f"r{turns}"
        await store.create(new(run_id, values={key: b"t0"}))
        version = await version_of(store, run_id)
        step = change(run_id, version, "t1", values={key: b"t1"}, events=[event(run_id, 1)])
        await cut_off(env, store.commit([step]), turns)
        stored = existing(await store.load(run_id, want=[key]))
        expect(stored.token in {"t0", "t1"}, "a token that nobody wrote")
        equal(stored.values[key], stored.token.encode(), f"the value beside the head with token {stored.token!r}")
        if stored.token == "t0":  # noqa: S105 -- no secret; it may still be under way, and arrive before this one
            await store.commit([step])
        if history:
            equal(len((await store.read_events(run_id)).items), 1, "events of the step")


@checks.check("moves-the-blueprint", kills=("store-move-ignored",))
async def moves_the_blueprint(env: Env) -> None:
    """A change may move a document to another blueprint; `list` and `due` tell the new one from then on.

    A run that was moved to a new version would be looked for, and kept alive, under the old one.
    """
    store = env.store
    for run_id in ("r", "other"):
        await store.create(new(run_id, blueprint_id="b1", wake_at=1.0))
    (kept,) = await store.commit([change("r", await version_of(store, "r"), "t1", at=index(wake_at=1.0))])
    expect(kept.applied, "the change was applied")
    what = "documents of the blueprint that was not changed"
    await lists(env, ["other", "r"], what, blueprint_id="b1", ordered=False)
    await store.commit([change("r", kept.version, "t2", at=index(wake_at=1.0), blueprint=("b2", "h2"))])
    await lists(env, ["other"], "documents of the old blueprint", blueprint_id="b1")
    await lists(env, ["r"], "documents of the new blueprint", blueprint_id="b2")
    (row,) = await listed(store, blueprint_id="b2")
    equal((row.run_id, row.blueprint_id, row.blueprint_hash, row.token), ("r", "b2", "h2", "t2"), "the row in `list`")

    async def due_row() -> tuple[str, str]:
        rows = [each for each in (await store.due(5.0)).items if each.run_id == "r"]
        return (rows[0].blueprint_id, rows[0].blueprint_hash) if rows else ("", "")

    await becomes(env, due_row, ("b2", "h2"), "the blueprint in `due`")
