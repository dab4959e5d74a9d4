"""What the parts of a blueprint, and the ids of runs, have to be: checks with a message that names the offender."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from flowcraft.errors import DefinitionError, InvalidRequest

__all__ = [
    "MAX_ID_BYTES",
    "MAX_SECONDS",
    "MAX_WHOLE",
    "check_id",
    "check_number",
    "check_text",
    "check_whole",
    "copy_json",
    "requested_id",
    "told",
]

#: The longest run or node id, in bytes of UTF-8, on every backend.
MAX_ID_BYTES = 200
#: The longest duration, in seconds: some 300 years.
MAX_SECONDS = 1e10
#: The largest whole number: every JSON parser reads it exactly.
MAX_WHOLE = 2**53
#: How deep lists and objects may be nested in parameters and metadata.
_MAX_DEPTH = 100


def check_id(value: object, what: str) -> str:
    """Return ``value`` if it may be an id: a non-empty string of at most 200 bytes of UTF-8 without NUL.

    Raises:
        DefinitionError: it may not; the message names ``what`` and the reason.
    """
    if not isinstance(value, str):
        raise DefinitionError(f"{what} must be a string, not {type(value).__name__}", subject=what)
    if not value:
        raise DefinitionError(f"{what} must not be empty", subject=what)
    if (size := len(check_text(value, what).encode())) > MAX_ID_BYTES:
        raise DefinitionError(f"{what} {value[:40]!r}… has {size} bytes, the limit is {MAX_ID_BYTES}", subject=what)
    if "\0" in value:
        raise DefinitionError(f"{what} {value!r} holds a NUL character", subject=what)
    return value


def check_text(value: object, what: str) -> str:
    """Return ``value`` if it is a string that UTF-8 can write.

    Raises:
        DefinitionError: it is not; the message names ``what``.
    """
    if not isinstance(value, str):
        raise DefinitionError(f"{what} must be text, not {type(value).__name__}", subject=what)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DefinitionError(f"{what} {told(value)} holds a lone surrogate, which is not text", subject=what) from None
    return value


def told(value: object) -> str:
    """A value of the author's in a message: its `repr`, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - of an int with thousands of digits, or of an object of the author's
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else text[:79] + "…"


def check_number(
    value: object, name: str, *, at_least: float | None = None, above: float | None = None, at_most: float = MAX_SECONDS
) -> float:
    """Return ``value`` as a float if it is a finite number within the bounds.

    Raises:
        DefinitionError: it is not; the message starts with ``name``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DefinitionError(f"{name} must be a number, not {told(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise DefinitionError(f"{name} must be finite")
    if (at_least is not None and value < at_least) or (above is not None and value <= above):
        raise DefinitionError(
            f"{name} must be {'at least' if at_least is not None else 'above'} "
            f"{at_least if at_least is not None else above:g}, not {told(value)}"
        )
    if value > at_most:
        raise DefinitionError(f"{name} must be at most {at_most:g}, not {told(value)}")
    return float(value)


def check_whole(value: object, name: str, *, at_least: int) -> None:
    """Make sure that ``value`` is an int of at least ``at_least`` and at most 2**53.

    Raises:
        DefinitionError: it is not; the message starts with ``name``.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise DefinitionError(f"{name} must be a whole number, not {told(value)}")
    if not at_least <= value <= MAX_WHOLE:
        limit = f"at least {at_least}" if value < at_least else f"at most {MAX_WHOLE}"
        raise DefinitionError(f"{name} must be {limit}, not {told(value)}")


def copy_json(value: object, what: str, depth: int = 0) -> Any:
    """A copy of JSON data (tuples become lists) that shares nothing with the original.

    Raises:
        DefinitionError: something in it is not JSON; the message names ``what`` with the path to the place.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(check_text(value, what))
    if isinstance(value, int):
        if abs(value) >> 2048:
            raise DefinitionError(f"{what} is an integer of more than 2048 bits", subject=what)
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DefinitionError(f"{what} is {value}, which is not JSON", subject=what)
        return float(value)
    if depth >= _MAX_DEPTH:
        raise DefinitionError(f"{what[:80]}… is nested more than {_MAX_DEPTH} levels deep", subject=what[:80])
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {
            check_text(key, f"a key of {what}"): copy_json(item, f"{what}.{told(key)[1:-1]}", depth + 1)
            for key, item in items
        }
    if isinstance(value, list | tuple):
        rows = cast("Sequence[object]", value)
        return [copy_json(item, f"{what}[{n}]", depth + 1) for n, item in enumerate(rows)]
    raise DefinitionError(f"{what} is a {type(value).__name__}, which is not JSON", subject=what)


def requested_id(value: object, what: str) -> str:
    """An id that came with a request.

    Raises:
        InvalidRequest: it cannot be one.
    """
    try:
        return check_id(value, what)
    except DefinitionError as error:
        raise InvalidRequest(str(error)) from error
