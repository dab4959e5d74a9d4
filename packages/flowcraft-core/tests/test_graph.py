"""The compiled blueprint: numbers of nodes and edges, parsed expressions, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft import ANY, Blueprint, Edge, Join, Node
from flowcraft.errors import DefinitionError, ExpressionError
from flowcraft.graph import Graph, compile_graph
from flowcraft.model import RUN_INPUT, ValueKey


def graph_of(edges: str, *more: Edge, nodes: dict[str, dict[str, Any]] | None = None, **settings: Any) -> Graph:
    """``ab bc:x`` are a -> b, and b -> c with action x."""
    made = [Edge(text[0], text[1], text[3:] or None) for text in edges.split()] + list(more)
    options = nodes or {}
    ids = dict.fromkeys([end for edge in made for end in (edge.source, edge.target)] + list(options))
    made_nodes = tuple(Node(i, **{"uses": "f", **options.get(i, {})}) for i in ids)
    strict = settings.pop("strict", False)
    return compile_graph(Blueprint("b", made_nodes, tuple(made), **settings), strict=strict)


def told(graph: Graph, edges: Any) -> list[str]:
    return [f"{graph.ids[graph.src[e]]}{graph.ids[graph.dst[e]]}" for e in edges]


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(1, 7))
    ids = [chr(97 + n) for n in range(size)]
    some = st.sampled_from(ids)
    edges = draw(st.lists(st.builds(Edge, some, some, st.none() | st.sampled_from("xy")), max_size=12))
    nodes = tuple(
        Node(i, "f", join=draw(st.sampled_from([Join(), ANY, Join(2)])), fallback=draw(st.none() | some)) for i in ids
    )
    try:
        return compile_graph(Blueprint("b", nodes, tuple(edges), cycle_entry_points=tuple(ids)))
    except DefinitionError:
        return compile_graph(Blueprint("b", nodes[:1] if nodes[0].fallback is None else (Node("a", "f"),)))


@given(random_graphs())
def test_edges_are_numbered_by_target_with_back_edges_last(graph: Graph) -> None:
    back = {e for scope in graph.scopes for e in scope.back}
    assert list(graph.dst) == sorted(graph.dst)
    assert len(graph.src) + len(graph.ignored) == len(graph.blueprint.edges)
    for n in range(graph.node_count):
        entering = [e for e in range(len(graph.src)) if graph.dst[e] == n]
        assert entering == list(range(graph.in_lo[n], graph.in_hi[n]))
        assert [e for e in entering if e in back] == list(range(graph.in_mid[n], graph.in_hi[n]))
        assert sorted(graph.out[n]) == [e for e in range(len(graph.src)) if graph.src[e] == n]
        assert graph.predecessors[n] == len({graph.src[e] for e in entering if e not in back})


@given(random_graphs())
def test_edges_keep_the_order_of_the_blueprint(graph: Graph) -> None:
    kept = [edge for edge in graph.blueprint.edges if edge not in graph.ignored]
    for n, node_id in enumerate(graph.ids):
        wanted = [(edge.target, edge.action) for edge in kept if edge.source == node_id]
        assert [(graph.ids[graph.dst[e]], graph.action[e]) for e in graph.out[n]] == wanted


@given(random_graphs())
def test_without_back_edges_nothing_goes_round(graph: Graph) -> None:
    left = {e for e in range(len(graph.src)) if e < graph.in_mid[graph.dst[e]]}
    open_nodes = set(range(graph.node_count))
    while open_nodes:
        free = {n for n in open_nodes if not any(graph.dst[e] == n and graph.src[e] in open_nodes for e in left)}
        assert free, "a cycle without a back edge"
        open_nodes -= free


@given(random_graphs())
def test_scopes_are_nested_sets_with_their_header(graph: Graph) -> None:
    root = graph.scopes[0]
    assert (root.parent, root.members, root.back) == (-1, tuple(range(graph.node_count)), ())
    for index, scope in enumerate(graph.scopes[1:], start=1):
        parent = graph.scopes[scope.parent]
        assert set(scope.members) <= set(parent.members)
        assert scope.depth == parent.depth + 1
        assert scope.header in scope.members
        assert scope.back, "what never goes round is no scope"
        assert all(graph.dst[e] == scope.header and graph.src[e] in scope.members for e in scope.back)
        inside = [i for i, other in enumerate(graph.scopes) if i > index and other.header in scope.members]
        assert list(scope.nested) == inside, "parents come before children"
        for n in scope.members:
            assert index in graph.chain[n]
    for n in range(graph.node_count):
        assert graph.scope_of[n] == graph.chain[n][0]
        assert graph.chain[n][-1] == 0


def test_starts_and_terminals() -> None:
    graph = graph_of("ab bc xc", nodes={"a": {"fallback": "f"}, "f": {}, "alone": {}})
    assert [graph.ids[n] for n in graph.starts] == ["a", "x", "alone"], "a fallback is no start"
    assert [graph.ids[n] for n in graph.terminals] == ["c", "alone"], "nor an end"


def test_a_cycle_that_nothing_leads_to_starts_at_its_header() -> None:
    graph = graph_of("ab ba:x", cycle_entry_points=("b",))
    assert [graph.ids[n] for n in graph.starts] == ["b"]
    assert told(graph, graph.scopes[1].back) == ["ab"]


def test_parallel_edges_are_one_predecessor() -> None:
    graph = graph_of("ac:x ac:y bc", nodes={"c": {"join": Join(2)}})
    c = graph.index["c"]
    assert (graph.parallel[c], graph.predecessors[c], graph.at_least[c]) == (True, 2, 2)


@pytest.mark.parametrize(
    ("edges", "ignored", "scopes"),
    [
        ("sa ab ba", ["ba"], 0),
        ("sa ab ba:x", [], 1),
        ("sa ab:x ba", [], 1),
        ("sa ab ba bc:x", [], 1),
        ("sa aa", ["aa"], 0),
        ("sa aa:x", [], 1),
        ("sa ab bc ca ba:x", [], 1),
    ],
)
def test_cycles_that_can_never_end_are_ignored(edges: str, ignored: list[str], scopes: int) -> None:
    graph = graph_of(edges)
    assert [f"{edge.source}{edge.target}" for edge in graph.ignored] == ignored
    assert len(graph.scopes) == 1 + scopes
    if ignored:
        with pytest.raises(
            DefinitionError, match=f"the cycle closed by {ignored[0][0]} -> {ignored[0][1]} can never end"
        ):
            graph_of(edges, strict=True)
    else:
        graph_of(edges, strict=True)


@pytest.mark.parametrize(
    ("fallbacks", "named"), [({"a": "a"}, "a"), ({"a": "b", "b": "a"}, "a"), ({"a": "b", "b": "c", "c": "b"}, "b")]
)
def test_circles_of_fallbacks(fallbacks: dict[str, str], named: str) -> None:
    nodes: dict[str, dict[str, Any]] = {"a": {}, "b": {}, "c": {}}
    nodes |= {name: {"fallback": other} for name, other in fallbacks.items()}
    with pytest.raises(DefinitionError, match=f"the fallbacks of '{named}' form a circle"):
        graph_of("", nodes=nodes)


def test_shared_fallbacks_know_who_names_them() -> None:
    graph = graph_of("", nodes={"a": {"fallback": "f"}, "b": {"fallback": "f"}, "f": {"fallback": "g"}, "g": {}})
    assert graph.namers == ((), (), (0, 1), (2,))
    assert graph.fallback == (2, 2, 3, -1)


def test_expressions_know_what_they_ask_for() -> None:
    graph = graph_of(
        "",
        Edge("load-user", "b", condition="load-user.total > limit", transform="result.output"),
        nodes={"b": {"inputs": "load-user.name"}},
    )
    assert {(r.kind, r.name) for r in graph.references[0]} == {
        ("name", "load-user"), ("name", "limit"), ("result", ""), ("name", "load-user")
    }  # fmt: skip
    assert graph.references[1] == frozenset()


@pytest.mark.parametrize(
    "name", ["a.b", "a-b", "it's", 'say "x"', "a[0]", "日本", "a b", "1", "a\\", "_outputs", "x.", ".x"]
)
def test_the_whole_id_of_a_node_is_tried_first(name: str) -> None:
    graph = graph_of("", Edge(name, "z"), nodes={name: {}, "z": {"inputs": name}})
    plan = graph.inputs[graph.index["z"]]
    assert isinstance(plan, tuple)
    assert {(r.kind, r.name) for r in plan[0].references} == {("output", name)}


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("key", ("name", "key")),
        ("key.deep[0].x", ("name", "key")),
        ("a-key", ("name", "a-key")),
        ("key with spaces", ("name", "key with spaces")),
        ('say "x"', ("name", 'say "x"')),
        ("node-1.total", ("name", "node-1")),
        ("_outputs.node-1", ("output", "node-1")),
        ("_inputs.node-1", ("input_of", "node-1")),
    ],
)
def test_names_in_inputs(name: str, reference: tuple[str, str]) -> None:
    graph = graph_of("", nodes={"node-1": {}, "z": {"inputs": {"x": name, "y": ["gone", name]}}})
    plan = graph.inputs[1]
    assert isinstance(plan, dict)
    assert [(r.kind, r.name) for r in plan["x"][0].references] == [reference]
    assert [(r.kind, r.name) for r in plan["y"][1].references] == [reference]


def test_an_expression_that_does_not_parse_names_its_edge_and_place() -> None:
    with pytest.raises(ExpressionError, match="the transform of edge a -> b does not parse") as caught:
        graph_of("", Edge("a", "b", transform="1 + + ]"))
    assert (caught.value.subject, caught.value.source, caught.value.position) == ("a -> b", "1 + + ]", 4)


def test_the_direct_input_of_simple_nodes() -> None:
    graph = graph_of("ab bc bd", Edge("b", "e", transform="1"), nodes={"d": {"inputs": "a"}})
    direct = {graph.ids[n]: key for n, key in enumerate(graph.direct)}
    assert direct == {
        "a": RUN_INPUT, "b": ValueKey("output", "a", 1), "c": ValueKey("output", "b", 1), "d": None, "e": None
    }  # fmt: skip


def test_a_sequence_of_fifty_loops_compiles() -> None:
    ids = [f"n{i}" for i in range(50)]
    edges = [Edge(a, b) for a, b in pairwise(ids)] + [Edge(i, i, action="again") for i in ids]
    compile_graph(Blueprint("b", tuple(Node(i, "f") for i in ids), tuple(edges)))


def test_a_longer_sequence_of_loops_compiles() -> None:
    ids = [f"n{i}" for i in range(150)]
    edges = [Edge(a, b) for a, b in pairwise(ids)] + [Edge(i, i, action="again") for i in ids]
    compile_graph(Blueprint("b", tuple(Node(i, "f") for i in ids), tuple(edges)))


def test_large_graphs_compile_in_time() -> None:
    size = 10_000
    ids = [f"n{i}" for i in range(size)]
    nodes = tuple(Node(i, "f") for i in ids)
    graph = compile_graph(Blueprint("chain", nodes, tuple(Edge(a, b) for a, b in pairwise(ids))))
    assert (graph.node_count, len(graph.src)) == (size, size - 1)
    fan = (*(Edge("n0", i) for i in ids[1:-1]), *(Edge(i, ids[-1]) for i in ids[1:-1]))
    assert compile_graph(Blueprint("fan", nodes, fan)).predecessors[-1] == size - 2
