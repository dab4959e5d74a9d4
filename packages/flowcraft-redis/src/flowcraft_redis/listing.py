"""Listings of documents: by an index, a page at a time, over all partitions at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, cast

from flowcraft.model import Page, RunSummary
from flowcraft.paging import decode_cursor, due_cursor, encode_cursor, page_of
from flowcraft_redis import scripts
from flowcraft_redis.keys import Keyspace, Partition, encode
from flowcraft_redis.link import Link
from flowcraft_redis.writing import real

__all__ = ["Wanted", "due", "newest"]

_SUMMARY = (b"s", b"b", b"B", b"c", b"u", b"w", b"t")
_STEP = 200  # rows to look at, at least, where not all of them count


class Wanted(NamedTuple):
    """Which documents are listed."""

    kind: str
    status: str | None
    blueprint_id: str | None


async def due(link: Link, keyspace: Keyspace, kind: str, now: float, limit: int, after: str | None) -> Page[RunSummary]:
    """One page of due documents, earliest first."""
    place = None if after is None else decode_cursor(after, str)
    pages = await asyncio.gather(*(_due(link, part, kind, now, limit, place) for part in keyspace.partitions))
    rows = [row for page in pages for row in page if row.wake_at is not None and row.wake_at <= now]
    rows.sort(key=lambda row: (row.wake_at or 0.0, row.run_id))
    return page_of(rows, limit, due_cursor)


async def newest(
    link: Link,
    keyspace: Keyspace,
    wanted: Wanted,
    limit: int,
    after: str | None,
) -> Page[RunSummary]:
    """One page of documents, newest first."""
    place = None if after is None else decode_cursor(after, str)
    filtered = wanted.status is not None and wanted.blueprint_id is not None
    step = max(_STEP, limit) if filtered else limit
    found: list[RunSummary] = []
    while True:
        calls = (_newest(link, part, wanted, step, place) for part in keyspace.partitions)
        rows = [row for page in await asyncio.gather(*calls) for row in page]
        rows.sort(key=lambda row: (row.created_at, row.run_id), reverse=True)
        seen = rows[: step + 1]
        found += [row for row in seen if wanted.blueprint_id in (None, row.blueprint_id)]
        if len(rows) <= step or len(found) > limit:
            return page_of(found, limit, _list_cursor)
        place = seen[-1].created_at, seen[-1].run_id


async def _due(
    link: Link, part: Partition, kind: str, now: float, limit: int, after: tuple[float, str] | None
) -> Sequence[RunSummary]:
    name = part.due(kind)
    while True:
        if after is None:
            ids = await link.call(b"ZRANGEBYSCORE", name, b"-inf", real(now), b"LIMIT", 0, limit + 1)
        else:
            ids = await link.run(scripts.AFTER, [name], (real(after[0]), encode(after[1]), limit + 1, 0))
        rows = await _summaries(link, part, kind, ids)
        if len(rows) == len(ids) or len(ids) <= limit:
            return rows
        # Some were deleted between the two looks: a page that is too short would be taken for the last.


async def _newest(
    link: Link,
    part: Partition,
    wanted: Wanted,
    limit: int,
    after: tuple[float, str] | None,
) -> Sequence[RunSummary]:
    name = part.listing(wanted.kind)
    if wanted.status is not None:
        name += b":s:" + encode(wanted.status)
    elif wanted.blueprint_id is not None:
        name += b":b:" + encode(wanted.blueprint_id)
    while True:
        if after is None:
            ids = await link.call(b"ZREVRANGE", name, 0, limit)
        else:
            ids = await link.run(scripts.AFTER, [name], (real(after[0]), encode(after[1]), limit + 1, 1))
        rows = [row for row in await _summaries(link, part, wanted.kind, ids) if wanted.status in (None, row.status)]
        if len(rows) == len(ids) or len(ids) <= limit:
            return rows


async def _summaries(link: Link, part: Partition, kind: str, ids: Sequence[bytes]) -> list[RunSummary]:
    replies = await link.call_each([(b"HMGET", part.head(kind, id), *_SUMMARY) for id in ids])
    return [_summary(id, row) for id, row in zip(ids, replies, strict=True) if row[0] is not None]


def _summary(id: bytes, row: Sequence[bytes | None]) -> RunSummary:
    status, blueprint_id, content_hash, created, updated, wake, token = cast("Sequence[bytes]", row)
    return RunSummary(
        id.decode(), status.decode(), blueprint_id.decode(), content_hash.decode(), float(created), float(updated),
        float(wake) if wake else None, token.decode(),
    )  # fmt: skip


def _list_cursor(row: RunSummary) -> str:
    return encode_cursor(row.created_at, row.run_id)
