"""Pages of listings, and their cursors: opaque text that a caller hands back, checked like any other input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from flowcraft.errors import InvalidRequest
from flowcraft.model import Page, RunSummary

__all__ = [
    "decode_cursor",
    "decode_due",
    "decode_letters",
    "decode_list",
    "due_cursor",
    "encode_cursor",
    "letter_number",
    "not_a_cursor",
    "page_of",
]

_T = TypeVar("_T")
_Last = TypeVar("_Last", str, int)
_DIGITS: Final = 18  # of a number that 64 bits hold


def page_of(rows: Sequence[_T], limit: int, cursor: Callable[[_T], str]) -> Page[_T]:
    """Up to ``limit`` rows; of one more than that, which tells that there are others, if there are.

    ``cursor`` makes that of a row: the next page begins after it.
    """
    items = tuple(rows[:limit])
    return Page(items, cursor(items[-1]) if items and len(rows) > limit else None)


def encode_cursor(at: float, last: str | int) -> str:
    """The cursor after the row with this time and identity, of a listing in their order."""
    return json.dumps([at, last], separators=(",", ":"))


def decode_cursor(after: str, kind: type[_Last]) -> tuple[float, _Last]:
    """The (time, identity) after which a listing goes on, if identities are of this type.

    Raises:
        InvalidRequest: it is none of our cursors.
    """
    try:
        at, last = cast("list[object]", json.loads(after))
        if isinstance(at, int | float) and math.isfinite(at) and isinstance(last, kind):
            return float(at), last
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise not_a_cursor(after) from error
    raise not_a_cursor(after)


def not_a_cursor(after: str) -> InvalidRequest:
    """What to raise for a cursor that this listing never made."""
    return InvalidRequest(f"not a cursor of this listing: {after[:80]!r}")


def due_cursor(row: RunSummary) -> str:
    """The cursor of `due` after this row: by time and id, for many documents are due at one time."""
    return encode_cursor(row.wake_at or 0.0, row.run_id)


def decode_due(after: str | None) -> tuple[float, str]:
    """The (wake_at, run_id) after which `due` goes on."""
    return (-math.inf, "") if after is None else decode_cursor(after, str)


def decode_list(after: str | None) -> tuple[float, int]:
    """The (created_at, number) before which `list` goes on, in a store that numbers its documents."""
    return (math.inf, 0) if after is None else decode_cursor(after, int)


def decode_letters(after: str | None) -> int:
    """The number of the dead letter after which `dead_letters` goes on, in a queue that numbers them."""
    number = 0 if after is None else letter_number(after)
    if number is None:
        raise not_a_cursor(after or "")
    return number


def letter_number(letter_id: str) -> int | None:
    """The number of a dead letter with this id; None if no letter can have it."""
    good = letter_id.isascii() and letter_id.isdecimal() and len(letter_id) <= _DIGITS
    return int(letter_id) if good else None
