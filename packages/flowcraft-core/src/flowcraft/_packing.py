"""How :mod:`flowcraft.codec` takes a value apart: the tree with tags in it, and the place of whatever is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

from flowcraft import _tags
from flowcraft._tags import SCALAR_TAGS, AnyKind, DataKind, EnumKind, ModelKind, Refused, type_name
from flowcraft.errors import PayloadTooLarge, SerializationError

MAX_DEPTH = 100  # lists, dicts, tuples and registered objects inside one another
LITERAL = "$fc:dict"  # its body is a dict to be taken literally, though it looks like a tag
TUPLE = "$fc:tuple"
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels: flatten the value, or store it as text"
_CONTAINERS = {list, tuple, dict}
_EXACT = tuple((base, base) for base in (int, float, str, list, tuple, dict, bytes))
_LOW, _HIGH = -1 << 2048, 1 << 2048  # beyond, ints go by tag: decimal text may be limited to 640 digits in a process


class Packing:
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
            raise too_large(self.limit - self.room, self.limit, "at least ")

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
            raise Refused(TOO_DEEP)
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
            return {LITERAL: packed} if looks_like_tag(value) else packed
        return packed if type(value) is list else {TUPLE: packed}

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


def plain(value: Any, room: int, depth: int) -> int:
    """What is left of ``room`` if this list or dict is JSON as it stands, or negative: take the careful way."""
    if depth >= MAX_DEPTH:
        return -1
    items = value
    if type(value) is dict:
        if not {*map(type, value)} <= {str} or looks_like_tag(value):
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
            room = plain(item, room, depth + 1)
            if room < 0:
                return -1
        elif cls is not float and item is not None and cls is not bool:
            return -1
    return room


def looks_like_tag(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith("$fc:")


def _advice(value: object, cls: type) -> str:
    name = type_name(cls)
    if _tags.kind_of(cls):
        return f"{name} is not registered: register the class with the codec"
    for base, use in ((set, list), (frozenset, list), (bytearray, bytes), (memoryview, bytes), *_EXACT):
        if isinstance(value, base):
            return f"a {name} does not come back as it was: convert it with {use.__name__}(...)"
    return f"a {name} cannot be stored: use plain data, or a registered dataclass, enum or Pydantic model"


def too_large(size: int, limit: int, qualifier: str = "") -> PayloadTooLarge:
    return PayloadTooLarge(f"$: the value takes {qualifier}{size} bytes as JSON text, the limit is {limit}")


def publicly(step: Callable[..., object], *args: object) -> object:
    try:
        return step(*args)
    except Refused as refused:
        raise refused.error() from refused.__cause__
    except SerializationError:
        raise
    except Exception as error:  # of a property, a tzinfo, a model; or the stack is too short
        raise SerializationError(f"$: {type(error).__name__} while going through the value") from error
