"""The transition does work in proportion to the graph: lines executed are counted, not seconds."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.engine.draft import MISSING, Draft
from flowcraft.engine.transition import Completed, Visit, apply, fresh_head, seal, start
from flowcraft.graph import Graph, compile_graph


def _chain(size: int) -> Blueprint:
    return _blueprint(size, [Edge(f"n{i}", f"n{i + 1}") for i in range(size - 1)])


def _fan(size: int) -> Blueprint:
    """One node, then ``size - 2`` side by side, then one that waits for all of them."""
    first, last = "n0", f"n{size - 1}"
    return _blueprint(size, [e for i in range(1, size - 1) for e in (Edge(first, f"n{i}"), Edge(f"n{i}", last))])


def _blueprint(size: int, edges: list[Edge]) -> Blueprint:
    return Blueprint("large", tuple(Node(f"n{i}", "f") for i in range(size)), tuple(edges))


def _run(graph: Graph, *, backwards: bool) -> int:
    """Run to the end in one draft, as in process; how many outcomes there were."""
    draft = Draft(
        graph, fresh_head(graph, 0.0), read=lambda _: MISSING, decode=lambda c: c, encode=lambda v: v, record=True
    )
    draft.begin("", 0.0)
    start(draft, None, {})
    outcomes = 0
    while draft.head.active:
        ready = draft.ready[::-1] if backwards else draft.ready[:]
        draft.ready.clear()
        for node in ready:
            activation = draft.head.active[node]
            assert apply(draft, Completed(Visit(node, "", activation.visit, activation.attempt), node))
            outcomes += 1
    assert seal(draft).terminal
    return outcomes


def _lines(work: Any) -> int:
    """How many lines of the library ``work`` executes."""
    count = 0

    def line(_: FrameType, event: str, __: Any) -> Any:
        nonlocal count
        count += event == "line"
        return line

    def call(frame: FrameType, _: str, __: Any) -> Any:
        return line if "flowcraft" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
@pytest.mark.parametrize("make", [_chain, _fan], ids=["chain", "fan"])
def test_the_work_grows_with_the_graph(make: Any, backwards: bool) -> None:
    lines: dict[int, int] = {}
    for size in (1_000, 10_000):
        graph = compile_graph(make(size))
        done: list[int] = []
        lines[size] = _lines(lambda graph=graph, done=done: done.append(_run(graph, backwards=backwards)))
        assert done == [size]
    print(f"{make.__name__}: {lines[10_000] / 10_000:.1f} lines for a node")
    assert lines[10_000] <= 10.5 * lines[1_000], lines
