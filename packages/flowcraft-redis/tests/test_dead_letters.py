"""The dead letters of the job queue: listed, read, removed."""

from __future__ import annotations

import asyncio

import pytest

from flowcraft.errors import InvalidRequest
from flowcraft.model import DeadLetter
from flowcraft_redis import RedisBackend

from .making import job


async def bury(backend: RedisBackend, count: int, *, queue: str = "q") -> None:
    """Reject so many messages, whose runs are r0, r1 and so on."""
    for number in range(count):
        await backend.queue.publish([job(f"r{number}", queue)])
        async with backend.queue.deliveries([queue], prefetch=1) as batches:
            (delivery,) = await anext(batches)
            await delivery.reject(f"reason {number}")


async def test_a_letter_says_what_it_was_and_when(backend: RedisBackend) -> None:
    before = await backend.store.clock()
    await bury(backend, 1)
    (letter,) = (await backend.queue.dead_letters()).items
    assert letter == DeadLetter(letter.id, "q", "reason 0", job("r0").to_bytes(), letter.at)
    assert letter.at is not None
    assert before - 0.01 <= letter.at <= await backend.store.clock()
    assert letter.job == job("r0")


async def test_an_undecodable_one_has_no_job(backend: RedisBackend) -> None:
    await backend.queue.publish_bytes("q", b"\x00?")
    await backend.queue.publish([job("good")])
    async with backend.queue.deliveries(["q"], prefetch=1) as batches:
        await (await anext(batches))[0].ack()
        # With several partitions the other message is in another stream.
        reading = asyncio.ensure_future(anext(batches))
        while not (letters := (await backend.queue.dead_letters()).items):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    (letter,) = letters
    assert (letter.body, letter.job) == (b"\x00?", None)


async def test_pages_are_in_order_and_complete(backend: RedisBackend) -> None:
    await bury(backend, 7)
    found: list[str] = []
    sizes: list[int] = []
    after: str | None = None
    while True:
        page = await backend.queue.dead_letters(limit=3, after=after)
        found += [letter.reason for letter in page.items]
        sizes.append(len(page.items))
        after = page.after
        if after is None:
            break
    assert found == [f"reason {number}" for number in range(7)]
    assert sizes == [3, 3, 1]
    whole = await backend.queue.dead_letters(limit=7)
    assert (len(whole.items), whole.after) == (7, None), "a full last page is known to be the last"


async def test_a_page_goes_on_where_letters_were_removed(backend: RedisBackend) -> None:
    await bury(backend, 4)
    page = await backend.queue.dead_letters(limit=2)
    assert await backend.queue.discard(page.items[-1].id)
    rest = await backend.queue.dead_letters(limit=2, after=page.after)
    assert [letter.reason for letter in rest.items] == ["reason 2", "reason 3"]


async def test_read_and_discard(backend: RedisBackend) -> None:
    await bury(backend, 2)
    first, second = (await backend.queue.dead_letters()).items
    assert await backend.queue.dead_letter(second.id) == second
    assert await backend.queue.discard(second.id) is True
    assert await backend.queue.discard(second.id) is False
    assert await backend.queue.dead_letter(second.id) is None
    assert (await backend.queue.dead_letters()).items == (first,)


async def test_an_id_never_names_another_letter(backend: RedisBackend) -> None:
    """Whoever deletes by an id from an old listing must not hit what came later."""
    await bury(backend, 1)
    (old,) = (await backend.queue.dead_letters()).items
    await backend.queue.discard(old.id)
    await bury(backend, 1)
    (new,) = (await backend.queue.dead_letters()).items
    assert new.id != old.id
    assert await backend.queue.discard(old.id) is False


@pytest.mark.parametrize(
    "letter_id",
    ["", "x", "-1", "0", "1.0", "٣", "9" * 18, "9" * 40, "1 OR 1=1", "0-1-1", "0-1", "7-1-1", "0--", "0-1-1-1"],
)
async def test_a_foreign_id_is_nobodys(backend: RedisBackend, letter_id: str) -> None:
    await bury(backend, 1)
    assert await backend.queue.dead_letter(letter_id) is None
    assert await backend.queue.discard(letter_id) is False
    assert len((await backend.queue.dead_letters()).items) == 1


@pytest.mark.parametrize("after", ["x", "-1", "9" * 40, "0-1"])
async def test_a_foreign_cursor_is_refused(backend: RedisBackend, after: str) -> None:
    with pytest.raises(InvalidRequest, match="not a cursor"):
        await backend.queue.dead_letters(after=after)
