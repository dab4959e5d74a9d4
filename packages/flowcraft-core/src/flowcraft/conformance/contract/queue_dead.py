"""Job queue: dead letters."""

from __future__ import annotations

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.making import job
from flowcraft.conformance.receiving import bury, letters, publish_raw, receiving
from flowcraft.model import Job

__all__ = ["checks"]

checks = Collection("queue", "dead")


@checks.check("rejected", kills=("queue-reject-forgets",))
async def rejected(env: Env) -> None:
    """A rejected message is never delivered again; it is a dead letter, with its queue, the reason and its body.

    Nothing may get lost without a word.
    """
    sent = Job("run é", "node", 3, 2, "nonce", "a queue", 1)
    await env.queue.publish([sent])
    async with receiving(env, "a queue") as receiver:
        await (await receiver.one()).reject("no such run: é")
        await receiver.nothing(1.0)
    (letter,) = await letters(env, 1)
    equal((letter.queue, letter.reason), ("a queue", "no such run: é"), "queue and reason")
    equal(letter.job, sent, "the job of its body")
    equal(letter.kind, "message", "the kind of letter")


@checks.check("undecodable")
async def undecodable(env: Env) -> None:
    """A message that cannot be decoded becomes a dead letter with its raw body, and messages behind it are delivered.

    Fault F9: a newer version, or a stranger, wrote it. It must neither stop the worker nor vanish.
    """
    bodies = [b"[1]", b"{}", b"[99" + b",1" * 8 + b"]", b"x" * 1000, "é[".encode()]
    for body in bodies:
        await publish_raw(env, "q", body)
    await env.queue.publish([job("good")])
    async with receiving(env, prefetch=2) as receiver:
        equal(await receiver.acked(1), ["good"], "what was delivered")
        await receiver.nothing(0.5)
        found = await letters(env, len(bodies))  # while somebody receives: a queue may have parts that take turns
    equal(sorted(letter.body for letter in found), sorted(bodies), "the bodies")
    expect(all(letter.queue == "q" and letter.reason and letter.job is None for letter in found), "what letters tell")


@checks.check("only-undecodable")
async def only_undecodable(env: Env) -> None:
    """Undecodable messages alone do not end the iterator, and use up nothing of ``prefetch``.

    A worker that stops receiving because of them stands still for ever.
    """
    for _ in range(5):
        await publish_raw(env, "q", b"?")
    async with receiving(env, prefetch=2) as receiver:
        await receiver.nothing(0.5)
        await env.queue.publish([job("good")])
        equal(await receiver.acked(1), ["good"], "what was delivered")
        await receiver.nothing(0.5)
        await letters(env, 5)


@checks.check("foreign-but-good")
async def foreign_but_good(env: Env) -> None:
    """A message with a good body is delivered, whoever wrote it.

    So a dead letter can be published again by hand.
    """
    await publish_raw(env, "q", job("run").to_bytes())
    async with receiving(env) as receiver:
        equal(await receiver.acked(1), ["run"], "what was delivered")


@checks.check("pages")
async def pages(env: Env) -> None:
    """Paging shows each letter once, and all of them, and leaves them where they are.

    Looking must not change anything.
    """
    await env.queue.publish([job(f"r{n}") for n in range(7)])
    async with receiving(env) as receiver:
        await bury(receiver, [f"reason {n}" for n in range(7)])
    await letters(env, 7)
    for _ in range(2):
        found: list[str] = []
        after: str | None = None
        while True:
            page = await env.queue.dead_letters(limit=3, after=after)
            expect(len(page.items) <= 3, "a page is not longer than its limit")
            found += [letter.reason for letter in page.items]
            if (after := page.after) is None:
                break
        equal(sorted(found), [f"reason {n}" for n in range(7)], "letters of all pages")


@checks.check("read-and-discard")
async def read_and_discard(env: Env) -> None:
    """A letter is read by its id until it is discarded; then it is gone, and no other one is.

    Whoever replays a letter discards it afterwards.
    """
    await env.queue.publish([job(f"r{n}") for n in range(2)])
    async with receiving(env) as receiver:
        await bury(receiver, ["first", "second"])
    kept, gone = sorted(await letters(env, 2), key=lambda letter: letter.reason)
    found = await env.queue.dead_letter(gone.id)
    if found is not None:  # a broker may not find by an id
        equal(found, gone, "the letter, read by its id")
    equal(await env.queue.discard(gone.id), True, "whether the letter was removed")
    equal(await env.queue.discard(gone.id), False, "whether it was removed again")
    equal(await env.queue.dead_letter(gone.id), None, "the letter that is gone")
    equal([letter.reason for letter in await letters(env, 1)], [kept.reason], "what is left")


@checks.check("ids-are-not-reused")
async def ids_are_not_reused(env: Env) -> None:
    """An id never names another letter later, and foreign ids are nobody's.

    Whoever discards by an id from an old listing must not hit what came since.
    """
    seen: list[str] = []
    for number in range(2):
        await env.queue.publish([job(f"r{number}")])
        async with receiving(env) as receiver:
            await bury(receiver, [f"reason {number}"])
        (letter,) = await letters(env, 1)
        for old in [*seen, "", "x", "-1", "0", "1.0", "٣", "9" * 40, "1 OR 1=1"]:
            equal(await env.queue.discard(old), False, f"whether {old!r} was removed")
        (letter,) = await letters(env, 1)
        expect(letter.id not in seen, "the id is new")
        seen.append(letter.id)
        if number == 0:
            equal(await env.queue.discard(letter.id), True, "whether the letter was removed")
