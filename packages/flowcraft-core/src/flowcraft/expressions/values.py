"""What values are to an expression: plain types, members, truth, equality, order and arithmetic.

Nothing here looks at a Python attribute whose name comes from an expression: members are keys of dicts, indexes
of lists and declared fields of dataclass instances, which are read from the instance's own storage (no property,
no method, no ``__getattr__``). Other objects pass through and are equal only to themselves.

A function refuses a value with :class:`Refused`; where in the expression that was is the caller's to add.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from math import isfinite
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, Final
from uuid import UUID

from flowcraft.expressions.lexer import MAX_INT_BITS

__all__ = [
    "LISTS",
    "MAX_SIZE",
    "MAX_STEPS",
    "NUMBERS",
    "OPERATIONS",
    "PLAIN_TYPES",
    "Budget",
    "Refused",
    "arithmetic",
    "bounded",
    "contained",
    "elements",
    "equal",
    "is_code",
    "kind_of",
    "length",
    "ordered",
    "plain",
    "read",
    "size_of",
    "sized",
    "truthy",
]

MAX_SIZE: Final = 100_000
"""Most characters or elements in a value that an expression produces."""
MAX_STEPS: Final = 10_000
"""The budget of one evaluation: a step pays for 16 elements of a list or dict, or for 1,024 characters."""

_BASES: Final[dict[type, str]] = {
    **{base: base.__name__ for base in (bool, int, float, str, bytes, list, tuple, dict)},
    **{base: base.__name__ for base in (datetime, date, Decimal, UUID)},
    type(None): "None",
}
PLAIN_TYPES: Final = frozenset(_BASES)
NUMBERS: Final = frozenset({"int", "float"})
LISTS: Final = frozenset({"list", "tuple"})
_COMPARABLE: Final = NUMBERS | {"Decimal"}
_ORDERED: Final = frozenset({"str", "bytes", "datetime", "date", "UUID"})
_CODE: Final = (
    type,
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
    CodeType,
    FrameType,
)
OPERATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Refused(Exception):
    """An operator or function does not take this value; the text is one line."""


class Budget:
    """The steps that one evaluation may still take over its data."""

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps = MAX_STEPS

    def spend(self, count: int) -> None:
        """Pay for work on ``count`` elements.

        Raises:
            Refused: the budget is used up.
        """
        self._steps -= 1 + count // 16
        if self._steps < 0:
            raise Refused("the expression does too much work on large values")

    def spend_text(self, count: int) -> None:
        """Pay for work on ``count`` characters; short texts are free."""
        if count > 1024:
            self.spend(count // 64)


# -- types ------------------------------------------------------------------------------------------------------


def kind_of(value: object) -> str:
    """The plain type that ``value`` is or derives from, or ``object``; the value itself is not asked."""
    found = _BASES.get(type(value))
    if found is not None:
        return found
    return next((_BASES[base] for base in type(value).__mro__ if base in _BASES), "object")


def plain(value: Any) -> Any:
    """A string or number without its subclass (``StrEnum``, ``IntEnum``); anything else as it is."""
    if type(value) in _BASES:
        return value
    kind = kind_of(value)
    if kind == "str":
        return str.__str__(value)
    if kind == "int":
        return int.__int__(value)
    return float.__float__(value) if kind == "float" else value


def is_code(value: object) -> bool:
    """Whether ``value`` is a class, a module, a function or the like: never the result of an expression."""
    return issubclass(type(value), _CODE)


def size_of(value: Any) -> int | None:
    """The number of characters or elements of a str, bytes, list, tuple or dict; None for anything else."""
    kind = kind_of(value)
    for base in (str, list, dict, tuple, bytes):
        if kind == base.__name__:
            return base.__len__(value)
    return None


def elements(value: Any, budget: Budget) -> Iterable[Any]:
    """The elements of a list or tuple, paid for."""
    budget.spend(size_of(value) or 0)
    return tuple.__iter__(value) if kind_of(value) == "tuple" else list.__iter__(value)


def truthy(value: object) -> bool:
    """Whether a condition with this value holds: Python's truth of plain values.

    False are ``None``, ``False``, zero, and an empty str, bytes, list, tuple or dict. Any object that is not
    plain data is true; it is not asked.
    """
    if type(value) in _BASES:
        return bool(value)
    size = size_of(value)
    if size is not None:
        return size > 0
    return bool(plain(value)) if kind_of(value) in NUMBERS else True


# -- members ----------------------------------------------------------------------------------------------------


def read(value: Any, key: Any) -> Any:
    """``value[key]`` of a dict, a list or a dataclass instance; None for what is not there."""
    kind, key = kind_of(value), plain(key)
    if kind == "dict":
        return dict.get(value, key) if type(key) in (str, int) else None
    if kind in LISTS:
        if type(key) is float and key.is_integer():
            key = int(key)
        size = size_of(value) or 0
        if type(key) is not int or not -size <= key < size:
            return None
        return list.__getitem__(value, key) if kind == "list" else tuple.__getitem__(value, key)
    return _field(value, key) if kind == "object" and type(key) is str else None


def length(value: Any, key: Any) -> Any:
    """``value.length``: the key or field of this name, else the size of a str, list or dict."""
    if kind_of(value) == "dict" and dict.__contains__(value, key):
        return dict.get(value, key)
    size = size_of(value)
    return read(value, key) if size is None else size


def _field(value: Any, name: str) -> Any:
    """A declared field of a dataclass instance, out of its slot or its ``__dict__`` and nowhere else."""
    owner: type = type(value)
    declared = [field for field in fields(owner) if field.name == name] if is_dataclass(owner) else []
    if not declared:
        return None
    for base in owner.__mro__:
        slot = base.__dict__.get(name)
        if type(slot) is MemberDescriptorType:
            try:
                return slot.__get__(value, owner)
            except AttributeError:
                return None
    default = declared[0].default  # `init=False` leaves it on the class, where a property may have replaced it
    fallback = None if kind_of(default) == "object" else default
    try:
        return dict.get(object.__getattribute__(value, "__dict__"), name, fallback)
    except AttributeError:
        return fallback


# -- equality and order -----------------------------------------------------------------------------------------


def equal(left: Any, right: Any, budget: Budget) -> bool:
    """Equality in depth, without recursion. A bool equals only a bool; a tuple equals a list.

    Raises:
        Refused: two different objects of one type that is not plain data, or too much work.
    """
    pending = [(left, right)]
    while pending:
        one, other = pending.pop()
        kind, kind2 = kind_of(one), kind_of(other)
        if kind in LISTS and kind2 in LISTS:
            if size_of(one) != size_of(other):
                return False
            pending.extend(zip(elements(one, budget), elements(other, budget), strict=True))
        elif kind == kind2 == "dict":
            budget.spend(dict.__len__(one))
            if dict.keys(one) != dict.keys(other):
                return False
            pending.extend((dict.get(one, key), dict.get(other, key)) for key in dict.__iter__(one))
        elif not _equal_scalars(plain(one), plain(other), kind, kind2, budget):
            return False
    return True


def _equal_scalars(one: Any, other: Any, kind: str, kind2: str, budget: Budget) -> bool:
    if kind == kind2 == "object":
        if one is not other and type(one) is type(other) and not issubclass(type(one), Enum):
            raise Refused("two objects that are not plain data cannot be compared")
        return one is other
    if kind == kind2 and kind in ("str", "bytes"):
        budget.spend_text(min(len(one), len(other)))
    elif kind != kind2 and not {kind, kind2} <= _COMPARABLE:
        return False
    try:
        return bool(one == other)
    except ArithmeticError:  # a signalling NaN of Decimal
        return False


def ordered(sign: str, left: Any, right: Any, budget: Budget) -> bool:
    """``left sign right`` for ``<``, ``<=``, ``>`` or ``>=``; false when either is None.

    Raises:
        Refused: the two have no order: a str and an int, two lists, an aware and a naive datetime.
    """
    if left is None or right is None:
        return False
    kind, kind2 = kind_of(left), kind_of(right)
    if {kind, kind2} <= _COMPARABLE or (kind == kind2 and kind in _ORDERED):
        budget.spend_text(min(size_of(left) or 0, size_of(right) or 0))
        try:
            return bool(OPERATIONS[sign](plain(left), plain(right)))
        except (TypeError, ArithmeticError):
            pass
    raise Refused(f"{sign!r} cannot order {kind} and {kind2}")


def contained(item: Any, container: Any, budget: Budget) -> bool:
    """``item in container``: an element of a list, a key of a dict, a part of a str; nothing is in None.

    Raises:
        Refused: the container is none of these, or something other than a str is looked for in a str.
    """
    kind, item = kind_of(container), plain(item)
    if kind == "None":
        return False
    if kind in LISTS:
        return any(equal(item, element, budget) for element in elements(container, budget))
    if kind == "dict":
        return type(item) in (str, int) and dict.__contains__(container, item)
    if kind == "str" and type(item) is str:
        budget.spend_text(str.__len__(container))
        return str.__contains__(container, item)
    if kind == "str" and item is None:
        return False
    raise Refused(f"'in' cannot look for {kind_of(item)} in {kind}")


# -- arithmetic -------------------------------------------------------------------------------------------------


def sized(count: int) -> None:
    """Refuse to produce a str or list of more than ``MAX_SIZE`` elements."""
    if count > MAX_SIZE:
        raise Refused(f"the produced value has {count} elements, more than {MAX_SIZE}")


def bounded(value: Any) -> Any:
    """The number itself; refused if it is infinite, not a number or an integer beyond ``MAX_INT_BITS``."""
    if int.bit_length(value) > MAX_INT_BITS if type(value) is int else not isfinite(value):
        raise Refused("the number is too large or not a number")
    return value


def arithmetic(sign: str, left: Any, right: Any, budget: Budget) -> Any:
    """``left sign right`` for ``+ - * / %``: numbers, and ``+`` of two str or two lists.

    Raises:
        Refused: other types, division by zero, a result that is too large.
    """
    kind, kind2 = kind_of(left), kind_of(right)
    if kind in NUMBERS and kind2 in NUMBERS:
        try:
            return bounded(OPERATIONS[sign](bounded(plain(left)), bounded(plain(right))))
        except ZeroDivisionError:
            raise Refused(f"{sign!r} divides by zero") from None
    if sign == "+" and kind == kind2 == "str":
        count = str.__len__(left) + str.__len__(right)
        sized(count)
        budget.spend_text(count)
        return plain(left) + plain(right)
    if sign == "+" and kind in LISTS and kind2 in LISTS:
        sized((size_of(left) or 0) + (size_of(right) or 0))
        return [*elements(left, budget), *elements(right, budget)]
    raise Refused(f"{sign!r} cannot combine {kind} and {kind2}")
