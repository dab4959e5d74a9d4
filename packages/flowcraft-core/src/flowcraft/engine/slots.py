"""Slots: what an activation is for. A slot is the number of a node, or one item visit of a batch.

``item << 20 | node`` with items counted from 1: so a plain node's slot is its number, and no table is needed to tell.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final, cast

from flowcraft.model import ValueKey

__all__ = [
    "CHUNK", "FAILING", "LOST", "MAX_ITEMS", "NODE_MASK", "Batch", "chunk_key", "item_of", "item_slot", "node_of",
    "result_key",
]  # fmt: skip

_SHIFT: Final = 20
NODE_MASK: Final = (1 << _SHIFT) - 1
#: So many items of a batch are stored as one value.
CHUNK: Final = 256
#: The largest batch.
MAX_ITEMS: Final = 1_000_000
_VISIT_SHIFT: Final = 24

#: Why a batch does not go on, while its last items end: an item failed, or nobody needs it any more.
FAILING, LOST = 1, 2


def item_slot(node: int, item: int) -> int:
    """The slot of item visit ``item`` (from 0) of the batch at ``node``."""
    return item + 1 << _SHIFT | node


def node_of(slot: int) -> int:
    """The node that a slot belongs to."""
    return slot & NODE_MASK


def item_of(slot: int) -> int:
    """The number of the item visit, or -1 if the slot is a node's own."""
    return (slot >> _SHIFT) - 1


def chunk_key(node_id: str, visit: int, chunk: int) -> ValueKey:
    """Where the items ``chunk * CHUNK`` and following of a batch's visit are stored, as one list."""
    return ValueKey("item", node_id, visit << _VISIT_SHIFT | chunk)


def result_key(node_id: str, visit: int, item: int) -> ValueKey:
    """Where the result of an item visit is stored: its output, or a list of outputs where a job has several items."""
    return ValueKey("result", node_id, visit << _VISIT_SHIFT | item)


@dataclass(slots=True)
class Batch:
    """The item visits of one visit of a batch's item node; ``states`` has one byte for each.

    ``under`` is the visit under which results are stored, that of the first attempt at these items; ``source`` is the
    visit of the scatter that froze the items, ``items`` their number, ``size`` how many of them an item visit has;
    ``busy`` counts the visits inside the window, ``away`` are the active ones outside it (parked, or waiting long for
    their next attempt); ``failures`` counts failed items, ``first`` is the first visit that failed (-1: none);
    ``ending`` is 0, FAILING or LOST.
    """

    visit: int
    under: int
    source: int
    items: int
    size: int
    window: int
    states: bytearray
    busy: int = 0
    failures: int = 0
    first: int = -1
    ending: int = 0
    away: set[int] = field(default_factory=set[int])

    def members(self, item: int) -> int:
        """How many items the item visit has; only the last can have fewer than ``size``."""
        return min(self.size, self.items - item * self.size)

    def to_row(self) -> list[object]:
        """All but the states, for a JSON header."""
        return [
            self.visit, self.under, self.source, self.items, self.size, self.window, len(self.states), self.busy,
            self.failures, self.first, self.ending, sorted(self.away),
        ]  # fmt: skip

    @staticmethod
    def from_row(row: object, states: bytes) -> Batch:
        """The inverse of `to_row` with the compressed states."""
        visit, under, source, items, size, window, count, busy, failures, first, ending, away = cast("list[int]", row)
        inflate = zlib.decompressobj()
        data = inflate.decompress(states, max(count, 1))
        if len(data) != count or not inflate.eof:
            raise ValueError("a batch's states are cut or too many")
        members = set(cast("list[int]", away))
        return Batch(visit, under, source, items, size, window, bytearray(data), busy, failures, first, ending, members)
