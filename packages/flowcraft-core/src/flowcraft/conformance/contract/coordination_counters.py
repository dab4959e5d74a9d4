"""Coordination: counters and texts with a time to live."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.asking import apart, handles
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.coordination_leases import LONG, SHORT
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect, fail, raises
from flowcraft.conformance.hostile import IDS
from flowcraft.errors import FlowcraftError

__all__ = ["checks"]

counters = Collection("coordination", "counter")
texts = Collection("coordination", "text")
places = Collection("coordination", "places")


@counters.check("counts", kills=("coordination-increments-lost",))
async def counts(env: Env) -> None:
    """Every increment counts one, also of many at the same time, and is told the sum with its own.

    Poisoned visits are found by counting how often one began; a count that is lost lets it kill one worker more.
    """
    equal([await env.coordination.increment("k", LONG * env.unit) for _ in range(3)], [1, 2, 3], "the first sums")
    sums = await asyncio.gather(*(env.coordination.increment("k", LONG * env.unit) for _ in range(97)))
    equal(sorted(sums), list(range(4, 101)), "the sums of increments at the same time")
    equal(await env.coordination.get("k"), "100", "the counter, read as text")
    equal(await env.coordination.increment("other", LONG * env.unit), 1, "another counter")


@counters.check("lives-from-the-first", kills=("coordination-ttl-begins-anew",))
async def lives_from_the_first(env: Env) -> None:
    """A counter vanishes its time to live after the first increment; later ones do not put that off.

    A counter that is fed all the time would never end, and count what was long ago.
    """
    counter, ttl = env.coordination, 6 * env.unit
    await counter.increment("k", ttl)
    await env.lapse(2 * env.unit)
    equal(await counter.increment("k", ttl), 2, "the sum within the time")
    await env.lapse(2 * env.unit)
    equal(await counter.increment("k", ttl), 3, "the sum within the time, again")
    await env.lapse(3 * env.unit)
    equal(await counter.get("k"), None, "the counter after its time")
    equal(await counter.increment("k", ttl), 1, "the sum of a counter that begins anew")
    await env.lapse(2 * env.unit)
    equal(await counter.get("k"), "1", "the counter that began anew, within its time")


@counters.check("of-a-text-is-refused", kills=("coordination-increment-of-text",))
async def of_a_text_is_refused(env: Env) -> None:
    """An increment of a key that holds another text is refused by an error of `flowcraft.errors`; the text stays.

    Two parts of a program that use one key by mistake must hear of it, not of a driver.
    """
    await env.coordination.set_if_not_exist("k", "text", LONG * env.unit)
    with raises(FlowcraftError, "an increment of a text"):
        await env.coordination.increment("k", LONG * env.unit)
    equal(await env.coordination.get("k"), "text", "the text")


@texts.check("one-setter", kills=("coordination-set-races",))
async def one_setter(env: Env) -> None:
    """Of any number of callers that set an absent key one succeeds, and its value stays.

    By that one of many processes does what must be done once.
    """
    for key in ("a", "b", "c"):
        answers = await asyncio.gather(
            *(env.coordination.set_if_not_exist(key, str(number), LONG * env.unit) for number in range(50))
        )
        equal(answers.count(True), 1, "callers that succeeded")
        equal(await env.coordination.get(key), str(answers.index(True)), "the value")


@texts.check("expires", kills=("coordination-text-never-expires",))
async def expires(env: Env) -> None:
    """A key is absent after its time to live, and not before; then it can be set again.

    A lock whose owner died is free by that alone.
    """
    keys = env.coordination
    await keys.set_if_not_exist("short", "v", SHORT * env.unit)
    await keys.set_if_not_exist("long", "v", 6 * env.unit)
    await env.lapse(2 * SHORT * env.unit)
    equal([await keys.get("short"), await keys.get("long")], [None, "v"], "the values after the short time")
    expect(await keys.set_if_not_exist("short", "next", LONG * env.unit), "the key that expired was not free")
    expect(not await keys.set_if_not_exist("long", "next", LONG * env.unit), "the key that holds was free")
    equal([await keys.get("short"), await keys.get("long")], ["next", "v"], "the values")


@texts.check("is-extended", kills=("coordination-extend-creates",))
async def is_extended(env: Env) -> None:
    """`extend_ttl` gives an existing key a new time to live from now on; it makes none, and says so.

    Who extends what is gone must hear that somebody else may have it by now.
    """
    keys = env.coordination
    expect(not await keys.extend_ttl("k", LONG * env.unit), "a key that never was, was extended")
    equal(await keys.get("k"), None, "the key that never was")
    await keys.set_if_not_exist("k", "v", 4 * env.unit)
    await env.lapse(2 * env.unit)
    expect(await keys.extend_ttl("k", 4 * env.unit), "the extension")
    await env.lapse(3 * env.unit)
    equal(await keys.get("k"), "v", "the value after its first time to live")
    await env.lapse(2 * env.unit)
    expect(not await keys.extend_ttl("k", LONG * env.unit), "a key that expired was extended")
    equal(await keys.get("k"), None, "the value after its second time to live")


@texts.check("is-deleted", kills=("coordination-delete-ignored",))
async def is_deleted(env: Env) -> None:
    """`delete` removes a key, counters too; a key that is absent does not matter.

    A visit that has ended takes its count of beginnings with it.
    """
    keys = env.coordination
    await keys.set_if_not_exist("k", "v", LONG * env.unit)
    await keys.increment("n", LONG * env.unit)
    for key in ("k", "n", "k", "never was"):
        await keys.delete(key)
        equal(await keys.get(key), None, "the value of a deleted key")
    expect(await keys.set_if_not_exist("k", "next", LONG * env.unit), "a deleted key was not free")
    equal(await keys.increment("n", LONG * env.unit), 1, "the sum of a deleted counter")


@texts.check("any-text", kills=("coordination-text-is-a-number",), timeout=20.0)
async def any_text(env: Env) -> None:
    """Keys and values are any text; different keys are different, and a value comes back as it was.

    What looks like a number, JSON or nothing at all is a text like any other.
    """
    tried, ttl = [*IDS, "k" * 800], LONG * env.unit
    for key in tried:
        expect(await env.coordination.set_if_not_exist(key, f"of {key}", ttl), f"the key {key!r} was taken")
    for number, value in enumerate(["", "007", "1.50", "-0", "1e3", "true", "é\n\x1f'\"", "{}", "x" * 8000, *tried]):
        await env.coordination.set_if_not_exist(f"value {number}", value, ttl)
        equal(await env.coordination.get(f"value {number}"), value, "a value")
    for key in tried:
        equal(await env.coordination.get(key), f"of {key}", f"the value of {key!r}")


@texts.check("is-no-lease", kills=("coordination-one-table",))
async def is_no_lease(env: Env) -> None:
    """Texts, leases, slots and rates with one key have nothing in common.

    Parts of a program that know nothing of each other name things alike.
    """
    ports, ttl = env.coordination, LONG * env.unit
    equal(list(await ports.claim(["k"], "me", ttl)), [True], "the claim")
    expect(await ports.set_if_not_exist("k", "text", ttl), "the key was taken by a lease")
    expect(await ports.acquire_slot("k", "h", 1, ttl), "the slot was taken")
    equal(await ports.take("k", 1, 1000 * env.unit, 1), 0.0, "the wait for a token")
    equal([await ports.get("k"), *(await ports.holders(["k"]))], ["text", "me"], "text and holder")
    await ports.delete("k")
    equal([await ports.get("k"), *(await ports.holders(["k"]))], [None, "me"], "text and holder after `delete`")
    await ports.release(["k"], "me")
    await ports.release_slot("k", "h")
    expect(await ports.take("k", 1, 1000 * env.unit, 1) > 0.0, "the rate was forgotten with the lease")


@texts.check("shared", level=3, kills=("coordination-texts-of-one-handle",))
async def shared(env: Env) -> None:
    """Counters and texts are those of all who have opened the place.

    A visit that kills its workers is counted by all of them.
    """
    ttl = LONG * env.unit
    async with handles(env, 3, lambda ports: ports.coordination) as all_of_them:
        sums = await asyncio.gather(*(ports.increment("n", ttl) for ports in all_of_them * 10))
        equal(sorted(sums), list(range(1, 31)), "the sums")
        set_ = await asyncio.gather(*(ports.set_if_not_exist("k", "v", ttl) for ports in all_of_them * 10))
        equal(set_.count(True), 1, "callers that set the key")
    equal(await env.coordination.get("n"), "30", "the counter")


@places.check("are-apart", kills=("coordination-places-shared",))
async def are_apart(env: Env) -> None:
    """Two namespaces on one backend share no lease, text, counter, slot or rate.

    Production and staging must not wait for each other.
    """
    ours, ttl = env.coordination, LONG * env.unit
    async with apart(env) as ports:
        theirs = ports.coordination or fail("another place has no coordination store")
        equal([list(await each.claim(["k"], "me", ttl)) for each in (ours, theirs)], [[True], [True]], "the claims")
        equal([await each.set_if_not_exist("k", "v", ttl) for each in (ours, theirs)], [True, True], "the texts")
        equal([await each.increment("n", ttl) for each in (ours, theirs)], [1, 1], "the counters")
        slots = [await each.acquire_slot("k", name, 1, ttl) for each, name in ((ours, "a"), (theirs, "b"))]
        equal(slots, [True, True], "the slots")
        equal([await each.take("k", 1, 1000 * env.unit, 1) for each in (ours, theirs)], [0.0, 0.0], "the waits")
        await theirs.release(["k"], "me")
        await theirs.delete("k")
    equal([await ours.get("k"), *(await ours.holders(["k"]))], ["v", "me"], "what is ours")


checks = (*counters, *texts, *places)
