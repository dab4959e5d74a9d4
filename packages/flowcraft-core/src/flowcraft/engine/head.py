"""The head: a run's small state, and its bytes.

In memory it is a set of byte arrays and sparse dicts that the transition changes in place. Stored, it is a JSON header
(what is sparse) followed by packed arrays (what is dense): half a byte a node, half a byte an edge, two or four bytes
a node that is active right now. There is no RUNNING in it: who works on a visit is a lease.
"""

from __future__ import annotations

import json
import zlib
from array import array
from dataclasses import dataclass, field
from math import isfinite
from typing import Final, cast

from flowcraft.errors import SerializationError
from flowcraft.model import NodeState

__all__ = [
    "ACTIVE", "CANCELLED", "COMPLETED", "DEAD", "DRAINING", "FAILED", "HELD", "LIVE", "MARK_FAILED", "OPEN",
    "PARKED", "PENDING",
    "READY", "RETRYING", "SCHEMA", "SETTLED", "SKIPPED", "SKIPPED_FAILED", "STATE_NAMES", "TOKENS_KEPT", "UNMARKED",
    "UPSET", "VOID", "WAITING", "Activation", "Failure", "Head", "decode_head", "encode_head",
]  # fmt: skip

SCHEMA: Final = 1
#: So many tokens of its latest commits are kept in a head: how an unknown outcome is resolved.
TOKENS_KEPT: Final = 32

# States of a node, four bits each.
PENDING, READY, RETRYING, WAITING, HELD, PARKED, DRAINING = range(7)
COMPLETED, FAILED, SKIPPED, SKIPPED_FAILED, CANCELLED = range(7, 12)
#: A fallback node whose ordinary visit is decided while nodes that name it are not.
OPEN: Final = 12
ACTIVE: Final = frozenset({READY, RETRYING, WAITING, HELD, PARKED, DRAINING})
SETTLED: Final = frozenset({COMPLETED, FAILED, SKIPPED, SKIPPED_FAILED, CANCELLED})
#: What sends FAILED along its edges.
UPSET: Final = frozenset({FAILED, SKIPPED_FAILED})
STATE_NAMES: Final[tuple[NodeState, ...]] = (
    "pending", "ready", "retrying", "waiting", "held", "parked", "draining",
    "completed", "failed", "skipped", "skipped", "cancelled", "pending",
)  # fmt: skip

# Marks of an edge, four bits each. VOID: does not apply in this visit of its scope.
UNMARKED, LIVE, DEAD, MARK_FAILED, VOID = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """What is owed for one active node. One object is shared by all that a commit made READY in the same way.

    ``runs`` is the node whose function executes: the active node itself (-1) or the fallback that stands in for it;
    ``before`` are the (node, visit) pairs that failed before a fallback took over. ``due`` is when a timer ends.
    """

    nonce: str
    at: float
    visit: int = 1
    attempt: int = 1
    resend: int = 0
    due: float = 0.0
    runs: int = -1
    before: tuple[tuple[int, int], ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An unhandled failure: the node, and the (node, visit) pairs whose errors tell why."""

    node: int
    visits: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Head:
    """One run. Node and edge numbers are those of the compiled graph.

    * ``visits``: activations so far, of nodes that can repeat.
    * ``outputs``: the visit whose output counts, where it is not the visit the state speaks of.
    * ``last``: the state of the last visit that ran, of nodes that were reset.
    * ``wins``: the edges that fired a join of the kind at least n, or opened a visit.
    * ``mark_visits``: which visit of its source a LIVE edge speaks of, where that can be another than the latest.
    * ``rounds``: visits of a scope's header in this opening.
    * ``fallbacks``: (ran, succeeded) of fallback nodes; ``ordinary``: how their own visit ended.
    * ``fired``: joins of the kind at least n that fired in an earlier visit of their scope.
    * ``logged``: the number of the oldest notes that are kept, then how many records each notes since then hold.
    """

    states: bytearray
    marks: bytearray
    phase: str = "running"  # running | failing | cancelling | completed | failed | cancelled
    epoch: int = 1
    seq: int = 0
    wake_at: float | None = None
    deadline: float | None = None
    started_at: float = 0.0
    cause: str = ""
    tokens: list[str] = field(default_factory=list[str])
    active: dict[int, Activation] = field(default_factory=dict[int, Activation])
    visits: dict[int, int] = field(default_factory=dict[int, int])
    outputs: dict[int, int] = field(default_factory=dict[int, int])
    last: dict[int, int] = field(default_factory=dict[int, int])
    wins: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    mark_visits: dict[int, int] = field(default_factory=dict[int, int])
    rounds: dict[int, int] = field(default_factory=dict[int, int])
    fallbacks: dict[int, tuple[bool, bool]] = field(default_factory=dict[int, tuple[bool, bool]])
    ordinary: dict[int, int] = field(default_factory=dict[int, int])
    fired: set[int] = field(default_factory=set[int])
    failures: list[Failure] = field(default_factory=list[Failure])
    logged: list[int] = field(default_factory=list[int])

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
        return self.phase in ("completed", "failed", "cancelled")


_PHASES: Final = frozenset({"running", "failing", "cancelling", "completed", "failed", "cancelled"})
_STATES: Final = bytes(range(13))
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
    for node, activation in head.active.items():
        groups.setdefault(activation, []).append(node)
    wide = "I" if len(head.states) > 0xFFFF else "H"
    rows: list[object] = []
    members = array(wide)
    for a, nodes in groups.items():
        rows.append([len(nodes), a.nonce, a.at, a.visit, a.attempt, a.resend, a.due, a.runs, a.before, a.reason])
        members.extend(nodes)
    header = {
        "n": len(head.states), "e": len(head.marks), "a": rows,
        "p": head.phase, "o": head.epoch, "s": head.seq, "w": head.wake_at, "d": head.deadline, "b": head.started_at,
        "t": head.tokens,
    }  # fmt: skip
    sparse: list[tuple[str, object]] = [
        ("c", head.cause), ("v", head.visits), ("u", head.outputs), ("l", head.last), ("i", head.wins),
        ("m", head.mark_visits), ("r", head.rounds), ("f", head.fallbacks), ("y", head.ordinary),
        ("g", sorted(head.fired)), ("k", head.logged),
        ("x", [[f.node, f.visits] for f in head.failures]),
    ]  # fmt: skip
    header |= {name: value for name, value in sparse if value}
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(text) > _COMPRESS_ABOVE:  # thousands of visits in trouble, each with a row of its own
        text = zlib.compress(text, 4)
    return b"".join((
        bytes((SCHEMA,)), len(text).to_bytes(4, "little"), text,
        _pack(head.states), _pack(head.marks), members.tobytes(),
    ))  # fmt: skip


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
    members = array("I" if nodes > 0xFFFF else "H")
    members.frombytes(data[end:])
    active = _decode_active(cast("list[list[object]]", header["a"]), members)
    states, marks = _unpack(data[start:middle], nodes), _unpack(data[middle:end], edges)
    known = (len(states), len(marks), len(active)) == (nodes, edges, len(members)) and all(n < nodes for n in active)
    if not known or header["p"] not in _PHASES or states.translate(None, _STATES) or marks.translate(None, _MARKS):
        raise ValueError("its parts do not fit together")
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
        rounds=_numbers(header.get("r")),
        fallbacks={
            int(n): (bool(f[0]), bool(f[1])) for n, f in cast("dict[str, list[bool]]", header.get("f", {})).items()
        },
        ordinary=_numbers(header.get("y")),
        fired=set(cast("list[int]", header.get("g", ()))),
        failures=[
            Failure(node, tuple((n, v) for n, v in visits))
            for node, visits in cast("list[tuple[int, list[tuple[int, int]]]]", header.get("x", []))
        ],
        logged=[int(_number(count)) for count in cast("list[int]", header.get("k", []))],
    )


def _decode_active(groups: list[list[object]], members: array[int]) -> dict[int, Activation]:
    """Each group's activation, for each of its nodes; ``members`` are the nodes of all groups in their order."""
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
    return {int(key): int(_number(value)) for key, value in cast("dict[str, int]", raw or {}).items()}
