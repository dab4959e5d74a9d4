"""Nodes that stand in for others, and nodes that undo them: what else leads to them, and where they lead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flowcraft.errors import DefinitionError
from flowcraft.graph import Graph, compile_graph
from flowcraft.lint.issues import LintIssue
from flowcraft.lint.subject import Subject

__all__ = ["check_compensations", "check_dragged", "check_fallbacks"]


def check_fallbacks(subject: Subject) -> Iterator[LintIssue]:
    """``FALLBACK_ALSO_REGULAR``, ``FALLBACK_SHARES_TARGET`` and ``FALLBACK_ROUTES_ONCE``."""
    for node in subject.blueprint.nodes:
        if node.fallback is None:
            continue
        entered = subject.into[node.fallback]
        if entered:
            yield LintIssue(
                "FALLBACK_ALSO_REGULAR", node.fallback,
                f"{node.fallback!r} is the fallback of {node.id!r} and also runs by itself, because of edge "
                f"{entered[0]}",
                "remove the edge if it was meant to stand in only: a fallback needs none",
            )  # fmt: skip
        own = {edge.target for edge in subject.out[node.fallback]}
        for target in sorted(own & {edge.target for edge in subject.out[node.id]}):
            yield LintIssue(
                "FALLBACK_SHARES_TARGET", f"{node.fallback} -> {target}",
                f"{node.id!r} and its fallback {node.fallback!r} both lead to {target!r}, which then gets an object of "
                "both outputs",
                f"remove edge {node.fallback} -> {target}: the fallback's output goes along the edges of {node.id!r}",
            )  # fmt: skip
    for fallback, namers in subject.namers.items():
        if len(namers) > 1 and subject.out[fallback]:
            names = ", ".join(repr(namer.id) for namer in namers)
            yield LintIssue(
                "FALLBACK_ROUTES_ONCE", fallback,
                f"{fallback!r} is the fallback of {names} and has edges of its own: what follows runs once, for "
                "whichever of them came first",
                "give each of them a fallback of its own, or remove these edges: the outcome goes along the edges of "
                "the node that failed anyway",
            )  # fmt: skip


def check_compensations(subject: Subject) -> Iterator[LintIssue]:
    """``COMPENSATION_WITH_EDGES``."""
    for undoing, nodes in subject.undoes.items():
        edges = [*subject.into[undoing], *subject.out[undoing]]
        what = f"has the edge {edges[0]}" if edges else "is a fallback" if undoing in subject.namers else None
        if what is not None:
            yield LintIssue(
                "COMPENSATION_WITH_EDGES", undoing,
                f"{undoing!r} undoes {nodes[0].id!r} when a run is rolled back, and {what}: it never runs otherwise",
                "let it only undo: use another node with the same function for the rest",
            )  # fmt: skip


def check_dragged(subject: Subject, graph: Graph) -> Iterator[LintIssue]:
    """``FALLBACK_DRAGS_INTO_CYCLE``: a node goes round with a cycle only because it shares a fallback with it."""
    shared = {
        fallback
        for fallback, namers in subject.namers.items()
        if len(namers) > 1 and any(graph.scope_of[graph.index[namer.id]] for namer in namers)
    }
    if not shared:
        return
    alone = tuple(replace(node, fallback=None) if node.fallback in shared else node for node in graph.blueprint.nodes)
    try:
        without = compile_graph(replace(graph.blueprint, nodes=alone))
    except DefinitionError:
        return
    for node in subject.blueprint.nodes:
        n = graph.index[node.id]
        if node.fallback not in shared or not graph.scope_of[n]:
            continue
        kept = {without.ids[without.scopes[s].header] for s in without.chain[n] if s}
        there = {plan.header for plan in without.scopes[1:]}
        for scope in graph.chain[n]:
            header = graph.scopes[scope].header
            if scope and header in there and graph.ids[header] not in kept:
                yield LintIssue(
                    "FALLBACK_DRAGS_INTO_CYCLE", node.id,
                    f"{node.id!r} shares its fallback {node.fallback!r} with the cycle at {graph.ids[header]!r}, "
                    "and so becomes a part of it",
                    f"give {node.id!r} a fallback of its own",
                )  # fmt: skip
                break
