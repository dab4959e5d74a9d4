"""Dead letters: what is particular to Redis. The contract itself is checked in `test_conformance`."""

from __future__ import annotations

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
    assert await backend.queue.dead_letter(letter.id) == letter, "not every queue finds a letter by its id"


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


@pytest.mark.parametrize(
    "letter_id",
    ["", "x", "9" * 18, "٣-1-1", "0-1-1", "0-1", "7-1-1", "0--", "0-1-1-1"],
)
async def test_what_looks_like_an_id_is_nobodys(backend: RedisBackend, letter_id: str) -> None:
    await bury(backend, 1)
    assert await backend.queue.dead_letter(letter_id) is None
    assert await backend.queue.discard(letter_id) is False
    assert len((await backend.queue.dead_letters()).items) == 1


@pytest.mark.parametrize("after", ["x", "-1", "9" * 40, "0-1"])
async def test_a_foreign_cursor_is_refused(backend: RedisBackend, after: str) -> None:
    with pytest.raises(InvalidRequest, match="not a cursor"):
        await backend.queue.dead_letters(after=after)
