"""The functions of the language: a fixed table, called by plain name only and never values themselves.

Each takes the budget of the evaluation and its arguments, and refuses what it does not take with
:class:`~flowcraft.expressions.values.Refused`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from flowcraft.expressions.lexer import quoted
from flowcraft.expressions.values import (
    LISTS,
    NUMBERS,
    Budget,
    Refused,
    arithmetic,
    bounded,
    contained,
    elements,
    kind_of,
    ordered,
    plain,
    size_of,
    sized,
    truthy,
)

__all__ = ["FUNCTIONS", "negative"]


def _wrong(function: str, wanted: str, value: object) -> Refused:
    return Refused(f"{function} takes {wanted}, got {kind_of(value)}")


def _number(function: str, value: Any) -> Any:
    if kind_of(value) not in NUMBERS:
        raise _wrong(function, "a number", value)
    return bounded(plain(value))


def _text(function: str, value: Any, budget: Budget) -> str:
    if kind_of(value) != "str":
        raise _wrong(function, "a str", value)
    text: str = plain(value)
    budget.spend_text(len(text))
    return text


def _list(function: str, value: Any, budget: Budget) -> Sequence[Any]:
    if kind_of(value) not in LISTS:
        raise _wrong(function, "a list", value)
    return list(elements(value, budget))


def negative(value: Any) -> Any:
    """``-value`` of a number."""
    return -_number("'-'", value)


def _len(_budget: Budget, value: Any) -> int:
    size = size_of(value)
    if size is None:
        raise _wrong("len()", "a str, list or dict", value)
    return size


def _extreme(function: str, sign: str) -> Callable[..., Any]:
    def extreme(budget: Budget, *arguments: Any) -> Any:
        values = _list(function, arguments[0], budget) if len(arguments) == 1 else arguments
        best = values[0] if values else None
        for value in values:
            if value is None:
                raise Refused(f"{function} cannot order None")
            if ordered(sign, value, best, budget):
                best = value
        return best

    return extreme


def _sum(budget: Budget, value: Any) -> Any:
    total: Any = 0
    for element in _list("sum()", value, budget):
        total = arithmetic("+", total, _number("sum()", element), budget)
    return total


def _round(_budget: Budget, value: Any, digits: Any = None) -> Any:
    number, digits = _number("round()", value), plain(digits)
    if digits is not None and (type(digits) is not int or not -30 <= digits <= 30):
        raise Refused("round() takes a whole number of digits from -30 to 30")
    return bounded(round(number, digits))


def _changed_case(function: str, change: Callable[[str], str]) -> Callable[..., str]:
    def changed(budget: Budget, value: Any) -> str:
        text = _text(function, value, budget)
        sized(len(text))
        text = change(text)
        sized(len(text))
        return text

    return changed


def _str(_budget: Budget, value: Any) -> str:
    kind, value = kind_of(value), plain(value)
    if value is None or kind == "bool":
        return "null" if value is None else str(value).lower()
    if kind in ("str", "datetime", "date", "Decimal", "UUID"):
        return value.isoformat() if kind.startswith("date") else str(value)
    if kind not in NUMBERS:
        raise _wrong("str()", "one plain value that is no list, dict or bytes", value)
    return str(bounded(value))


def _converted(function: str, target: Callable[[Any], Any]) -> Callable[..., Any]:
    """``int()`` or ``float()``: of a bool, a number, a Decimal, or a str that writes a number in ASCII digits."""

    def convert(budget: Budget, value: Any) -> Any:
        kind, value = kind_of(value), plain(value)
        if kind == "str":
            text = _text(function, value, budget)
            if len(text) > 100 or not text.isascii() or "_" in text or not any(char.isdigit() for char in text):
                raise Refused(f"{function} takes a str that is a number, got {quoted(text)}")
        elif kind == "Decimal":
            if not value.is_finite() or value.adjusted() > 100:
                raise Refused(f"{function} cannot convert so large a Decimal")
        elif kind not in NUMBERS and kind != "bool":
            raise _wrong(function, "a number, a bool, a Decimal or a str", value)
        try:
            return bounded(target(bounded(value) if kind in NUMBERS else value))
        except (ValueError, OverflowError):
            raise Refused(f"{function} cannot convert {quoted(str(value))}") from None

    return convert


def _members(function: str, take: Callable[[Any], Any]) -> Callable[..., Any]:
    def members(budget: Budget, value: Any) -> list[Any]:
        if kind_of(value) != "dict":
            raise _wrong(function, "a dict", value)
        count = dict.__len__(value)
        sized(count)
        budget.spend(count)
        return list(take(value))

    return members


def _abs(_budget: Budget, value: Any) -> Any:
    return abs(_number("abs()", value))


def _bool(_budget: Budget, value: Any) -> bool:
    return truthy(value)


def _any(budget: Budget, value: Any) -> bool:
    return any(map(truthy, _list("any()", value, budget)))


def _all(budget: Budget, value: Any) -> bool:
    return all(map(truthy, _list("all()", value, budget)))


def _contains(budget: Budget, container: Any, item: Any) -> bool:
    return contained(item, container, budget)


def _affix(function: str, test: Callable[[str, str], bool]) -> Callable[..., bool]:
    def tested(budget: Budget, value: Any, affix: Any) -> bool:
        return test(_text(function, value, budget), _text(function, affix, budget))

    return tested


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "len": _len,
    "min": _extreme("min()", "<"),
    "max": _extreme("max()", ">"),
    "abs": _abs,
    "round": _round,
    "lower": _changed_case("lower()", str.lower),
    "upper": _changed_case("upper()", str.upper),
    "str": _str,
    "int": _converted("int()", int),
    "float": _converted("float()", float),
    "bool": _bool,
    "any": _any,
    "all": _all,
    "sum": _sum,
    "contains": _contains,
    "startswith": _affix("startswith()", str.startswith),
    "endswith": _affix("endswith()", str.endswith),
    "keys": _members("keys()", dict.keys),
    "values": _members("values()", dict.values),
}
"""Every function by name; how many arguments each takes is checked while parsing."""
