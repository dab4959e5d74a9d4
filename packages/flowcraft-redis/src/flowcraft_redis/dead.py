"""Dead letters: a stream in each partition. An id is that of the stream's entry, which is never used again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flowcraft.model import DeadLetter, Page
from flowcraft_redis.keys import Keyspace, Partition
from flowcraft_redis.link import Link
from flowcraft_redis.paging import letter_cursor, letter_id, parse_letter

__all__ = ["discard", "page", "read"]

_Entry = tuple[bytes, Sequence[bytes]]


async def page(link: Link, keyspace: Keyspace, limit: int, after: str | None) -> Page[DeadLetter]:
    """Up to ``limit`` letters of all partitions, oldest first."""
    place = None if after is None else letter_cursor(after)
    calls = (_page(link, part, limit, place) for part in keyspace.partitions)
    letters = [letter for found in await asyncio.gather(*calls) for letter in found]
    letters.sort(key=lambda letter: parse_letter(letter.id) or ())
    items = tuple(letters[:limit])
    return Page(items, items[-1].id if len(letters) > limit and items else None)


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
    found = parse_letter(id)
    if found is None or found[2] >= len(keyspace.partitions):
        return None
    return keyspace.partitions[found[2]], b"%d-%d" % found[:2]


def _letter(part: Partition, row: _Entry) -> DeadLetter:
    entry, flat = row
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    at = int(entry.partition(b"-")[0]) / 1000
    queue, reason = fields.get(b"queue", b"").decode(), fields.get(b"reason", b"").decode()
    return DeadLetter(letter_id(part.number, entry), queue, reason, fields.get(b"body", b""), at)
