"""All small workflows: graphs up to isomorphism, times joins, times what their nodes do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations, product

from flowcraft.blueprint import ALL, ANY, Blueprint, Edge, Join, Node, Retry

__all__ = ["Shape", "Size", "cycles", "graphs", "shapes"]

Pair = tuple[int, int]
NAMES = "abcd"
CANCEL = (ALL, ANY, Join(2))
RUN = (*CANCEL, Join(1, "run"), Join(2, "run"))


@dataclass(frozen=True)
class Size:
    """How much of it: ``choosing`` nodes at most leave some of their edges; ``does`` is what nodes may do."""

    joins: Sequence[Join] = CANCEL
    choosing: int = 1
    does: Sequence[str] = ("ok", "fail")
    policies: Sequence[str] = ("continue",)


@dataclass(frozen=True)
class Shape:
    """One workflow. ``does``: ok, fail, or retry (fails once) by node; ``dead``: edges that are never chosen."""

    edges: tuple[Pair, ...]
    joins: tuple[Join, ...]
    does: tuple[str, ...]
    dead: frozenset[Pair]
    policy: str = "continue"

    def __str__(self) -> str:
        edges = ", ".join(f"{NAMES[a]}>{NAMES[b]}{':never' if (a, b) in self.dead else ''}" for a, b in self.edges)
        nodes = ", ".join(f"{NAMES[n]} {self.does[n]} {join}" for n, join in enumerate(self.joins))
        return f"{edges} | {nodes} | {self.policy}"

    def blueprint(self) -> Blueprint:
        """A node's output is its own name, so that a mixed-up input shows."""
        nodes = tuple(map(self._node, range(len(self.joins))))
        edges = tuple(Edge(NAMES[a], NAMES[b], action="never" if (a, b) in self.dead else None) for a, b in self.edges)
        return Blueprint("small", nodes, edges, failure=self.policy)  # type: ignore[arg-type] # one of the two words

    def _node(self, n: int) -> Node:
        params: dict[str, object] = {"output": NAMES[n]}
        if self.does[n] != "ok":
            params["fail"] = {} if self.does[n] == "fail" else {"attempts": 1}
        attempts = 2 if self.does[n] == "retry" else 1
        return Node(NAMES[n], "behave", params, join=self.joins[n], retry=Retry(attempts, delay=0.0))


def graphs(count: int) -> Iterator[tuple[Pair, ...]]:
    """The acyclic graphs with so many nodes, one of each kind, in an order of nodes in which edges point forwards."""
    seen: set[tuple[Pair, ...]] = set()
    pairs = list(combinations(range(count), 2))
    for chosen in product((False, True), repeat=len(pairs)):
        edges = tuple(pair for pair, is_there in zip(pairs, chosen, strict=True) if is_there)
        kind = min(tuple(sorted((p[a], p[b]) for a, b in edges)) for p in permutations(range(count)))
        if kind not in seen:
            seen.add(kind)
            yield edges


def shapes(count: int, size: Size) -> Iterator[Shape]:
    """All workflows with so many nodes, of each kind one."""
    for edges in graphs(count):
        into = [[a for a, b in edges if b == n] for n in range(count)]
        out = [[pair for pair in edges if pair[0] == n] for n in range(count)]
        joins = [size.joins if len(sources) > 1 else (ALL,) for sources in into]
        same = [p for p in permutations(range(count)) if {(p[a], p[b]) for a, b in edges} == set(edges)]
        seen: set[object] = set()
        for chosen, does, policy in product(product(*joins), product(size.does, repeat=count), size.policies):
            for dead in _dead(out, does, size.choosing):
                shape = Shape(edges, chosen, does, dead, policy)
                kind = min(_renamed(shape, p) for p in same)
                if kind not in seen:
                    seen.add(kind)
                    yield shape


def _renamed(shape: Shape, names: Sequence[int]) -> tuple[object, ...]:
    joins = sorted((names[n], join.at_least or 0, join.losers) for n, join in enumerate(shape.joins))
    does = sorted((names[n], what) for n, what in enumerate(shape.does))
    return (*joins, *does, *sorted((names[a], names[b]) for a, b in shape.dead), shape.policy)


def _dead(out: Sequence[Sequence[Pair]], does: Sequence[str], choosing: int) -> Iterator[frozenset[Pair]]:
    """Which edges are not chosen; those of a node that fails are not asked for."""
    able = [n for n, edges in enumerate(out) if edges and does[n] != "fail"]
    for count in range(min(choosing, len(able)) + 1):
        for nodes in combinations(able, count):
            left = [[c for k in range(1, len(out[n]) + 1) for c in combinations(out[n], k)] for n in nodes]
            for parts in product(*left):
                yield frozenset(pair for part in parts for pair in part)


def cycles(count: int) -> Iterator[Blueprint]:
    """All graphs with so many nodes that have a cycle: edges that do not point forwards go round once.

    One of each kind, with all joins everywhere, and each node failing in its first or second visit.
    """
    pairs = list(product(range(count), repeat=2))
    seen: set[object] = set()
    for chosen in product((False, True), repeat=len(pairs)):
        edges = tuple(pair for pair, is_there in zip(pairs, chosen, strict=True) if is_there)
        kind = min(tuple(sorted((p[a], p[b]) for a, b in edges)) for p in permutations(range(count)))
        if kind in seen or not any(a >= b for a, b in edges):
            continue
        seen.add(kind)
        for join, (failing, visit) in product(CANCEL, [(-1, 0), *product(range(count), (1, 2))]):
            yield _cycle(count, edges, join, failing, visit)


def _cycle(count: int, edges: Sequence[Pair], join: Join, failing: int, visit: int) -> Blueprint:
    nodes = []
    for n in range(count):
        params: dict[str, object] = {"output": NAMES[n], "actions": ["again", None]}
        if n == failing:
            params["fail"] = {"visits": [visit]}
        wide = len({a for a, b in edges if b == n}) > 1
        nodes.append(Node(NAMES[n], "behave", params, join=join if wide else ALL, retry=Retry(1)))
    # what points forwards is always chosen: by no action, or by a second edge for the action that goes round
    made = [Edge(NAMES[a], NAMES[b], action="again" if a >= b else None) for a, b in edges]
    made += [Edge(NAMES[a], NAMES[b], action="again") for a, b in edges if a < b]
    return replace(Blueprint("cycle", tuple(nodes), tuple(made)), max_visits=4, cycle_entry_points=(NAMES[0],))
