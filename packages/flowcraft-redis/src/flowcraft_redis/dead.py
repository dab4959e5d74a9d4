"""Dead letters: a stream in each partition. An id is that of the stream's entry, which is never used again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from flowcraft.model import DeadLetter, Page
from flowcraft.paging import not_a_cursor, page_of
from flowcraft_redis.keys import Keyspace, Partition
from flowcraft_redis.link import Link

__all__ = ["discard", "page", "read"]

_Entry = tuple[bytes, Sequence[bytes]]
_LETTER: Final = re.compile(r"([0-9]{1,4})-([0-9]{1,18})-([0-9]{1,18})")


async def page(link: Link, keyspace: Keyspace, limit: int, after: str | None) -> Page[DeadLetter]:
    """Up to ``limit`` letters of all partitions, oldest first."""
    place = None if after is None else _place(after)
    calls = (_page(link, part, limit, place) for part in keyspace.partitions)
    letters = [letter for found in await asyncio.gather(*calls) for letter in found]
    letters.sort(key=lambda letter: _parse(letter.id) or ())
    return page_of(letters, limit, attrgetter("id"))


async def read(link: Link, keyspace: Keyspace, id: str) -> DeadLetter | None:
    """The letter, or None."""
    found = _find(keyspace, id)
    if found is None:
        return None
    part, entry = found
    rows = await link.call(b"XRANGE", part.dead, entry, entry)
    return _letter(part, rows[0]) if rows else None


async def discard(link: Link, keyspace: Keyspace, id: str) -> bool:
    """Remove it; False if it is not there."""
    found = _find(keyspace, id)
    return found is not None and await link.call(b"XDEL", found[0].dead, found[1], writing=True) == 1


async def _page(link: Link, part: Partition, limit: int, after: tuple[int, int, int] | None) -> list[DeadLetter]:
    begin = b"-"
    if after is not None:
        milliseconds, number, partition = after
        # Two partitions may have entries of one name: they are told apart by the partition, the last of the three.
        begin = b"%b%d-%d" % (b"" if part.number > partition else b"(", milliseconds, number)
    rows = await link.call(b"XRANGE", part.dead, begin, b"+", b"COUNT", limit + 1)
    return [_letter(part, row) for row in rows]


def _find(keyspace: Keyspace, id: str) -> tuple[Partition, bytes] | None:
    found = _parse(id)
    if found is None or found[2] >= len(keyspace.partitions):
        return None
    return keyspace.partitions[found[2]], b"%d-%d" % found[:2]


def _letter(part: Partition, row: _Entry) -> DeadLetter:
    entry, flat = row
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    at = int(entry.partition(b"-")[0]) / 1000
    queue, reason = fields.get(b"queue", b"").decode(), fields.get(b"reason", b"").decode()
    return DeadLetter(_letter_id(part.number, entry), queue, reason, fields.get(b"body", b""), at)


def _letter_id(partition: int, entry: bytes) -> str:
    """The id of a dead letter: its partition, and its entry in the stream."""
    return f"{partition}-{entry.decode()}"


def _parse(text: str) -> tuple[int, int, int] | None:
    """The (milliseconds, number, partition) of a dead letter's id; None if no letter can have it."""
    found = _LETTER.fullmatch(text) if text.isascii() else None
    return None if found is None else (int(found[2]), int(found[3]), int(found[1]))


def _place(after: str) -> tuple[int, int, int]:
    """The same for where a page goes on.

    Raises:
        InvalidRequest: it is none of our cursors.
    """
    found = _parse(after)
    if found is None:
        raise not_a_cursor(after)
    return found
