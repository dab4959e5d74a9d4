"""Loop controllers: without a way round, without a way out, or with a condition that nothing can change."""

from __future__ import annotations

from collections.abc import Iterator

from flowcraft.constructs import LOOP, kind_of
from flowcraft.graph import Graph
from flowcraft.lint.decisions import constant
from flowcraft.lint.issues import LintIssue
from flowcraft.lint.subject import Subject
from flowcraft.shapes import text_of

__all__ = ["check_endless_loops", "check_loops"]


def check_loops(subject: Subject) -> Iterator[LintIssue]:
    """``LOOP_WITHOUT_CONTINUE``, ``LOOP_NOT_CLOSED`` and ``LOOP_WITHOUT_BREAK``."""
    for node in subject.blueprint.nodes:
        if kind_of(node) != LOOP:
            continue  # the function of a controller without a condition has actions of its own
        out = subject.out[node.id]
        targets = dict.fromkeys(edge.target for edge in out if edge.action == "continue")
        if not targets:
            yield LintIssue(
                "LOOP_WITHOUT_CONTINUE", node.id, f"loop {node.id!r} has no edge with the action 'continue'",
                "add one to the first node of its body",
            )  # fmt: skip
        elif not any(node.id in subject.reached_from(target) for target in targets):
            yield LintIssue(
                "LOOP_NOT_CLOSED", node.id,
                f"nothing leads from the body of loop {node.id!r} back to it: it goes round once",
                f"add an edge from the last node of its body to {node.id!r}",
            )  # fmt: skip
        if all(edge.action == "continue" for edge in out):
            yield LintIssue(
                "LOOP_WITHOUT_BREAK", node.id,
                f"nothing follows loop {node.id!r}: it has no edge with the action 'break'",
                "add one to what comes after the loop",
            )  # fmt: skip


def check_endless_loops(subject: Subject, graph: Graph) -> Iterator[LintIssue]:
    """``ENDLESS_LOOP``: always true, and no early exit."""
    for plan in graph.scopes[1:]:
        node = graph.nodes[plan.header]
        condition = text_of(node.params.get("condition"))
        if kind_of(node) != LOOP or condition is None or not constant(condition, subject.names):
            continue
        if not any(graph.src[e] != plan.header or graph.condition[e] is not None for e in plan.exits):
            yield LintIssue(
                "ENDLESS_LOOP", node.id,
                f"the condition of loop {node.id!r} is always true, and nothing else leads out of it: it goes round "
                f"{graph.blueprint.max_visits} times, and fails",
                "let the condition depend on something, or add an edge with a condition that leads out of the loop",
            )  # fmt: skip
