"""What :mod:`flowcraft.codec` knows about single types: tagged scalars, classes that can be registered, annotations.

Nothing here imports by name: a class is only found in what was registered, or in an annotation of the application.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from flowcraft.errors import DefinitionError, SerializationError

_ABSENT = object()
_ZONED = re.compile(r"(.+[+-]\d\d:[\d:.]+)\[([A-Za-z0-9_+/-]{1,80})\]")


class Refused(Exception):
    """A refusal on its way up the tree: each level adds its step, ``codec`` raises the public error."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.steps: list[str | int] = []

    def below(self, step: str | int) -> Refused:
        self.steps.append(step)
        return self

    def error(self) -> SerializationError:
        path = "$" + "".join(map(_step, reversed(self.steps)))
        return SerializationError(f"{path}: {self}", path=path)


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    step = step if len(step) <= 60 else f"{step[:57]}..."
    return f".{step}" if step.isidentifier() and step.isascii() else f"[{step!a}]"


def type_name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def is_unicode(text: str) -> bool:
    try:
        return text.isascii() or text.encode() is not None
    except UnicodeEncodeError:
        return False


def _datetime_text(value: datetime) -> str:
    """ISO 8601; with a ``ZoneInfo`` also its key in brackets (RFC 9557), so that its rules survive."""
    text, zone = value.isoformat(), value.tzinfo
    if zone is not None and value.utcoffset() is None:
        raise Refused("the tzinfo of this datetime has no offset: use a datetime.timezone or a zoneinfo.ZoneInfo")
    zoned = f"{text}[{zone.key}]" if type(zone) is ZoneInfo else text
    return zoned if _ZONED.fullmatch(zoned) else text


def _datetime(text: str) -> datetime:
    match = _ZONED.fullmatch(text)
    if match is None:
        return datetime.fromisoformat(text)
    fixed, zone = datetime.fromisoformat(match[1]), ZoneInfo(match[2])
    for local in (fixed.replace(tzinfo=zone), fixed.replace(tzinfo=zone, fold=1)):
        if local.utcoffset() == fixed.utcoffset():
            return local
    return fixed.astimezone(zone)  # the rules of the zone differ here: the instant is what counts


def _decimal_text(value: Decimal) -> str:
    if not value.is_finite():
        raise Refused("NaN and infinite Decimals are refused: use None or a text")
    return str(value)


def _decimal(text: str | int) -> Decimal:
    return Decimal(_decimal_text(Decimal(text)))


SCALAR_TAGS: Mapping[type, tuple[str, Callable[[Any], object]]] = {
    bytes: ("$fc:bytes", lambda value: b64encode(value).decode("ascii")),
    datetime: ("$fc:datetime", _datetime_text),
    date: ("$fc:date", date.isoformat),
    timedelta: ("$fc:timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("$fc:decimal", _decimal_text),
    UUID: ("$fc:uuid", str),
    int: ("$fc:int", hex),  # only wide ones: Python limits decimal conversion, and it is quadratic
}
SCALAR_LOADERS: Mapping[str, Callable[[Any], object]] = {
    "$fc:bytes": lambda text: a2b_base64(text, strict_mode=True),
    "$fc:datetime": _datetime,
    "$fc:date": date.fromisoformat,
    "$fc:timedelta": lambda parts: timedelta(days=parts[0], seconds=parts[1], microseconds=parts[2]),
    "$fc:decimal": _decimal,
    "$fc:uuid": UUID,
    "$fc:int": lambda text: int(text, 16),
}


# Classes that can be registered: `body` takes a value apart, `build` puts it together again


class EnumKind:
    """By member name; a flag by its number, since combinations have no name of their own."""

    tag = "$fc:enum"

    def __init__(self, cls: type[Enum], name: str) -> None:
        self.cls, self.name = cls, name

    def parts(self, value: Enum) -> list[object]:
        return [value.value if isinstance(value, Flag) else value.name]

    def build(self, body: Any) -> object:
        found: object = None
        with suppress(KeyError, TypeError, ValueError):
            found = self.cls(body) if issubclass(self.cls, Flag) else self.cls.__members__[body]
        if not isinstance(found, self.cls):
            raise Refused(f"enum {self.name!r} has no member {ascii(body)[:60]} here")
        return found


class DataKind:
    """A dataclass: by field. It is rebuilt by its constructor, then every field gets exactly what was stored."""

    tag = "$fc:data"

    def __init__(self, cls: type, name: str) -> None:
        self.cls, self.name = cls, name
        self.names = tuple(field.name for field in fields(cls))
        found = inspect.signature(cls).parameters.values()
        self.init = {parameter.name for parameter in found} & {*self.names}
        needed = [p for p in found if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        self.required = [parameter.name for parameter in needed]
        if missing := [key for key in self.required if key not in self.init]:
            message = f"the constructor of {type_name(cls)} needs {missing[0]!r}, which is not a field"
            raise DefinitionError(message, subject=name)

    def parts(self, value: object) -> list[object]:
        return [_taken(self.names, {name: getattr(value, name, _ABSENT) for name in self.names})]

    def build(self, body: dict[str, object]) -> object:
        _check_names(self.name, body, self.names, self.required)
        built: object = self.cls(**{name: item for name, item in body.items() if name in self.init})
        for name, item in body.items():
            if getattr(built, name, _ABSENT) is not item:
                object.__setattr__(built, name, item)  # init=False, or changed by __post_init__; it may be frozen
        return built


class ModelKind:
    """A Pydantic model, or a class that merely has ``model_dump`` and ``model_validate``, which are trusted.

    Pydantic: by field, rebuilt without a second run of the validators (they need not be idempotent), with the set of
    explicitly given fields; private attributes start anew.
    """

    tag = "$fc:model"
    dump_tag = "$fc:dump"

    def __init__(self, cls: Any, name: str) -> None:
        self.cls, self.name = cls, name
        self.pydantic = callable(getattr(cls, "model_construct", None))
        self.infos: dict[str, Any] = dict(cls.model_fields) if self.pydantic else {}
        self.required = [key for key, info in self.infos.items() if info.is_required()]

    def parts(self, value: Any) -> list[object]:
        """Fields; then, if there are any, the names of those left to their default, and extras."""
        unset = [name for name in self.infos if name not in value.model_fields_set]
        more = [unset, dict(value.model_extra or {})]
        return [_taken(self.infos, vars(value)), *(more if any(more) else ())]

    def build(self, body: dict[str, Any], unset: Iterable[str] = (), extra: Any = ()) -> object:
        _check_names(self.name, body, self.infos, self.required)
        named = {name: item for name, item in body.items() if name != "cls"}  # which is its own first parameter
        built: Any = self.cls.model_construct(_fields_set={*body, *extra}.difference(unset), **named)
        vars(built).update(body)  # an alias of one field may be the name of another
        kept: Any = built.model_extra
        if kept is not None:
            kept.clear()
            kept.update(extra)
        elif extra:
            raise Refused(f"{self.name!r} does not allow extra fields here")
        return built


def _taken(names: Iterable[str], values: Mapping[str, object]) -> dict[str, object]:
    body = {name: values.get(name, _ABSENT) for name in names}
    for name, item in body.items():
        if item is _ABSENT:
            raise Refused("this field has no value").below(name)
    return body


def _check_names(owner: str, body: Mapping[str, object], known: Container[str], required: list[str]) -> None:
    for name in body:
        if name not in known:
            raise Refused(f"{owner!r} has no field {ascii(name)[:60]} here")
    for name in required:
        if name not in body:
            raise Refused(f"field {name!r} of {owner!r} is missing and has no default")


AnyKind = EnumKind | DataKind | ModelKind


def kind_of(cls: type) -> type[AnyKind] | None:
    """How instances of a class can be stored, if it is an enum, a dataclass or a Pydantic-like model."""
    if issubclass(cls, Enum):
        return EnumKind
    if callable(getattr(cls, "model_validate", None)) and callable(getattr(cls, "model_dump", None)):
        return ModelKind
    return DataKind if is_dataclass(cls) else None


def related(kind: AnyKind) -> tuple[bool, set[type]]:
    """Whether the annotations of the fields could be resolved (yet), and the classes in those that could."""
    hints: list[Any] = [info.annotation for info in kind.infos.values()] if isinstance(kind, ModelKind) else []
    resolved, found = _field_hints(kind.cls) if isinstance(kind, DataKind) else (True, {})
    return resolved, {cls for hint in (*hints, *found.values()) for cls in _mentioned(hint, frozenset())}


def _field_hints(cls: type) -> tuple[bool, dict[str, Any]]:
    with suppress(Exception):
        return True, typing.get_type_hints(cls)
    return False, {}  # a forward reference, or an import for type checkers only


def _mentioned(annotation: Any, seen: frozenset[int]) -> Iterator[type]:
    if id(annotation) in seen:
        return  # a recursive type alias
    seen |= {id(annotation)}
    annotation = getattr(annotation, "__value__", annotation)
    origin = typing.get_origin(annotation)
    if origin is not None:
        for part in (origin, *typing.get_args(annotation)):
            yield from _mentioned(part, seen)
    elif isinstance(annotation, Enum):  # inside Literal
        yield type(annotation)
    elif isinstance(annotation, type) and kind_of(annotation):
        yield annotation


_TEXTS = (datetime, date, UUID, Decimal)  # what their tags hold serves as plain text too
_ITEMS: dict[Any, Any] = {list: list, tuple: tuple, Sequence: list}


def convert(value: Any, annotation: Any) -> object:
    """See ``JsonCodec.convert``. Raises Refused."""
    annotation = getattr(annotation, "__value__", annotation)  # a type alias
    annotation = getattr(annotation, "__supertype__", annotation)  # a NewType
    origin, args = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is typing.Annotated:
        return convert(value, args[0])
    if origin is typing.Literal and not any(type(value) is type(choice) and value == choice for choice in args):
        raise _mismatch(value, annotation)
    if origin in (typing.Union, types.UnionType):
        return _to_union(value, annotation, args)
    if origin in _ITEMS and isinstance(value, (list, tuple)):
        return _to_items(value, annotation, origin, args)
    if origin in (dict, Mapping) and isinstance(value, dict) and args:
        return {key: _below(key, item, args[1]) for key, item in value.items()}
    origin = types.NoneType if origin is None else origin
    known = isinstance(origin, type) and origin is not inspect.Parameter.empty
    return _to_class(value, typing.cast("type", origin)) if known else value


def _to_class(value: Any, target: type) -> object:
    try:
        if isinstance(value, target):
            return value
    except TypeError:  # Any, a TypedDict, a protocol: it cannot be checked
        return value
    try:
        return _built(value, target)
    except Refused:
        raise
    except Exception as error:
        raise _mismatch(value, target) from error


def _built(value: Any, target: Any) -> object:
    kind_class = kind_of(target)
    if kind_class is EnumKind:
        return target(value)
    if kind_class is ModelKind:
        return target.model_validate(value)
    if kind_class is DataKind and isinstance(value, dict):
        kind, (_, hints) = DataKind(target, target.__qualname__), _field_hints(target)
        _check_names(kind.name, value, kind.init, kind.required)
        return target(**{key: _below(key, item, hints.get(key, Any)) for key, item in value.items()})
    if target in _TEXTS and isinstance(value, str):
        return SCALAR_LOADERS[SCALAR_TAGS[target][0]](value)
    if target in (float, Decimal) and type(value) is int:
        return target(value)
    raise _mismatch(value, target)


def _to_union(value: Any, annotation: object, arms: tuple[Any, ...]) -> object:
    """The first arm that takes the value as it is, else the first that can convert it."""
    refusals: list[Refused] = []
    converted: list[object] = []
    for arm in arms:
        try:
            found = convert(value, arm)
        except Refused as refused:
            refusals.append(refused)
        else:
            if found is value or (type(found) is type(value) and found == value):
                return found
            converted.append(found)
    if converted:
        return converted[0]
    raise next((refused for refused in refusals if refused.steps), _mismatch(value, annotation))


def _to_items(value: Any, annotation: object, target: Any, args: tuple[Any, ...]) -> object:
    fixed = target is tuple and args and args[-1] is not ...
    hints = args if fixed else (args or (Any,))[:1] * len(value)
    if len(hints) != len(value):
        raise _mismatch(value, annotation)
    items = [_below(index, item, hint) for index, (item, hint) in enumerate(zip(value, hints, strict=True))]
    return (type(value) if isinstance(value, target) else _ITEMS[target])(items)


def _below(step: str | int, value: object, annotation: object) -> object:
    try:
        return convert(value, annotation)
    except Refused as refused:
        raise refused.below(step) from refused.__cause__


def _mismatch(value: object, annotation: object) -> Refused:
    expected = type_name(annotation) if isinstance(annotation, type) else str(annotation)
    return Refused(f"expected {expected}, got {type_name(type(value))}")
