"""Run store: documents come into being once, wholly, and only with all that belongs to them."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.asking import cut_off, finds_due, ids, listed, same_index
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import change, event, existing, index, new
from flowcraft.model import ValueKey

__all__ = ["checks"]

checks = Collection("store", "create")


@checks.check("one-winner", kills=("store-create-races",))
async def one_winner(env: Env) -> None:
    """Of any number of concurrent creations of one id exactly one is made, and all are told whose it is.

    Two clients that start the same run must not both believe that theirs was started: the input of one would be lost.
    """
    created = await asyncio.gather(*(env.store.create(new("run", f"t{n}")) for n in range(100)))
    winners = [answer for answer in created if answer.made]
    equal(len(winners), 1, "creations that were made")
    told = {(answer.token, answer.fingerprint) for answer in created}
    equal(told, {(winners[0].token, winners[0].fingerprint)}, "token and fingerprint that the creators were told")
    stored = await env.store.load("run")
    expect(stored is not None and stored.token == winners[0].token, "the winner's document is stored")


@checks.check("loads-what-was-made", kills=("store-create-drops-fingerprint",))
async def loads_what_was_made(env: Env) -> None:
    """A created document is loaded with its head, token, index, fingerprint and values.

    A run whose fingerprint is lost cannot tell a repeated start from another one with the same id. Others find its
    mutant, too; it is here because a first round trip that fails explains what all others say.
    """
    keys = [ValueKey("context", "a"), ValueKey("output", "n", 3)]
    made = await env.store.create(new("run", wake_at=9.0, fingerprint="fp", values=dict.fromkeys(keys, b"v")))
    equal((made.made, made.token, made.fingerprint), (True, "t0", "fp"), "the answer to the creation")
    stored = existing(await env.store.load("run", want=[keys[1], ValueKey("error", "n")]))
    told = (stored.run_id, stored.head, stored.token, stored.fingerprint)
    equal(told, ("run", b"head", "t0", "fp"), "id, head, token and fingerprint")
    same_index(stored.index, index(wake_at=9.0), "the document")
    equal(dict(stored.values), {keys[1]: b"v"}, "the wanted values")
    equal(await env.store.load("other"), None, "a document that was never made")


@checks.check("loser-writes-nothing", kills=("store-create-loser-writes",))
async def loser_writes_nothing(env: Env) -> None:
    """A creation whose id is taken changes nothing of what is stored.

    Whoever starts a run twice would mix the inputs of both, or move the due time of a run that is under way.
    """
    store, key, other = env.store, ValueKey("output", ""), ValueKey("context", "k")
    await store.create(new("run", values={key: b"1"}, events=[event("run", 1)]))
    before = existing(await store.load("run"))
    again = new(
        "run", "t1", wake_at=1.0, status="failed", blueprint_id="b2", values={key: b"2", other: b"3"},
        events=[event("run", 1, other=True), event("run", 2)],
    )  # fmt: skip
    expect(not (await store.create(again)).made, "an id that is taken was made once more")
    equal(existing(await store.load("run")), before, "the document")
    equal(dict(await store.read_values("run", [key, other])), {key: b"1"}, "its values")
    equal(ids(await listed(store, blueprint_id="b2")), [], "documents under the blueprint of the loser")
    await finds_due(env, 10.0, [], "documents that are due")
    if store.capabilities.history:
        equal([row.data for row in (await store.read_events("run")).items], [{}], "its history")


@checks.check(
    "tells-the-stored-fingerprint", kills=("store-create-tells-the-first-token", "store-create-tells-the-callers")
)
async def tells_the_stored_fingerprint(env: Env) -> None:
    """A creation whose id is taken is told the fingerprint of the stored document and its latest token.

    By the fingerprint the client decides between "you started this already" and "this id is another run's".
    """
    await env.store.create(new("run", "t0", fingerprint="first"))
    await env.store.commit([change("run", existing(await env.store.load("run")).version, "t1")])
    told = await env.store.create(new("run", "t9", fingerprint="second"))
    equal((told.made, told.fingerprint, told.token), (False, "first", "t1"), "what the second creator was told")


@checks.check("again-after-unknown", kills=("store-create-made-twice",))
async def again_after_unknown(env: Env) -> None:
    """Who creates again because the outcome was unknown is told its own token, and nothing is made twice.

    So a client recognises its own creation; were it made once more, a run that has moved on would begin anew.
    """
    for attempt in range(3):
        told = await env.store.create(new("run", "mine", events=[event("run", 1)]))
        equal((told.made, told.token), (attempt == 0, "mine"), f"the answer to attempt {attempt + 1}")
    await env.store.commit([change("run", existing(await env.store.load("run")).version, "t1")])
    expect(not (await env.store.create(new("run", "mine"))).made, "a run that has moved on was made anew")
    equal(existing(await env.store.load("run")).token, "t1", "the token")
    if env.store.capabilities.history:
        equal([row.seq for row in (await env.store.read_events("run")).items], [1], "the history")


@checks.check("is-one-step", kills=("store-create-in-parts",))
async def is_one_step(env: Env) -> None:
    """A document is visible with all of its values and events, or not at all.

    A worker that gets the message early would run a node without its input.
    """
    keys = [ValueKey("context", f"k{n}") for n in range(20)]
    history = env.store.capabilities.history
    seen = 0

    async def look(run_id: str) -> None:
        nonlocal seen
        for _ in range(200):
            stored = await env.store.load(run_id, want=keys)
            if stored is not None:
                seen += 1
                equal(len(stored.values), len(keys), "values of a document that is there")
                if history:
                    equal(len((await env.store.read_events(run_id)).items), 2, "events of a document that is there")
                return

    for run_id in ("a", "b", "c"):
        made = new(
            run_id, values=dict.fromkeys(keys, b"v" * 100), events=[event(run_id, 1), event(run_id, 2)]
        )  # fmt: skip
        await asyncio.gather(look(run_id), env.store.create(made), look(run_id))
        await look(run_id)
    expect(seen >= 3, "the documents were seen")


@checks.check("cancelled-is-whole", kills=("store-create-cancelled-in-parts",))
async def cancelled_is_whole(env: Env) -> None:
    """A creation that is cancelled happened wholly or not at all, and can be repeated.

    Web servers cancel requests whose client went away; half a run would be found by nobody, or run without input.
    """
    keys = [ValueKey("context", f"k{n}") for n in range(10)]
    for turns in range(12):
        run_id = f"r{turns}"
        made = new(run_id, values=dict.fromkeys(keys, b"v"), events=[event(run_id, 1)])
        await cut_off(env, env.store.create(made), turns)
        told = await env.store.create(made)
        equal(told.token, "t0", "the token of the creation that was repeated")
        stored = existing(await env.store.load(run_id, want=keys))
        equal(len(stored.values), len(keys), f"values after a creation that was cancelled after {turns} turns")
        if env.store.capabilities.history:
            equal(len((await env.store.read_events(run_id)).items), 1, "events of it")
