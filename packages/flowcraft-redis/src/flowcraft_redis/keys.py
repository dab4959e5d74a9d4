"""The names of all keys. Everything of one partition shares a hash tag, so that one script may use it on a cluster."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, get_args

from flowcraft.errors import InvalidRequest, Misconfigured
from flowcraft.model import Space, ValueKey
from flowcraft_redis.errors import no_text

__all__ = ["CONTEXT", "SPACES", "Keyspace", "Partition", "encode"]

CONTEXT: Final = b"context"
#: The spaces of values, each a hash of its run.
SPACES: Final = tuple(str(space).encode() for space in get_args(Space))
_MOST_PARTITIONS: Final = 1024


def encode(text: str) -> bytes:
    """Text as it is stored.

    Raises:
        InvalidRequest: it holds a lone surrogate.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(no_text(error)) from error


class _Names(NamedTuple):
    """How names begin."""

    head: bytes
    due: bytes
    listing: bytes
    events: bytes
    status: bytes
    values: bytes


@lru_cache(maxsize=8192)
def _names(tag: bytes, kind: str) -> _Names:
    begin = tag + b":" + kind.encode()
    status = tag + b":workflow:status:" if kind == "run" else begin + b":status:"
    return _Names(
        begin + b":head:", begin + b":due", begin + b":list", begin + b":events:", status, begin + b":values:"
    )


@dataclass(frozen=True, slots=True)
class Partition:
    """The keys of the documents, streams and indexes that lie together. Ids come last, so that no two collide."""

    number: int
    tag: bytes

    def head(self, kind: str, run_id: bytes) -> bytes:
        """A hash: what is known of a document."""
        return _names(self.tag, kind).head + run_id

    def due(self, kind: str) -> bytes:
        """A sorted set: ids of documents by the time at which they want to be looked at."""
        return _names(self.tag, kind).due

    def listing(self, kind: str) -> bytes:
        """A sorted set: ids of documents by the time of their creation; those by status and blueprint begin like it."""
        return _names(self.tag, kind).listing

    def events(self, kind: str, run_id: bytes) -> bytes:
        """A list: the history of a document."""
        return _names(self.tag, kind).events + run_id

    def status(self, kind: str, run_id: bytes) -> bytes:
        """Text, for anyone who wants to look."""
        return _names(self.tag, kind).status + run_id

    def state(self, run_id: bytes) -> bytes:
        """A hash, for anyone who wants to look: the context of a run, by its keys."""
        return self.tag + b":workflow:state:" + run_id

    def values(self, kind: str, space: bytes, run_id: bytes) -> bytes:
        """A hash: the values of one space, by visit and name."""
        return _names(self.tag, kind).values + space + b":" + run_id

    def place(self, kind: str, run_id: bytes, key: ValueKey) -> tuple[bytes, bytes]:
        """Where a value lies: the key and the field."""
        name = encode(key.name)
        if kind == "run" and key.space == "context" and key.visit == 0:
            return self.state(run_id), name
        return self.values(kind, key.space.encode(), run_id), b"%d:%b" % (key.visit, name)

    def everything(self, kind: str, run_id: bytes) -> list[bytes]:
        """All keys that a document may have beside its head and its places in the indexes."""
        spaces = [self.values(kind, space, run_id) for space in SPACES]
        return [self.state(run_id), *spaces] if kind == "run" else spaces

    def stream(self, queue: bytes, level: int) -> bytes:
        """The messages of a queue that are of one urgency."""
        return b"%b:queue:%d:%b" % (self.tag, level, queue)

    def around(self, queue: bytes) -> tuple[bytes, bytes]:
        """What the names of a queue's streams begin with, before the level, and end with."""
        return b"%b:queue:" % self.tag, b":" + queue

    def levels(self, queue: bytes) -> bytes:
        """A set: the urgencies other than 0 that a queue ever had."""
        return b"%b:levels:%b" % (self.tag, queue)

    def delayed(self, queue: bytes) -> bytes:
        """A sorted set: messages that are not to be delivered yet, by the time when they are."""
        return b"%b:delayed:%b" % (self.tag, queue)

    def kept(self, queue: bytes) -> bytes:
        """A sorted set: deliveries that are kept for longer than the visibility, by the end of that."""
        return b"%b:kept:%b" % (self.tag, queue)

    @property
    def dead(self) -> bytes:
        """A stream: the dead letters."""
        return b"%b:dead" % self.tag


class Keyspace:
    """All keys under one prefix, in ``partitions`` partitions.

    Raises:
        Misconfigured: the prefix or the number cannot be.
    """

    def __init__(self, prefix: str, partitions: int) -> None:
        if not prefix or any(character in "{}" or not character.isprintable() for character in prefix):
            raise Misconfigured(f"prefix must be printable text without braces, not {prefix!r}")
        if not 1 <= partitions <= _MOST_PARTITIONS:
            raise Misconfigured(f"partitions must be 1 to {_MOST_PARTITIONS}, not {partitions}")
        self.prefix = encode(prefix)
        self.partitions = tuple(Partition(n, b"{%b:%d}" % (self.prefix, n)) for n in range(partitions))

    def of(self, run_id: bytes) -> Partition:
        """The partition of a document."""
        if len(self.partitions) == 1:
            return self.partitions[0]
        return self.partitions[zlib.crc32(run_id) % len(self.partitions)]

    @property
    def meta(self) -> bytes:
        """A hash: what all who use the prefix have agreed on."""
        return b"%b:meta" % self.prefix

    def blueprint(self, content_hash: str) -> bytes:
        """Text: a blueprint."""
        return b"%b:blueprint:%b" % (self.prefix, encode(content_hash))

    def channel(self, run_id: bytes) -> bytes:
        """Where events of a run are told."""
        return b"%b:events:%b" % (self.prefix, run_id)

    def ends(self, run_id: bytes) -> bytes:
        """Where the ends of a run are told, too: whoever waits for a result need not listen to every step."""
        return b"%b:ends:%b" % (self.prefix, run_id)

    def coordination(self, what: bytes, key: str) -> bytes:
        """A lease, text, slot or rate. All of them share one tag, so that one script may take many."""
        return b"{%b:coordination}:%b:%b" % (self.prefix, what, encode(key))
