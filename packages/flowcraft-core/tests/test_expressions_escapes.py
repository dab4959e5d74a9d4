"""Nobody gets out of the expression language: hostile texts, hostile values and random text.

Every attempt in ``data/escapes.txt`` runs against values that record whatever touches them, under an audit hook
that records whatever Python itself would consider worth auditing (compile, exec, import, open, code objects).
"""

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import InitVar, dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft.errors import ConditionError, ExpressionError
from flowcraft.expressions import FUNCTION_NAMES, MAX_SIZE, Reference, parse

LINES = (Path(__file__).parent / "data" / "escapes.txt").read_text(encoding="utf-8").split("\n")
ATTEMPTS = [line for line in LINES if line and not line.startswith("# -- ")]
ATTEMPTS += [
    "",
    " ",
    "\n",
    "\x00",
    "1\x00",
    "'\x00'.__class__",
    "result\n.__class__",
    "result\r\n.\t__class__",
    "import os\nos.system('id')",
    "'a\nb'",
    "1\n2",
    "1 \\\n + 2",
    "\u00a01",
    "\u20281",
    "\ufeff1",
    "\u202e1",
    "\ud800",
    "'\ud800'",
    "a\u200bb",
    "a\x1b[31m",
    "(" * 10_000,
    "[" * 10_000,
    "(" * 51 + "1" + ")" * 51,
    "a[" * 2_000,
    "len(" * 1_000,
    "!" * 4_000 + "1",
    "-" * 4_000 + "1",
    "not " * 1_000 + "1",
    "1 ? " * 1_000,
    "1 ? 2 : " * 500 + "3",
    "1 + (" * 100 + "1" + ")" * 100,
    "(" * 50 + "a" + " * b + c == d && e || f)" * 50,
    "1 + " * 2_000 + "1",
    "a" + ".b" * 2_000,
    "a" * 1_000_000,
    "9" * 4_000,
    "9" * 4_000 + "e9",
    "1e" + "9" * 4_000,
    "'" + "\\u0041" * 700,
    "[" + "1, " * 1_300 + "1]",
    "max(" + "1, " * 1_001 + "1)",
    "sum(big) + " * 100 + "1",
    "big == big2 && " * 200 + "true",
    "text_of_a_megabyte in text_of_a_megabyte || " * 80 + "1",
    "wide == wide2 || " * 200 + "1",
]

touched: list[str] = []
audited: list[str] = []
armed: list[bool] = []


def record(event: str, _arguments: object) -> None:
    if armed:
        audited.append(event)


sys.addaudithook(record)


def recorder(name: str) -> Any:
    def touch(self: object, *arguments: object, **options: object) -> Any:
        touched.append(name)
        raise AssertionError(f"{name} was called")

    return touch


SPECIAL = """
    getattribute getattr setattr delattr get set call eq ne lt le gt ge hash bool len length_hint iter next reversed
    contains getitem setitem delitem missing index int float complex str repr format bytes add radd iadd sub rsub mul
    rmul truediv rtruediv floordiv mod rmod pow neg pos abs invert round trunc floor ceil enter exit reduce reduce_ex
    copy deepcopy fspath await instancecheck dir sizeof getstate
""".split()  # noqa: SIM905 - a list of this length is not read one per line
Tripwire: Any = type("Tripwire", (), {f"__{name}__": recorder(name) for name in SPECIAL})


@dataclass
class Account:
    label: str
    note: InitVar[str] = ""
    TOKEN: ClassVar[str] = "secret"

    def __post_init__(self, note: str) -> None:
        self.token = note  # not a field

    def method(self) -> None:
        touched.append("method")

    @property
    def secret(self) -> str:
        touched.append("property")
        return "secret"

    @cached_property
    def cached(self) -> str:
        touched.append("cached_property")
        return "secret"

    @classmethod
    def build(cls) -> None:
        touched.append("classmethod")

    @staticmethod
    def make() -> None:
        touched.append("staticmethod")

    def __getattr__(self, name: str) -> Any:
        touched.append(f"__getattr__({name})")
        raise AttributeError(name)

    def __bool__(self) -> bool:
        touched.append("__bool__")
        return True

    def __len__(self) -> int:
        touched.append("__len__")
        return 1


@dataclass(frozen=True, slots=True)
class Slotted:
    value: int

    @property
    def hidden(self) -> int:
        touched.append("property")
        return 1


class Colour(Enum):
    RED = "red"


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def world() -> dict[str, Any]:
    output = {
        "total": 6,
        "text": "a text",
        "items": [1, 2, 3],
        "raw": b"raw",
        "when": datetime(2024, 1, 1, tzinfo=UTC),
        "day": date(2024, 1, 1),
        "amount": Decimal("1.5"),
        "id": UUID(int=1),
    }
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    cyclic2: list[Any] = []
    cyclic2.append(cyclic2)
    return {
        "result": {"output": output, "action": "x"},
        "input": output,
        "obj": Account("a", "secret"),
        "slotted": Slotted(1),
        "trip": Tripwire(),
        "colour": Colour.RED,
        "huge": 10**5_000,
        "big": list(range(60_000)),
        "big2": list(range(60_000)),
        "wide": [[] for _ in range(5_000)],
        "wide2": [[] for _ in range(5_000)],
        "text_of_a_megabyte": "a" * 2**20,
        "cyclic": cyclic,
        "cyclic2": cyclic2,
        "deep": deep(100_000),
        "deep2": deep(100_000),
    }


WORLD = world()
OBJECTS = {id(value) for value in WORLD.values()}
PLAIN = {type(None), bool, int, float, str, bytes, datetime, date, Decimal, UUID}


def resolve(reference: Reference) -> object:
    assert type(reference) is Reference
    assert type(reference.name) is str
    return WORLD.get(reference.name or reference.kind)


def is_harmless(value: Any) -> bool:
    """Plain data, or one of the very objects that the caller handed in."""
    pending, seen = [value], set[int]()
    while pending:
        one = pending.pop()
        if id(one) in seen or id(one) in OBJECTS or type(one) in PLAIN:
            continue
        seen.add(id(one))
        if type(one) not in (list, dict):
            return False
        pending.extend(one if type(one) is list else [*one, *one.values()])
    return True


@pytest.fixture(autouse=True)
def nothing_was_touched() -> Iterator[None]:
    touched.clear()
    audited.clear()
    yield
    assert touched == []
    assert audited == []


def outcome(source: str) -> Any:
    """The value of the expression, or its clean refusal; any other error is one of the test."""
    armed.append(True)
    try:
        return parse(source, names={"load-user"}).evaluate(resolve)
    except (ExpressionError, ConditionError) as refusal:
        return refusal
    finally:
        armed.clear()


def attempt(source: str) -> None:
    """Parse and evaluate; everything but a clean refusal or a harmless value fails."""
    started = time.perf_counter()
    value = outcome(source)
    assert time.perf_counter() - started < 5
    if type(value) in (ExpressionError, ConditionError):
        assert len(str(value).splitlines()) == 1
        assert len(str(value)) < 500
    else:
        assert is_harmless(value), f"{source[:80]!r} gave {type(value)}"


def test_there_are_enough_attempts() -> None:
    assert len(set(ATTEMPTS)) == len(ATTEMPTS) >= 600


@pytest.mark.parametrize("source", ATTEMPTS, ids=range(len(ATTEMPTS)))
def test_attempt_ends_in_a_refusal_or_in_plain_data(source: str) -> None:
    attempt(source)


@pytest.mark.parametrize(
    "source",
    [
        *("obj.method", "obj.secret", "obj.cached", "obj.token", "obj.TOKEN", "obj.note", "obj.build", "obj.make"),
        *("obj.__class__", "obj.__dict__", "slotted.hidden", "slotted.__slots__", "colour.name", "colour.value"),
        *("trip.anything", "trip.length", "result.keys", "result.output.text.upper", "result.output.items.append"),
        *("result.output.when.year", "result.output.id.hex", "result.__class__", "''.__class__", "len", "result.get"),
    ],
)
def test_python_attributes_are_simply_not_there(source: str) -> None:
    assert parse(source).evaluate(resolve) is None


def test_fields_of_dataclasses_are_there() -> None:
    assert parse("obj.label").evaluate(resolve) == "a"
    assert parse("obj['label']").evaluate(resolve) == "a"
    assert parse("slotted.value").evaluate(resolve) == 1


@pytest.mark.parametrize("code", [int, Tripwire, print, len, sys, resolve, "a".upper, resolve.__code__, Colour])
def test_code_in_the_data_is_never_the_result(code: object) -> None:
    data = {"f": code}
    with pytest.raises(ConditionError, match="code, not data"):
        parse("x.f").evaluate(lambda _: data)
    assert parse("x.f.__name__ ?? x.f.__doc__ ?? x.f.mro").evaluate(lambda _: data) is None
    with pytest.raises(ExpressionError):
        parse("x.f()")


@pytest.mark.parametrize("name", sorted(FUNCTION_NAMES))
@pytest.mark.parametrize("value", ["trip", "obj", "colour", "[trip]", "[obj, obj]", "[colour, 1]"])
def test_functions_do_not_ask_objects(name: str, value: str) -> None:
    for arguments in (value, f"{value}, {value}", f"'a', {value}", f"[1], {value}"):
        attempt(f"{name}({arguments})")


@pytest.mark.parametrize("sign", "== != < <= > >= + - * / % in and or ??".split())  # noqa: SIM905 - reads better
@pytest.mark.parametrize("value", ["trip", "obj", "colour", "[trip]", "[obj, obj]"])
def test_operators_do_not_ask_objects(sign: str, value: str) -> None:
    for other in ("1", "'a'", "[1]", "[1, 2]", "null", "result", "trip", "obj", value):
        attempt(f"{value} {sign} {other}")
        attempt(f"{other} {sign} {value}")


class Shouting(str):
    __slots__ = ()
    upper = __len__ = __eq__ = __add__ = __contains__ = __str__ = __lt__ = recorder("str")
    __hash__ = str.__hash__


class Greedy(dict[str, Any]):
    get = __getitem__ = __missing__ = __contains__ = __len__ = __iter__ = keys = values = recorder("dict")


class Lazy(list[Any]):
    __getitem__ = __len__ = __iter__ = __contains__ = __add__ = __eq__ = recorder("list")
    __hash__ = None  # type: ignore[assignment]


class Odd(int):
    __add__ = __eq__ = __lt__ = __neg__ = __index__ = __bool__ = recorder("int")
    __hash__ = int.__hash__


def test_subclasses_of_plain_types_are_read_as_the_plain_type() -> None:
    data: dict[str, Any] = {"s": Shouting("abc"), "d": Greedy(a=1), "l": Lazy([1, 2]), "n": Odd(3)}
    expected = {
        "s == 'abc'": True,
        "s + 'd'": "abcd",
        "s < 'b'": True,
        "'b' in s": True,
        "upper(s)": "ABC",
        "s.length": 3,
        "str(s)": "abc",
        "!s": False,
        "d.a": 1,
        "d.b": None,
        "'a' in d": True,
        "d.length": 1,
        "keys(d)": ["a"],
        "values(d)": [1],
        "d && 1": 1,
        "l[1]": 2,
        "l[-1]": 2,
        "l.length": 2,
        "2 in l": True,
        "l + [3]": [1, 2, 3],
        "l == [1, 2]": True,
        "sum(l)": 3,
        "max(l)": 2,
        "n + 1": 4,
        "n == 3": True,
        "n < 4": True,
        "-n": -3,
        "[5, 6, 7, 8][n]": 8,
        "n ? 1 : 2": 1,
    }
    for source, value in expected.items():
        assert parse(source).evaluate(lambda reference: data[reference.name]) == value, source


def test_a_default_dict_is_not_filled_by_reading() -> None:
    class Filling(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            raise AssertionError(key)

    assert parse("x.a.b ?? x['c'] ?? ('d' in x)").evaluate(lambda _: Filling()) is False


@pytest.mark.parametrize("source", ["x + x", "x + 'a'", "upper(x)", "lower(x)"])
def test_a_long_text_is_not_produced(source: str) -> None:
    with pytest.raises(ConditionError, match=f"more than {MAX_SIZE}"):
        parse(source).evaluate(lambda _: "ß" * (MAX_SIZE + 1))
    with pytest.raises(ConditionError, match=f"more than {MAX_SIZE}"):
        parse("x + x").evaluate(lambda _: [0] * (MAX_SIZE // 2 + 1))
    with pytest.raises(ConditionError, match=f"more than {MAX_SIZE}"):
        parse("upper(x)").evaluate(lambda _: "ß" * (MAX_SIZE // 2 + 1))


@pytest.mark.parametrize(
    "source",
    [
        "sum(x) + " * 300 + "1",
        "[" + ", ".join(["x + x"] * 200) + "]",
        "-1 in x || " * 150 + "1",
        "x == y && " * 150 + "1",
        "max(x) < min(x) || " * 100 + "1",
        "any(x) && all(y) && " * 100 + "1",
        "keys(z) == values(z) || " * 100 + "1",
    ],
)
def test_work_on_large_values_is_bounded(source: str) -> None:
    data = {"x": [*range(1, 50_000)], "y": [*range(1, 50_000)], "z": {str(n): n for n in range(50_000)}}
    started = time.perf_counter()
    with pytest.raises(ConditionError, match="too much work"):
        parse(source).evaluate(lambda reference: data[reference.name])
    assert time.perf_counter() - started < 5


def test_the_deepest_expressions_need_little_of_the_stack() -> None:
    sources = [
        "(" * 50 + "1" + ")" * 50,
        "1+(" * 50 + "1" + ")" * 50,
        "len([" * 24 + "[1]" + "])" * 24,
        "[" * 50 + "1" + "]" * 50,
        "a" + "[a" * 50 + "]" * 50,
        "-" * 119 + "1",
        "!" * 119 + "1",
        "1?2:" * 119 + "3",
        "(a*b+c==d&&e||f?" * 50 + "1" + ":2)" * 50,
        "(" * 20 + "1" + "*1+1==1&&1||1)" * 20,
        "a" + ".b" * 900,
        "+".join(["1"] * 500),
        "&&".join(["1"] * 500),
    ]

    depth, frame = 0, sys._getframe()
    while frame:
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 500)
    try:
        for source in sources:
            parse(source).evaluate(lambda _: 1)
    finally:
        sys.setrecursionlimit(before)


# -- random text ------------------------------------------------------------------------------------------------

TOKENS = """
    result input context _outputs _inputs a b obj trip slotted colour load-user len min max sum str keys values upper
    true false null None undefined 0 1 2 2.5 1e3 .5 'a' "b" 'a.b' . ?. [ ] ( ) , ? : ?? && || ! and or not in == != ===
    !== < <= > >= + - * / % = => { } ` ; \\ __class__ __init__ length eval constructor lambda @ # $ ' "
""".split()  # noqa: SIM905 - a list of this length is not read one per line


@given(st.text(max_size=200))
def test_any_text_is_refused_cleanly_or_harmless(source: str) -> None:
    attempt(source)


@given(st.lists(st.sampled_from(TOKENS), max_size=40), st.sampled_from(["", " "]))
def test_any_soup_of_tokens_is_refused_cleanly_or_harmless(tokens: list[str], space: str) -> None:
    attempt(space.join(tokens))


@given(st.binary(max_size=100))
def test_any_bytes_as_text_are_refused_cleanly_or_harmless(data: bytes) -> None:
    attempt(data.decode("latin-1"))


@given(st.text(max_size=60), st.frozensets(st.text(max_size=8), max_size=8))
def test_any_node_ids_are_harmless(source: str, names: frozenset[str]) -> None:
    for text in (source, " + ".join(names), "_outputs." + source):
        with suppress(ExpressionError):
            assert all(type(reference.name) is str for reference in parse(text, names=names).references)


@given(
    st.integers(0, 5_000), st.sampled_from([*"()[]!-+.?:'\"a1 ", "len(", "a.", "a[", "1+", "not ", "1?", "?.", "\\"])
)
def test_any_repetition_takes_little_time(count: int, piece: str) -> None:
    attempt(piece * count)
    attempt("a" + piece * count)
