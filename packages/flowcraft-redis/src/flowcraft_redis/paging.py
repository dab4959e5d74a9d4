"""Cursors of pages: opaque text that a caller hands back, checked like any other input."""

from __future__ import annotations

import json
import math
import re
from typing import Final, cast

from flowcraft.errors import InvalidRequest

__all__ = ["cursor", "letter_cursor", "letter_id", "parse_cursor", "parse_letter"]

_LETTER: Final = re.compile(r"([0-9]{1,4})-([0-9]{1,18})-([0-9]{1,18})")


def cursor(at: float, last: str) -> str:
    """The cursor after the row with this time and id."""
    return json.dumps([at, last], separators=(",", ":"))


def parse_cursor(after: str) -> tuple[float, str]:
    """The (time, id) after which a listing goes on.

    Raises:
        InvalidRequest: it is none of our cursors.
    """
    try:
        at, last = cast("list[object]", json.loads(after))
        if isinstance(at, int | float) and math.isfinite(at) and isinstance(last, str):
            return float(at), last
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise InvalidRequest(f"not a cursor of this listing: {after[:80]!r}") from error
    raise InvalidRequest(f"not a cursor of this listing: {after[:80]!r}")


def letter_id(partition: int, entry: bytes) -> str:
    """The id of a dead letter: its partition, and its entry in the stream."""
    return f"{partition}-{entry.decode()}"


def parse_letter(text: str) -> tuple[int, int, int] | None:
    """The (milliseconds, number, partition) of a dead letter's id; None if no letter can have it."""
    found = _LETTER.fullmatch(text) if text.isascii() else None
    return None if found is None else (int(found[2]), int(found[3]), int(found[1]))


def letter_cursor(after: str) -> tuple[int, int, int]:
    """The same for where a page of dead letters goes on.

    Raises:
        InvalidRequest: it is none of our cursors.
    """
    found = parse_letter(after)
    if found is None:
        raise InvalidRequest(f"not a cursor of this listing: {after!r:.80}")
    return found
