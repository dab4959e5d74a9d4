"""The reads of the run store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

from flowcraft.model import Event, Index, Page, Space, StoredHead, ValueKey
from flowcraft.paging import page_of
from flowcraft_redis import scripts
from flowcraft_redis.keys import Keyspace, encode
from flowcraft_redis.link import Link
from flowcraft_redis.wire import Argument

__all__ = ["events", "head", "load", "space", "values"]

_HEAD = (b"t", b"h", b"s", b"w", b"u", b"f")
_Groups = dict[bytes, list[tuple[ValueKey, bytes]]]


async def load(link: Link, keyspace: Keyspace, kind: str, run_id: str, want: Collection[ValueKey]) -> StoredHead | None:
    """The document with the wanted values that exist, as of one moment."""
    id = encode(run_id)
    name = keyspace.of(id).head(kind, id)
    if not want:
        return head(run_id, await link.call(b"HMGET", name, *_HEAD))
    groups = _grouped(keyspace, kind, id, want)
    arguments: list[Argument] = [len(groups)]
    for number, rows in enumerate(groups.values(), 2):
        arguments += (number, len(rows), *(field for _, field in rows))
    first, *data = await link.run(scripts.LOAD, [name, *groups], arguments)
    return head(run_id, first, dict(_found(groups, data)))


def head(run_id: str, row: Sequence[bytes | None], found: Mapping[ValueKey, bytes] | None = None) -> StoredHead | None:
    """A document from the fields of its head; None if there is none."""
    if row[0] is None:
        return None
    token, data, status, wake, updated, fingerprint = cast("Sequence[bytes]", row)
    index = Index(status.decode(), float(wake) if wake else None, float(updated))
    return StoredHead(
        run_id, data, token.decode(), token.decode(), index, found or {}, fingerprint=fingerprint.decode()
    )


async def values(link: Link, keyspace: Keyspace, run_id: str, keys: Collection[ValueKey]) -> dict[ValueKey, bytes]:
    """The values that exist among the keys."""
    groups = _grouped(keyspace, "run", encode(run_id), keys)
    commands = [(b"HMGET", name, *(field for _, field in rows)) for name, rows in groups.items()]
    replies = await link.call_each(commands)
    return dict(_found(groups, [data for reply in replies for data in reply]))


async def space(link: Link, keyspace: Keyspace, run_id: str, wanted: Space) -> dict[ValueKey, bytes]:
    """All values of one space."""
    id = encode(run_id)
    part = keyspace.of(id)
    found: dict[ValueKey, bytes] = {}
    commands = [(b"HGETALL", part.values("run", wanted.encode(), id))]
    if wanted == "context":
        commands.append((b"HGETALL", part.state(id)))
    rows, *context = await link.call_each(commands)
    for field, data in pairs(rows):
        visit, _, name = field.partition(b":")
        found[ValueKey(wanted, name.decode(), int(visit))] = data
    for reply in context:
        found |= {ValueKey(wanted, name.decode()): data for name, data in pairs(reply)}
    return found


async def events(link: Link, keyspace: Keyspace, run_id: str, after_seq: int, limit: int) -> Page[Event]:
    """One page of a run's history."""
    id = encode(run_id)
    name = keyspace.of(id).events("run", id)
    after = max(0, after_seq)
    rows = _events(run_id, await link.call(b"LRANGE", name, after, after + limit))
    if rows and rows[0].seq != after + 1:  # history was switched on after the run had begun
        everything = _events(run_id, await link.call(b"LRANGE", name, 0, -1))
        rows = [event for event in everything if event.seq > after_seq][: limit + 1]
    return page_of(rows, limit, lambda event: str(event.seq))


def pairs(reply: Any) -> Iterator[tuple[bytes, bytes]]:
    """The fields of a hash, however the protocol tells them."""
    if isinstance(reply, dict):
        return iter(cast("dict[bytes, bytes]", reply).items())
    rows = iter(cast("list[bytes]", reply))
    return zip(rows, rows, strict=True)


def _events(run_id: str, rows: Sequence[bytes]) -> list[Event]:
    split = (row.partition(b" ") for row in rows)
    return [Event.from_json(run_id, int(seq), text) for seq, _, text in split]


def _grouped(keyspace: Keyspace, kind: str, id: bytes, keys: Collection[ValueKey]) -> _Groups:
    part = keyspace.of(id)
    groups: _Groups = {}
    for key in keys:
        name, field = part.place(kind, id, key)
        groups.setdefault(name, []).append((key, field))
    return groups


def _found(groups: _Groups, data: Sequence[bytes | None]) -> Iterator[tuple[ValueKey, bytes]]:
    keys = (key for rows in groups.values() for key, _ in rows)
    return ((key, value) for key, value in zip(keys, data, strict=True) if value is not None)
