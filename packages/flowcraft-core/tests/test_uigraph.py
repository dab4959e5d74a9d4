"""The graph for user interfaces: loops are edges that lead back, batches are nodes, everything else stays."""

import json
from typing import Any

import pytest

from flowcraft.blueprint import Blueprint
from flowcraft.diagrams import to_mermaid
from flowcraft.errors import DefinitionError
from flowcraft.flow import Flow
from flowcraft.lint import lint_blueprint
from flowcraft.nodes import NodeContext
from flowcraft.uigraph import UiEdge, UiGraph, UiNode, to_ui_graph


def make(nodes: list[str | dict[str, Any]], edges: list[tuple[str, ...]]) -> Blueprint:
    """An edge is source, target and perhaps an action."""
    made = [{"id": n, "uses": n} if isinstance(n, str) else n for n in nodes]
    rows = [dict(zip(("source", "target", "action", "condition"), edge, strict=False)) for edge in edges]
    return Blueprint.from_dict({"id": "bp", "nodes": made, "edges": rows})


def controller(node_id: str, condition: str = "input.more") -> dict[str, Any]:
    config = {"joinStrategy": "any"}
    return {"id": node_id, "uses": "loop-controller", "params": {"condition": condition}, "config": config}


def batch(node_id: str, **params: Any) -> list[dict[str, Any]]:
    options = {"workerUsesKey": "orders.price", "gatherNodeId": f"{node_id}_gather", **params}
    return [
        {"id": f"{node_id}_scatter", "uses": "batch-scatter", "inputs": "orders", "params": options},
        {"id": f"{node_id}_gather", "uses": "batch-gather"},
    ]


def edges(graph: UiGraph) -> list[tuple[str, str, str | None]]:
    return [(edge.source, edge.target, edge.action) for edge in graph.edges]


def back(source: str, target: str, condition: str = "input.more") -> UiEdge:
    data = {"isLoopback": True, "condition": condition, "label": f"continue if: {condition}"}
    return UiEdge(source, target, data=data)


def test_a_blueprint_without_loops_and_batches_stays_as_it_is() -> None:
    found = to_ui_graph(
        make(["a", {"id": "b", "uses": "f", "params": {"x": 1}, "config": {"timeout": 5}}], [("a", "b", "go", "input")])
    )
    assert found == UiGraph(
        (UiNode("a", "a"), UiNode("b", "f", node={"params": {"x": 1}, "config": {"timeout": 5}})),
        (UiEdge("a", "b", "go", "input"),),
    )
    assert json.loads(found.to_json()) == {
        "nodes": [{"id": "a", "uses": "a"}, {"id": "b", "uses": "f", "params": {"x": 1}, "config": {"timeout": 5}}],
        "edges": [{"source": "a", "target": "b", "action": "go", "condition": "input"}],
    }


def test_a_loop_is_an_edge_that_leads_back() -> None:
    found = to_ui_graph(
        make(
            ["s", controller("l"), "x", "y", "e"],
            [("s", "l"), ("l", "x", "continue"), ("x", "y"), ("y", "l"), ("l", "e", "break"), ("x", "e", "early")],
        )
    )
    assert [node.id for node in found.nodes] == ["s", "x", "y", "e"]
    assert edges(found) == [
        ("s", "x", None), ("y", "x", None), ("x", "y", None), ("y", "e", "break"), ("x", "e", "early"),
    ]  # fmt: skip
    assert found.edges[1] == back("y", "x")
    assert json.loads(found.to_json())["edges"][1]["data"] == {
        "isLoopback": True, "condition": "input.more", "label": "continue if: input.more",
    }  # fmt: skip


def test_a_loop_of_one_node() -> None:
    found = to_ui_graph(
        make(["s", controller("l"), "x", "e"], [("s", "l"), ("l", "x", "continue"), ("x", "l"), ("l", "e", "break")])
    )
    assert found.edges == (UiEdge("s", "x"), back("x", "x"), UiEdge("x", "e", "break"))


def test_a_loop_right_inside_a_loop() -> None:
    found = to_ui_graph(
        make(
            ["s", controller("outer", "input.o"), controller("inner", "input.i"), "x", "e"],
            [
                ("s", "outer"), ("outer", "inner", "continue"), ("inner", "x", "continue"), ("x", "inner"),
                ("inner", "outer", "break"), ("outer", "e", "break"),
            ],
        )
    )  # fmt: skip
    assert [node.id for node in found.nodes] == ["s", "x", "e"]
    assert ("s", "x", None) in edges(found)
    assert ("x", "e", "break") in edges(found)
    assert [edge for edge in found.edges if edge.data] == [back("x", "x", "input.o")]


def test_a_loop_with_several_starts_and_ends() -> None:
    found = to_ui_graph(
        make(
            ["s", controller("l"), "x", "y", "e"],
            [("s", "l"), ("l", "x", "continue"), ("l", "y", "continue"), ("x", "l"), ("y", "l"), ("l", "e", "break")],
        )
    )
    assert {(a, b) for a, b, _ in edges(found)} == {
        ("s", "x"), ("s", "y"), ("x", "x"), ("x", "y"), ("y", "x"), ("y", "y"), ("x", "e"), ("y", "e"),
    }  # fmt: skip


def test_a_batch_is_one_node() -> None:
    found = to_ui_graph(make(["s", *batch("prices"), "e"], [
        ("s", "prices_scatter"), ("prices_scatter", "prices_gather"), ("prices_gather", "e"), ("prices_scatter", "e"),
    ]))  # fmt: skip
    data = {
        "label": "Batch: prices", "isBatchPlaceholder": True, "workerUsesKey": "orders.price", "inputKey": "orders",
        "outputKey": "prices_gather",
    }  # fmt: skip
    assert found.nodes[1] == UiNode("prices", "orders.price", "batch-worker", data=data)
    assert found.nodes[1].to_dict() == {"id": "prices", "uses": "orders.price", "type": "batch-worker", "data": data}
    assert edges(found) == [("s", "prices", None), ("prices", "e", None)]
    named = to_ui_graph(make(batch("b", outputKey="all"), [("b_scatter", "b_gather")]))
    assert named.nodes[0].data["outputKey"] == "all"
    assert named.edges == ()


def test_a_loop_around_a_batch() -> None:
    found = to_ui_graph(
        make(
            ["s", controller("l"), *batch("b"), "e"],
            [
                ("s", "l"),
                ("l", "b_scatter", "continue"),
                ("b_scatter", "b_gather"),
                ("b_gather", "l"),
                ("l", "e", "break"),
            ],
        )
    )
    assert found.edges == (UiEdge("s", "b"), back("b", "b"), UiEdge("b", "e", "break"))


def test_the_edge_that_leads_back_is_kept_of_two_that_are_alike() -> None:
    found = to_ui_graph(
        make(
            ["s", controller("l"), "x", "y", "e"],
            [
                ("s", "x"),
                ("s", "l"),
                ("y", "x", "", "input"),
                ("l", "x", "continue"),
                ("x", "y"),
                ("y", "l"),
                ("l", "e", "break"),
            ],
        )
    )
    assert [edge for edge in found.edges if (edge.source, edge.target) == ("y", "x")] == [back("y", "x")]


def test_controllers_that_control_nothing_stay() -> None:
    found = to_ui_graph(make(["s", controller("l"), "e"], [("s", "l"), ("l", "e", "break")]))
    assert [node.id for node in found.nodes] == ["s", "l", "e"]
    alone = make(["s", controller("l"), "e"], [("s", "l"), ("l", "l", "continue"), ("l", "e", "break")])
    assert [node.id for node in to_ui_graph(alone).nodes] == ["s", "l", "e"]
    assert ("l", "l", "continue") in edges(to_ui_graph(alone))


def test_plain_cycles_stay() -> None:
    found = to_ui_graph(make(["s", "a", "b"], [("s", "a"), ("a", "b"), ("b", "a", "again")]))
    assert edges(found) == [("s", "a", None), ("a", "b", None), ("b", "a", "again")]


def test_what_cannot_work_has_no_picture() -> None:
    with pytest.raises(DefinitionError):
        to_ui_graph(make([batch("b")[0]], []))


def test_what_the_builder_makes() -> None:
    """There the gather has the id of the batch."""
    flow = Flow[None]("built")

    @flow.node
    async def first(ctx: NodeContext[Any, None]) -> list[int]:
        return [1]

    @flow.node
    async def read(ctx: NodeContext[Any, None]) -> list[int]:
        return [1]

    async def price(ctx: NodeContext[int, None]) -> int:
        return ctx.input

    flow.loop("pages", condition="input", start=read, end=read, after=first)
    flow.batch("prices", price, after="pages")
    flow.sleep("pause", "5m", after="prices")
    found = to_ui_graph(flow.blueprint)
    assert [node.id for node in found.nodes] == ["first", "read", "prices", "pause"]
    assert {(edge.source, edge.target, edge.action) for edge in found.edges} == {
        ("first", "read", None), ("read", "read", None), ("read", "prices", "break"), ("prices", "pause", None),
    }  # fmt: skip
    assert found.nodes[2].data["label"] == "Batch: prices"
    assert lint_blueprint(flow.blueprint, flow.functions).issues == ()
    drawn = to_mermaid(flow.blueprint)
    assert '["batch prices"]' in drawn
    assert '["loop pages"]' in drawn
