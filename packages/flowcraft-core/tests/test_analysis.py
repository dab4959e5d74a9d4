"""What a blueprint consists of, as analyze_blueprint tells it."""

from typing import Any

import pytest

from flowcraft.analysis import analyze_blueprint
from flowcraft.blueprint import Blueprint
from flowcraft.shapes import Batch, Loop, Subflow, seconds_of

from .test_diagrams_constructs import PLAIN


def blueprint(nodes: list[Any], edges: list[tuple[str, ...]]) -> Blueprint:
    made = [{"id": n, "uses": n} if isinstance(n, str) else n for n in nodes]
    rows = [dict(zip(("source", "target", "condition"), e, strict=False)) for e in edges]
    return Blueprint.from_dict({"id": "bp", "nodes": made, "edges": rows})


def test_what_it_consists_of() -> None:
    found = analyze_blueprint(PLAIN)
    assert found.start_node_ids == ("fetch",)
    assert found.terminal_node_ids == ("done",)
    assert (found.node_count, found.edge_count, found.is_dag) == (15, 16, False)
    assert found.loops == (
        Loop("pages", ("read", "parse"), ("parse",), structured=True, condition='input.more && "x" != 1', parent=None),
    )
    assert found.batches == (
        Batch("price", "price", "price_scatter", "orders.price", "price_gather", "parse", "prices"),
    )
    assert found.subflows == (Subflow("ship", "shipping"),)
    assert (found.waits, found.sleeps) == (("approve",), ("pause",))


def test_loops_inside_loops() -> None:
    edges = [("s", "a"), ("a", "b"), ("b", "b", "x"), ("b", "c"), ("c", "a", "y"), ("c", "e")]
    outer, inner = analyze_blueprint(blueprint(["s", "a", "b", "c", "e"], edges)).loops
    # what only a cycle reaches goes round with it: see docs/semantics.md, 4.3
    assert (outer.header, outer.parent, outer.ends, outer.structured) == ("a", None, ("c",), False)
    assert outer.body == ("b", "c", "e")
    assert (inner.header, inner.parent, inner.body, inner.ends) == ("b", "a", ("c", "e"), ("b",))
    assert inner.condition is None


@pytest.mark.parametrize(
    ("edges", "depth"),
    [
        ([], 1),
        ([("a", "b")], 2),
        ([("a", "b"), ("a", "c")], 2),
        ([("a", "b"), ("b", "c"), ("a", "c")], 3),
        ([("a", "b"), ("b", "c"), ("c", "a", "again"), ("c", "d")], 4),
        ([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")], 4),  # the edge that leads back is ignored
        ([("a", "b"), ("b", "b", "again"), ("b", "c")], 3),
    ],
)
def test_critical_depth(edges: list[tuple[str, ...]], depth: int) -> None:
    assert analyze_blueprint(blueprint(["a", "b", "c", "d"], edges)).critical_depth == depth


def test_a_batch_counts_as_its_two_nodes() -> None:
    assert analyze_blueprint(PLAIN).critical_depth == 9  # the loop is left at once, and has a shorter body


@pytest.mark.parametrize(("value", "seconds"), [(1500, 1.5), ("90s", 90.0), ("2h", 7200.0), ("x", None), (None, None)])
def test_durations(value: object, seconds: float | None) -> None:
    assert seconds_of(value) == seconds
