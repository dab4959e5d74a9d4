"""A blueprint, compiled once: nodes and edges as numbers, parsed expressions, joins and scopes.

Nodes keep the blueprint's order. Edges are numbered by target, so that the marks a join looks at are one contiguous
range of bytes; within a target the back edges come last. This numbering is part of the stored head's format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.constructs import (
    GATHER,
    ITEMS,
    LOOP,
    ORDINARY,
    SCATTER,
    SUBFLOW,
    BatchPlan,
    expand,
    kind_of,
    mapping_of,
    timer_of,
)
from flowcraft.errors import DefinitionError, ExpressionError
from flowcraft.expressions import Expression, Reference, parse
from flowcraft.model import RUN_INPUT, ValueKey
from flowcraft.scopes import LOOP_CONTROLLER, Scope, Topology, decompose

__all__ = ["Graph", "InputPath", "ScopePlan", "compile_graph"]

#: One source of an input: the expression that reads it. Several: alternatives, the first that exists.
InputPath = tuple[Expression, ...]


@dataclass(slots=True)
class ScopePlan:
    """What the engine needs of one scope; edges are compiled numbers."""

    parent: int
    depth: int
    header: int
    structured: bool
    members: tuple[int, ...]
    back: tuple[int, ...]
    #: Edges with both ends inside.
    inner: tuple[int, ...]
    #: Edges from outside to a node inside.
    entering: tuple[int, ...]
    #: Edges whose outermost scope left is this one.
    exits: tuple[int, ...]
    #: Scopes directly or indirectly inside.
    nested: tuple[int, ...]
    #: Of a structured loop: edges that end it at once when they become LIVE.
    early: tuple[int, ...]


class Graph:
    """The compiled form. Immutable after construction; shared by all runs of the blueprint."""

    __slots__ = (
        "action", "at_least", "batch_of", "batches", "blueprint", "chain", "compensation", "condition", "content_hash",
        "direct", "dst", "early", "edges", "exits_scope",
        "fallback", "header_of", "ids", "ignored", "in_hi", "in_lo", "in_mid", "index", "inputs", "keep_losers",
        "key_of", "kind", "lone", "loops", "namers", "names", "node_count", "nodes", "out", "parallel", "predecessors",
        "references", "repeats", "scope_of", "scopes", "simple", "src", "starts", "terminals", "timer", "transform",
        "undoes", "unreached", "waits_for_all",
    )  # fmt: skip

    def __init__(self, blueprint: Blueprint, *, strict: bool) -> None:
        self.blueprint = blueprint
        self.content_hash = blueprint.content_hash
        self.nodes: tuple[Node, ...]
        self.edges: tuple[Edge, ...]
        self.nodes, self.edges, batches = expand(blueprint)
        self.node_count = len(self.nodes)
        self.ids: tuple[str, ...] = tuple(node.id for node in self.nodes)
        self.names = frozenset(self.ids)
        self.index: Mapping[str, int] = {node_id: n for n, node_id in enumerate(self.ids)}
        self.fallback: tuple[int, ...] = tuple(
            -1 if node.fallback is None else self.index[node.fallback] for node in self.nodes
        )
        self._check_fallbacks()
        self._plan_constructs(batches)
        topology, scopes = self._decompose(strict)
        self.ignored: tuple[Edge, ...] = tuple(self.edges[n] for n in sorted(topology.removed))
        self._number_edges(topology, scopes)
        self._plan_scopes(scopes)
        self._plan_nodes()

    def _check_fallbacks(self) -> None:
        for start in range(self.node_count):
            node, steps = self.fallback[start], 0
            while node >= 0 and node != start and steps <= self.node_count:
                node, steps = self.fallback[node], steps + 1
            if node == start:
                raise DefinitionError(f"the fallbacks of {self.ids[start]!r} form a circle", subject=self.ids[start])
        namers: list[list[int]] = [[] for _ in self.nodes]
        for node, other in enumerate(self.fallback):
            if other >= 0:
                namers[other].append(node)
        self.namers: tuple[tuple[int, ...], ...] = tuple(map(tuple, namers))

    def _plan_constructs(self, batches: Mapping[str, BatchPlan]) -> None:
        self.batches: Mapping[int, BatchPlan] = {self.index[items]: plan for items, plan in batches.items()}
        #: By gather, and by scatter: the node of the items.
        self.batch_of: Mapping[int, int] = {
            self.index[name]: node for node, plan in self.batches.items() for name in (plan.gather, plan.scatter)
        }
        self.kind: tuple[int, ...] = tuple(
            ITEMS if n in self.batches else kind_of(node) for n, node in enumerate(self.nodes)
        )
        self.timer: tuple[float | None, ...] = tuple(map(timer_of, self.nodes))
        self.loops: Mapping[int, Expression] = {
            n: self._loop_condition(self.nodes[n]) for n, kind in enumerate(self.kind) if kind == LOOP
        }
        self.compensation: tuple[int, ...] = tuple(
            -1 if node.compensate is None else self.index[node.compensate] for node in self.nodes
        )
        #: Nodes that only undo others; they have no edges and are never reached.
        self.undoes = frozenset(n for n in self.compensation if n >= 0)
        for node, fallback in enumerate(self.fallback):
            if fallback >= 0 and (self.kind[fallback] != ORDINARY or self.nodes[fallback].uses in (SCATTER, GATHER)):
                text = f"the fallback {self.ids[fallback]!r} of node {self.ids[node]!r} has no function of its own"
                raise DefinitionError(text, subject=self.ids[node])
        for node in sorted(self.undoes):
            node_id = self.ids[node]
            if any(node_id in (edge.source, edge.target) for edge in self.edges) or self.namers[node]:
                text = f"node {node_id!r} compensates another one, so it has neither edges nor is it a fallback"
                raise DefinitionError(text, subject=node_id)

    def _loop_condition(self, node: Node) -> Expression:
        try:
            return parse(str(node.params["condition"]), names=self.names)
        except ExpressionError as error:
            raise ExpressionError(
                f"the condition of loop {node.id!r} does not parse: {error}",
                source=error.source, position=error.position, subject=node.id,
            ) from error  # fmt: skip

    def _decompose(self, strict: bool) -> tuple[Topology, list[Scope]]:
        edges = self.edges
        choosy = {edge.source for edge in edges if edge.action is not None or edge.condition is not None}
        topology = Topology(
            names=self.ids,
            edges=[(self.index[edge.source], self.index[edge.target]) for edge in edges],
            fallback=self.fallback,
            entry_points=[self.index[entry] for entry in self.blueprint.cycle_entry_points],
            controllers={n for n, node in enumerate(self.nodes) if node.uses == LOOP_CONTROLLER},
            decided={n for n, edge in enumerate(edges) if edge.source in choosy},
        )
        return topology, decompose(topology, strict=strict)

    def _number_edges(self, topology: Topology, scopes: Sequence[Scope]) -> None:
        back = {number for scope in scopes for number in scope.back}
        kept = [n for n in range(len(topology.edges)) if n not in topology.removed]
        kept.sort(key=lambda n: (topology.edges[n][1], n in back, n))
        order = {number: e for e, number in enumerate(kept)}
        for scope in scopes:
            scope.back = sorted(order[number] for number in scope.back)
        self.src: tuple[int, ...] = tuple(topology.edges[n][0] for n in kept)
        self.dst: tuple[int, ...] = tuple(topology.edges[n][1] for n in kept)
        raw = [self.edges[n] for n in kept]
        self.action: tuple[str | None, ...] = tuple(edge.action for edge in raw)
        self.condition = tuple(self._parse(edge, edge.condition, "condition") for edge in raw)
        self.transform = tuple(self._parse(edge, edge.transform, "transform") for edge in raw)
        out: list[list[int]] = [[] for _ in self.nodes]
        for number in sorted(order):  # the blueprint's order of edges
            out[topology.edges[number][0]].append(order[number])
        self.out: tuple[tuple[int, ...], ...] = tuple(map(tuple, out))
        low: list[int] = [0] * self.node_count
        middle, high = low[:], low[:]
        for e, (number, target) in enumerate(zip(kept, self.dst, strict=True)):
            if e == 0 or self.dst[e - 1] != target:
                low[target] = middle[target] = e
            high[target] = e + 1
            if number not in back:
                middle[target] = e + 1
        self.in_lo, self.in_mid, self.in_hi = tuple(low), tuple(middle), tuple(high)

    def _parse(self, edge: Edge, text: str | None, what: str) -> Expression | None:
        if text is None:
            return None
        try:
            return parse(text, names=self.names)
        except ExpressionError as error:
            raise ExpressionError(
                f"the {what} of edge {edge} does not parse: {error}",
                source=error.source, position=error.position, subject=str(edge),
            ) from error  # fmt: skip

    def _plan_scopes(self, scopes: Sequence[Scope]) -> None:
        chain: list[tuple[int, ...]] = [(0,)] * self.node_count
        inside = [set(scope.members) for scope in scopes]
        for scope in scopes[1:]:  # parents come before children
            for node in scope.members:
                chain[node] = (*chain[node], scope.index)
        self.chain: tuple[tuple[int, ...], ...] = tuple(tuple(reversed(c)) for c in chain)  # innermost first
        self.scope_of: tuple[int, ...] = tuple(c[-1] for c in chain)
        edges = range(len(self.src))
        self.exits_scope: tuple[int, ...] = tuple(
            next((s for s in chain[self.src[e]] if self.dst[e] not in inside[s]), 0) for e in edges
        )
        structured = {scope.index for scope in scopes if scope.structured}
        choosy = [self.action[e] is not None or self.condition[e] is not None for e in edges]
        #: The structured loops that an edge ends at once when it becomes LIVE, innermost first.
        self.early: tuple[tuple[int, ...], ...] = tuple(
            tuple(s for s in self.chain[self.src[e]] if s in structured and self.dst[e] not in inside[s])
            if choosy[e]
            else ()
            for e in edges
        )
        exits: dict[int, list[int]] = {}
        for e in edges:
            exits.setdefault(self.exits_scope[e], []).append(e)
        self.scopes: tuple[ScopePlan, ...] = tuple(
            ScopePlan(
                parent=scope.parent, depth=scope.depth, header=scope.header, structured=scope.structured,
                members=tuple(scope.members), back=tuple(scope.back),
                inner=tuple(e for e in edges if self.src[e] in here and self.dst[e] in here) if scope.index else (),
                entering=tuple(e for e in edges if self.src[e] not in here and self.dst[e] in here),
                exits=tuple(exits.get(scope.index, ())) if scope.index else (),
                nested=tuple(s.index for s in scopes if s.index != scope.index and s.header in here),
                early=tuple(e for e in edges if scope.index in self.early[e]),
            )
            for scope, here in zip(scopes, inside, strict=True)
        )  # fmt: skip

    def _plan_nodes(self) -> None:
        everyone = range(self.node_count)
        self.at_least: tuple[int, ...] = tuple(node.join.at_least or 0 for node in self.nodes)
        self.keep_losers: tuple[bool, ...] = tuple(
            node.join.losers == "run" or node.uses == LOOP_CONTROLLER for node in self.nodes
        )
        entry = [self.src[self.in_lo[n] : self.in_mid[n]] for n in everyone]
        self.parallel: tuple[bool, ...] = tuple(len(set(sources)) < len(sources) for sources in entry)
        self.predecessors: tuple[int, ...] = tuple(len(set(sources)) for sources in entry)
        #: The join `all` with one edge from each predecessor: decided when no mark is missing, and not before.
        self.waits_for_all: tuple[bool, ...] = tuple(not self.at_least[n] and not self.parallel[n] for n in everyone)
        self.repeats: tuple[bool, ...] = tuple(len(self.chain[n]) > 1 or bool(self.namers[n]) for n in everyone)
        self.key_of: tuple[ValueKey, ...] = tuple(ValueKey("output", node_id, 1) for node_id in self.ids)
        self.inputs: tuple[InputPath | Mapping[str, InputPath] | None, ...] = tuple(
            map(self._compile_inputs, self.nodes)
        )
        #: One predecessor, one edge, the join `all`, at most one visit: LIVE means READY.
        self.lone: tuple[bool, ...] = tuple(
            self.in_hi[n] - self.in_lo[n] == 1 and not self.at_least[n] and not self.repeats[n]
            and self.kind[n] == ORDINARY
            for n in everyone
        )  # fmt: skip
        #: The stored value that is the input as it is, where that can be told in advance.
        self.direct: tuple[ValueKey | None, ...] = tuple(map(self._direct_input, everyone))
        self.references: tuple[frozenset[Reference], ...] = tuple(map(self._references_of, everyone))
        self.simple: tuple[bool, ...] = tuple(
            not self.repeats[n] and n not in self.batch_of and self.compensation[n] < 0 and not any(
                self.action[e] is not None or self.condition[e] or self.transform[e] for e in self.out[n]
            )
            for n in everyone
        )  # fmt: skip
        self.header_of: Mapping[int, int] = {plan.header: s for s, plan in enumerate(self.scopes) if s}
        headers = {plan.header for plan in self.scopes[1:] if not plan.entering}
        self.starts: tuple[int, ...] = tuple(
            n
            for n in everyone
            if (self.in_lo[n] == self.in_hi[n] and not self.namers[n] and n not in self.undoes) or n in headers
        )
        #: Headers that only their own cycle leads to, while it is entered elsewhere: skipped in its first visit.
        self.unreached: tuple[int, ...] = tuple(
            n
            for n in everyone
            if self.in_lo[n] == self.in_mid[n] and self.in_lo[n] < self.in_hi[n] and n not in self.starts
        )
        self.terminals: tuple[int, ...] = tuple(
            n
            for n in everyone
            if not self.out[n] and (self.in_lo[n] < self.in_hi[n] or not self.namers[n]) and n not in self.undoes
        )

    def _direct_input(self, node: int) -> ValueKey | None:
        edges = range(self.in_lo[node], self.in_hi[node])
        odd = node in self.batches or (node in self.batch_of and self.nodes[node].uses == GATHER) or node in self.undoes
        if self.inputs[node] is not None or self.repeats[node] or len(edges) > 1 or odd:
            return None
        if not edges:
            return RUN_INPUT
        source = self.src[edges[0]]
        return None if self.transform[edges[0]] is not None or self.repeats[source] else self.key_of[source]

    def _references_of(self, node: int) -> frozenset[Reference]:
        """All that the conditions and transforms of a node's edges may ask for."""
        found: set[Reference] = set()
        for e in self.out[node]:
            for expression in (self.condition[e], self.transform[e]):
                if expression is not None:
                    found |= expression.references
            named = self.inputs[self.dst[e]]
            if self.transform[e] is not None and isinstance(named, tuple):
                for path in named:
                    found |= path.references
        return frozenset(found)

    def _compile_inputs(self, node: Node) -> InputPath | Mapping[str, InputPath] | None:
        inputs = node.inputs
        if inputs is None and node.uses == SUBFLOW:
            inputs = mapping_of(node, "inputs")
            mapping_of(node, "outputs")
        if inputs is None:
            return None
        if isinstance(inputs, Mapping):
            return {name: self._input_path(node, source) for name, source in inputs.items()}
        return self._input_path(node, inputs)

    def _input_path(self, node: Node, source: str | Sequence[str]) -> InputPath:
        names = (source,) if isinstance(source, str) else tuple(source)
        try:
            return tuple(_parse_name(name, self.names) for name in names)
        except ExpressionError as error:
            raise ExpressionError(
                f"inputs of node {node.id!r} do not parse: {error}",
                source=error.source, position=error.position, subject=node.id,
            ) from error  # fmt: skip


def _parse_name(name: str, names: frozenset[str]) -> Expression:
    """A name or dotted path; a node's whole id is tried first, however odd it looks."""
    if name in names:
        return parse(f"_outputs[{_quote(name)}]")
    head, dot, rest = name.partition(".")
    plain = head.isidentifier() or head in names
    if not plain:
        return parse(f"context[{_quote(name)}]")
    if head.startswith("_") or not dot:
        return parse(name if head.startswith("_") else f"context[{_quote(name)}]", names=names)
    return parse(f"context[{_quote(head)}].{rest}")


def _quote(text: str) -> str:
    """A text as the grammar of expressions spells it."""
    plain = (c not in ('"', "\\") and (c.isprintable() or c > "\uffff") for c in text)
    return '"' + "".join(c if kept else f"\\u{ord(c):04x}" for c, kept in zip(text, plain, strict=True)) + '"'


def compile_graph(blueprint: Blueprint, *, strict: bool = False) -> Graph:
    """Compile a blueprint.

    Raises:
        DefinitionError: a circle of fallbacks, a cycle that is entered at several nodes, or (``strict``) one that can
            never end. ExpressionError: an expression does not parse.
    """
    return Graph(blueprint, strict=strict)
