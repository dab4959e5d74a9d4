"""What lets every earlier state of a run be rebuilt: the last event of each commit carries the head that it made.

Most carry the difference to the head before. Whenever the numbering of events enters another block of `BLOCK`, a whole
copy is carried instead: then no more than one block is read to rebuild a head, however long the history is.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from flowcraft.engine.view import RunView, run_view
from flowcraft.errors import InvalidRequest, SerializationError
from flowcraft.model import Event
from flowcraft.ports import RunStore
from flowcraft.runstate import Graphs, unpack_head

__all__ = ["BLOCK", "carrying", "head_at", "rebuild", "record", "view_at"]

#: So many events at most lie between two whole copies of the head.
BLOCK: Final = 64
_WHOLE, _DIFFERENCE = b"W", b"D"
#: Deflate looks back 32 KiB, the dictionary included. So a larger head is compressed in pieces, each with what lay
#: around the same place before as its dictionary.
_PIECE: Final = 12 * 1024
_AROUND: Final = 4 * 1024
_LARGEST: Final = 64 * 1024 * 1024
_RAW: Final = -15  # no header and no checksum of zlib's


def record(previous: bytes, head: bytes, *, before: int, after: int) -> bytes:
    """What rebuilds ``head`` from ``previous``, or by itself.

    ``before`` and ``after`` are the numbers of the last event before the commit, and of its own last one. A record is a
    letter, the checksum of the head, and the compressed head.
    """
    if before == 0 or before // BLOCK != after // BLOCK:
        return _WHOLE + _checksum(head) + zlib.compress(head, 6, _RAW)
    pieces: list[bytes] = [_DIFFERENCE, _checksum(head)]
    for at in range(0, len(head), _PIECE):
        deflate = zlib.compressobj(1, zlib.DEFLATED, _RAW, 8, zlib.Z_DEFAULT_STRATEGY, _dictionary(previous, at))
        pieces += deflate.compress(head[at : at + _PIECE]), deflate.flush()
    return b"".join(pieces)


def rebuild(records: Sequence[bytes]) -> bytes:
    """The head after the last of these records of successive commits, the first of which must be a whole copy.

    Raises:
        SerializationError: one of them is damaged or missing.
    """
    head = b""
    for number, data in enumerate(records):
        kind, checksum, packed = data[:1], data[1:5], data[5:]
        if kind not in (_WHOLE, _DIFFERENCE) or (number == 0 and kind != _WHOLE):
            raise SerializationError("the history does not hold this head: it does not begin with a whole copy")
        try:
            head = _whole(packed) if kind == _WHOLE else _changed(head, packed)
        except (zlib.error, ValueError) as error:
            raise SerializationError(f"the history does not hold this head: {error}") from error
        if _checksum(head) != checksum:
            raise SerializationError("the history does not hold this head: a record before it is missing or damaged")
    return head


def _checksum(head: bytes) -> bytes:
    return zlib.crc32(head).to_bytes(4, "little")


def _dictionary(previous: bytes, at: int) -> bytes:
    return previous[max(0, at - _AROUND) : at + _PIECE + _AROUND]


def _changed(previous: bytes, packed: bytes) -> bytes:
    made = bytearray()
    while packed:
        inflate = zlib.decompressobj(_RAW, _dictionary(previous, len(made)))
        made += inflate.decompress(packed, _PIECE)
        if not inflate.eof:
            raise ValueError("a record is cut, or too large")
        packed = inflate.unused_data
    return bytes(made)


def _whole(packed: bytes) -> bytes:
    inflate = zlib.decompressobj(_RAW)
    made = inflate.decompress(packed, _LARGEST)
    if not inflate.eof:
        raise ValueError("a record is cut, or too large")
    return made


def carrying(events: Sequence[Event], previous: bytes, head: bytes) -> tuple[Event, ...]:
    """The events of one commit, the last of which carries ``head``; ``previous`` is the one that was stored before."""
    data = record(previous, head, before=events[0].seq - 1, after=events[-1].seq)
    return (*events[:-1], events[-1].with_head(data))


async def head_at(store: RunStore, run_id: str, seq: int) -> bytes | None:
    """The stored document as the commit made it that event number ``seq`` belongs to; None if there is no such event.

    Raises:
        SerializationError: the history was damaged, or an earlier version wrote it. What the store raises.
    """
    if seq < 1:
        return None
    records: list[bytes] = []
    after = max(0, seq // BLOCK * BLOCK - 1)
    while True:
        page = await store.read_events(run_id, after, BLOCK)
        for event in page.items:
            if event.head:
                if event.head[:1] == _WHOLE:
                    records.clear()
                records.append(event.head)
                if event.seq >= seq:
                    return rebuild(records)
            after = event.seq
        if page.after is None or not page.items:
            break
    if after >= seq:
        raise SerializationError(f"the history of run {run_id!r} holds no states: an earlier version wrote it")
    return None


async def view_at(store: RunStore, graphs: Graphs, run_id: str, seq: int) -> RunView:
    """See `RunHandle.state_at`; the run exists."""
    if not store.capabilities.history:
        raise InvalidRequest("this store keeps no history: only the latest state of a run is known")
    data = await head_at(store, run_id, seq)
    if data is None:
        raise InvalidRequest(f"run {run_id!r} has no event number {seq}")
    content_hash, head = unpack_head(data)
    view = run_view(await graphs.get(content_hash), head)
    made = {node.output for node in view.nodes.values() if node.output is not None}
    kept = await store.read_values(run_id, made) if made else {}
    nodes = {
        node_id: node if node.output in kept else replace(node, output=None) for node_id, node in view.nodes.items()
    }
    outputs = {node_id: key for node_id, key in view.outputs.items() if key in kept}
    return replace(view, nodes=nodes, outputs=outputs)
