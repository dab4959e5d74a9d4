"""The shape of a blueprint: where it starts and ends, where it goes round, waits and runs others, how deep it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flowcraft.blueprint import Blueprint
from flowcraft.constructs import SLEEP, WAIT, kind_of
from flowcraft.graph import Graph, compile_graph
from flowcraft.shapes import Batch, Loop, Subflow, batches_of, loops_of, subflows_of

__all__ = ["BlueprintAnalysis", "analyze_blueprint"]


@dataclass(frozen=True, slots=True)
class BlueprintAnalysis:
    """The shape of a blueprint. ``cycles``: ids from a node back to itself, one for each edge that closes a cycle.

    ``start_node_ids`` are those that fire when a run starts, ``terminal_node_ids`` those whose outputs are the run's.
    ``critical_depth`` is the number of nodes on the longest way from a start to an end, every cycle taken once: so many
    steps a run takes one after the other at least, if it goes that way. ``waits`` and ``sleeps`` are ids.
    """

    start_node_ids: tuple[str, ...]
    terminal_node_ids: tuple[str, ...]
    cycles: tuple[tuple[str, ...], ...]
    node_count: int
    edge_count: int
    critical_depth: int
    loops: tuple[Loop, ...]
    batches: tuple[Batch, ...]
    subflows: tuple[Subflow, ...]
    waits: tuple[str, ...]
    sleeps: tuple[str, ...]

    @property
    def is_dag(self) -> bool:
        """Whether no edge leads back."""
        return not self.cycles


def analyze_blueprint(blueprint: Blueprint) -> BlueprintAnalysis:
    """Where a blueprint starts and ends, where it goes round, and what it consists of.

    Raises:
        DefinitionError: it cannot work.
    """
    graph = compile_graph(blueprint)
    successors: dict[str, list[str]] = {node.id: [] for node in blueprint.nodes}
    for edge in blueprint.edges:
        successors[edge.source].append(edge.target)
    return BlueprintAnalysis(
        start_node_ids=tuple(graph.ids[n] for n in graph.starts),
        terminal_node_ids=tuple(graph.ids[n] for n in graph.terminals),
        cycles=tuple(_cycles(successors)),
        node_count=len(blueprint.nodes),
        edge_count=len(blueprint.edges),
        critical_depth=_depth(graph),
        loops=loops_of(graph),
        batches=batches_of(blueprint),
        subflows=subflows_of(blueprint),
        waits=tuple(node.id for node in blueprint.nodes if kind_of(node) == WAIT),
        sleeps=tuple(node.id for node in blueprint.nodes if kind_of(node) == SLEEP),
    )


def _cycles(successors: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """One cycle for each edge that a depth-first walk finds leading back; the walk has a stack of its own."""
    done: set[str] = set()
    for root in successors:
        if root in done:
            continue
        path: list[str] = [root]
        at: dict[str, int] = {root: 0}
        walks = [iter(successors[root])]
        while walks:
            follower = next(walks[-1], None)
            if follower is None:
                walks.pop()
                done.add(path[-1])
                del at[path.pop()]
            elif follower in at:
                yield (*path[at[follower] :], follower)
            elif follower not in done:
                at[follower] = len(path)
                path.append(follower)
                walks.append(iter(successors[follower]))


def _depth(graph: Graph) -> int:
    """Nodes on the longest way along the blueprint's edges, without those that lead back or are ignored."""
    back = {(graph.ids[graph.src[e]], graph.ids[graph.dst[e]]) for plan in graph.scopes for e in plan.back}
    ignored = set(graph.ignored)
    after: dict[str, list[str]] = {node.id: [] for node in graph.blueprint.nodes}
    missing = dict.fromkeys(after, 0)
    for edge in graph.blueprint.edges:
        if edge not in ignored and (edge.source, edge.target) not in back:
            after[edge.source].append(edge.target)
            missing[edge.target] += 1
    depth = dict.fromkeys(after, 1)
    ready = [node_id for node_id, count in missing.items() if not count]
    while ready:
        node_id = ready.pop()
        for follower in after[node_id]:
            depth[follower] = max(depth[follower], depth[node_id] + 1)
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
    return max(depth.values())
