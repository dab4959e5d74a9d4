"""LangGraph in process, without a checkpointer: its fastest form. A fan is built in both ways that it knows."""

from __future__ import annotations

import asyncio
import importlib.metadata
import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from protocol import Reply, repeat, serve


class State(TypedDict):
    """One key with a reducer, so that parallel nodes may write it; the nodes write nothing."""

    total: Annotated[int, operator.add]


async def noop(state: State) -> dict[str, Any]:  # noqa: ARG001 - LangGraph wants this name
    """Nothing: what remains is the engine."""
    return {}


def chain(size: int) -> StateGraph[State]:
    """`size` nodes, one after the other."""
    graph = StateGraph(State)
    previous = START
    for number in range(size):
        graph.add_node(f"n{number}", noop)
        graph.add_edge(previous, f"n{number}")
        previous = f"n{number}"
    graph.add_edge(previous, END)
    return graph


def fan_of_edges(size: int) -> StateGraph[State]:
    """A node per branch and a join that waits for all of them."""
    graph = StateGraph(State)
    graph.add_node("source", noop)
    graph.add_node("join", noop)
    graph.add_edge(START, "source")
    branches = [f"n{number}" for number in range(size)]
    for branch in branches:
        graph.add_node(branch, noop)
        graph.add_edge("source", branch)
    graph.add_edge(branches, "join")
    graph.add_edge("join", END)
    return graph


def fan_of_sends(size: int) -> StateGraph[State]:
    """One node, sent `size` times: the form for a number of branches that is known at run time."""
    graph = StateGraph(State)
    graph.add_node("source", noop)
    graph.add_node("branch", noop)
    graph.add_node("join", noop)
    graph.add_edge(START, "source")
    graph.add_conditional_edges("source", lambda _state: [Send("branch", {"total": 0})] * size, ["branch"])
    graph.add_edge("branch", "join")
    graph.add_edge("join", END)
    return graph


SHAPES = {"chain": chain, "fan_edges": fan_of_edges, "fan_send": fan_of_sends}


async def measure(case: dict[str, Any]) -> Reply:
    """One case: {"shape", "size", "seconds"}."""
    shape, size = str(case["shape"]), int(case["size"])
    graph = SHAPES[shape](size).compile()

    async def run() -> None:
        await graph.ainvoke({"total": 0}, {"recursion_limit": size + 10})

    return await repeat(run, work=size if shape == "chain" else size + 2, seconds=float(case["seconds"]))


if __name__ == "__main__":
    asyncio.run(serve({"LangGraph": importlib.metadata.version("langgraph")}, measure))
