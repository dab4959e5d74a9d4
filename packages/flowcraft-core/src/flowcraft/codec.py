"""Values to bytes and back, exactly: what is stored is what every reader gets, in memory as in any database.

A value is ``None``, a bool, an int of any size, a finite float, a str, a list or a dict with str keys, and by tag a
tuple, bytes, datetime, date, time, timedelta, Decimal, UUID, and the registered enums, dataclasses and Pydantic models.
Everything else is refused, with the place and the remedy: it would come back as something else, or not at all.
"""

from __future__ import annotations

__all__ = ["MAX_DEPTH", "Codec", "JsonCodec"]

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from math import isfinite
from typing import Any, Protocol

from flowcraft import _tags
from flowcraft._packing import LITERAL, MAX_DEPTH, TOO_DEEP, TUPLE, Packing, looks_like_tag, plain, publicly, too_large
from flowcraft._tags import SCALAR_LOADERS, AnyKind, DataKind, EnumKind, ModelKind, Refused, type_name
from flowcraft.errors import DefinitionError, Misconfigured, SerializationError

_KIND_TAGS = (EnumKind.tag, DataKind.tag, ModelKind.tag, ModelKind.dump_tag)


class Codec(Protocol):
    """Turns values into the bytes that are stored, and back: ``decode(encode(value))`` is equal, types included.

    An extension point: a codec that compresses or encrypts wraps another one, see `flowcraft.codecs.WrappingCodec`.
    Called on the event loop: no blocking. Bytes that are no JSON text begin with 0xFC, which no UTF-8 text does.
    """

    @property
    def confidential(self) -> bool:
        """Whether nobody can read stored bytes without a key. Texts in events and reasons are then sealed, too."""
        ...

    @property
    def max_bytes(self) -> int:
        """No encoded value is longer."""
        ...

    def encode(self, value: object) -> bytes:
        """The bytes to store. Raises SerializationError (with the path), or PayloadTooLarge beyond the limit."""
        ...

    def decode(self, data: bytes) -> object:
        """The value, new and shared with nobody.

        Raises SerializationError for bytes that ``encode`` never wrote, and Misconfigured for those that another codec
        wrote, or for which this process has no key: that is no fault of the value's, another process may read it.
        """
        ...

    def snapshot(self, value: object) -> object:
        """What a reader elsewhere would get. Raises what ``encode`` and ``decode`` raise."""
        ...

    def convert(self, value: object, annotation: object) -> object:
        """Plain decoded data as the annotated type of a node's input. Raises SerializationError."""
        ...

    def register(self, cls: type, *, name: str | None = None) -> None:
        """Let instances of this class be stored. Raises DefinitionError."""
        ...

    def fingerprint(self, *values: object, like: str = "") -> str:
        """A text that is the same for equal values, whatever the order of their dicts' keys and however often asked.

        ``like`` is an earlier fingerprint: made with the same key, so that the two can be compared although keys were
        rotated meanwhile. It tells nothing of the values where ``confidential``. Raises what ``encode`` raises, and
        KeyMissing.
        """
        ...


class JsonCodec:
    """The default codec: compact UTF-8 JSON text, plain wherever JSON has the type, tagged (``$fc:...``) elsewhere.

    ``max_bytes`` limits an encoded value in both directions, ``MAX_DEPTH`` its nesting. The text has no raw NUL. Dict
    order is kept: equal dicts in another order give other bytes. Registered objects carry their fields and no more.
    A datetime keeps a ``ZoneInfo`` by its key; any other tzinfo becomes its UTC offset.
    """

    confidential = False

    def __init__(self, *, types: Iterable[type] = (), max_bytes: int = 1_048_576) -> None:
        if max_bytes < 32:
            raise ValueError("max_bytes must be at least 32")
        self.max_bytes = max_bytes
        self._short = (max_bytes - 2) // 6  # so many characters fit, whatever they are
        self._by_type: dict[type, AnyKind] = {}
        self._by_name: dict[str, AnyKind] = {}
        self._unresolved: list[AnyKind] = []
        for cls in types:
            self.register(cls)

    def register(self, cls: type, *, name: str | None = None) -> None:
        """Let instances of exactly this enum, dataclass or Pydantic-like model be stored, under ``name``.

        The default is ``cls.__qualname__``. Registering a class again under another name writes the new name and still
        reads the old one. The classes in its field annotations are registered with it, where they can be resolved.
        Raises DefinitionError: another kind of class, or the name belongs to another class.
        """
        if name is None and cls in self._by_type:
            return
        key = name or str(getattr(cls, "__qualname__", cls))
        kind_class = _tags.kind_of(cls) if isinstance(cls, type) else None
        if kind_class is None:
            raise DefinitionError(f"{key} is not an enum, a dataclass or a Pydantic-like model", subject=key)
        kind = kind_class(cls, key)
        other = self._by_name.get(key, kind).cls
        if other is not cls:
            both = f"{type_name(cls)} and {type_name(other)} would both be stored as {key!r}"
            raise DefinitionError(f"{both}: first register one of them with a name of its own", subject=key)
        self._by_type[cls] = self._by_name[key] = kind
        self._unresolved.append(kind)
        self._register_related()

    def _register_related(self) -> None:
        pending, self._unresolved = self._unresolved, []
        for kind in pending:
            resolved, classes = _tags.related(kind)
            self._unresolved += [] if resolved else [kind]
            for cls in sorted(classes, key=type_name):
                self.register(cls)

    def encode(self, value: object) -> bytes:
        """The value as JSON text.

        Raises SerializationError with the path (``$.items[3].x``) of what cannot be stored exactly: NaN, infinities,
        lone surrogates, cycles, keys that are not str, unregistered classes, other objects, more than ``MAX_DEPTH``
        levels. Raises PayloadTooLarge beyond ``max_bytes``, without building much more than that in memory.
        """
        data = None
        if type(value) in (dict, list) and plain(value, self.max_bytes, 0) >= 0:
            with suppress(ValueError):  # NaN, an infinity or a surrogate: the careful way finds out where
                data = _to_json(value).encode()
        if data is None:
            data = _to_json(publicly(Packing(self._kind, self.max_bytes).pack, value, 0)).encode()
        if len(data) > self.max_bytes:
            raise too_large(len(data), self.max_bytes)
        return data

    def decode(self, data: bytes) -> object:
        """The value. Raises SerializationError: not UTF-8 JSON text, a number or text that ``encode`` never writes, an
        unknown tag, a class not registered here, fields that do not fit. Raises PayloadTooLarge beyond ``max_bytes``,
        and Misconfigured for what another codec compressed or encrypted.
        """
        if not isinstance(data, bytes):
            raise SerializationError(f"$: stored values are bytes, not {type_name(type(data))}")
        if len(data) > self.max_bytes:
            raise too_large(len(data), self.max_bytes)
        try:
            value = _from_json(str(data, "utf-8"))
            if b"\\u" in data:
                _to_json(value).encode()  # an escaped lone surrogate shows here
            elif type(value) is str:
                return value  # nothing is inside of it, however long it is
            elif b'"$fc:' not in data and data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
                return value
        except (ValueError, RecursionError) as error:
            if data[:1] == b"\xfc" and data[2:3] == b"\x01":  # see `Codec`
                told = (
                    "a value is stored compressed, encrypted or elsewhere: use the codec and the stores of its writer"
                )
                raise Misconfigured(told) from error
            raise SerializationError(f"$: not the JSON text of a value: {error}") from error
        return publicly(self._unpack, value, 0)

    def snapshot(self, value: object) -> object:
        """What a reader elsewhere would get: simple scalars as they are, anything else through the bytes and back.

        Raises what ``encode`` and ``decode`` raise, so that what fails on a remote store fails in memory too.
        """
        if type(value) is str:
            simple = len(value) <= self._short and _tags.is_unicode(value)
        elif type(value) is int:
            simple = -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF
        elif type(value) is float:
            simple = isfinite(value)
        else:
            simple = value is None or value is True or value is False
        return value if simple else self.decode(self.encode(value))

    def convert(self, value: object, annotation: object) -> object:
        """Plain decoded data as the annotated type of a node's input; what has that type already stays as it is.

        Builds dataclasses, Pydantic-like models, enums (by value), tuples, dates, UUIDs and Decimals (from text), also
        within lists, dicts and unions. What it cannot judge, it accepts. Raises SerializationError naming the path and
        the expected type.
        """
        return publicly(_tags.convert, value, annotation)

    def fingerprint(self, *values: object, like: str = "") -> str:  # noqa: ARG002 - there is no key
        """SHA-256 of the values as JSON text with sorted keys, in hex. Raises what ``encode`` raises."""
        digest = hashlib.sha256()
        for value in values:
            text = self._canonical(value)
            digest.update(len(text).to_bytes(8, "big"))
            digest.update(text)
        return digest.hexdigest()

    def _canonical(self, value: object) -> bytes:
        if type(value) is str:
            return self.encode(value)  # has no keys to be sorted
        if type(value) in (dict, list) and plain(value, self.max_bytes, 0) >= 0:
            with suppress(ValueError):
                return _to_sorted_json(value).encode()
        return _to_sorted_json(_from_json(self.encode(value).decode())).encode()

    def _kind(self, key: type | str) -> AnyKind | None:
        table: dict[Any, AnyKind] = self._by_name if isinstance(key, str) else self._by_type
        if key not in table:
            with suppress(DefinitionError):  # registering that class says why
                self._register_related()
        return table.get(key)

    def _unpack(self, value: Any, depth: int) -> object:
        """Replaces, in place, what is tagged in freshly parsed JSON."""
        if type(value) is dict and looks_like_tag(value):
            return self._untag(*value.popitem(), depth)
        return self._unpack_members(value, depth)

    def _unpack_members(self, value: Any, depth: int) -> Any:
        if type(value) is not dict and type(value) is not list:
            return value
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        for step, item in value.items() if type(value) is dict else enumerate(value):
            if type(item) is dict or type(item) is list:
                try:
                    value[step] = self._unpack(item, depth + 1)
                except Refused as refused:
                    raise refused.below(step) from refused.__cause__
        return value

    def _untag(self, tag: str, body: Any, depth: int) -> object:
        if tag == LITERAL and type(body) is dict:
            return self._unpack_members(body, depth)
        if tag == TUPLE and type(body) is list:
            return tuple(self._unpack_members(body, depth))
        try:
            if tag in SCALAR_LOADERS:
                return SCALAR_LOADERS[tag](body)
            if tag in _KIND_TAGS:
                return self._rebuild(tag, depth, *body)
        except Refused:
            raise
        except Exception as error:
            raise Refused(f"what is stored under tag {tag!r} cannot be rebuilt: {type(error).__name__}") from error
        raise Refused(f"unknown or malformed tag {ascii(tag)[:60]}: written by a newer version, or not by this codec")

    def _rebuild(self, tag: str, depth: int, name: str, *parts: Any) -> object:
        kind = self._kind(str(name))
        if kind is None:
            raise Refused(f"type {ascii(name)[:200]} is not registered here: register it with the codec")
        if isinstance(kind, ModelKind) and tag == kind.dump_tag:
            return kind.cls.model_validate(self._unpack(parts[0], depth + 1))
        if tag != kind.tag:
            raise Refused(f"type {name!r} is registered here as another kind of class than it was stored as")
        return kind.build(*(self._unpack_members(part, depth) for part in parts))


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError("a number beyond the range of float, or NaN")
    return value


_options: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False, "check_circular": False}
_to_json = json.JSONEncoder(**_options, separators=(",", ":")).encode
_to_sorted_json = json.JSONEncoder(**_options, separators=(",", ":"), sort_keys=True).encode
_from_json = json.JSONDecoder(parse_float=_finite, parse_constant=_finite).decode
