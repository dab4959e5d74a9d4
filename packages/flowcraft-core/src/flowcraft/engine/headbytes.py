"""The head's stored form: a JSON header (what is sparse), then packed arrays (what is dense).

Half a byte a node, half a byte an edge, two or four bytes an activation, and the states of batches compressed, so that
the thousands of items that are held or done cost next to nothing. The numbering of activations is dense: nodes first,
then the item visits of each batch.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Sequence
from math import isfinite
from typing import Final, cast

from flowcraft.compact import compact
from flowcraft.engine.head import SPREAD, Activation, Failure, Head
from flowcraft.engine.slots import NODE_MASK, Batch, item_of, item_slot, node_of
from flowcraft.errors import SerializationError

__all__ = ["SCHEMA", "decode_head", "encode_head"]

SCHEMA: Final = 1

_PHASES: Final = frozenset({"running", "failing", "cancelling", "undoing", "completed", "failed", "cancelled"})
_STATES: Final = bytes(range(SPREAD + 1))
_MARKS: Final = bytes(range(5))
_COMPRESS_ABOVE: Final = 16_384
_LARGEST: Final = 64 * 1024 * 1024
_HIGH = bytes(b >> 4 for b in range(256))
_LOW = bytes(b & 15 for b in range(256))


def _pack(values: bytearray) -> bytes:
    """Two values below 16 in each byte, by big integers instead of a loop."""
    size = (len(values) + 1) // 2
    low, high = values[0::2], values[1::2]
    return (int.from_bytes(low, "little") | int.from_bytes(high, "little") << 4).to_bytes(size, "little")


def _unpack(data: bytes, count: int) -> bytearray:
    values = bytearray(len(data) * 2)
    values[0::2] = data.translate(_LOW)
    values[1::2] = data.translate(_HIGH)
    del values[count:]
    return values


def encode_head(head: Head) -> bytes:
    """The stored form; equal heads need not give equal bytes."""
    groups: dict[Activation, list[int]] = {}
    for slot, activation in head.active.items():
        groups.setdefault(activation, []).append(slot)
    batches, bases, count = _encode_batches(head)
    wide = "I" if count > 0xFFFF else "H"
    rows: list[object] = []
    members = array(wide)
    for a, slots in groups.items():
        rows.append([len(slots), a.nonce, a.at, a.visit, a.attempt, a.resend, a.due, a.runs, a.before, a.reason])
        members.extend(slots if not bases else [_dense(slot, bases) for slot in slots])
    header = {
        "n": len(head.states), "e": len(head.marks), "a": rows,
        "p": head.phase, "o": head.epoch, "s": head.seq, "w": head.wake_at, "d": head.deadline, "b": head.started_at,
        "t": head.tokens,
    }  # fmt: skip
    sparse: list[tuple[str, object]] = [
        ("c", head.cause), ("v", head.visits), ("u", head.outputs), ("l", head.last), ("i", head.wins),
        ("m", head.mark_visits), ("R", head.brought), ("r", head.rounds), ("f", head.fallbacks), ("y", head.ordinary),
        ("C", head.choosers), ("g", sorted(head.fired)), ("k", head.logged),
        ("x", [[f.node, f.visits, f.owner] for f in head.failures]),
        ("B", [[node, batch.to_row(), len(data)] for node, batch, data in batches]),
        ("A", head.answered), ("M", [[*at, *signal] for at, signal in head.mailbox.items()]),
        ("D", head.done), ("U", head.undo), ("G", head.goal), ("W", head.was), ("P", head.parent), ("h", head.depth),
        ("z", int(head.paused)), ("H", head.halted), ("L", head.late), ("F", head.frozen), ("E", head.entered),
        ("O", head.origin), ("V", head.given),
    ]  # fmt: skip
    header |= {name: value for name, value in sparse if value}
    text = compact(header).encode()
    if len(text) > _COMPRESS_ABOVE:  # thousands of visits in trouble, each with a row of its own
        text = zlib.compress(text, 4)
    return b"".join((
        bytes((SCHEMA,)), len(text).to_bytes(4, "little"), text,
        _pack(head.states), _pack(head.marks), *(data for _, _, data in batches), members.tobytes(),
    ))  # fmt: skip


def _encode_batches(head: Head) -> tuple[list[tuple[int, Batch, bytes]], dict[int, int], int]:
    """The batches with their compressed states, the dense number of each one's first item, and the count of slots."""
    found: list[tuple[int, Batch, bytes]] = []
    bases: dict[int, int] = {}
    count = len(head.states)
    for node, batch in head.batches.items():
        found.append((node, batch, zlib.compress(batch.states, 1)))
        bases[node] = count
        count += len(batch.states)
    return found, bases, count


def _dense(slot: int, bases: dict[int, int]) -> int:
    return slot if slot <= NODE_MASK else bases[node_of(slot)] + item_of(slot)


_TROUBLE: Final = (
    ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError, zlib.error
)  # fmt: skip


def decode_head(data: bytes) -> Head:
    """The inverse of `encode_head`.

    Raises:
        SerializationError: not a head, or one written by a newer version.
    """
    if not data or data[0] != SCHEMA:
        raise SerializationError(f"this head has schema {data[0] if data else None}, this version reads {SCHEMA}")
    try:
        return _decode(data)
    except _TROUBLE as error:
        raise SerializationError(f"this is not a head: {error}") from error


def _decode(data: bytes) -> Head:
    start = 5 + int.from_bytes(data[1:5], "little")
    text = data[5:start]
    header = cast("dict[str, object]", json.loads(text if text[:1] == b"{" else _inflated(text)))
    nodes, edges = cast("int", header["n"]), cast("int", header["e"])
    middle = start + (nodes + 1) // 2
    end = middle + (edges + 1) // 2
    batches: dict[int, Batch] = {}
    bases: list[tuple[int, int]] = []
    count = nodes
    for node, row, size in cast("list[tuple[int, object, int]]", header.get("B", [])):
        batches[node] = Batch.from_row(row, data[end : end + size])
        bases.append((count, node))
        count += len(batches[node].states)
        end += size
    members = array("I" if count > 0xFFFF else "H")
    members.frombytes(data[end:])
    named = [_slot(number, bases) for number in members] if bases else members
    active = _decode_active(cast("list[list[object]]", header["a"]), named)
    states, marks = _unpack(data[start:middle], nodes), _unpack(data[middle : middle + (edges + 1) // 2], edges)
    known = (len(states), len(marks), len(active)) == (nodes, edges, len(members)) and all(n < count for n in members)
    if not known or header["p"] not in _PHASES or states.translate(None, _STATES) or marks.translate(None, _MARKS):
        raise ValueError("its parts do not fit together")
    if any(batch.states.translate(None, _STATES) for batch in batches.values()):
        raise ValueError("a batch has unknown states")
    return _head(header, states, marks, active, batches)


def _head(
    header: dict[str, object], states: bytearray, marks: bytearray, active: dict[int, Activation],
    batches: dict[int, Batch],
) -> Head:  # fmt: skip
    """What is sparse, beside what is dense."""
    return Head(
        states=states,
        marks=marks,
        phase=str(header["p"]),
        epoch=cast("int", header["o"]),
        seq=cast("int", header["s"]),
        wake_at=cast("float | None", header["w"]),
        deadline=cast("float | None", header["d"]),
        started_at=cast("float", header["b"]),
        cause=cast("str", header.get("c", "")),
        tokens=cast("list[str]", header["t"]),
        active=active,
        visits=_numbers(header.get("v")),
        outputs=_numbers(header.get("u")),
        last=_numbers(header.get("l")),
        wins={int(n): tuple(w) for n, w in cast("dict[str, list[int]]", header.get("i", {})).items()},
        mark_visits=_numbers(header.get("m")),
        brought=_numbers(header.get("R")),
        rounds=_numbers(header.get("r")),
        fallbacks={
            int(n): {int(owner): bool(worked) for owner, worked in ran.items()}
            for n, ran in cast("dict[str, dict[str, bool]]", header.get("f", {})).items()
        },
        choosers={
            int(e): [(owner, visit) for owner, visit in rows]
            for e, rows in cast("dict[str, list[tuple[int, int]]]", header.get("C", {})).items()
        },
        ordinary=_numbers(header.get("y")),
        fired=set(cast("list[int]", header.get("g", ()))),
        failures=[
            Failure(node, tuple((n, v) for n, v in visits), owner)
            for node, visits, owner in cast("list[tuple[int, list[tuple[int, int]], int]]", header.get("x", []))
        ],
        logged=[int(_number(count)) for count in cast("list[int]", header.get("k", []))],
        batches=batches,
        answered={
            int(n): [(visit, name) for visit, name in rows]
            for n, rows in cast("dict[str, list[tuple[int, str]]]", header.get("A", {})).items()
        },
        mailbox={
            (node, visit): (name, action)
            for node, visit, name, action in cast("list[tuple[int, int, str, str | None]]", header.get("M", []))
        },
        done=_triples(header.get("D", [])),
        undo=_triples(header.get("U", [])),
        goal=tuple(cast("list[int]", header.get("G", ()))),
        was=cast("int", header.get("W", 0)),
        parent=_parent(header.get("P")),
        depth=cast("int", header.get("h", 0)),
        paused=bool(header.get("z", 0)),
        halted=_numbers(header.get("H")),
        late=[
            (node, visit, action, owner)
            for node, visit, action, owner in cast("list[tuple[int, int, str | None, int]]", header.get("L", []))
        ],
        frozen={
            int(n): (count, v) for n, (count, v) in cast("dict[str, tuple[int, int]]", header.get("F", {})).items()
        },
        entered=_numbers(header.get("E")),
        origin=_origin(header.get("O")),
        given=_numbers(header.get("V")),
    )


def _decode_active(groups: list[list[object]], members: Sequence[int]) -> dict[int, Activation]:
    """Each group's activation, for each of its slots; ``members`` are the slots of all groups in their order."""
    active: dict[int, Activation] = {}
    at = 0
    for count, nonce, since, visit, attempt, resend, due, runs, before, reason in groups:
        pairs = tuple((int(n), int(v)) for n, v in cast("list[list[int]]", before))
        if not (isinstance(nonce, str) and isinstance(reason, str)):
            raise TypeError("an activation without its texts")
        activation = Activation(
            nonce, _number(since), int(_number(visit)), int(_number(attempt)), int(_number(resend)), _number(due),
            int(_number(runs)), pairs, reason,
        )  # fmt: skip
        for node in members[at : at + cast("int", count)]:
            active[node] = activation
        at += cast("int", count)
    if at != len(members):
        raise ValueError("active nodes without an activation, or the other way round")
    return active


def _slot(number: int, bases: Sequence[tuple[int, int]]) -> int:
    """The inverse of `_dense`."""
    for base, node in reversed(bases):
        if number >= base:
            return item_slot(node, number - base)
    return number


def _inflated(text: bytes) -> bytes:
    inflate = zlib.decompressobj()
    made = inflate.decompress(text, _LARGEST)
    if inflate.unconsumed_tail or not inflate.eof:
        raise ValueError("its header is cut or too large")
    return made


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return value


def _numbers(raw: object) -> dict[int, int]:
    if not raw:  # as mostly: what is not there takes no time
        return {}
    return {int(key): int(_number(value)) for key, value in cast("dict[str, int]", raw).items()}


def _triples(raw: object) -> list[tuple[int, int, int]]:
    return [(int(one), int(two), int(three)) for one, two, three in cast("list[tuple[int, int, int]]", raw)]


def _origin(raw: object) -> tuple[str, str] | None:
    if raw is None:
        return None
    run_id, node_id = cast("tuple[str, str]", raw)
    return run_id, node_id


def _parent(raw: object) -> tuple[str, str, int] | None:
    if raw is None:
        return None
    run_id, node_id, item = cast("tuple[str, str, int]", raw)
    return run_id, node_id, item
