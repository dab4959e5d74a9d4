"""Cursors of pages: opaque text that a caller hands back, checked like any other input."""

from __future__ import annotations

import json
from typing import Final

from flowcraft.errors import InvalidRequest

__all__ = ["decode_due", "decode_letters", "decode_list", "encode_cursor", "letter_number"]

_DIGITS: Final = 18  # of a number that 64 bits hold


def encode_cursor(at: float, last: str | int) -> str:
    """The cursor after the row with this time and identity."""
    return json.dumps([at, last], separators=(",", ":"))


def decode_due(after: str | None) -> tuple[float, str]:
    """The (wake_at, run_id) after which `due` goes on."""
    if after is None:
        return float("-inf"), ""
    at, last = _decode(after)
    if not isinstance(last, str):
        raise InvalidRequest(f"not a cursor of this listing: {after[:80]!r}")
    return at, last


def decode_list(after: str | None) -> tuple[float, int]:
    """The (created_at, number) before which `list` goes on."""
    if after is None:
        return float("inf"), 0
    at, last = _decode(after)
    if not isinstance(last, int):
        raise InvalidRequest(f"not a cursor of this listing: {after[:80]!r}")
    return at, last


def decode_letters(after: str | None) -> int:
    """The number of the dead letter after which `dead_letters` goes on."""
    number = 0 if after is None else letter_number(after)
    if number is None:
        raise InvalidRequest(f"not a cursor of this listing: {after!r:.80}")
    return number


def letter_number(letter_id: str) -> int | None:
    """The number of a dead letter with this id; None if no letter can have it."""
    good = letter_id.isascii() and letter_id.isdecimal() and len(letter_id) <= _DIGITS
    return int(letter_id) if good else None


def _decode(after: str) -> tuple[float, object]:
    try:
        at, last = json.loads(after)
        return float(at), last
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"not a cursor of this listing: {after[:80]!r}") from error
