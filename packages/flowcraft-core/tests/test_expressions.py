"""What expressions mean: values, references, errors and bounds, against expectations written by hand."""

import copy
import dataclasses
import math
import operator
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft.errors import ConditionError, DefinitionError, ExpressionError, NodeError
from flowcraft.expressions import (
    FUNCTION_NAMES,
    MAX_DEPTH,
    MAX_INT_BITS,
    MAX_LEVELS,
    MAX_NODES,
    MAX_SIZE,
    MAX_SOURCE,
    Expression,
    Reference,
    parse,
    truthy,
)
from flowcraft.expressions.functions import FUNCTIONS
from flowcraft.expressions.parser import ARITIES

ITEMS: list[Any] = [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]
DATA: dict[str, Any] = {
    "n": 6,
    "zero": 0,
    "x": 2.5,
    "s": "text",
    "empty": "",
    "yes": True,
    "no": False,
    "nothing": None,
    "items": ITEMS,
    "pair": (1, 2),
    "order": {"total": 10, "customer": {"tier": "gold"}, "length": 99, "in": 1, "true": 2, "load-user": 3},
    "length": 7,
    "keys": {"a": 1},
    "dict": {"a": 1, "b": [1, 2]},
    "when": datetime(2024, 1, 2, tzinfo=UTC),
    "later": datetime(2024, 1, 3, tzinfo=UTC),
    "naive": datetime(2024, 1, 2),  # noqa: DTZ001 - that is the case
    "day": date(2024, 1, 2),
    "price": Decimal("10.50"),
    "id": UUID(int=1),
    "raw": b"ab",
}


def value_of(source: str, names: frozenset[str] = frozenset(), **extra: Any) -> Any:
    data = DATA | extra

    def resolve(reference: Reference) -> object:
        if reference.kind == "result":
            return {"output": data["order"], "action": "go"}
        return data["order"] if reference.kind == "input" else data.get(reference.name)

    return parse(source, names=names).evaluate(resolve)


def check(source: str, expected: object) -> None:
    value = value_of(source)
    assert type(value) is type(expected)
    assert value == expected


VALUES: list[tuple[str, object]] = [
    # literals
    ("1", 1),
    ("0", 0),
    ("1.5", 1.5),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("1E-3", 0.001),
    ("1.5e+2", 150.0),
    ("-1", -1),
    ("- 1.5", -1.5),
    ("'a'", "a"),
    ('"a"', "a"),
    ("''", ""),
    (r"'\n\t\\\'\"'", "\n\t\\'\""),
    (r"'\u0041\u00e9'", "Aé"),
    (r"'\ud83d\ude00'", "😀"),
    ("'é😀'", "é😀"),
    ("'a\"b'", 'a"b'),
    ("true", True),
    ("True", True),
    ("false", False),
    ("False", False),
    ("null", None),
    ("None", None),
    ("undefined", None),
    ("[]", []),
    ("[1, 'a', [null], n]", [1, "a", [None], 6]),
    ("((1))", 1),
    (" \t\r\n1\n", 1),
    # members
    ("order.total", 10),
    ("order['total']", 10),
    ("order.customer.tier", "gold"),
    ("order?.customer?.tier", "gold"),
    ("order?.['customer']['tier']", "gold"),
    ("order.missing", None),
    ("order.missing.deeper[0].x", None),
    ("nothing.x", None),
    ("nothing[0]", None),
    ("missing", None),
    ("n.x", None),
    ("s.x", None),
    ("s[0]", None),
    ("order.in + order.true", 3),
    ("order['load-user']", 3),
    ("items[0].sku", "a"),
    ("items[-1].sku", "b"),
    ("items[2]", None),
    ("items[-3]", None),
    ("items[4 / 4].sku", "b"),
    ("items[0.5]", None),
    ("items[true]", None),
    ("items['0']", None),
    ("items[n - 5].sku", "b"),
    ("pair[1]", 2),
    ("order[s]", None),
    ("order[null]", None),
    ("order[[1]]", None),
    ("order.total[0]", None),
    ("[1, 2, 3][1]", 2),
    ("(order).total", 10),
    ("items.length", 2),
    ("s.length", 4),
    ("'abc'.length", 3),
    ("dict.length", 2),
    ("order.length", 99),
    ("order?.length", 99),
    ("order['length']", 99),
    ("dict['length']", None),
    ("items['length']", None),
    ("raw.length", 2),
    ("pair.length", 2),
    ("n.length", None),
    ("nothing.length", None),
    ("length", 7),
    ("keys.a", 1),
    ("keys(keys)", ["a"]),
    # roots
    ("result.output.total", 10),
    ("result.action === 'go'", True),
    ("input.total", 10),
    ("_outputs.n", 6),
    ("_outputs['n']", 6),
    ("_inputs.n", 6),
    ("context.n", 6),
    ("context['n']", 6),
    ("context?.n", 6),
    ("context?.['n']", 6),
    ("context.dict.a", 1),
    ("order.context", None),
    # arithmetic
    ("1 + 2 * 3", 7),
    ("(1 + 2) * 3", 9),
    ("10 - 2 - 3", 5),
    ("2 * 3 % 4", 2),
    ("7 / 2", 3.5),
    ("4 / 2", 2.0),
    ("7 % 3", 1),
    ("-7 % 3", 2),
    ("7.5 % 2", 1.5),
    ("2 - -1", 3),
    ("2--1", 3),
    ("-n", -6),
    ("-(1 + 2)", -3),
    ("- -n", 6),
    ("-n * 2", -12),
    ("1 + 0.5", 1.5),
    ("'a' + 'b' + 'c'", "abc"),
    ("[1] + [2] + []", [1, 2]),
    ("pair + [3]", [1, 2, 3]),
    ("n-1", 5),
    ("n -1", 5),
    # comparison
    ("1 == 1.0", True),
    ("1 === 1", True),
    ("1 == true", False),
    ("0 == false", False),
    ("true == true", True),
    ("1 != true", True),
    ("1 !== 1", False),
    ("[1, [true]] == [1, [1]]", False),
    ("[1, [2]] == [1.0, [2]]", True),
    ("pair == [1, 2]", True),
    ("[1] == [1, 2]", False),
    ("dict == dict", True),
    ("dict == order", False),
    ("items[0] == items[1]", False),
    ("'1' == 1", False),
    ("'a' == \"a\"", True),
    ("null == undefined", True),
    ("null == false", False),
    ("null == 0", False),
    ("missing == null", True),
    ("missing != 1", True),
    ("1 < 2", True),
    ("2 <= 2", True),
    ("2 > 2.5", False),
    ("3 >= 2", True),
    ("'a' < 'b'", True),
    ("'B' < 'a'", True),
    ("null < 1", False),
    ("1 < null", False),
    ("null <= null", False),
    ("missing >= 0", False),
    ("!(missing >= 0)", True),
    ("when < later", True),
    ("when == later", False),
    ("when == day", False),
    ("day <= day", True),
    ("price > 10", True),
    ("price == 10.5", True),
    ("price < 10.25", False),
    ("id == id", True),
    ("id <= id", True),
    ("raw == raw", True),
    # in
    ("1 in [1, 2]", True),
    ("true in [1, 2]", False),
    ("3 not in [1, 2]", True),
    ("'a' in dict", True),
    ("'z' not in dict", True),
    ("1 in dict", False),
    ("[1] in dict", False),
    ("'ex' in s", True),
    ("'' in s", True),
    ("null in s", False),
    ("1 in pair", True),
    ("[1, 2] in [[1, 2]]", True),
    ("1 in missing", False),
    ("1 not in missing", True),
    ("order.customer.tier in ['gold', 'silver']", True),
    # logic
    ("true && false", False),
    ("1 && 'a'", "a"),
    ("0 && 'a'", 0),
    ("1 and 2 and 3", 3),
    ("0 || ''", ""),
    ("'' or [] or 5", 5),
    ("!0", True),
    ("!!'a'", True),
    ("not ''", True),
    ("not 1 == 2", True),
    ("!1 == false", True),
    ("not not 1", True),
    ("not 1 in [1]", False),
    ("(not 1) in [false]", True),
    ("1 || 0 && 0", 1),
    ("true or false and false", True),
    ("null ?? 1", 1),
    ("0 ?? 1", 0),
    ("'' ?? 1", ""),
    ("null ?? null ?? 3", 3),
    ("missing.x ?? s", "text"),
    ("(null ?? 0) || 4", 4),
    ("1 && null ?? 2", 2),
    ("1 ? 2 : 3", 2),
    ("0 ? 2 : 3", 3),
    ("0 ? 1 : 0 ? 2 : 3", 3),
    ("1 ? 0 ? 'a' : 'b' : 'c'", "b"),
    ("n > 5 ? 'big' : 'small'", "big"),
    ("1 ?.5:2", 0.5),
    ("n == 6 && s == 'text' || no", True),
    ("1 + 1 == 2 && 2 * 2 > 3", True),
    ("[] ? 1 : 2", 2),
    ("[0] ? 1 : 2", 1),
    # functions
    ("len(items)", 2),
    ("len('abc') + len(dict)", 5),
    ("len(raw)", 2),
    ("min(3, 1, 2)", 1),
    ("max([3, 1, 2])", 3),
    ("min('b', 'a')", "a"),
    ("max(1, 1.5)", 1.5),
    ("min([])", None),
    ("max(when, later) == later", True),
    ("abs(-3)", 3),
    ("abs(2.5)", 2.5),
    ("round(2.6)", 3),
    ("round(2.5)", 2),
    ("round(3.5)", 4),
    ("round(1.256, 2)", 1.26),
    ("round(1250, -2)", 1200),
    ("round(1.7976931348623157e308, -30)", 1.7976931348623157e308),
    ("lower('AbÉ')", "abé"),
    ("upper('abß')", "ABSS"),
    ("str(1)", "1"),
    ("str(1.5)", "1.5"),
    ("str(true)", "true"),
    ("str(null)", "null"),
    ("str('a')", "a"),
    ("str(day)", "2024-01-02"),
    ("str(price)", "10.50"),
    ("str(id)", "00000000-0000-0000-0000-000000000001"),
    ("'n=' + str(n)", "n=6"),
    ("int('12')", 12),
    ("int(' -12 ')", -12),
    ("int(2.9)", 2),
    ("int(-2.9)", -2),
    ("int(true)", 1),
    ("int(price)", 10),
    ("float('1e3')", 1000.0),
    ("float(2)", 2.0),
    ("float(price)", 10.5),
    ("bool([])", False),
    ("bool('0')", True),
    ("any([0, '', 1])", True),
    ("any([])", False),
    ("all([1, 'a'])", True),
    ("all([1, null])", False),
    ("all([])", True),
    ("sum([1, 2, 3.5])", 6.5),
    ("sum([])", 0),
    ("contains(s, 'ex')", True),
    ("contains([1, 2], 3)", False),
    ("contains(dict, 'a')", True),
    ("contains(missing, 'a')", False),
    ("startswith(s, 'te')", True),
    ("endswith(s, 'te')", False),
    ("keys(dict)", ["a", "b"]),
    ("values(dict)", [1, [1, 2]]),
    ("values(dict)[1].length", 2),
]


@pytest.mark.parametrize(("source", "expected"), VALUES)
def test_value(source: str, expected: object) -> None:
    check(source, expected)


REFUSED_VALUES = [
    ("1 + 'a'", 2, "'+' cannot combine int and str"),
    ("'a' + null", 4, "'+' cannot combine str and None"),
    ("1 + true", 2, "'+' cannot combine int and bool"),
    ("[1] + 'a'", 4, "'+' cannot combine list and str"),
    ("'a' * 3", 4, "'*' cannot combine str and int"),
    ("[1] * 3", 4, "'*' cannot combine list and int"),
    ("1 + 2 - 'a'", 6, "'-' cannot combine int and str"),
    ("dict + dict", 5, "'+' cannot combine dict and dict"),
    ("price + 1", 6, "'+' cannot combine Decimal and int"),
    ("later - when", 6, "'-' cannot combine datetime and datetime"),
    ("-'a'", 0, "'-' takes a number, got str"),
    ("-true", 0, "'-' takes a number, got bool"),
    ("-missing", 0, "'-' takes a number, got None"),
    ("1 / 0", 2, "'/' divides by zero"),
    ("n % (1 - 1)", 2, "'%' divides by zero"),
    ("1.5 / 0.0", 4, "'/' divides by zero"),
    ("1e308 * 10", 6, "too large"),
    ("'a' < 1", 4, "'<' cannot order str and int"),
    ("true < 2", 5, "'<' cannot order bool and int"),
    ("[1] >= [1]", 4, "'>=' cannot order list and list"),
    ("when < day", 5, "'<' cannot order datetime and date"),
    ("when < naive", 5, "'<' cannot order datetime and datetime"),
    ("id < 'a'", 3, "'<' cannot order UUID and str"),
    ("1 in 'abc'", 2, "'in' cannot look for int in str"),
    ("1 in 5", 2, "'in' cannot look for int in int"),
    ("1 not in 5", 2, "'in' cannot look for int in int"),
    ("len(5)", 0, "len() takes a str, list or dict, got int"),
    ("len(missing)", 0, "len() takes a str, list or dict, got None"),
    ("min(5)", 0, "min() takes a list, got int"),
    ("max(1, null)", 0, "max() cannot order None"),
    ("min(1, 'a')", 0, "'<' cannot order str and int"),
    ("abs('a')", 0, "abs() takes a number, got str"),
    ("round(true)", 0, "round() takes a number, got bool"),
    ("round(1, 31)", 0, "round() takes a whole number of digits"),
    ("round(1, '1')", 0, "round() takes a whole number of digits"),
    ("lower(1)", 0, "lower() takes a str, got int"),
    ("str([1])", 0, "str() takes one plain value that is no list, dict or bytes, got list"),
    ("int('x')", 0, "int() takes a str that is a number, got 'x'"),
    ("int('1.5')", 0, "int() cannot convert '1.5'"),
    ("int(missing)", 0, "int() takes a number, a bool, a Decimal or a str, got None"),
    ("int(1e300)", 0, "too large"),
    ("float('nan')", 0, "float() takes a str that is a number"),
    ("float([])", 0, "float() takes a number, a bool, a Decimal or a str, got list"),
    ("any(1)", 0, "any() takes a list, got int"),
    ("all(dict)", 0, "all() takes a list, got dict"),
    ("sum(['a'])", 0, "sum() takes a number, got str"),
    ("sum([true])", 0, "sum() takes a number, got bool"),
    ("startswith(1, 'a')", 0, "startswith() takes a str, got int"),
    ("endswith('a', 1)", 0, "endswith() takes a str, got int"),
    ("keys([1])", 0, "keys() takes a dict, got list"),
    ("values(missing)", 0, "values() takes a dict, got None"),
    ("true && (1 / 0)", 11, "'/' divides by zero"),
]


@pytest.mark.parametrize(("source", "position", "message"), REFUSED_VALUES)
def test_refused_value(source: str, position: int, message: str) -> None:
    with pytest.raises(ConditionError) as caught:
        value_of(source)
    text = str(caught.value)
    assert message in text
    assert text.endswith(f"(position {position} of {source!r})")
    assert len(text.splitlines()) == 1
    assert isinstance(caught.value, NodeError)


def test_the_message_shows_a_long_expression_cut_and_on_one_line() -> None:
    with pytest.raises(ConditionError) as caught:
        value_of("1 /\n0 +" + " 1 +" * 100 + " 1")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 150


REFUSED_TEXTS = [
    ("", 0, "the expression is empty: expected a value"),
    ("  \n", 0, "the expression is empty"),
    ("a = 1", 2, "a single '=' does not compare; write '=='"),
    ("a =! 1", 2, "a single '='"),
    ("a & b", 2, "write '&&' or 'and'"),
    ("a | b", 2, "write '||' or 'or'"),
    ("a ** b", 2, "no power operator"),
    ("a // b", 2, "no comments and no integer division"),
    ("a /* b */", 2, "no comments"),
    ("x => 1", 2, "arrow functions"),
    ("`a`", 0, "template strings"),
    ("{'a': 1}", 0, "no object literals"),
    ("a; b", 1, "an expression is one value"),
    ("a # b", 2, "unexpected character '#'"),
    ("a\x00", 1, r"unexpected character '\x00'"),
    ("\u00a0a", 0, r"unexpected character '\xa0'"),
    ("1 +", 3, "expected a value, found the end"),
    ("1 + * 2", 4, "expected a value, found '*'"),
    ("+ 1", 0, "expected a value, found '+'"),
    ("a b", 2, "expected an operator or the end, found 'b'"),
    ("a 'b'", 2, "expected an operator or the end, found \"'b'\""),
    ("a not b", 2, "expected an operator or the end, found 'not'"),
    ("1)", 1, "expected an operator or the end, found ')'"),
    ("(1", 2, "expected ')' for the '(' at position 0, found the end"),
    ("[1, 2", 5, "expected ',' or ']' for the '[' at position 0, found the end"),
    ("[1,]", 3, "expected a value, found ']'"),
    ("len(1", 5, "expected ',' or ')' for the '(' at position 3, found the end"),
    ("a[1", 3, "expected ']' for the '[' at position 1, found the end"),
    ("a[]", 2, "expected a value, found ']'"),
    ("a[0:1]", 3, "expected ']' for the '[' at position 1, found ':'"),
    ("a.", 2, "expected a name after '.', found the end"),
    ("a.'b'", 2, "expected a name after '.', found \"'b'\""),
    ("a?.0", 4, "expected ':' of the '?' at position 1, found the end"),
    ("a ? b", 5, "expected ':' of the '?' at position 2, found the end"),
    ("a ? : c", 4, "expected a value, found ':'"),
    ("1 < 2 < 3", 6, "comparisons are not chained, found '<'"),
    ("1 == 1 == true", 7, "comparisons are not chained, found '=='"),
    ("1 in [1] in [true]", 9, "comparisons are not chained, found 'in'"),
    ("a || b ?? c", 7, "'??' next to '||' needs brackets"),
    ("a ?? b or c", 7, "'??' next to '||' needs brackets"),
    ("a == not b", 5, "put brackets round 'not ...'"),
    ("and", 0, "expected a value, found 'and'"),
    ("1 + in", 4, "expected a value, found 'in'"),
    ("foo(1)", 0, "there is no function 'foo'; there are abs, all, any"),
    ("a.b(1)", 3, "only the functions of the language are called, by their plain names"),
    ("a[0](1)", 4, "only the functions of the language are called"),
    ("len(a)(1)", 6, "only the functions of the language are called"),
    ("'a'.upper()", 9, "only the functions of the language are called"),
    ("len()", 0, "len() takes 1 argument(s), found 0"),
    ("len(a, b)", 0, "len() takes 1 argument(s), found 2"),
    ("round(1, 2, 3)", 0, "round() takes 1 to 2 argument(s), found 3"),
    ("contains(a)", 0, "contains() takes 2 argument(s), found 1"),
    ("min()", 0, "min() takes 1 to"),
    ("context", 7, "expected '.' or '[' and a name after context, found the end"),
    ("_outputs + 1", 9, "expected '.' or '[' and a name after _outputs, found '+'"),
    ("context[a]", 8, "expected one quoted name in context[...], which is never computed, found 'a'"),
    ("context['a' + 'b']", 8, "never computed"),
    ("_inputs[0]", 8, "never computed"),
    ("_outputs.", 9, "expected a name after '.', found the end"),
    ("'abc", 4, "expected ' to close the string of position 0, found the end"),
    ("1 + 'a\nb'", 6, r"expected ' to close the string of position 4, found '\n'"),
    ("'a\ud800'", 2, r"found '\ud800'"),
    (r"'\x41'", 1, r"expected one of \n \t"),
    (r"'\u12'", 1, r"expected four hexadecimal digits after \u"),
    (r"'\ud800'", 1, "half of a surrogate pair"),
    (r"'\ud800\u0041'", 1, "half of a surrogate pair"),
    ("'\\", 1, "expected one of"),
    ("12ab", 2, "expected the end of the number, found '12ab'"),
    ("0x10", 1, "expected the end of the number, found '0x10'"),
    ("1_000", 1, "expected the end of the number, found '1_000'"),
    ("1e", 1, "expected the end of the number, found '1e'"),
    ("007", 0, "does not start with 0"),
    ("1e999", 0, "the number '1e999' is too large"),
    (str(2**MAX_INT_BITS), 0, "is too large"),
]


@pytest.mark.parametrize(("source", "position", "message"), REFUSED_TEXTS)
def test_refused_text(source: str, position: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(source)
    text = str(caught.value)
    assert message in text
    assert text.endswith(f"(position {position})")
    assert caught.value.position == position
    assert caught.value.source == source
    assert len(text.splitlines()) == 1
    assert isinstance(caught.value, DefinitionError)


# -- references and names ---------------------------------------------------------------------------------------


def refs(source: str, *names: str) -> set[tuple[str, str]]:
    return {(reference.kind, reference.name) for reference in parse(source, names=names).references}


REFERENCES: list[tuple[str, tuple[str, ...], set[tuple[str, str]]]] = [
    ("1 + 2", (), set()),
    ("result.output.total > 5", (), {("result", "")}),
    ("result.output + input + input.x", (), {("result", ""), ("input", "")}),
    ("a.b.c + b[d]", (), {("name", "a"), ("name", "b"), ("name", "d")}),
    ("a ? b : c && d", (), {("name", "a"), ("name", "b"), ("name", "c"), ("name", "d")}),
    ("_outputs.a + _inputs.a + context.a", (), {("output", "a"), ("input_of", "a"), ("name", "a")}),
    ("_outputs['x y'].z", (), {("output", "x y")}),
    ('_outputs["result"] || _outputs.in', (), {("output", "result"), ("output", "in")}),
    ("context['result']", (), {("name", "result")}),
    ("len(len)", (), {("name", "len")}),
    ("x.result.input.context", (), {("name", "x")}),
    ("$a + _b + été", (), {("name", "$a"), ("name", "_b"), ("name", "été")}),
    # hyphenated and odd ids
    ("foo-bar.total", (), {("name", "foo"), ("name", "bar")}),
    ("foo-bar.total", ("foo-bar",), {("name", "foo-bar")}),
    ("foo-bar", ("foo", "bar"), {("name", "foo"), ("name", "bar")}),
    ("foo - bar", ("foo-bar",), {("name", "foo"), ("name", "bar")}),
    ("foo-bar-baz", ("foo-bar", "foo-bar-baz"), {("name", "foo-bar-baz")}),
    ("foo-bar-baz", ("foo-bar",), {("name", "foo-bar"), ("name", "baz")}),
    ("foo-bars", ("foo-bar",), {("name", "foo"), ("name", "bars")}),
    ("foo-bar2 + foo-bar", ("foo-bar",), {("name", "foo"), ("name", "bar2"), ("name", "foo-bar")}),
    ("x.foo-bar", ("foo-bar",), {("name", "x"), ("name", "bar")}),
    ("x?.foo-bar", ("foo-bar",), {("name", "x"), ("name", "bar")}),
    ("_outputs.foo-bar.x", ("foo-bar",), {("output", "foo-bar")}),
    ("_outputs?.foo-bar", ("foo-bar",), {("output", "foo-bar")}),
    ("_inputs.foo-bar", ("foo-bar",), {("input_of", "foo-bar")}),
    ("context.foo-bar", ("foo-bar",), {("name", "foo-bar")}),
    ("x.context.foo-bar", ("foo-bar",), {("name", "x"), ("name", "bar")}),
    ("_outputs['foo-bar']", (), {("output", "foo-bar")}),
    ("not-found || in-stock && and-so", ("not-found", "in-stock", "and-so"),
     {("name", "not-found"), ("name", "in-stock"), ("name", "and-so")}),
    ("len-x + result-a", ("len-x", "result-a"), {("name", "len-x"), ("name", "result-a")}),
    ("scatter:1/a b.x", ("scatter:1/a b",), {("name", "scatter:1/a b")}),
    ("a.b + a.c", ("a.b",), {("name", "a.b"), ("name", "a")}),
    ("@start > 1", ("@start",), {("name", "@start")}),
    ("2nd-step + 2", ("2nd-step",), {("name", "2nd-step")}),
    ("3f2b-11 > 2-1", ("3f2b-11",), {("name", "3f2b-11")}),
    ("1 + 1.5 + 1e5", ("1", "1.5", "1e5"), set()),
    ("1 - x", ("- x", "-", "(", "'a'", "", " "), {("name", "x")}),
    ("true && result && in_", ("true", "result", "in_"), {("result", ""), ("name", "in_")}),
    ("'foo-bar' + \"foo-bar\"", ("foo-bar",), set()),
]  # fmt: skip


@pytest.mark.parametrize(("source", "names", "expected"), REFERENCES)
def test_references(source: str, names: tuple[str, ...], expected: set[tuple[str, str]]) -> None:
    assert refs(source, *names) == expected


def test_a_hyphenated_id_is_read_as_one_value() -> None:
    data: dict[str, Any] = {"foo-bar": {"total": 5}, "foo": 7, "bar": {"total": 3}}
    for names, expected in (({"foo-bar"}, 5), (set[str](), 4)):
        assert parse("foo-bar.total", names=names).evaluate(lambda r: data[r.name]) == expected


def test_only_needed_references_are_resolved_each_time_they_are_needed() -> None:
    asked: list[str] = []

    def resolve(reference: Reference) -> object:
        asked.append(reference.name)
        return {"t": True, "f": False}.get(reference.name)

    for source, expected in {
        "f && a": "f",
        "t || a": "t",
        "t ?? a": "t",
        "t ? b : c": "tb",
        "f ? b : c": "fc",
        "f && a && b || t || c": "ft",
        "a ?? b ?? t ?? c": "abt",
        "t && t && f && t": "ttf",
        "[a, b][0]": "ab",
    }.items():
        asked.clear()
        parse(source).evaluate(resolve)
        assert "".join(asked) == expected, source


def test_what_the_resolver_raises_passes_through() -> None:
    def resolve(_: Reference) -> object:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        parse("1 + len(a)").evaluate(resolve)


# -- values that are not JSON -----------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    HIGH = 3


class Status(StrEnum):
    PAID = "paid"


@dataclasses.dataclass
class Customer:
    name: str
    friend: "Customer | None" = None
    fixed: int = dataclasses.field(default=5, init=False)


def test_enums_compare_by_equality_and_mixed_ones_are_their_value() -> None:
    data = {"red": Colour.RED, "blue": Colour.BLUE, "high": Level.HIGH, "paid": Status.PAID}
    expected = {
        "red == red": True,
        "red == blue": False,
        "red != 'red'": True,
        "red in [blue, red]": True,
        "high == 3": True,
        "high + 1 > high": True,
        "paid == 'paid'": True,
        "paid + '!'": "paid!",
        "red ? 1 : 2": 1,
    }
    for source, value in expected.items():
        assert parse(source).evaluate(lambda r: data[r.name]) == value, source
    assert parse("red").evaluate(lambda r: data[r.name]) is Colour.RED
    with pytest.raises(ConditionError, match="cannot order object and object"):
        parse("red < blue").evaluate(lambda r: data[r.name])


def test_dataclasses_are_read_by_field_and_not_compared() -> None:
    data = {"c": Customer("Ann", Customer("Bob")), "d": Customer("Ann", Customer("Bob"))}
    assert parse("c.friend.name").evaluate(lambda r: data[r.name]) == "Bob"
    assert parse("c.friend.friend.name ?? c['name']").evaluate(lambda r: data[r.name]) == "Ann"
    assert parse("c.fixed").evaluate(lambda r: data[r.name]) == 5
    assert parse("c == c && c != null && c != 1").evaluate(lambda r: data[r.name]) is True
    assert parse("c").evaluate(lambda r: data[r.name]) is data["c"]
    with pytest.raises(ConditionError, match="not plain data cannot be compared"):
        parse("c == d").evaluate(lambda r: data[r.name])


@dataclasses.dataclass(slots=True)
class Point:
    x: int


class Bare:
    __slots__ = ()


@dataclasses.dataclass
class Hollow(Bare):
    __slots__ = ()
    x: dataclasses.InitVar[int]
    y: int = dataclasses.field(init=False)


@dataclasses.dataclass
class Shadowed:
    x: int = 1

    @property
    def x(self) -> int:  # type: ignore[no-redef]  # noqa: F811 - the property takes the place of the default
        raise AssertionError("a property was read")

    @x.setter
    def x(self, value: object) -> None: ...


def test_a_field_without_a_value_of_its_own_is_missing() -> None:
    point = Point(1)
    assert parse("p.x").evaluate(lambda _: point) == 1
    del point.x
    assert parse("p.x").evaluate(lambda _: point) is None
    assert parse("p.x ?? p.y").evaluate(lambda _: Hollow(1)) is None
    assert parse("p.x").evaluate(lambda _: Shadowed()) is None


def test_nan_and_infinity_of_the_data_compare_but_do_not_compute() -> None:
    data = {"nan": math.nan, "inf": math.inf, "quiet": Decimal("NaN"), "loud": Decimal("sNaN")}
    for source, value in {
        "nan == nan": False,
        "nan < 1": False,
        "inf > 1": True,
        "[nan] == [nan]": False,
        "quiet == quiet": False,
        "loud == 1": False,
    }.items():
        assert parse(source).evaluate(lambda r: data[r.name]) is value, source
    for source in ("nan + 1", "inf - inf", "-inf", "abs(nan)", "round(inf)", "int(nan)", "str(inf)", "int(quiet)"):
        with pytest.raises(ConditionError, match=r"too large|so large"):
            parse(source).evaluate(lambda r: data[r.name])
    with pytest.raises(ConditionError, match="cannot order"):
        parse("loud < 1").evaluate(lambda r: data[r.name])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(falsy, False) for falsy in (None, False, 0, 0.0, "", b"", [], (), {}, Decimal(0), Level(3) - 3)],
        *[(true, True) for true in (True, 1, -1, 0.1, "0", b"0", [0], (None,), {"a": 0}, Decimal(1), math.nan)],
        *[(true, True) for true in (Colour.RED, Customer(""), object(), date(1, 1, 1), UUID(int=0), Level.HIGH)],
    ],
)
def test_truthy(value: object, expected: bool) -> None:
    assert truthy(value) is expected


# -- the object -------------------------------------------------------------------------------------------------


def test_an_expression_is_an_immutable_value() -> None:
    one = parse("a-b > 1", names=["a-b", "c"])
    same = parse("a-b > 1", names={"c", "a-b"})
    assert one == same
    assert hash(one) == hash(same)
    assert one != parse("a-b > 1")
    assert one != parse("a-b  > 1", names=["a-b", "c"])
    assert one != "a-b > 1"
    assert (one.source, one.names) == ("a-b > 1", {"a-b", "c"})
    assert one.references == {Reference("name", "a-b")}
    assert repr(one) == "Expression(source='a-b > 1')"
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.source = "1"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Reference("name", "a").name = "b"  # type: ignore[misc]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])  # noqa: S301
def test_an_expression_can_be_copied_and_sent(again: Callable[[Expression], Expression]) -> None:
    expression = parse("foo-bar.total > 1", names={"foo-bar"})
    other = again(expression)
    assert other == expression
    assert other.references == expression.references
    assert other.evaluate(lambda _: {"total": 2}) is True


def test_an_evaluation_leaves_the_data_alone() -> None:
    before = copy.deepcopy(DATA)
    for source, _ in VALUES:
        value_of(source)
    assert before == DATA


def test_every_function_has_its_arity() -> None:
    assert set(FUNCTIONS) == set(ARITIES) == FUNCTION_NAMES


# -- bounds -----------------------------------------------------------------------------------------------------


AT_THE_BOUND = [
    (" " * (MAX_SOURCE - 1) + "1", " " * MAX_SOURCE + "1"),
    ("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH, "(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1)),
    ("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH, "[" * (MAX_DEPTH + 1) + "1" + "]" * (MAX_DEPTH + 1)),
    ("1+(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH, "1+(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1)),
    ("!" * (MAX_LEVELS - 1) + "1", "!" * MAX_LEVELS + "1"),
    ("1?1:" * (MAX_LEVELS - 1) + "1", "1?1:" * MAX_LEVELS + "1"),
    ("1+" * (MAX_NODES // 2 - 1) + "1", "1+" * (MAX_NODES // 2) + "1"),
    ("a" + ".b" * (MAX_NODES - 1), "a" + ".b" * MAX_NODES),
    (str(2**MAX_INT_BITS - 1), str(2**MAX_INT_BITS)),
]


@pytest.mark.parametrize(("good", "bad"), AT_THE_BOUND, ids=range(len(AT_THE_BOUND)))
def test_bounds_of_the_text(good: str, bad: str) -> None:
    parse(good).evaluate(lambda _: None)
    with pytest.raises(ExpressionError):
        parse(bad)


def test_bounds_of_the_values() -> None:
    half = MAX_SIZE // 2
    for value in ("a" * half, [0] * half):
        assert len(value_of("v + v", v=value)) == MAX_SIZE
        with pytest.raises(ConditionError, match="more than 100000"):
            value_of("v + v + w", v=value, w=value[:1])
    top = 2**MAX_INT_BITS - 1
    assert value_of("v - 1 + 1", v=top) == top
    for source in ("v + 1", "v * v", "-v - 1 - v", "v * 1.5 * 1e300"):
        with pytest.raises(ConditionError, match="too large"):
            value_of(source, v=top)


def test_a_value_from_the_data_may_be_larger_than_one_that_is_produced() -> None:
    large = list(range(MAX_SIZE + 1))
    assert value_of("v", v=large) is large
    assert value_of("v.length > 100000 && v[-1] == 100000 && 5 in v", v=large) is True
    assert value_of("v > 1 && v == v", v=10**5000) is True


def test_thousands_of_names_cost_nothing_noticeable() -> None:
    names = frozenset(f"node-{'x' * (number % 50)}-{number}" for number in range(20_000))
    expression = parse(" + ".join(sorted(names)[:100]), names=names)
    assert len(expression.references) == 100


# -- against Python ---------------------------------------------------------------------------------------------

Tree = tuple[str, Any]
SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!==": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
Bracket = Literal["(", "["]
REFUSED = object()


def combined(left: Tree, sign: str, right: Tree) -> Tree:
    value: Any = REFUSED
    if left[1] is not REFUSED and right[1] is not REFUSED:
        try:
            value = SIGNS[sign](left[1], right[1])
            if not math.isfinite(value) or (type(value) is int and value.bit_length() > MAX_INT_BITS):
                value = REFUSED
        except (ZeroDivisionError, OverflowError):
            value = REFUSED
    return f"({left[0]}) {sign} ({right[0]})", value


def compared(left: Tree, sign: str, right: Tree) -> Tree:
    refused = left[1] is REFUSED or right[1] is REFUSED
    return f"({left[0]} {sign} {right[0]})", REFUSED if refused else COMPARISONS[sign](left[1], right[1])


numbers: st.SearchStrategy[Tree] = st.one_of(
    st.integers(-(10**20), 10**20).map(lambda n: (str(n), n)),
    st.floats(-1e100, 1e100).map(lambda x: (repr(x), x)),
)
sums: st.SearchStrategy[Tree] = st.recursive(
    numbers, lambda inner: st.builds(combined, inner, st.sampled_from(list(SIGNS)), inner), max_leaves=12
)
tests: st.SearchStrategy[Tree] = st.builds(compared, numbers, st.sampled_from(list(COMPARISONS)), numbers)


@given(sums)
def test_arithmetic_is_that_of_python(tree: Tree) -> None:
    source, expected = tree
    if expected is REFUSED:
        with pytest.raises(ConditionError):
            value_of(source)
    else:
        check(source, expected)


@given(st.lists(st.tuples(st.sampled_from(list(SIGNS)), st.integers(1, 9)), min_size=1, max_size=8))
def test_precedence_is_that_of_python(links: list[tuple[str, int]]) -> None:
    total, product = [0.0], 1.0
    sign = "+"
    for link, number in [*links, ("+", 0)]:
        if link in "+-":
            total.append(product if sign == "+" else -product)
            sign, product = link, float(number)
        else:
            product = SIGNS[link](product, float(number))
    source = "1" + "".join(f" {link} {number}" for link, number in links)
    assert value_of(source) == pytest.approx(sum(total))


@given(st.lists(tests, min_size=1, max_size=6), st.lists(st.sampled_from(["&&", "||", "and", "or"]), min_size=6))
def test_logic_binds_as_in_python(leaves: list[Tree], signs: list[str]) -> None:
    source, alternatives, latest = leaves[0][0], list[bool](), leaves[0][1]
    for (text, value), sign in zip(leaves[1:], signs, strict=False):
        source += f" {sign} {text}"
        if sign in ("&&", "and"):
            latest = latest and value
        else:
            alternatives.append(latest)
            latest = value
    assert value_of(source) is any([*alternatives, latest])


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def tagged(value: Any) -> Any:
    """The value with bools that Python does not take for numbers."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        return [tagged(item) for item in value]
    return {key: tagged(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(plain_values, plain_values)
def test_equality_is_that_of_python_but_for_bools(one: Any, other: Any) -> None:
    expected = tagged(one) == tagged(other)
    assert value_of("a == b", a=one, b=other) is expected
    assert value_of("a !== b", a=one, b=other) is not expected
    assert value_of("a in [b]", a=one, b=other) is expected
    assert value_of("a == a", a=one) is True
    assert truthy(one) is bool(one)


@given(st.text(max_size=20).filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text)))
def test_any_text_can_be_written_as_a_string(text: str) -> None:
    units = text.encode("utf-16-be")
    escaped = "".join(rf"\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2))
    check(f"'{escaped}'", text)
    check(f'context["{escaped}"] ?? "{escaped}"', text) if text not in DATA else None
    assert parse(f"_outputs['{escaped}']").references == {Reference("output", text)}
