"""Values to bytes and back, exactly: what is stored is what every reader gets, in memory as in any database.

A value is ``None``, a bool, an int of any size, a finite float, a str, a list or a dict with str keys, and by tag a
tuple, bytes, datetime, date, time, timedelta, Decimal, UUID, and the registered enums, dataclasses and Pydantic models.
Everything else is refused, with the place and the remedy: it would come back as something else, or not at all.
"""

from __future__ import annotations

__all__ = ["MAX_DEPTH", "Codec", "JsonCodec"]

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import isfinite
from typing import Any, Protocol

from flowcraft import _tags
from flowcraft._tags import SCALAR_LOADERS, SCALAR_TAGS, AnyKind, DataKind, EnumKind, ModelKind, Refused, type_name
from flowcraft.errors import DefinitionError, PayloadTooLarge, SerializationError

MAX_DEPTH = 100  # lists, dicts, tuples and registered objects inside one another
_LITERAL = "$fc:dict"  # its body is a dict to be taken literally, though it looks like a tag
_TUPLE = "$fc:tuple"
_KIND_TAGS = (EnumKind.tag, DataKind.tag, ModelKind.tag, ModelKind.dump_tag)
_CONTAINERS = {list, tuple, dict}
_EXACT = tuple((base, base) for base in (int, float, str, list, tuple, dict, bytes))
_LOW, _HIGH = -1 << 2048, 1 << 2048  # beyond, ints go by tag: decimal text may be limited to 640 digits in a process
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels: flatten the value, or store it as text"


class Codec(Protocol):
    """Turns values into the bytes that are stored, and back: ``decode(encode(value))`` is equal, types included.

    An extension point: a codec that compresses or encrypts wraps another one. Called on the event loop: no blocking.
    """

    def encode(self, value: object) -> bytes:
        """The bytes to store. Raises SerializationError (with the path), or PayloadTooLarge beyond the limit."""
        ...

    def decode(self, data: bytes) -> object:
        """The value, new and shared with nobody. Raises SerializationError for bytes that ``encode`` never wrote."""
        ...


class JsonCodec:
    """The default codec: compact UTF-8 JSON text, plain wherever JSON has the type, tagged (``$fc:...``) elsewhere.

    ``max_bytes`` limits an encoded value in both directions, ``MAX_DEPTH`` its nesting. The text has no raw NUL. Dict
    order is kept: equal dicts in another order give other bytes. Registered objects carry their fields and no more.
    A datetime keeps a ``ZoneInfo`` by its key; any other tzinfo becomes its UTC offset.
    """

    def __init__(self, *, types: Iterable[type] = (), max_bytes: int = 1_048_576) -> None:
        if max_bytes < 32:
            raise ValueError("max_bytes must be at least 32")
        self._max_bytes = max_bytes
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
        if type(value) in (dict, list) and _plain(value, self._max_bytes, 0) >= 0:
            with suppress(ValueError):  # NaN, an infinity or a surrogate: the careful way finds out where
                data = _to_json(value).encode()
        if data is None:
            data = _to_json(_publicly(_Packing(self._kind, self._max_bytes).pack, value, 0)).encode()
        if len(data) > self._max_bytes:
            raise _too_large(len(data), self._max_bytes)
        return data

    def decode(self, data: bytes) -> object:
        """The value. Raises SerializationError: not UTF-8 JSON text, a number or text that ``encode`` never writes, an
        unknown tag, a class not registered here, fields that do not fit. Raises PayloadTooLarge beyond ``max_bytes``.
        """
        if not isinstance(data, bytes):
            raise SerializationError(f"$: stored values are bytes, not {type_name(type(data))}")
        if len(data) > self._max_bytes:
            raise _too_large(len(data), self._max_bytes)
        try:
            value = _from_json(str(data, "utf-8"))
            if b"\\u" in data:
                _to_json(value).encode()  # an escaped lone surrogate shows here
            elif b'"$fc:' not in data and data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
                return value
        except (ValueError, RecursionError) as error:
            raise SerializationError(f"$: not the JSON text of a value: {error}") from error
        return _publicly(self._unpack, value, 0)

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
        return _publicly(_tags.convert, value, annotation)

    def _kind(self, key: type | str) -> AnyKind | None:
        table: dict[Any, AnyKind] = self._by_name if isinstance(key, str) else self._by_type
        if key not in table:
            with suppress(DefinitionError):  # registering that class says why
                self._register_related()
        return table.get(key)

    def _unpack(self, value: Any, depth: int) -> object:
        """Replaces, in place, what is tagged in freshly parsed JSON."""
        if type(value) is dict and _looks_like_tag(value):
            return self._untag(*value.popitem(), depth)
        return self._unpack_members(value, depth)

    def _unpack_members(self, value: Any, depth: int) -> Any:
        if type(value) is not dict and type(value) is not list:
            return value
        if depth >= MAX_DEPTH:
            raise Refused(_TOO_DEEP)
        for step, item in value.items() if type(value) is dict else enumerate(value):
            if type(item) is dict or type(item) is list:
                try:
                    value[step] = self._unpack(item, depth + 1)
                except Refused as refused:
                    raise refused.below(step) from refused.__cause__
        return value

    def _untag(self, tag: str, body: Any, depth: int) -> object:
        if tag == _LITERAL and type(body) is dict:
            return self._unpack_members(body, depth)
        if tag == _TUPLE and type(body) is list:
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


class _Packing:
    """One careful encoding: a new tree with tags in it, and the place of whatever is refused.

    ``room`` counts down from the limit by what the text needs at least, so that a small graph with many references
    to the same parts cannot grow into a huge text.
    """

    def __init__(self, find: Callable[[type], AnyKind | None], limit: int) -> None:
        self.find = find
        self.limit = self.room = limit
        self.open: set[int] = set()

    def spend(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise _too_large(self.limit - self.room, self.limit, "at least ")

    def pack(self, value: Any, depth: int) -> object:
        cls = type(value)
        if value is None or cls is bool or (cls is int and _LOW < value < _HIGH):
            return value
        if cls is str:
            return self.text(value)
        if cls is float:
            if not isfinite(value):
                raise Refused("NaN and infinities are refused: use None or a text")
            return value
        if cls in SCALAR_TAGS:
            self.spend(len(value) if cls is bytes else 0)
            tag, dump = SCALAR_TAGS[cls]
            return {tag: dump(value)}
        kind = None if cls in _CONTAINERS else self.find(cls)
        if isinstance(kind, EnumKind):
            return {kind.tag: [kind.name, *kind.parts(value)]}
        if kind is None and cls not in _CONTAINERS:
            raise Refused(_advice(value, cls))
        if depth >= MAX_DEPTH:
            raise Refused(_TOO_DEEP)
        if id(value) in self.open:
            raise Refused("the value contains itself: store the parts once and refer to them by an id")
        self.open.add(id(value))
        packed = self.inside(value, kind, depth)
        self.open.remove(id(value))
        return packed

    def inside(self, value: Any, kind: DataKind | ModelKind | None, depth: int) -> object:
        if isinstance(kind, ModelKind) and not kind.pydantic:
            return {kind.dump_tag: [kind.name, self.pack(value.model_dump(), depth + 1)]}
        if kind is not None:
            return {kind.tag: [kind.name, *(self.items(part, depth) for part in kind.parts(value))]}
        packed = self.items(value, depth)
        if type(value) is dict:
            return {_LITERAL: packed} if _looks_like_tag(value) else packed
        return packed if type(value) is list else {_TUPLE: packed}

    def items(self, value: Any, depth: int) -> object:
        named = type(value) is dict
        packed: dict[Any, object] = {}
        steps: Iterable[Any] = value.items() if named else enumerate(value)
        for step, item in steps:
            self.spend(1)
            if named:
                self.text(step)
            try:
                packed[step] = self.pack(item, depth + 1)
            except Refused as refused:
                raise refused.below(step) from refused.__cause__
        return packed if named else list(packed.values())

    def text(self, text: Any) -> str:
        if type(text) is not str:
            raise Refused(f"a dict with a key of type {type_name(type(text))}: only str keys come back as they were")
        self.spend(len(text))
        if not _tags.is_unicode(text):
            raise Refused("a text with a lone surrogate, which is not Unicode: decode it properly, or store bytes")
        return text


def _plain(value: Any, room: int, depth: int) -> int:
    """What is left of ``room`` if this list or dict is JSON as it stands, or negative: take the careful way."""
    if depth >= MAX_DEPTH:
        return -1
    items = value
    if type(value) is dict:
        if not {*map(type, value)} <= {str} or _looks_like_tag(value):
            return -1
        room -= len("".join(value))
        items = value.values()
    room -= len(value)
    for item in items:
        cls = type(item)
        if cls is str:
            room -= len(item)
        elif cls is int:
            if not _LOW < item < _HIGH:
                return -1
        elif cls is dict or cls is list:
            room = _plain(item, room, depth + 1)
            if room < 0:
                return -1
        elif cls is not float and item is not None and cls is not bool:
            return -1
    return room


def _looks_like_tag(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith("$fc:")


def _advice(value: object, cls: type) -> str:
    name = type_name(cls)
    if _tags.kind_of(cls):
        return f"{name} is not registered: register the class with the codec"
    for base, use in ((set, list), (frozenset, list), (bytearray, bytes), (memoryview, bytes), *_EXACT):
        if isinstance(value, base):
            return f"a {name} does not come back as it was: convert it with {use.__name__}(...)"
    return f"a {name} cannot be stored: use plain data, or a registered dataclass, enum or Pydantic model"


def _too_large(size: int, limit: int, qualifier: str = "") -> PayloadTooLarge:
    return PayloadTooLarge(f"$: the value takes {qualifier}{size} bytes as JSON text, the limit is {limit}")


def _publicly(step: Callable[..., object], *args: object) -> object:
    try:
        return step(*args)
    except Refused as refused:
        raise refused.error() from refused.__cause__
    except SerializationError:
        raise
    except Exception as error:  # of a property, a tzinfo, a model; or the stack is too short
        raise SerializationError(f"$: {type(error).__name__} while going through the value") from error


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError("a number beyond the range of float, or NaN")
    return value


_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode
_from_json = json.JSONDecoder(parse_float=_finite, parse_constant=_finite).decode
