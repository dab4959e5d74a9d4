"""What is linted, indexed once: the nodes by id, the edges by their ends, and what is known of the world around."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.graph import Graph
from flowcraft.lint.issues import LintIssue
from flowcraft.registry import Registry
from flowcraft.shapes import batches_of

__all__ = ["Check", "GraphCheck", "Subject"]


class Subject:
    """A blueprint with the functions (None: unknown) and the other blueprints (None: unknown) that it may use."""

    def __init__(
        self, blueprint: Blueprint, registry: Registry | None, blueprints: Mapping[str, Blueprint] | None
    ) -> None:
        self.blueprint = blueprint
        self.registry = registry
        self.blueprints = blueprints
        self.nodes: Mapping[str, Node] = {node.id: node for node in blueprint.nodes}
        self.batches = batches_of(blueprint)
        #: What an expression may name: the nodes, and the items of batches, whose outputs are lists.
        self.names = frozenset(self.nodes) | {batch.items for batch in self.batches}
        self.out: dict[str, list[Edge]] = {node_id: [] for node_id in self.nodes}
        self.into: dict[str, list[Edge]] = {node_id: [] for node_id in self.nodes}
        for edge in blueprint.edges:
            self.out[edge.source].append(edge)
            self.into[edge.target].append(edge)

    @cached_property
    def namers(self) -> Mapping[str, list[Node]]:
        """By fallback, the nodes that fall back to it."""
        found: dict[str, list[Node]] = {}
        for node in self.blueprint.nodes:
            if node.fallback is not None:
                found.setdefault(node.fallback, []).append(node)
        return found

    @cached_property
    def undoes(self) -> Mapping[str, list[Node]]:
        """By compensating node, the nodes that it undoes."""
        found: dict[str, list[Node]] = {}
        for node in self.blueprint.nodes:
            if node.compensate is not None:
                found.setdefault(node.compensate, []).append(node)
        return found

    def reached_from(self, node_id: str) -> set[str]:
        """The nodes that edges and fallbacks lead to from a node; itself only if it is on a cycle."""
        found: set[str] = set()
        todo = [node_id]
        while todo:
            node = self.nodes[todo.pop()]
            followers = [edge.target for edge in self.out[node.id]]
            if node.fallback is not None:
                followers.append(node.fallback)
            for follower in followers:
                if follower not in found:
                    found.add(follower)
                    todo.append(follower)
        return found


Check = Callable[[Subject], Iterable[LintIssue]]
GraphCheck = Callable[[Subject, Graph], Iterable[LintIssue]]
