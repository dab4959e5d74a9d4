"""The head's bytes: back exactly, small at every moment, and garbage is always told as such."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft import Blueprint, Edge, Node, Retry
from flowcraft.engine.draft import MISSING, Draft
from flowcraft.engine.head import ACTIVE, OPEN, VOID, Activation, Failure, Head
from flowcraft.engine.headbytes import SCHEMA, decode_head, encode_head
from flowcraft.engine.transition import Cancel, Completed, Failed, Parked, Resent, Visit, apply, fresh_head, seal, start
from flowcraft.errors import SerializationError
from flowcraft.graph import Graph, compile_graph
from flowcraft.model import ErrorInfo

LIMIT = 256 * 1024


def plain(head: Head) -> dict[str, Any]:
    """A head as comparable data; activations are equal by what they say."""
    row = {field.name: getattr(head, field.name) for field in dataclasses.fields(head)}
    return row | {"active": {n: dataclasses.astuple(a) for n, a in head.active.items()}}


times = st.floats(0, 1e11)
whole = st.integers(0, 2**40)
nonces = st.text("0123456789abcdef", max_size=16)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@st.composite
def heads(draw: st.DrawFn) -> Head:
    nodes, edges = draw(st.integers(0, 40)), draw(st.integers(0, 60))
    some = st.integers(0, max(nodes - 1, 0))
    numbers = st.dictionaries(some, whole, max_size=5)
    pairs = st.lists(st.tuples(some, whole), max_size=3).map(tuple)
    activation = st.builds(Activation, nonces, times, whole, whole, whole, times, st.integers(-1, 50), pairs, texts)
    shared = draw(st.lists(activation, min_size=1, max_size=4))
    states = bytearray(draw(st.lists(st.integers(0, OPEN), min_size=nodes, max_size=nodes)))
    return Head(
        states=states,
        marks=bytearray(draw(st.lists(st.integers(0, VOID), min_size=edges, max_size=edges))),
        phase=draw(st.sampled_from(["running", "failing", "cancelling", "completed", "failed", "cancelled"])),
        epoch=draw(whole),
        seq=draw(whole),
        wake_at=draw(st.none() | times),
        deadline=draw(st.none() | times),
        started_at=draw(times),
        cause=draw(texts),
        tokens=draw(st.lists(nonces, max_size=4)),
        active={n: draw(st.sampled_from(shared)) for n, state in enumerate(states) if state in ACTIVE},
        visits=draw(numbers),
        outputs=draw(numbers),
        last=draw(numbers),
        wins=draw(st.dictionaries(some, st.lists(whole, max_size=3).map(tuple), max_size=3)),
        mark_visits=draw(numbers),
        rounds=draw(numbers),
        fallbacks=draw(st.dictionaries(some, st.dictionaries(some, st.booleans(), min_size=1, max_size=3), max_size=3)),
        brought=draw(numbers),
        choosers=draw(st.dictionaries(some, st.lists(st.tuples(some, whole), max_size=3), max_size=3)),
        ordinary=draw(numbers),
        failures=draw(st.lists(st.builds(Failure, some, pairs, st.integers(-1, 3)), max_size=3)),
        logged=draw(st.lists(whole, max_size=5)),
    )


@given(heads())
def test_a_head_comes_back_as_it_was(head: Head) -> None:
    again = decode_head(encode_head(head))
    assert plain(again) == plain(head)
    assert type(again.states) is bytearray
    assert type(again.marks) is bytearray
    assert plain(decode_head(encode_head(again))) == plain(head)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 65_535, 65_536, 70_001])
def test_any_number_of_nodes_and_edges(size: int) -> None:
    states, marks = bytearray(size), bytearray(size)
    for n in range(size):
        states[n], marks[n] = n % (OPEN + 1), n % (VOID + 1)
    late = {size - 1: Activation("n", 1.0)} if size else {}
    head = Head(states=states, marks=marks, active=late)
    same = plain(decode_head(encode_head(head))) == plain(head)
    assert same, "not compared in the assertion: its report of so long a difference takes minutes"


def test_activations_that_are_shared_stay_so() -> None:
    one, other = Activation("n", 1.0), Activation("n", 1.0)
    head = Head(states=bytearray([1] * 4), marks=bytearray(), active={0: one, 1: other, 2: one, 3: one})
    active = decode_head(encode_head(head)).active
    assert active[0] is active[2] is active[3]


# What cannot be read.


def header(**changes: Any) -> bytes:
    row = {"n": 2, "e": 1, "a": [], "p": "running", "o": 1, "s": 0, "w": None, "d": None, "b": 0.0, "t": []} | changes
    text = json.dumps(row).encode()
    return bytes([SCHEMA]) + len(text).to_bytes(4, "little") + text


REST = b"\x11\x00"  # two nodes, one edge
ONE = [1, "n", 0, 1, 1, 0, 0, -1, [], ""]


def test_the_garbage_below_is_next_to_good_heads() -> None:
    assert decode_head(header() + REST).states == bytearray([1, 1])
    assert list(decode_head(header(a=[ONE]) + REST + b"\x01\x00").active) == [1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        bytes([SCHEMA]),
        bytes([SCHEMA + 1]) + header()[1:] + REST,
        bytes([SCHEMA]) + b"\xff\xff\xff\xff{}",
        bytes([SCHEMA]) + b"\x02\x00\x00\x00[]",
        bytes([SCHEMA]) + b"\x04\x00\x00\x00null",
        bytes([SCHEMA]) + b"\x04\x00\x00\x00\xff\xff\xff\xff",
        header(n="2") + REST,
        header(n=-5) + REST,
        header(n=2.0) + REST,
        header(f={"1": 5}) + REST,
        header(x=[[1, [[1]]]]) + REST,
        header(v={"x": 1}) + REST,
        header(a=[[1]]) + REST,
        header(a=5) + REST,
        header() + REST + b"\x01",
    ],
)
def test_garbage(data: bytes) -> None:
    with pytest.raises(SerializationError):
        decode_head(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(header(i=[1]) + REST, id="a list of wins"),
        pytest.param(header(v=[1]) + REST, id="a list of visits"),
        pytest.param(header(a=[[*ONE[:8], [[float("inf"), 1]], ""]]) + REST + b"\0\0", id="an infinite node"),
        pytest.param(header(), id="cut before the states"),
        pytest.param(header(n=10**9) + REST, id="fewer states than nodes"),
        pytest.param(header() + REST + b"\0\0", id="members without an activation"),
        pytest.param(header(a=[[5, *ONE[1:]]]) + REST + b"\0\0", id="an activation without its members"),
        pytest.param(header(a=[ONE]) + REST + b"\xff\0", id="an active node that does not exist"),
        pytest.param(header() + b"\xff\x00", id="a state that does not exist"),
        pytest.param(header() + b"\x11\x09", id="a mark that does not exist"),
        pytest.param(header(p=5) + REST, id="a phase that does not exist"),
        pytest.param(header(a=[[1, "n", 0, "x", *ONE[4:]]]) + REST + b"\0\0", id="a visit that is no number"),
        pytest.param(header(v={"1": float("inf")}) + REST, id="an infinite number"),
    ],
)
def test_garbage_that_looks_like_a_head(data: bytes) -> None:
    with pytest.raises(SerializationError):
        decode_head(data)


@given(st.binary(max_size=80))
def test_random_bytes_are_no_head(data: bytes) -> None:
    with pytest.raises(SerializationError):
        decode_head(data)
    with pytest.raises(SerializationError):
        decode_head(bytes([SCHEMA]) + data)


@given(heads(), st.data())
def test_a_cut_head_is_no_other_head(head: Head, data: st.DataObject) -> None:
    whole_head = encode_head(head)
    start = 5 + int.from_bytes(whole_head[1:5], "little")
    cut = whole_head[: data.draw(st.integers(0, start - 1))]
    with pytest.raises(SerializationError):
        decode_head(cut)


# Sizes.


class Driver:
    """A stored run: every step is committed and encoded on its own."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.now = 1_700_000_000.123456
        self.steps = 0
        self.head = fresh_head(graph, self.now)
        self.draft = Draft(
            graph, self.head, read=lambda _: MISSING, decode=lambda cell: cell, encode=lambda _: b"", record=False
        )
        self.largest = 0

    def commit(self, *events: Any, look: bool = True) -> None:
        self.steps += 1
        self.now += 0.001234
        self.draft.begin(f"{self.steps * 0x9E3779B97F4A7C15 % 2**64:016x}", self.now)
        if events:
            for event in events:
                apply(self.draft, event)
        else:
            start(self.draft, None, {})
        seal(self.draft)
        if look:
            self.largest = max(self.largest, len(encode_head(self.head)))

    def visit(self, node: int) -> Visit:
        active = self.head.active[node]
        return Visit(node, active.nonce, active.visit, active.attempt)


def chain(size: int) -> Graph:
    nodes = tuple(Node(f"n{i}", "f") for i in range(size))
    return compile_graph(Blueprint("chain", nodes, tuple(Edge(f"n{i}", f"n{i + 1}") for i in range(size - 1))))


def fan(size: int, **options: Any) -> Graph:
    """s -> size nodes -> e."""
    middle = [f"n{i}" for i in range(size)]
    nodes = Node("s", "f"), *(Node(name, "f", **options) for name in middle), Node("e", "f")
    edges = (*(Edge("s", name) for name in middle), *(Edge(name, "e") for name in middle))
    return compile_graph(Blueprint("fan", nodes, edges))


def test_a_settled_node_of_a_chain_costs_a_byte() -> None:
    sizes = []
    for size in (1000, 3000):
        driver = Driver(chain(size))
        driver.commit()
        for node in range(size):
            driver.commit(Completed(driver.visit(node), None), look=node % 50 == 0 or node == size - 1)
        assert driver.head.terminal
        sizes.append((driver.largest, len(encode_head(driver.head))))
    (small_most, small_end), (large_most, large_end) = sizes
    assert (large_end - small_end) / 2000 <= 1.01
    assert (large_most - small_most) / 2000 <= 1.01
    assert small_end - 1000 < 1000, "and what does not grow is small"


SIZE = 10_000


def test_a_wide_run_stays_small_while_it_goes_well() -> None:
    driver = Driver(fan(SIZE))
    driver.commit()
    driver.commit(Completed(driver.visit(0), None))
    for node in range(1, SIZE + 1):
        driver.commit(Completed(driver.visit(node), None), look=node % 500 == 0)
    driver.commit(Completed(driver.visit(SIZE + 1), None))
    assert driver.head.terminal
    assert driver.largest < LIMIT
    assert len(encode_head(driver.head)) < 1.7 * SIZE, "a node and two edges"


@pytest.mark.parametrize("trouble", ["failing", "retrying", "cancelling", "re-sent", "parked"])
def test_a_wide_run_stays_small_in_trouble(trouble: str) -> None:
    driver = Driver(fan(SIZE, retry=Retry(attempts=2, delay=60.0) if trouble == "retrying" else Retry()))
    driver.commit()
    driver.commit(Completed(driver.visit(0), None))
    if trouble == "cancelling":
        driver.commit(Cancel("enough"))
    for node in range(1, SIZE + 1):
        event: Any = Completed(driver.visit(node), None)
        if trouble in ("failing", "retrying"):
            event = Failed(driver.visit(node), ErrorInfo("E", "x"), attempts=1, random=node / SIZE / 2)
        elif trouble == "re-sent":
            event = Resent([node])
        elif trouble == "parked":
            event = Parked(driver.visit(node), "no function 'order.charge@2' here")
        driver.commit(event, look=node % 1000 == 0)
    assert driver.largest < LIMIT
