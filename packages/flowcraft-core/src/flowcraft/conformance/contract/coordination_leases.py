"""Coordination: a lease is held by one owner, for a time, and says whose it is."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.asking import handles
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.hostile import IDS

__all__ = ["checks"]

checks = Collection("coordination", "lease")

#: Times to live, in units: one that is over after a lapse of two, and one that no check outlives.
SHORT, LONG = 1.0, 600.0


@checks.check("one-owner", kills=("coordination-claim-races",))
async def one_owner(env: Env) -> None:
    """Of any number of concurrent claims of a free lease exactly one succeeds.

    A message that comes twice would be executed twice at the same time.
    """
    for key in ("a", "b", "c"):
        claims = [env.coordination.claim([key], f"w{number}", LONG * env.unit) for number in range(50)]
        won = [list(answer) for answer in await asyncio.gather(*claims)]
        equal(won.count([True]), 1, "claims that succeeded")
        equal(list(await env.coordination.holders([key])), [f"w{won.index([True])}"], "the holder")


@checks.check("of-several-keys", kills=("coordination-claim-all-or-nothing",))
async def of_several_keys(env: Env) -> None:
    """A claim of several keys takes those that it can, and answers in their order; so do `renew` and `holders`.

    A worker claims a whole batch of messages; one that is taken must not cost it the others.
    """
    leases, ttl = env.coordination, LONG * env.unit
    equal(list(await leases.claim(["a", "b"], "one", ttl)), [True, True], "a first claim")
    equal(list(await leases.claim(["d", "b", "c"], "two", ttl)), [True, False, True], "a claim of which one is taken")
    equal(list(await leases.claim(["b"], "one", ttl)), [True], "a claim of what is the owner's already")
    holders = await leases.holders(["a", "b", "c", "d", "e"])
    equal(list(holders), ["one", "one", "two", "two", None], "the holders")
    equal(list(await leases.renew(["c", "e", "a"], "one", ttl)), ["other", "gone", "mine"], "whose each is")
    equal([list(await leases.claim([], "one", ttl)), list(await leases.holders([]))], [[], []], "answers for no keys")
    await leases.release([], "one")
    await leases.revoke([])


@checks.check("many-keys", kills=("coordination-first-hundred-keys",))
async def many_keys(env: Env) -> None:
    """One call claims, renews and releases any number of leases.

    A worker with five hundred visits under way renews them with one heartbeat.
    """
    leases, ttl, keys = env.coordination, LONG * env.unit, [f"k{n}" for n in range(300)]
    equal(list(await leases.claim(keys, "one", ttl)), [True] * 300, "the claims")
    equal(list(await leases.renew(keys, "one", ttl)), ["mine"] * 300, "the renewals")
    equal(list(await leases.claim(keys, "two", ttl)), [False] * 300, "another one's claims")
    await leases.release(keys, "one")
    equal(list(await leases.holders(keys)), [None] * 300, "the holders after the release")


@checks.check("expires", kills=("coordination-lease-of-the-late", "coordination-lease-never-expires"))
async def expires(env: Env) -> None:
    """After its time to live a lease is free: it has no holder, is `gone` for its owner, and anyone may claim it.

    The work of a worker that died is taken over by that alone.
    """
    leases = env.coordination
    await leases.claim(["k", "l"], "one", SHORT * env.unit)
    await env.lapse(2 * SHORT * env.unit)
    equal(list(await leases.holders(["k"])), [None], "the holder of an expired lease")
    equal(list(await leases.renew(["k"], "one", LONG * env.unit)), ["gone"], "what its owner is told")
    equal(list(await leases.holders(["k"])), [None], "the holder after the renewal of what is gone")
    equal(list(await leases.claim(["k"], "two", LONG * env.unit)), [True], "another one's claim")
    equal(list(await leases.renew(["k"], "one", LONG * env.unit)), ["other"], "what the first is told then")
    equal(list(await leases.holders(["k"])), ["two"], "the holder")
    equal(list(await leases.claim(["l"], "one", LONG * env.unit)), [True], "a claim of the one that had it")


@checks.check("not-before-its-time", kills=("coordination-lease-bounded",))
async def not_before_its_time(env: Env) -> None:
    """Before its time to live is over a lease is nobody else's, to a fraction of a unit.

    A lease that ends early lets two workers do the same work, on a machine where nothing is wrong.
    """
    leases, ttl = env.coordination, 8 * env.unit
    await leases.claim(["k"], "one", ttl)
    for _ in range(4):
        await env.lapse(env.unit)
        equal(list(await leases.claim(["k"], "two", ttl)), [False], "another one's claim of a lease that holds")
        equal(list(await leases.holders(["k"])), ["one"], "the holder")
    await leases.claim(["fraction"], "one", 1.5 * env.unit)
    await env.lapse(0.5 * env.unit)
    equal(list(await leases.holders(["fraction"])), ["one"], "the holder a unit before the end")


@checks.check("renewal-extends", kills=("coordination-claim-keeps-time", "coordination-renew-keeps-time"))
async def renewal_extends(env: Env) -> None:
    """A renewal, and a claim of the owner's own lease, let it last so many seconds from now on.

    A visit that takes an hour keeps its lease by a heartbeat every few seconds.
    """
    leases, ttl = env.coordination, 6 * env.unit
    await leases.claim(["renewed", "claimed"], "one", ttl)
    for _ in range(3):
        await env.lapse(3 * env.unit)
        equal(list(await leases.claim(["renewed", "claimed"], "two", ttl)), [False, False], "another one's claims")
        equal(list(await leases.renew(["renewed"], "one", ttl)), ["mine"], "the renewal")
        equal(list(await leases.claim(["claimed"], "one", ttl)), [True], "a claim of what is the owner's")
    equal(list(await leases.holders(["renewed", "claimed"])), ["one", "one"], "the holders, long after the first time")


@checks.check("renewal-is-the-owners", kills=("coordination-renew-of-anothers",))
async def renewal_is_the_owners(env: Env) -> None:
    """A renewal extends only leases of its owner.

    The heartbeat of a worker that lost its lease would keep alive that of a worker that died since.
    """
    leases = env.coordination
    await leases.claim(["k"], "one", 4 * env.unit)
    equal(list(await leases.renew(["k"], "two", LONG * env.unit)), ["other"], "another one's renewal")
    await env.lapse(5 * env.unit)
    equal(list(await leases.holders(["k"])), [None], "the holder after the time of the owner")


@checks.check("release-is-the-owners", kills=("coordination-release-anyones",))
async def release_is_the_owners(env: Env) -> None:
    """A release gives up the leases of its owner, at once, and never another's.

    A worker that ends late would take the lease from the worker that has taken over.
    """
    leases, ttl = env.coordination, LONG * env.unit
    await leases.claim(["a", "b"], "one", ttl)
    await leases.release(["a", "b", "missing"], "two")
    equal(list(await leases.holders(["a", "b"])), ["one", "one"], "the holders after another one's release")
    await leases.release(["a"], "one")
    await leases.release(["a"], "one")
    equal(list(await leases.holders(["a", "b"])), [None, "one"], "the holders after the owner's release")
    equal(list(await leases.claim(["a"], "two", ttl)), [True], "a claim of what was released")
    await leases.release(["a"], "one")
    equal(list(await leases.holders(["a"])), ["two"], "the holder after a late second release of the first")


@checks.check("revoked-is-told", kills=("coordination-revoke-forgotten",))
async def revoked_is_told(env: Env) -> None:
    """After `revoke` the holder's renewals answer `other`, until the time to live is over; other leases stay.

    By that a visit that was cancelled hears of it at the next heartbeat.
    """
    leases = env.coordination
    await leases.claim(["a", "b"], "one", 4 * env.unit)
    await leases.revoke(["a", "missing"])
    equal(list(await leases.renew(["a", "b"], "one", LONG * env.unit)), ["other", "mine"], "the renewals")
    equal(list(await leases.renew(["a"], "one", LONG * env.unit)), ["other"], "a second renewal")
    equal(list(await leases.holders(["missing"])), [None], "the holder of what nobody had")
    await env.lapse(5 * env.unit)
    equal(list(await leases.renew(["a"], "one", env.unit)), ["gone"], "a renewal after the time to live")
    equal(list(await leases.holders(["b"])), ["one"], "the holder of the other lease")


@checks.check("revoked-is-nobodys", kills=("coordination-revoke-frees",))
async def revoked_is_nobodys(env: Env) -> None:
    """A revoked lease can be claimed by nobody, until its time is over or its holder releases it.

    The holder is still at work on it; whoever claimed it now would work beside it.
    """
    leases = env.coordination
    await leases.claim(["a", "b"], "one", 4 * env.unit)
    await leases.revoke(["a", "b"])
    equal(list(await leases.claim(["a"], "one", LONG * env.unit)), [False], "a claim of the holder")
    equal(list(await leases.claim(["a"], "two", LONG * env.unit)), [False], "a claim of another")
    await leases.release(["b"], "one")
    equal(list(await leases.claim(["b"], "one", LONG * env.unit)), [True], "a claim of what its holder released")
    equal(list(await leases.renew(["b"], "one", LONG * env.unit)), ["mine"], "its renewal")
    await env.lapse(5 * env.unit)
    equal(list(await leases.claim(["a"], "two", LONG * env.unit)), [True], "a claim after the time to live")


@checks.check("revocation-ends", kills=("coordination-revoke-outlives",))
async def revocation_ends(env: Env) -> None:
    """Who claims a lease after a revoked one has ended holds it without a flaw.

    Else the next visit of the node would be cancelled for what was said to the one before.
    """
    leases = env.coordination
    await leases.claim(["expired"], "one", SHORT * env.unit)
    await leases.revoke(["expired"])
    await env.lapse(2 * SHORT * env.unit)
    equal(list(await leases.claim(["expired"], "two", LONG * env.unit)), [True], "a claim after the time to live")
    equal(list(await leases.renew(["expired"], "two", LONG * env.unit)), ["mine"], "its renewal")
    await leases.claim(["released"], "one", LONG * env.unit)
    await leases.revoke(["released"])
    await leases.release(["released"], "one")
    equal(list(await leases.claim(["released"], "two", LONG * env.unit)), [True], "a claim after the release")
    equal(list(await leases.renew(["released"], "two", LONG * env.unit)), ["mine"], "its renewal")


@checks.check("names", kills=("coordination-names-collide",), timeout=20.0)
async def names(env: Env) -> None:
    """Leases with different keys are different, and so are owners, whatever text they are.

    Keys hold run and node ids, which people choose: two that collide keep each other's work from being done.
    """
    tried, ttl = [*IDS, "k" * 800, "a\x1f", "\x1fa"], LONG * env.unit
    won = await env.coordination.claim(tried, "me", ttl)
    equal([key for key, mine in zip(tried, won, strict=True) if not mine], [], "keys that were taken")
    for number, owner in enumerate(tried):
        equal(list(await env.coordination.claim([f"o{number}"], owner, ttl)), [True], f"a claim of the owner {owner!r}")
    owners = list(await env.coordination.holders([f"o{number}" for number in range(len(tried))]))
    equal(owners, tried, "the owners")
    await env.coordination.release(tried[::2], "me")
    equal(
        list(await env.coordination.holders(tried)),
        [None if n % 2 == 0 else "me" for n in range(len(tried))],
        "holders",
    )


@checks.check("shared", level=3, kills=("coordination-of-one-handle",))
async def shared(env: Env) -> None:
    """Leases are those of all who have opened the place.

    Two workers on two machines exclude each other, or the lease means nothing.
    """
    ttl = LONG * env.unit
    async with handles(env, 4, lambda ports: ports.coordination) as all_of_them:
        for key in ("a", "b", "c"):
            claims = [leases.claim([key], f"w{n}", ttl) for n, leases in enumerate(all_of_them * 8)]
            won = [list(answer) for answer in await asyncio.gather(*claims)]
            equal(won.count([True]), 1, "claims that succeeded")
            owner = f"w{won.index([True])}"
            for leases in all_of_them:
                equal(list(await leases.holders([key])), [owner], "the holder that each is told")
        await all_of_them[0].revoke(["a"])
        holder = (await env.coordination.holders(["a"]))[0]
        equal(
            list(await all_of_them[1].renew(["a"], holder or "", ttl)),
            ["other"],
            "a renewal after a revocation elsewhere",
        )
    expect((await env.coordination.holders(["b"]))[0] is not None, "a lease stays when a process closes its handle")
