"""Dead letters of both embedded backends, where they promise more than the contract (`flowcraft.conformance`)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from flowcraft.errors import InvalidRequest
from flowcraft.model import DeadLetter
from flowcraft.sqlite import SqliteBackend, schema

from .conftest import Backend
from .making import job
from .virtual_clock import VirtualClock


async def bury(backend: Backend, count: int, *, queue: str = "q") -> None:
    """Reject so many messages, whose runs are r0, r1 and so on."""
    for number in range(count):
        await backend.queue.publish([job(f"r{number}", queue)])
        async with backend.queue.deliveries([queue], prefetch=1) as batches:
            (delivery,) = await anext(batches)
            await delivery.reject(f"reason {number}")


async def test_a_letter_says_what_it_was_and_when(backend: Backend, clock: VirtualClock) -> None:
    await clock.advance(100)
    await bury(backend, 1)
    (letter,) = (await backend.queue.dead_letters()).items
    assert letter == DeadLetter(letter.id, "q", "reason 0", job("r0").to_bytes(), clock.time())
    assert letter.job == job("r0")


async def test_an_undecodable_one_has_no_job(backend: Backend, clock: VirtualClock) -> None:
    await backend.queue.publish_bytes("q", b"\x00?")
    await backend.queue.publish([job("good")])
    async with backend.queue.deliveries(["q"], prefetch=1) as batches:
        await (await anext(batches))[0].ack()
    (letter,) = (await backend.queue.dead_letters()).items
    assert (letter.body, letter.job, letter.at) == (b"\x00?", None, clock.time())


async def test_pages_are_in_order_and_complete(backend: Backend) -> None:
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


async def test_a_page_goes_on_where_letters_were_removed(backend: Backend) -> None:
    await bury(backend, 4)
    page = await backend.queue.dead_letters(limit=2)
    assert await backend.queue.discard(page.items[-1].id)
    rest = await backend.queue.dead_letters(limit=2, after=page.after)
    assert [letter.reason for letter in rest.items] == ["reason 2", "reason 3"]


@pytest.mark.parametrize("after", ["x", "-1", "9" * 40])
async def test_a_foreign_cursor_is_refused(backend: Backend, after: str) -> None:
    with pytest.raises(InvalidRequest, match="not a cursor"):
        await backend.queue.dead_letters(after=after)


async def test_letters_of_an_older_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "flow.db"
    connection = sqlite3.connect(path)
    for statement in schema._FIRST:
        connection.execute(statement)
    connection.execute("INSERT INTO dead_jobs (queue, reason, body) VALUES ('q', 'why', x'00')")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    for _ in range(2):
        async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
            assert (await backend.queue.dead_letters()).items == (DeadLetter("1", "q", "why", b"\x00"),)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
    connection.close()
