"""Cycles of a blueprint as nested scopes, computed from reachability alone (docs/semantics.md, section 4)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError

from .kinds import is_controller

__all__ = ["Plan", "Scope", "plan_of"]


@dataclass(frozen=True)
class Scope:
    """A cycle with what belongs to it. ``back`` holds the indices of the edges into the header from inside."""

    nodes: frozenset[str]
    header: str
    back: frozenset[int]
    entered: bool


@dataclass(frozen=True)
class Plan:
    """The scopes, outer ones first, and the edges that count: all but the back edges of endless cycles."""

    scopes: tuple[Scope, ...]
    edges: tuple[int, ...]


class _EndlessError(Exception):
    def __init__(self, edges: Iterable[int]) -> None:
        super().__init__()
        self.edges = frozenset(edges)


def plan_of(blueprint: Blueprint) -> Plan:
    """Decompose the blueprint.

    Raises:
        DefinitionError: a cycle has no usable header.
    """
    ignored: frozenset[int] = frozenset()
    while True:
        edges = frozenset(range(len(blueprint.edges))) - ignored
        try:
            scopes = _Decomposition(blueprint, edges).split(frozenset(node.id for node in blueprint.nodes), edges)
            return Plan(tuple(scopes), tuple(sorted(edges)))
        except _EndlessError as endless:
            ignored |= endless.edges


class _Decomposition:
    def __init__(self, blueprint: Blueprint, all_edges: frozenset[int]) -> None:
        self.blueprint = blueprint
        self.all_edges = all_edges
        self.order = [node.id for node in blueprint.nodes]
        self.controllers = [node.id for node in blueprint.nodes if is_controller(node)]
        self.references = [(node.id, node.fallback) for node in blueprint.nodes if node.fallback is not None]

    def split(self, region: frozenset[str], edges: frozenset[int]) -> list[Scope]:
        inner = self._arcs(region, edges)
        both_ways = [(b, a) for a, b in self.references]
        reach = _reach(region, [*inner, *both_ways])
        components = {frozenset(b for b in region if b == a or (b in reach[a] and a in reach[b])) for a in region}
        found: list[tuple[frozenset[str], Scope]] = []
        for component in sorted(components, key=lambda nodes: min(map(self.order.index, nodes))):
            if self._cyclic(component, edges):
                scope = self._scope(component, region, edges)
                found.append((component, scope))
        result: list[Scope] = []
        for component, scope in found:
            if any(component < other.nodes and other is not scope for _, other in found):
                continue  # it hangs off another cycle, and is found again inside it
            result.append(scope)
            result += self.split(scope.nodes, edges - scope.back)
        return result

    def _arcs(self, nodes: Collection[str], edges: Iterable[int]) -> list[tuple[str, str]]:
        """Edges and references node -> fallback with both ends in ``nodes``."""
        pairs = [(self.blueprint.edges[i].source, self.blueprint.edges[i].target) for i in edges]
        return [(a, b) for a, b in [*pairs, *self.references] if a in nodes and b in nodes]

    def _cyclic(self, nodes: frozenset[str], edges: Iterable[int]) -> bool:
        reach = _reach(nodes, self._arcs(nodes, edges))
        return any(node in reach[node] for node in nodes)

    def _scope(self, component: frozenset[str], region: frozenset[str], edges: frozenset[int]) -> Scope:
        table = self.blueprint.edges
        inside = [i for i in edges if table[i].source in component and table[i].target in component]
        entered = {table[i].target for i in edges if table[i].source not in component and table[i].target in component}
        header = self._header(component, entered, edges)
        back = frozenset(i for i in inside if table[i].target == header)
        rest = _reach(component, self._arcs(component, edges - back))
        if not back or header in rest[header]:
            raise DefinitionError(f"the cycle through {sorted(component)} does not pass its header {header!r}")
        deciding = {table[i].source for i in self.all_edges if table[i].action or table[i].condition}
        idle = [i for i in inside if table[i].source not in deciding]
        blind = _reach(component, [(table[i].source, table[i].target) for i in idle if i not in back])
        endless = frozenset(i for i in back if i in idle and table[i].source in {header, *blind[header]})
        if endless:
            raise _EndlessError(endless)
        return Scope(component | self._tail(component, header, region, edges), header, back, bool(entered))

    def _header(self, component: frozenset[str], entered: set[str], edges: frozenset[int]) -> str:
        # Reading: a controller that is entered; one that is not heads the cycle only if nothing else does. (Else no
        # visit could begin: of a loop in a plain cycle, and of one that is entered at its body, like a do-while.)
        controllers = [node for node in self.controllers if node in component]
        for node in controllers:
            if node in entered:
                return node
        for node in self.blueprint.cycle_entry_points:
            if node in component:
                return node
        if len(entered) > 1:
            raise DefinitionError(f"a cycle is entered at {sorted(entered)}; name one in cycleEntryPoints")
        if entered:
            return min(entered)
        outer = [node for node in controllers if self._is_around(node, controllers, component, edges)]
        ends = {edge.source for edge in self.blueprint.edges if edge.target not in component}
        for node in (*(node for node in outer if node in ends), *outer, *controllers):
            return node
        fallbacks = {fallback for _, fallback in self.references}
        targets = {edge.target for i, edge in enumerate(self.blueprint.edges) if i in self.all_edges}
        for node in self.order:
            if node in component and (node not in fallbacks or node in targets):
                return node
        raise DefinitionError(f"the fallbacks of {sorted(component)} form a circle")

    def _is_around(
        self, node: str, controllers: Collection[str], component: frozenset[str], edges: frozenset[int]
    ) -> bool:
        """Whether the other controllers go round also if no edge leads back to this one."""
        rest = edges - {i for i in edges if self.blueprint.edges[i].target == node}
        reach = _reach(component, [*self._arcs(component, rest), *((b, a) for a, b in self.references)])
        return all(
            self._cyclic(frozenset(b for b in component if b == c or (b in reach[c] and c in reach[b])), rest)
            for c in controllers
            if c != node
        )

    def _tail(
        self, component: frozenset[str], header: str, region: frozenset[str], edges: frozenset[int]
    ) -> frozenset[str]:
        """What only the component reaches; a controller's own exits do not count."""
        table = self.blueprint.edges
        if header in self.controllers:
            component, region = component - {header}, region - {header}
        arcs = self._arcs(region, edges)
        reach = _reach(region, [*arcs, *((b, a) for a, b in self.references)])
        neighbours: dict[str, set[str]] = {node: set() for node in self.order}
        for a, b in [*((table[i].source, table[i].target) for i in edges), *self.references]:
            neighbours[a].add(b)
            neighbours[b].add(a)
        tail = {node for start in component for node in reach[start]} - component
        while True:
            drop = {node for node in tail if not neighbours[node] <= tail | component}
            if not drop:
                return frozenset(tail)
            tail -= drop


def _reach(nodes: Collection[str], arcs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """For each node, what one or more arcs lead to."""
    steps: dict[str, set[str]] = {node: set() for node in nodes}
    for a, b in arcs:
        if a in steps and b in steps:
            steps[a].add(b)
    reach: dict[str, set[str]] = {}
    for node in nodes:
        seen: set[str] = set()
        todo = list(steps[node])
        while todo:
            step = todo.pop()
            if step not in seen:
                seen.add(step)
                todo += steps[step]
        reach[node] = seen
    return reach
