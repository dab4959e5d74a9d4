"""What run stores have in common: the limit of a value, events as rows, and one error for the changes of one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from flowcraft.errors import Misconfigured, PayloadTooLarge, SerializationError, Unavailable, UnknownOutcome
from flowcraft.model import Event, ValueKey

__all__ = ["MAX_VALUE_BYTES", "check_values", "event_rows", "raise_for_any"]

#: The limit of one value without a value store, the same in every backend whose server takes as much.
MAX_VALUE_BYTES: Final = 1 << 20


def check_values(run_id: str, values: Mapping[ValueKey, bytes], limit: int = MAX_VALUE_BYTES) -> None:
    """Refuse values of more than ``limit`` bytes, before anything is written.

    Raises:
        PayloadTooLarge: names the first of them.
    """
    for key, data in values.items():
        if len(data) > limit:
            name = f"{key.space} {key.name!r}, visit {key.visit}"
            text = f"the value ({name}) of {run_id!r} has {len(data):,} bytes, the limit is {limit:,}"
            raise PayloadTooLarge(text)


def event_rows(events: Sequence[Event]) -> list[tuple[int, str]]:
    """The (seq, JSON) of events that are to be stored: without hints. Encode them before anything is written.

    `Event.from_json` is the way back.

    Raises:
        SerializationError: the data of one is no JSON.
    """
    try:
        return [(event.seq, event.to_json()) for event in events if event.seq > 0]
    except (TypeError, ValueError) as error:
        raise SerializationError(f"an event cannot be stored: {error}") from error


def raise_for_any(replies: Sequence[object]) -> None:
    """Where the changes of one `commit` are sent each on its own: raise one error for all, if there are any.

    ``replies``: for each change what came back, or the exception that was met. The error is of unknown outcome, unless
    it is certain that no change was applied.

    Raises:
        UnknownOutcome, Unavailable, Misconfigured: and whatever else went wrong.
    """
    errors = [reply for reply in replies if isinstance(reply, BaseException)]
    if not errors:
        return
    for error in errors:
        if not isinstance(error, Unavailable | Misconfigured | UnknownOutcome):
            raise error
    if len(errors) < len(replies) or any(isinstance(error, UnknownOutcome) for error in errors):
        raise UnknownOutcome(f"{len(errors)} of {len(replies)} changes failed: {errors[0]}") from errors[0]
    raise errors[0]
