"""Loop controllers: without a way round, without a way out, with a condition that nothing can change; and ways out of
loops that are none."""

from __future__ import annotations

from collections.abc import Iterator

from flowcraft.constructs import LOOP, kind_of
from flowcraft.graph import Graph, ScopePlan
from flowcraft.lint.decisions import constant, facts_of_edge
from flowcraft.lint.issues import LintIssue
from flowcraft.lint.subject import Subject
from flowcraft.shapes import text_of

__all__ = ["check_early_exits", "check_endless_loops", "check_loops"]


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


def check_early_exits(subject: Subject, graph: Graph) -> Iterator[LintIssue]:  # noqa: ARG001 - every check gets it
    """``EARLY_EXIT_INTO_BODY``: taken instead of the way round, but to a node that belongs to the loop."""
    for plan in graph.scopes[1:]:
        round_again = _goes_round(graph, plan)
        for e in plan.inner if plan.structured else ():
            source, target = graph.src[e], graph.dst[e]
            choosy = graph.action[e] is not None or graph.condition[e] is not None
            if not choosy or source == plan.header or source not in round_again or target in round_again:
                continue
            back = [other for other in graph.out[source] if graph.dst[other] in round_again]
            if all(_exclude_each_other(graph, e, other) for other in back):
                loop, name = graph.ids[plan.header], graph.ids[target]
                yield LintIssue(
                    "EARLY_EXIT_INTO_BODY", f"{graph.ids[source]} -> {name}",
                    f"edge {graph.ids[source]} -> {name} does not end loop {loop!r}: only the loop leads to {name!r}, "
                    "so it is part of the body, and without another way round what follows the loop is skipped",
                    f"let the loop's edge with the action 'break' lead to {name!r}, too, or lead the way out to what "
                    "follows the loop",
                )  # fmt: skip


def _goes_round(graph: Graph, plan: ScopePlan) -> set[int]:
    """The header, and the nodes of the scope from which it is reached again."""
    members, found, todo = set(plan.members), {plan.header}, [plan.header]
    while todo:
        node = todo.pop()
        for e in range(graph.in_lo[node], graph.in_hi[node]):
            source = graph.src[e]
            if source in members and source not in found:
                found.add(source)
                todo.append(source)
    return found


def _exclude_each_other(graph: Graph, one: int, other: int) -> bool:
    first, second = facts_of_edge(graph, one), facts_of_edge(graph, other)
    return any(fact in second and second[fact] != answer for fact, answer in first.items())
