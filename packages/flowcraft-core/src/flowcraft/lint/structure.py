"""Edges and nodes as such: twice, in a circle without end, connected to nothing; and deadlines that cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from flowcraft.blueprint import Edge
from flowcraft.graph import Graph
from flowcraft.lint.issues import LintIssue
from flowcraft.lint.subject import Subject

__all__ = ["check_cycles", "check_deadlines", "check_duplicates", "check_ends", "check_orphans"]


def check_duplicates(subject: Subject) -> Iterator[LintIssue]:
    """``DUPLICATE_EDGE``."""
    seen: set[Edge] = set()
    for edge in subject.blueprint.edges:
        if edge in seen:
            yield LintIssue("DUPLICATE_EDGE", str(edge), f"edge {edge} is there twice", "remove one of the two")
        seen.add(edge)


def check_deadlines(subject: Subject) -> Iterator[LintIssue]:
    """``TIMEOUT_BEYOND_RUN``."""
    whole = subject.blueprint.timeout
    for node in subject.blueprint.nodes:
        if whole is not None and node.timeout is not None and node.timeout > whole:
            yield LintIssue(
                "TIMEOUT_BEYOND_RUN", node.id,
                f"node {node.id!r} may take {node.timeout:g} s, the whole run only {whole:g} s",
                "raise the blueprint's timeout or lower the node's",
            )  # fmt: skip


def check_cycles(_: Subject, graph: Graph) -> Iterator[LintIssue]:
    """``ENDLESS_CYCLE_IGNORED`` and ``CYCLE_WITHOUT_ENTRY``."""
    for edge in graph.ignored:
        yield LintIssue(
            "ENDLESS_CYCLE_IGNORED", str(edge), f"edge {edge} closes a cycle that could never end, and is ignored",
            "give an edge of the cycle an action or a condition",
        )  # fmt: skip
    for plan in graph.scopes[1:]:
        if plan.parent == 0 and not plan.entering and graph.node_count > len(plan.members):
            header = graph.ids[plan.header]
            yield LintIssue(
                "CYCLE_WITHOUT_ENTRY", header,
                f"nothing leads to the cycle through {header!r}: it starts by itself, beside the rest",
                "add an edge that leads to it, or move it to a blueprint of its own",
            )  # fmt: skip


def check_orphans(subject: Subject) -> Iterator[LintIssue]:
    """``ORPHAN_NODE``: connected to nothing, where others are."""
    if not subject.blueprint.edges:
        return
    for node in subject.blueprint.nodes:
        touched = subject.out[node.id] or subject.into[node.id] or node.fallback is not None
        if not touched and node.id not in subject.namers and node.id not in subject.undoes:
            yield LintIssue(
                "ORPHAN_NODE", node.id, f"node {node.id!r} is connected to nothing: it runs beside the rest",
                "add an edge, or remove it",
            )  # fmt: skip


def check_ends(subject: Subject, graph: Graph) -> Iterator[LintIssue]:
    """``NO_TERMINAL_NODE``."""
    if not graph.terminals:
        name = subject.blueprint.id
        yield LintIssue(
            "NO_TERMINAL_NODE", name, f"every node of blueprint {name!r} has outgoing edges: a run of it has no output",
            "add a node without outgoing edges, or read the outputs of nodes",
        )  # fmt: skip
