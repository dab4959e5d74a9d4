"""A head, read by people: the status of every node and where its output and errors are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from flowcraft.engine.draft import output_key, output_visit
from flowcraft.engine.head import COMPLETED, FAILED, OPEN, SETTLED, STATE_NAMES, Head
from flowcraft.engine.joins import absolved
from flowcraft.engine.transition import run_status
from flowcraft.graph import Graph
from flowcraft.model import NodeState, RunStatus, ValueKey

__all__ = ["FailureView", "Lazy", "NodeView", "RunView", "run_view"]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node: the state of its current visit, or of its last one that ran if the current one was skipped."""

    id: str
    state: NodeState
    visit: int
    output: ValueKey | None


@dataclass(frozen=True, slots=True)
class FailureView:
    """A failed visit; ``errors`` are the stored reasons: the node's own and those of the fallbacks that failed too."""

    node_id: str
    visit: int
    errors: tuple[ValueKey, ...]
    absolved: bool


@dataclass(frozen=True, slots=True)
class RunView:
    """A run: its status, every node, its failures, and where the outputs of the nodes at its ends are.

    ``logged``: whether there is anything in the space ``log``. ``origin``: the run that this one took over from, and
    the node from which it ran again.
    """

    status: RunStatus
    cause: str
    nodes: Mapping[str, NodeView]
    failures: tuple[FailureView, ...]
    outputs: Mapping[str, ValueKey]
    logged: bool = False
    origin: tuple[str, str] | None = None


class Lazy(Mapping[str, T]):
    """A mapping that is made when somebody looks into it."""

    def __init__(self, make: Callable[[], Mapping[str, T]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Mapping[str, T]:
        return self._make()

    def __getitem__(self, key: str) -> T:
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def __repr__(self) -> str:
        return repr(self._made)


def run_view(graph: Graph, head: Head) -> RunView:
    """Read a head, which must not change any more while the view is used. ``absolved`` is final only at the end."""
    nodes = Lazy(lambda: {node_id: _node_view(graph, head, n) for n, node_id in enumerate(graph.ids)})
    failures = tuple(
        FailureView(
            graph.ids[f.node],
            abs(f.visits[0][1]),
            tuple(ValueKey("error", graph.ids[n], v) for n, v in f.visits),
            absolved(graph, head, f.node),
        )
        for f in head.failures
    )
    ends = [_node_view(graph, head, n) for n in graph.terminals]
    outputs = {end.id: end.output for end in ends if end.output is not None and end.state == "completed"}
    return RunView(run_status(head), head.cause, nodes, failures, outputs, bool(head.logged), head.origin)


def _node_view(graph: Graph, head: Head, node: int) -> NodeView:
    state = head.states[node]
    if state == OPEN and node in head.fallbacks:
        state = COMPLETED if any(head.fallbacks[node].values()) else FAILED
    elif node in head.last and state in SETTLED and state not in (COMPLETED, FAILED):
        state = head.last[node]
    visit = output_visit(graph, head, node)
    count = (
        head.visits.get(node, 0) if graph.repeats[node] else int(state in (COMPLETED, FAILED) or node in head.active)
    )
    return NodeView(
        graph.ids[node], STATE_NAMES[state], visit or count, output_key(graph, node, visit) if visit else None
    )
