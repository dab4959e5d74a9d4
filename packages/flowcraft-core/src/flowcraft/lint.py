"""What is wrong or odd about a blueprint, all of it at once: each finding names the place and says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from flowcraft.blueprint import Blueprint, Edge
from flowcraft.errors import DefinitionError, ExpressionError
from flowcraft.expressions import Reference, parse
from flowcraft.graph import Graph, compile_graph
from flowcraft.registry import Implementation, NodeFunction, Registry

__all__ = ["BlueprintAnalysis", "LintCode", "LintIssue", "LintReport", "analyze_blueprint", "lint_blueprint"]

LintCode = Literal[
    # errors: the blueprint cannot run here, or a part of it can never run
    "INVALID_BLUEPRINT",
    "INVALID_EXPRESSION",
    "MISSING_NODE_IMPLEMENTATION",
    "JOIN_NEVER_FIRES",
    # warnings: it runs, but hardly as its author meant it
    "ENDLESS_CYCLE_IGNORED",
    "CYCLE_WITHOUT_ENTRY",
    "ORPHAN_NODE",
    "NO_TERMINAL_NODE",
    "DUPLICATE_EDGE",
    "FALLBACK_ALSO_REGULAR",
    "FALLBACK_SHARES_TARGET",
    "UNKNOWN_NAME",
    "TIMEOUT_BEYOND_RUN",
]
_ERRORS: frozenset[LintCode] = frozenset(
    {"INVALID_BLUEPRINT", "INVALID_EXPRESSION", "MISSING_NODE_IMPLEMENTATION", "JOIN_NEVER_FIRES"}
)


@dataclass(frozen=True, slots=True)
class LintIssue:
    """One finding. ``subject`` is the id of a node, ``source -> target`` of an edge, or the id of the blueprint."""

    code: LintCode
    subject: str
    message: str
    remedy: str

    @property
    def severity(self) -> Literal["error", "warning"]:
        """``error``: it cannot work; ``warning``: it works, but hardly as it was meant."""
        return "error" if self.code in _ERRORS else "warning"

    def to_dict(self) -> dict[str, str]:
        """The finding as JSON data."""
        told = {"code": self.code, "severity": self.severity, "subject": self.subject}
        return {**told, "message": self.message, "remedy": self.remedy}

    def __str__(self) -> str:
        return f"{self.severity}: {self.code}: {self.message}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class LintReport:
    """All findings about one blueprint, errors first."""

    blueprint_id: str
    issues: tuple[LintIssue, ...]

    @property
    def is_valid(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return not self.errors

    @property
    def errors(self) -> tuple[LintIssue, ...]:
        """What cannot work."""
        return tuple(issue for issue in self.issues if issue.severity == "error")

    @property
    def warnings(self) -> tuple[LintIssue, ...]:
        """What works, but hardly as it was meant."""
        return tuple(issue for issue in self.issues if issue.severity == "warning")


@dataclass(frozen=True, slots=True)
class BlueprintAnalysis:
    """The shape of a blueprint. ``cycles``: ids from a node back to itself, one for each edge that closes a cycle.

    ``start_node_ids`` are those that fire when a run starts, ``terminal_node_ids`` those whose outputs are the run's.
    """

    start_node_ids: tuple[str, ...]
    terminal_node_ids: tuple[str, ...]
    cycles: tuple[tuple[str, ...], ...]
    node_count: int
    edge_count: int

    @property
    def is_dag(self) -> bool:
        """Whether no edge leads back."""
        return not self.cycles


def analyze_blueprint(blueprint: Blueprint) -> BlueprintAnalysis:
    """Where a blueprint starts and ends, and where it goes round.

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


def lint_blueprint(
    blueprint: Blueprint, registry: Registry | Mapping[str, Implementation | NodeFunction] | None = None
) -> LintReport:
    """Look for everything that is wrong or odd. With a ``registry``, also for nodes that it has no function for.

    Raises:
        DefinitionError: the registry holds something that is no node function.
    """
    issues = list(_expressions(blueprint))
    if registry is not None:
        found = registry if isinstance(registry, Registry) else Registry.of(registry)
        issues += _implementations(blueprint, found)
    issues += _duplicates(blueprint)
    issues += _fallbacks(blueprint)
    issues += _timeouts(blueprint)
    try:
        graph = compile_graph(_without_expressions(blueprint))
    except DefinitionError as error:
        issues.append(
            LintIssue("INVALID_BLUEPRINT", error.subject or blueprint.id, str(error), "a run of it cannot be started")
        )
    else:
        for check in _GRAPH_CHECKS:
            issues += check(graph)
    return LintReport(blueprint.id, tuple(sorted(issues, key=lambda issue: issue.severity)))


def _without_expressions(blueprint: Blueprint) -> Blueprint:
    """The same shape, with conditions that parse: what they say was looked at already, what they decide is kept."""
    edges = tuple(
        replace(edge, condition=None if edge.condition is None else "true", transform=None) for edge in blueprint.edges
    )
    return replace(blueprint, edges=edges, nodes=tuple(replace(node, inputs=None) for node in blueprint.nodes))


def _expressions(blueprint: Blueprint) -> Iterator[LintIssue]:
    names = frozenset(node.id for node in blueprint.nodes)
    for edge in blueprint.edges:
        for what, text in (("condition", edge.condition), ("transform", edge.transform)):
            if text is not None:
                yield from _expression(f"the {what} of edge {edge}", str(edge), text, names)
    if any(node.inputs is not None for node in blueprint.nodes):
        yield from _inputs(blueprint, names)


def _expression(what: str, subject: str, text: str, names: frozenset[str]) -> Iterator[LintIssue]:
    try:
        parsed = parse(text, names=names)
    except ExpressionError as error:
        yield LintIssue(
            "INVALID_EXPRESSION", subject, f"{what} does not parse: {error}", f"mend it at position {error.position}"
        )
        return
    for reference in sorted(parsed.references, key=_order):
        yield from _reference(what, subject, reference, names)


def _reference(what: str, subject: str, reference: Reference, names: frozenset[str]) -> Iterator[LintIssue]:
    """A name may be a context key, which nobody knows beforehand: only what nearly is a node's id is reported."""
    if reference.kind in ("result", "input") or reference.name in names:
        return
    certain = reference.kind in ("output", "input_of")
    close = difflib.get_close_matches(reference.name, names, n=1, cutoff=0.6 if certain else 0.85)
    if certain or close:
        meant = f"did you mean {close[0]!r}?" if close else "name one of the blueprint's nodes"
        yield LintIssue("UNKNOWN_NAME", subject, f"{what} reads {reference.name!r}, which is no node", meant)


def _inputs(blueprint: Blueprint, names: frozenset[str]) -> Iterator[LintIssue]:
    """The graph's own reading of ``inputs``; after an error once more, without the node that had it."""
    nodes = {node.id: replace(node, fallback=None) for node in blueprint.nodes}
    graph = None
    while graph is None:
        try:
            graph = compile_graph(Blueprint("inputs", tuple(nodes.values())))
        except ExpressionError as error:
            subject = error.subject or ""
            yield LintIssue("INVALID_EXPRESSION", subject, str(error), f"mend it at position {error.position}")
            nodes[subject] = replace(nodes[subject], inputs=None)
    for node_id, compiled in zip(graph.ids, graph.inputs, strict=True):
        paths = compiled.values() if isinstance(compiled, Mapping) else (compiled or (),)
        for reference in sorted({r for path in paths for e in path for r in e.references}, key=_order):
            yield from _reference(f"inputs of node {node_id!r}", node_id, reference, names)


def _order(reference: Reference) -> tuple[str, str]:
    return reference.kind, reference.name


def _implementations(blueprint: Blueprint, registry: Registry) -> Iterator[LintIssue]:
    known = [function.name for function in registry]
    for node in blueprint.nodes:
        if registry.find(node.uses) is None:
            base = node.uses.partition("@")[0]
            other = [name for name in known if name.partition("@")[0] == base]
            close = other or difflib.get_close_matches(node.uses, known, n=1)
            remedy = f"register {node.uses!r}" + (f" (there is {close[0]!r})" if close else "")
            message = f"node {node.id!r} uses {node.uses!r}, for which there is no function"
            yield LintIssue("MISSING_NODE_IMPLEMENTATION", node.id, message, remedy)


def _duplicates(blueprint: Blueprint) -> Iterator[LintIssue]:
    seen: set[Edge] = set()
    for edge in blueprint.edges:
        if edge in seen:
            yield LintIssue("DUPLICATE_EDGE", str(edge), f"edge {edge} is there twice", "remove one of the two")
        seen.add(edge)


def _fallbacks(blueprint: Blueprint) -> Iterator[LintIssue]:
    targets: dict[str, set[str]] = {node.id: set() for node in blueprint.nodes}
    entered: dict[str, Edge] = {}
    for edge in blueprint.edges:
        targets[edge.source].add(edge.target)
        entered.setdefault(edge.target, edge)
    for node in blueprint.nodes:
        if node.fallback is None:
            continue
        if node.fallback in entered:
            yield LintIssue(
                "FALLBACK_ALSO_REGULAR", node.fallback,
                f"{node.fallback!r} is the fallback of {node.id!r} and also runs by itself, because of edge "
                f"{entered[node.fallback]}",
                "remove the edge if it was meant to stand in only: a fallback needs none",
            )  # fmt: skip
        for target in sorted(targets[node.id] & targets[node.fallback]):
            yield LintIssue(
                "FALLBACK_SHARES_TARGET", f"{node.fallback} -> {target}",
                f"{node.id!r} and its fallback {node.fallback!r} both lead to {target!r}, which then gets an object of "
                "both outputs",
                f"remove edge {node.fallback} -> {target}: the fallback's output goes along the edges of {node.id!r}",
            )  # fmt: skip


def _timeouts(blueprint: Blueprint) -> Iterator[LintIssue]:
    for node in blueprint.nodes:
        if blueprint.timeout is not None and node.timeout is not None and node.timeout > blueprint.timeout:
            yield LintIssue(
                "TIMEOUT_BEYOND_RUN", node.id,
                f"node {node.id!r} may take {node.timeout:g} s, the whole run only {blueprint.timeout:g} s",
                "raise the blueprint's timeout or lower the node's",
            )  # fmt: skip


def _endless(graph: Graph) -> Iterator[LintIssue]:
    for edge in graph.ignored:
        yield LintIssue(
            "ENDLESS_CYCLE_IGNORED", str(edge), f"edge {edge} closes a cycle that could never end, and is ignored",
            "give an edge of the cycle an action or a condition",
        )  # fmt: skip


def _joins(graph: Graph) -> Iterator[LintIssue]:
    for n, node in enumerate(graph.nodes):
        needed, present = node.join.at_least, graph.predecessors[n]
        if needed is not None and present and needed > present:
            yield LintIssue(
                "JOIN_NEVER_FIRES", node.id,
                f"node {node.id!r} waits for {needed} predecessors and has {present}: it is always skipped",
                f"ask for at most {present}",
            )  # fmt: skip


def _islands(graph: Graph) -> Iterator[LintIssue]:
    for plan in graph.scopes[1:]:
        if plan.parent == 0 and not plan.entering and graph.node_count > len(plan.members):
            header = graph.ids[plan.header]
            yield LintIssue(
                "CYCLE_WITHOUT_ENTRY", header,
                f"nothing leads to the cycle through {header!r}: it starts by itself, beside the rest",
                "add an edge that leads to it, or move it to a blueprint of its own",
            )  # fmt: skip


def _orphans(graph: Graph) -> Iterator[LintIssue]:
    """Nodes that are connected to nothing, where others are."""
    edges = graph.blueprint.edges
    if not edges:
        return
    touched = {end for edge in edges for end in (edge.source, edge.target)}
    for n, node in enumerate(graph.nodes):
        if node.id not in touched and node.fallback is None and not graph.namers[n]:
            yield LintIssue(
                "ORPHAN_NODE", node.id, f"node {node.id!r} is connected to nothing: it runs beside the rest",
                "add an edge, or remove it",
            )  # fmt: skip


def _ends(graph: Graph) -> Iterator[LintIssue]:
    if not graph.terminals:
        yield LintIssue(
            "NO_TERMINAL_NODE", graph.blueprint.id,
            f"every node of blueprint {graph.blueprint.id!r} has outgoing edges: a run of it has no output",
            "add a node without outgoing edges, or read the outputs of nodes",
        )  # fmt: skip


_GRAPH_CHECKS: tuple[Callable[[Graph], Iterable[LintIssue]], ...] = (_joins, _endless, _islands, _orphans, _ends)
