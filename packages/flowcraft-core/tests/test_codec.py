"""The codec keeps values exactly, or refuses them with the place and a remedy."""

from __future__ import annotations

import enum
import json
import math
import sys
from collections import OrderedDict
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowcraft.codec import MAX_DEPTH, JsonCodec
from flowcraft.errors import DefinitionError, Misconfigured, PayloadTooLarge, SerializationError


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True, slots=True)
class Item:
    sku: str
    price: Decimal
    tags: tuple[str, ...] = ()


@dataclass
class Order:
    id: int
    items: list[Item]
    color: Color = Color.RED
    notes: dict[str, Any] = field(default_factory=dict)
    total: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.total = len(self.items)


@dataclass
class Node:
    next: Any = None


@dataclass
class Early:
    late: Late | None = None


@dataclass
class Late:
    n: int = 0


NAIVE = datetime.fromisoformat("2024-02-29T01:02:03.000004")
CODEC = JsonCodec(types=[Order, Level, Rights, Node, Early])


def same(left: Any, right: Any) -> bool:
    """Equal in value and type, all the way down; -0.0 is not 0.0, dicts have an order."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left.hex() == right.hex()
    if isinstance(left, Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, datetime):
        return left == right and left.utcoffset() == right.utcoffset()
    return bool(left == right)


def refused(value: object, path: str, *words: str, codec: JsonCodec = CODEC) -> None:
    for call in (codec.encode, codec.snapshot):
        with pytest.raises(SerializationError) as caught:
            call(value)
        assert caught.value.path == path
        assert path in str(caught.value)
        for word in words:
            assert word in str(caught.value)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
keys = st.one_of(texts, st.sampled_from(["$fc:dict", "$fc:bytes", "$fc:", "$fc:x", "$fc", "$fc:tuple", "$fc:data"]))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3).map(lambda n: n << 4000),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.binary(max_size=8),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.datetimes(timezones=st.timezones()),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.sampled_from([*Color, *Level, Rights.READ, Rights.READ | Rights.WRITE, Rights(0)]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.builds(Item, texts, st.just(Decimal("1.10"))),
        st.builds(Node, inner),
    ),
    max_leaves=12,
)


@given(values)
@example({"$fc:dict": {"$fc:dict": 1}})
@example({"$fc:bytes": "AA=="})
@example({"$fc:bytes": [{"$fc:x": ({},)}]})
@example([{"$fc:data": ["Item", {}]}])
@example("\x00")
@example({"\x00": ["\x00", "\u2028", "\x7f", "\U0001f600"]})
def test_round_trip_is_exact(value: object) -> None:
    data = CODEC.encode(value)
    assert same(CODEC.decode(data), value)
    assert same(CODEC.snapshot(value), value)
    assert CODEC.encode(CODEC.decode(data)) == data
    assert b"\x00" not in data
    json.loads(data)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1.0, True, None, "ä"]}, '{"b":1,"a":[1.0,true,null,"ä"]}'),
        (1e22, "1e+22"),
        (-0.0, "-0.0"),
        (10**300, "1" + "0" * 300),
        ("a\x00b", '"a\\u0000b"'),
        (b"\x00\xff", '{"$fc:bytes":"AP8="}'),
        ((1, "x"), '{"$fc:tuple":[1,"x"]}'),
        ({"$fc:bytes": "AP8="}, '{"$fc:dict":{"$fc:bytes":"AP8="}}'),
        ({"$fc:bytes": "x", "more": 1}, '{"$fc:bytes":"x","more":1}'),
        (Decimal("1.10"), '{"$fc:decimal":"1.10"}'),
        (UUID(int=7), '{"$fc:uuid":"00000000-0000-0000-0000-000000000007"}'),
        (date(2024, 2, 29), '{"$fc:date":"2024-02-29"}'),
        (NAIVE, '{"$fc:datetime":"2024-02-29T01:02:03.000004"}'),
        (datetime(2024, 2, 29, tzinfo=UTC), '{"$fc:datetime":"2024-02-29T00:00:00+00:00"}'),
        (
            datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Paris")),
            '{"$fc:datetime":"2024-07-01T00:00:00+02:00[Europe/Paris]"}',
        ),
        (timedelta(days=-1, microseconds=5), '{"$fc:timedelta":[-1,0,5]}'),
        (Color.RED, '{"$fc:enum":["Color","RED"]}'),
        (Late(3), '{"$fc:data":["Late",{"n":3}]}'),
        (Rights.READ | Rights.WRITE, '{"$fc:enum":["Rights",3]}'),
    ],
)
def test_the_text_is_stable(value: object, text: str) -> None:
    assert CODEC.encode(value).decode() == text
    assert same(CODEC.decode(text.encode()), value)


@pytest.mark.parametrize("value", [1e22, 1.0, 5e-324, sys.float_info.max, 1e16, -0.0])
def test_floats_stay_floats(value: float) -> None:
    assert same(CODEC.decode(CODEC.encode([value])), [value])


@pytest.mark.parametrize("value", [10**640, -(10**5000), 2**2048, 2**2048 - 1, -(2**2048)], ids=range(5))
def test_wide_ints_do_not_depend_on_the_digit_limit(value: int) -> None:
    written = CODEC.encode({"n": value})  # by a process with the usual limit
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert same(CODEC.decode(CODEC.encode([value])), [value])
        assert same(CODEC.snapshot(value), value)
        assert same(CODEC.decode(written), {"n": value})
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("hour", [(2024, 10, 27, 2, 30), (2024, 3, 31, 2, 30), (2024, 6, 1, 12, 0)])
def test_zones_keep_their_rules_in_folds_and_gaps(hour: tuple[int, int, int, int, int], fold: int) -> None:
    value = datetime(*hour, fold=fold, tzinfo=ZoneInfo("Europe/Paris"))
    found = CODEC.decode(CODEC.encode(value))
    assert isinstance(found, datetime)
    assert found.tzinfo is value.tzinfo
    assert (found, found.utcoffset()) == (value, value.utcoffset())


def test_other_zones_become_their_offset() -> None:
    class Odd(tzinfo):
        def utcoffset(self, when: datetime | None) -> timedelta | None:
            return timedelta(hours=3)

        def dst(self, when: datetime | None) -> timedelta | None:
            return None

    class Empty(Odd):
        def utcoffset(self, when: datetime | None) -> timedelta | None:
            return None

    found = CODEC.decode(CODEC.encode(datetime(2024, 1, 1, tzinfo=Odd())))
    assert isinstance(found, datetime)
    assert found.isoformat() == "2024-01-01T00:00:00+03:00"
    assert found.tzinfo == timezone(timedelta(hours=3))
    refused([datetime(2024, 1, 1, tzinfo=Empty())], "$[0]", "offset")


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Unregistered(enum.Enum):
    A = 1


@dataclass
class Stranger:
    n: int = 0


@dataclass(frozen=True)
class ItemChild(Item):
    pass


class Pair(NamedTuple):
    a: int
    b: int


@pytest.mark.parametrize(
    ("value", "path", "word"),
    [
        (math.nan, "$", "NaN"),
        ({"items": [0, {"x": math.inf}]}, "$.items[1].x", "infinit"),
        ([Decimal("NaN")], "$[0]", "NaN"),
        ({"a": [Decimal("-Infinity")]}, "$.a[0]", "infinite"),
        ("\ud800", "$", "surrogate"),
        ({"a": ["ok", "x\udfff"]}, "$.a[1]", "surrogate"),
        ({"a": {"\ud800": 1}}, "$.a", "surrogate"),
        ({"a b": {1: 2}}, "$['a b']", "key of type int"),
        ({"a": {None: 2}}, "$.a", "key of type NoneType"),
        ({"a": {True: 2}}, "$.a", "key of type bool"),
        ({"a": {1.5: 2}}, "$.a", "key of type float"),
        ({Text("a"): 1}, "$", "Text"),
        ({Color.RED: 1}, "$", "Color"),
        ([Text("a")], "$[0]", "str(...)"),
        ([Number(1)], "$[0]", "int(...)"),
        ([Pair(1, 2)], "$[0]", "tuple(...)"),
        (OrderedDict(a=1), "$", "dict(...)"),
        ({"s": {1}}, "$.s", "list(...)"),
        (frozenset(), "$", "list(...)"),
        (bytearray(b"x"), "$", "bytes(...)"),
        (memoryview(b"x"), "$", "bytes(...)"),
        ([Stranger()], "$[0]", "register"),
        ([Unregistered.A], "$[0]", "register"),
        ([ItemChild("a", Decimal(1))], "$[0]", "register"),
        ((1, [len]), "$[1][0]", "builtin_function"),
        (Order(1, [Item("a", Decimal(1), (object(),))]), "$.items[0].tags[0]", "object"),  # type: ignore[arg-type]
        ({"t": time(1)}, "$.t", "time"),
        (Item, "$", "type"),
        (1j, "$", "complex"),
        (range(3), "$", "range"),
        (ValueError("x"), "$", "ValueError"),
    ],
)
def test_what_would_change_is_refused_with_its_path(value: object, path: str, word: str) -> None:
    refused(value, path, word)
    refused([{"k": value}], "$[0].k" + path[1:], word)


def test_cycles_are_refused_quickly_and_shared_parts_are_not() -> None:
    items: list[object] = []
    items.extend([items] * 50)
    refused(items, "$[0]", "contains itself")
    table: dict[str, object] = {}
    table["self"] = [table]
    refused(table, "$.self[0]", "contains itself")
    node = Node()
    node.next = {"a": node}
    refused(node, "$.next.a", "contains itself")
    shared = ["x"]
    assert CODEC.decode(CODEC.encode([shared, (shared,), shared])) == [["x"], (["x"],), ["x"]]


def nested(depth: int, wrap: Any) -> object:
    value: object = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: {"a": v}, lambda v: (v,), Node, lambda v: {"$fc:x": v}], ids=range(5)
)
def test_depth_is_limited_the_same_both_ways(wrap: Any) -> None:
    deepest = nested(MAX_DEPTH, wrap)
    data = CODEC.encode(deepest)
    assert CODEC.encode(CODEC.decode(data)) == data
    for depth in (MAX_DEPTH + 1, 5_000):
        with pytest.raises(SerializationError, match="nested deeper"):
            CODEC.encode(nested(depth, wrap))
    # the same text with one level more, made by hand
    marker = JsonCodec(types=[Node]).encode(wrap("MARK")).decode()
    with pytest.raises(SerializationError, match="nested deeper"):
        CODEC.decode(marker.replace('"MARK"', data.decode()).encode())


def test_a_tagged_scalar_is_not_a_level() -> None:
    value = nested(MAX_DEPTH - 1, lambda v: [v])
    leaf: Any = value
    while isinstance(leaf[0], list):
        leaf = leaf[0]
    leaf[0] = [b"x", Color.RED]
    assert CODEC.decode(CODEC.encode(value)) == value


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 500 + b"]" * 500], ids=range(3))
def test_deep_text_is_no_recursion_error(data: bytes) -> None:
    with pytest.raises(SerializationError):
        CODEC.decode(data)


def test_a_short_stack_is_no_recursion_error() -> None:
    deep = nested(MAX_DEPTH, Node)
    data = CODEC.encode(deep)

    def under(left: int, call: Any) -> None:
        if left:
            under(left - 1, call)
        else:
            call()

    used = len(__import__("inspect").stack())
    for call in (lambda: CODEC.encode(deep), lambda: CODEC.decode(data)):
        with pytest.raises(SerializationError):
            under(sys.getrecursionlimit() - used - 100, call)


def test_the_size_limit_holds_both_ways() -> None:
    codec = JsonCodec(max_bytes=100)
    assert codec.decode(codec.encode("x" * 98)) == "x" * 98
    assert codec.snapshot("x" * 98) == "x" * 98
    for value in ("x" * 99, ["x" * 97], "\x00" * 17, "ä" * 50, b"x" * 80, {"x" * 97: 1}, 1 << 2100):
        for call in (codec.encode, codec.snapshot):
            with pytest.raises(PayloadTooLarge, match=r"takes (at least )?1?\d\d\d? bytes.*limit is 100"):
                call(value)
    with pytest.raises(PayloadTooLarge, match="takes 101 bytes as JSON text, the limit is 100"):
        codec.decode(b'"' + b"x" * 99 + b'"')
    with pytest.raises(ValueError, match="at least 32"):
        JsonCodec(max_bytes=10)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("wrap", [lambda v: [v, v], lambda v: {"a": v, "b": v}, lambda v: (v, v)], ids=range(3))
def test_shared_references_cannot_blow_the_text_up(wrap: Any) -> None:
    with pytest.raises(PayloadTooLarge, match="at least"):
        CODEC.encode(nested(90, wrap))
    for leaf in ("x" * 1000, b"x" * 1000, {"k" * 1000: 1}):
        with pytest.raises(PayloadTooLarge, match="at least"):
            CODEC.encode(wrap([leaf] * 200_000))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"nope", b"{", b"[1,]", b"1 2", b"NaN", b"[Infinity]", b"-Infinity", b"1e400", b"[-1e999]", b"9" * 5000,
        b"\xff", b"\xef\xbb\xbf1", b'"\xed\xa0\x80"', b'"\\ud800"', b'{"\\udfff":1}', b'[{"a":["\\uD800x"]}]',
        b'"a\x00b"', b"1" + b"0" * 400 + b".0",
    ],
    ids=lambda data: ascii(data[:20]),
)  # fmt: skip
def test_invalid_text_is_refused(data: bytes) -> None:
    with pytest.raises(SerializationError):
        CODEC.decode(data)


@pytest.mark.parametrize("data", ["{}", None, 5, [1]])
def test_only_bytes_are_decoded(data: Any) -> None:
    with pytest.raises(SerializationError, match="bytes"):
        CODEC.decode(data)


@pytest.mark.parametrize(
    ("text", "path", "word"),
    [
        ('[{"$fc:new":1}]', "$[0]", "$fc:new"),
        ('[{"\\u0024fc:new":1}]', "$[0]", "$fc:new"),
        ('{"a":{"$fc:data":["os.system",{}]}}', "$.a", "os.system"),
        ('{"$fc:enum":["Nope","A"]}', "$", "Nope"),
        ('{"$fc:enum":["Color","GREEN"]}', "$", "GREEN"),
        ('{"$fc:enum":["Color","__class__"]}', "$", "__class__"),
        ('{"$fc:enum":["Rights",64]}', "$", "64"),
        ('{"$fc:enum":["Color",["RED"]]}', "$", "Color"),
        ('{"$fc:data":["Color",{}]}', "$", "another kind"),
        ('{"$fc:enum":["Item","x"]}', "$", "another kind"),
        ('{"$fc:data":["Item",{"sku":"a"}]}', "$", "'price'"),
        ('{"$fc:data":["Item",{"sku":"a","price":1,"colour":2}]}', "$", "'colour'"),
        ('{"$fc:data":["Item",7]}', "$", ""),
        ('{"$fc:data":["Item"]}', "$", ""),
        ('{"$fc:data":"Item"}', "$", ""),
        ('{"$fc:data":[["Item"],{}]}', "$", ""),
        ('{"$fc:data":null}', "$", ""),
        ('{"$fc:model":["Item",{"sku":"a","price":1}]}', "$", "another kind"),
        ('{"$fc:dump":["Item",{}]}', "$", "another kind"),
        ('{"$fc:tuple":7}', "$", "$fc:tuple"),
        ('{"$fc:tuple":{"a":1}}', "$", "$fc:tuple"),
        ('{"$fc:dict":[1]}', "$", "$fc:dict"),
        ('{"$fc:bytes":"A"}', "$", "$fc:bytes"),
        ('{"$fc:bytes":"AA ==\\n"}', "$", "$fc:bytes"),
        ('{"$fc:bytes":5}', "$", "$fc:bytes"),
        ('{"$fc:datetime":"soon"}', "$", "$fc:datetime"),
        ('{"$fc:datetime":"2024-01-01T00:00:00[Europe/Paris]"}', "$", "$fc:datetime"),
        ('{"$fc:datetime":"2024-01-01T00:00:00+01:00[No/Where]"}', "$", "$fc:datetime"),
        ('{"$fc:datetime":"2024-01-01T00:00:00+01:00[../../etc/x]"}', "$", "$fc:datetime"),
        ('{"$fc:date":[]}', "$", "$fc:date"),
        ('{"$fc:timedelta":[1]}', "$", "$fc:timedelta"),
        ('{"$fc:decimal":"NaN"}', "$", "NaN"),
        ('{"$fc:decimal":"x"}', "$", "$fc:decimal"),
        ('{"$fc:uuid":"x"}', "$", "$fc:uuid"),
        ('{"$fc:int":"xyz"}', "$", "$fc:int"),
        ('[1,{"$fc:tuple":[{"a":{"$fc:date":0}}]}]', "$[1][0].a", "$fc:date"),
    ],
)
def test_foreign_tags_are_refused(text: str, path: str, word: str) -> None:
    with pytest.raises(SerializationError) as caught:
        CODEC.decode(text.encode())
    assert caught.value.path == path
    assert word in str(caught.value)


@given(st.recursive(
    st.none() | st.integers() | texts, lambda v: st.lists(v, max_size=3) | st.dictionaries(keys | st.sampled_from(
        ["$fc:datetime", "$fc:date", "$fc:enum", "$fc:int", "$fc:uuid", "$fc:timedelta", "$fc:decimal", "$fc:model"]
    ), v, max_size=2) | st.tuples(st.sampled_from(["Item", "Color", "Node"]), v).map(list)
))  # fmt: skip
def test_decoding_any_json_gives_a_value_or_the_typed_error(tree: object) -> None:
    data = json.dumps(tree).encode()
    try:
        value = CODEC.decode(data)
    except SerializationError:
        return
    assert same(CODEC.decode(CODEC.encode(value)), value)


@given(st.binary(max_size=30))
def test_decoding_any_bytes_gives_a_value_or_the_typed_error(data: bytes) -> None:
    """Misconfigured: it begins as what another codec stored does."""
    with suppress(SerializationError):
        try:
            CODEC.decode(data)
        except Misconfigured:
            assert (data[:1], data[2:3]) == (b"\xfc", b"\x01")


def test_decoded_values_are_new() -> None:
    value: dict[str, Any] = {"a": [1]}
    found: Any = CODEC.snapshot(value)
    found["a"].append(2)
    assert value == {"a": [1]}


@pytest.mark.parametrize("value", [None, True, False, 0, -(2**63), 2**63 - 1, 1.5, "", "x", "grün"])
def test_simple_scalars_skip_the_bytes(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = JsonCodec()
    monkeypatch.setattr(codec, "encode", lambda value: pytest.fail("went through the bytes"))
    assert codec.snapshot(value) is value


# Registered classes


def test_dataclasses_come_back_exactly() -> None:
    order = Order(1, [Item("a", Decimal("1.0"), ("x",))], Color.BLUE, {"$fc:x": b"1"})
    order.total = 99  # not what __post_init__ computes
    found = CODEC.decode(CODEC.encode(order))
    assert found == order
    assert isinstance(found, Order)
    assert found.total == 99


def test_a_constructor_that_changes_its_input_changes_nothing() -> None:
    @dataclass(frozen=True, slots=True)
    class Cents:
        amount: int

        def __post_init__(self) -> None:
            object.__setattr__(self, "amount", self.amount * 100)

    codec = JsonCodec(types=[Cents])
    assert codec.decode(codec.encode(Cents(5))) == Cents(5)


def test_a_missing_field_takes_its_default() -> None:
    data = b'{"$fc:data":["Order",{"id":1,"items":[]}]}'
    assert CODEC.decode(data) == Order(1, [])


def test_a_constructor_that_raises_is_a_serialization_error() -> None:
    @dataclass
    class Picky:
        n: int

        def __post_init__(self) -> None:
            if self.n < 0:
                raise RuntimeError("no")

    codec = JsonCodec()
    codec.register(Picky, name="Picky")
    with pytest.raises(SerializationError, match="RuntimeError") as caught:
        codec.decode(b'[{"$fc:data":["Picky",{"n":-1}]}]')
    assert caught.value.path == "$[0]"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_unset_field_is_refused() -> None:
    @dataclass
    class Half:
        n: int = field(init=False)

    refused([Half()], "$[0].n", "no value", codec=JsonCodec(types=[Half]))


def test_names_are_checked_for_collisions() -> None:
    def make() -> type:
        @dataclass
        class Twin:
            n: int = 0

        return Twin

    first, second = make(), make()
    codec = JsonCodec(types=[first, first])
    with pytest.raises(DefinitionError, match="name of its own"):
        codec.register(second)
    codec.register(second, name="second")
    codec.register(second)  # nothing new
    assert type(codec.decode(codec.encode(first()))) is first
    assert type(codec.decode(codec.encode(second()))) is second
    assert b'"second"' in codec.encode(second())


def test_a_renamed_class_reads_its_old_name() -> None:
    codec = JsonCodec(types=[Item])
    old = codec.encode(Item("a", Decimal(1)))
    codec.register(Item, name="shop.Item")
    new = codec.encode(Item("a", Decimal(1)))
    assert b"shop.Item" in new
    assert codec.decode(old) == codec.decode(new)


@pytest.mark.parametrize("cls", [int, object, "Item", None, list[int]])
def test_only_known_kinds_of_classes_are_registered(cls: Any) -> None:
    with pytest.raises(DefinitionError):
        JsonCodec().register(cls)


def test_what_could_not_be_rebuilt_is_not_registered() -> None:
    @dataclass
    class Needs:
        n: int
        secret: InitVar[str]

    with pytest.raises(DefinitionError, match="'secret'"):
        JsonCodec().register(Needs)


def test_annotations_register_what_they_mention() -> None:
    codec = JsonCodec(types=[Order])
    value = [Item("a", Decimal(1)), Color.RED]
    assert codec.decode(codec.encode(value)) == value


def test_a_forward_reference_is_resolved_when_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Parent:
        child: LaterDefined | None = None  # type: ignore[name-defined]

    @dataclass
    class LaterDefined:
        n: int

    codec = JsonCodec()
    codec.register(Parent, name="Parent")
    refused(LaterDefined(1), "$", "register", codec=codec)
    monkeypatch.setitem(globals(), "LaterDefined", LaterDefined)
    value = Parent(LaterDefined(1))
    assert codec.decode(codec.encode(value)) == value
    fresh = JsonCodec()
    fresh.register(Parent, name="Parent")
    assert fresh.decode(codec.encode(value)) == value


def test_model_like_classes_need_only_two_methods() -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

        def model_dump(self) -> dict[str, object]:
            if self.x < 0:
                raise RuntimeError("no dump")
            return {"x": self.x, "at": date(2024, 1, 1)}

        @classmethod
        def model_validate(cls, data: dict[str, Any]) -> Point:
            return cls(data["x"])

    codec = JsonCodec()
    codec.register(Point, name="Point")
    found = codec.decode(codec.encode([Point(3)]))
    assert isinstance(found, list)
    assert (type(found[0]), found[0].x) == (Point, 3)
    refused(Point(-1), "$", "RuntimeError", codec=codec)
    with pytest.raises(SerializationError, match="KeyError"):
        codec.decode(b'{"$fc:dump":["Point",{}]}')


# Pydantic


def test_pydantic_models_come_back_exactly() -> None:
    pydantic = pytest.importorskip(
        "pydantic", reason="the core does not need it: it registers its models if there are any"
    )

    class Inner(pydantic.BaseModel):
        at: datetime
        color: Color = Color.RED

    class Child(Inner):
        more: bytes = b""

    class Outer(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow", frozen=True)
        inner: Inner
        kind: str = pydantic.Field(alias="type")
        type: str = pydantic.Field(alias="kind")
        cls: int = 7
        note: str | None = None
        anything: Any = None

    codec = JsonCodec(types=[Outer, Child])
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    child = Child(at=moment, more=b"x")
    value = Outer.model_validate(
        {"inner": child, "type": "k", "kind": "t", "cls": 3, "anything": (1, moment), "x-y": [b"1"]}
    )
    assert (value.kind, value.type) == ("k", "t")
    found = codec.decode(codec.encode(value))
    assert found == value
    assert isinstance(found, Outer)
    assert type(found.inner) is Child
    assert found.model_fields_set == value.model_fields_set
    assert found.inner.model_fields_set == value.inner.model_fields_set
    assert found.model_extra == {"x-y": [b"1"]}
    assert codec.encode(found) == codec.encode(value)


def test_pydantic_validators_do_not_run_twice() -> None:
    pydantic = pytest.importorskip(
        "pydantic", reason="the core does not need it: it registers its models if there are any"
    )

    class Doubling(pydantic.BaseModel):
        n: Annotated[int, pydantic.AfterValidator(lambda n: n * 2)]

    codec = JsonCodec(types=[Doubling])
    assert codec.decode(codec.encode(Doubling(n=2))).n == 4  # type: ignore[attr-defined]


def test_pydantic_fields_are_checked_and_defaulted() -> None:
    pydantic = pytest.importorskip(
        "pydantic", reason="the core does not need it: it registers its models if there are any"
    )

    class Model(pydantic.BaseModel):
        n: int
        m: list[int] = pydantic.Field(default_factory=list)
        urls: Any = None

    codec = JsonCodec()
    codec.register(Model, name="Model")
    assert codec.decode(b'{"$fc:model":["Model",{"n":1}]}') == Model(n=1)
    for body in ('{"m":[]}', '{"n":1,"z":2}', '{"n":1},[],{"z":2}', "7", '{"n":1},7'):
        with pytest.raises(SerializationError):
            codec.decode(f'{{"$fc:model":["Model",{body}]}}'.encode())
    refused([Model(n=1, urls={1})], "$[0].urls", "set", codec=codec)


def test_pydantic_nested_models_are_registered() -> None:
    pydantic = pytest.importorskip(
        "pydantic", reason="the core does not need it: it registers its models if there are any"
    )

    class Leaf(pydantic.BaseModel):
        n: int

    class Tree(pydantic.RootModel):  # type: ignore[misc, type-arg]
        root: dict[str, list[Leaf | Color]]

    codec = JsonCodec(types=[Tree])
    value = Tree({"a": [Leaf(n=1), Color.RED]})
    assert codec.decode(codec.encode(value)) == value


# Plain data to annotated types

Name = NewType("Name", str)


class Shape(TypedDict):
    n: int


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, int, 1),
        (1, Any, 1),
        (None, None, None),
        (None, int | None, None),
        (5, float, 5.0),
        (5, int | float, 5),
        ("red", Color, Color.RED),
        (Color.RED, Color, Color.RED),
        (2, Level, Level.HIGH),
        ("a", Literal["a", "b"], "a"),
        ("a", Name, "a"),
        ([1], list, [1]),
        ([1], list[float], [1.0]),
        ([1, "a"], tuple[int, str], (1, "a")),
        ([1, 2], tuple[int, ...], (1, 2)),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        ({"n": 1}, Shape, {"n": 1}),
        ("2024-01-01", date, date(2024, 1, 1)),
        ("2024-01-01T00:00:00Z", datetime, datetime(2024, 1, 1, tzinfo=UTC)),
        ("1.10", Decimal, Decimal("1.10")),
        (str(UUID(int=1)), UUID, UUID(int=1)),
        ({"sku": "a", "price": "1.5", "tags": ["x"]}, Item, Item("a", Decimal("1.5"), ("x",))),
        ({"sku": "a", "price": "1.5"}, dict[str, Any] | Item, {"sku": "a", "price": "1.5"}),
        ({"id": 1, "items": [{"sku": "a", "price": 2}]}, Order | None, Order(1, [Item("a", Decimal(2))])),
        ([{"n": 1}], list[Annotated[Late, "x"]], [Late(1)]),
        ("x", "an.unresolved.Name", "x"),
    ],
)
def test_convert(value: object, annotation: object, expected: object) -> None:
    assert same(CODEC.convert(value, annotation), expected)


def test_convert_keeps_instances() -> None:
    item = Item("a", Decimal(1))
    assert CODEC.convert(item, Item) is item
    assert CODEC.convert(item, Item | None) is item


@pytest.mark.parametrize(
    ("value", "annotation", "path", "word"),
    [
        ("x", int, "$", "expected int, got str"),
        (1, str, "$", "expected str, got int"),
        (1.5, int, "$", "expected int, got float"),
        (10**400, float, "$", "float"),
        (None, int, "$", "expected int, got NoneType"),
        (1, None, "$", "NoneType"),
        ("green", Color, "$", "Color"),
        ("c", Literal["a", "b"], "$", "Literal"),
        ({"a": ["x"]}, dict[str, list[int]], "$.a[0]", "expected int"),
        ([1], dict[str, int], "$", "expected dict"),
        ({}, list[int], "$", "expected list"),
        ([1], tuple[int, str], "$", "tuple"),
        ("soon", date, "$", "expected datetime.date"),
        ("NaN", Decimal, "$", "NaN"),
        ({"sku": "a"}, Item, "$", "'price'"),
        ({"sku": "a", "price": "1", "z": 1}, Item, "$", "'z'"),
        ({"id": 1, "items": [{"sku": 5, "price": "1"}]}, Order | None, "$.items[0].sku", "expected str, got int"),
        ([1], int | str, "$", "int | str"),
        ("x", Item, "$", "Item"),
    ],
)
def test_convert_names_the_mismatch(value: object, annotation: object, path: str, word: str) -> None:
    with pytest.raises(SerializationError) as caught:
        CODEC.convert(value, annotation)
    assert caught.value.path == path
    assert word in str(caught.value)


def test_convert_validates_models() -> None:
    pydantic = pytest.importorskip(
        "pydantic", reason="the core does not need it: it registers its models if there are any"
    )

    class Model(pydantic.BaseModel):
        n: int

    assert CODEC.convert([{"n": "3"}], list[Model]) == [Model(n=3)]
    with pytest.raises(SerializationError) as caught:
        CODEC.convert([{"n": "x"}], list[Model])
    assert caught.value.path == "$[0]"
    assert isinstance(caught.value.__cause__, ValueError)
