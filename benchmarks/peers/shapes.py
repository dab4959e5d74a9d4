"""The graphs of the benchmarks, built with the public API. Every node is the same `async def` that does nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from flowcraft import Flow, NodeContext


async def noop(_ctx: NodeContext[Any, Any]) -> None:
    """Nothing: what remains is the engine."""


Node = Callable[[NodeContext[Any, Any]], Awaitable[None]]


def chain(size: int, node: Node = noop) -> Flow[Any]:
    """`size` nodes, one after the other."""
    flow: Flow[Any] = Flow(f"chain-{size}")
    flow.node(id="n0")(node)
    for number in range(1, size):
        flow.node(id=f"n{number}", after=f"n{number - 1}")(node)
    return flow


def fan(size: int, node: Node = noop) -> Flow[Any]:
    """One source, `size` nodes after it, one join of them all: `size` + 2 nodes."""
    flow: Flow[Any] = Flow(f"fan-{size}")
    flow.node(id="source")(node)
    branches = [f"n{number}" for number in range(size)]
    for branch in branches:
        flow.node(id=branch, after="source")(node)
    flow.node(id="join", after=branches)(node)
    return flow


SHAPES = {"chain": chain, "fan": fan}


def nodes_of(shape: str, size: int) -> int:
    """How many nodes a run of this shape executes."""
    return size if shape == "chain" else size + 2
