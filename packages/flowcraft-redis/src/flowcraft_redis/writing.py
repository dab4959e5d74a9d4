"""What the scripts of `create` and `commit` are given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from flowcraft.model import Change, Event, Index, Job, NewRun, ValueKey
from flowcraft.storing import event_rows
from flowcraft_redis.keys import Keyspace, Partition, encode
from flowcraft_redis.messages import RedisDelivery, level_of
from flowcraft_redis.wire import Argument

__all__ = ["Call", "Keys", "acked", "announce", "change", "creation", "messages", "places", "real"]

Call = tuple[list[bytes], list[Argument]]


class Keys:
    """The keys of a script's call, each once, and their numbers."""

    def __init__(self, first: Sequence[bytes] = ()) -> None:
        self.names = list(first)
        self._numbers: dict[bytes, int] = {}

    def number(self, name: bytes) -> int:
        """The number of a key, from 1."""
        found = self._numbers.get(name)
        if found is None:
            self.names.append(name)
            found = self._numbers[name] = len(self.names)
        return found


def real(value: float | None) -> bytes:
    """A time as it is stored: exactly."""
    return b"" if value is None else repr(float(value)).encode()


def places(keys: Keyspace, kind: str, id: bytes) -> list[bytes]:
    """The keys that every document has: head, due, listing, status, events."""
    part = keys.of(id)
    return [part.head(kind, id), part.due(kind), part.listing(kind), part.status(kind, id), part.events(kind, id)]


def creation(keyspace: Keyspace, new: NewRun, bound: bool, *, history: bool) -> Call:
    """The call of ``create.lua``."""
    id = encode(new.run_id)
    keys = Keys(places(keyspace, new.kind, id))
    part = keyspace.of(id)
    arguments: list[Argument] = [
        id, encode(new.token), bytes(new.head), *_index(new.index), real(new.created_at), encode(new.fingerprint),
        encode(new.blueprint_id), encode(new.blueprint_hash),
    ]  # fmt: skip
    _set_values(keys, part, new.kind, id, new.values, arguments)
    _events(new.events if history else (), arguments)
    messages(keys, part, new.jobs if bound else (), arguments)
    return keys.names, arguments


def change(keyspace: Keyspace, made: Change, bound: bool, *, history: bool) -> Call:
    """The call of ``commit.lua``."""
    id = encode(made.run_id)
    keys = Keys(places(keyspace, made.kind, id))
    part = keyspace.of(id)
    blueprint = made.blueprint
    moved = (b"0", b"", b"") if blueprint is None else (b"1", encode(blueprint[0]), encode(blueprint[1]))
    arguments: list[Argument] = [
        encode(made.version), id, encode(made.token), bytes(made.head), *_index(made.index), *moved,
    ]  # fmt: skip
    _delete_values(keys, part, made.kind, id, made.deleted, arguments)
    _set_values(keys, part, made.kind, id, made.values, arguments)
    _events(made.events if history else (), arguments)
    messages(keys, part, made.jobs if bound else (), arguments)
    _acks(keys, part, made.deliveries if bound else (), arguments)
    return keys.names, arguments


def messages(keys: Keys, part: Partition, made: Sequence[Job], arguments: list[Argument]) -> None:
    """Levels that are to be known, then each message with the number of its stream."""
    announce(keys, part, made, arguments)
    arguments.append(len(made))
    for job in made:
        stream = part.stream(encode(job.queue), level_of(job.priority))
        arguments += (keys.number(stream), job.to_bytes())


def announce(keys: Keys, part: Partition, made: Sequence[Job], arguments: list[Argument]) -> None:
    """Levels other than 0 that receivers must know of."""
    levels = dict.fromkeys((encode(job.queue), level) for job in made if (level := level_of(job.priority)))
    arguments.append(len(levels))
    for queue, level in levels:
        arguments += (keys.number(part.levels(queue)), level, keys.number(part.stream(queue, 0)))


def acked(part: Partition, deliveries: Sequence[object]) -> tuple[list[RedisDelivery], list[RedisDelivery]]:
    """Those that a commit acks, and those that it cannot: what a foreign producer put into another partition."""
    ours = [delivery for delivery in deliveries if isinstance(delivery, RedisDelivery)]
    return [d for d in ours if d.part == part], [d for d in ours if d.part != part]


def _index(index: Index) -> tuple[bytes, bytes, bytes]:
    return encode(index.status), real(index.wake_at), real(index.updated_at)


def _set_values(
    keys: Keys, part: Partition, kind: str, id: bytes, values: Mapping[ValueKey, bytes], arguments: list[Argument]
) -> None:
    groups: dict[bytes, list[Argument]] = {}
    for key, data in values.items():
        name, field = part.place(kind, id, key)
        groups.setdefault(name, []).extend((field, bytes(data)))
    _groups(keys, groups, arguments)


def _delete_values(
    keys: Keys, part: Partition, kind: str, id: bytes, deleted: Collection[ValueKey], arguments: list[Argument]
) -> None:
    groups: dict[bytes, list[Argument]] = {}
    for key in deleted:
        name, field = part.place(kind, id, key)
        groups.setdefault(name, []).append(field)
    _groups(keys, groups, arguments)


def _acks(keys: Keys, part: Partition, deliveries: Sequence[object], arguments: list[Argument]) -> None:
    groups: dict[bytes, list[Argument]] = {}
    for delivery in acked(part, deliveries)[0]:
        groups.setdefault(delivery.stream, []).append(delivery.id)
    _groups(keys, groups, arguments)


def _groups(keys: Keys, groups: Mapping[bytes, Sequence[Argument]], arguments: list[Argument]) -> None:
    arguments.append(len(groups))
    for name, items in groups.items():
        arguments += (keys.number(name), len(items), *items)


def _events(events: Sequence[Event], arguments: list[Argument]) -> None:
    """Those with a number, each as its number, a space, and its JSON."""
    rows = [b"%d %b" % (seq, text.encode()) for seq, text in event_rows(events)]
    arguments.append(len(rows))
    arguments += rows
