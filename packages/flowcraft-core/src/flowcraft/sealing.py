"""Texts of users outside of values: in events, hints, heads and logs. Where the codec is confidential, nobody reads
them without its key either.

Numbers, node ids and whatever else the library itself put there stay readable: when, where and how often something
happened is no secret, why may be one.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from flowcraft.codec import Codec
from flowcraft.errors import FlowcraftError, SerializationError
from flowcraft.model import Event

__all__ = ["ENCRYPTED", "open_event", "open_text", "seal_data", "seal_text", "traceback_of"]

#: What a reader without the key gets in place of a sealed text.
ENCRYPTED: Final = "(encrypted)"
_MARK: Final = "$fc:sealed:"
_CLEAR: Final = frozenset(
    {"by", "fallback", "child", "keys", "rerun_of", "rerun_from"}
)  # ids and names; what is not here is sealed


def seal_data(codec: Codec, data: Mapping[str, object]) -> Mapping[str, object]:
    """The data of an event as it may leave the process: the same, unless the codec is confidential."""
    if not codec.confidential:
        return data
    return {name: _sealed(codec, value) if _may_tell(name, value) else value for name, value in data.items()}


def seal_text(codec: Codec, text: str) -> str:
    """A text as it may be stored. One that is sealed stays as it is, also if this process could not open it."""
    return _sealed(codec, text) if codec.confidential and text and not _is_sealed(text) else text


def open_event(codec: Codec, event: Event) -> Event:
    """The event with its texts as they were; `ENCRYPTED` in place of those that this process has no key for."""
    if not any(map(_is_sealed, event.data.values())):
        return event
    return replace(event, data={name: _opened(codec, value) for name, value in event.data.items()})


def open_text(codec: Codec, text: str) -> str:
    """The text as it was before it was sealed, if it was; `ENCRYPTED` without the key."""
    return str(_opened(codec, text))


def traceback_of(codec: Codec, error: BaseException) -> BaseException | None:
    """What a log record may show of an error beside its kind: all of it, or nothing where the codec is confidential."""
    return None if codec.confidential else error


def _may_tell(name: str, value: object) -> bool:
    clear = name in _CLEAR or value is None or isinstance(value, bool | int | float)
    return not clear and not _is_sealed(value)


def _is_sealed(value: object) -> bool:
    return isinstance(value, str) and value.startswith(_MARK)


def _sealed(codec: Codec, value: object) -> str:
    if isinstance(value, str):
        value = value.encode("utf-8", "backslashreplace").decode()  # lone surrogates come from names of files
    try:
        data = codec.encode(value)
    except SerializationError:  # of a codec with a very low limit: what is told on the side stops no run
        data = codec.encode(None)
    return _MARK + b64encode(data).decode("ascii")


def _opened(codec: Codec, value: object) -> object:
    if not isinstance(value, str) or not value.startswith(_MARK):
        return value
    try:
        return codec.decode(b64decode(value[len(_MARK) :], validate=True))
    except (FlowcraftError, ValueError):
        return ENCRYPTED
