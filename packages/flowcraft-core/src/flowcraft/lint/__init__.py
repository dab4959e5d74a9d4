"""What is wrong or odd about a blueprint, all of it at once: each finding names the place and says what to do.

docs/lint.md explains every code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from flowcraft.analysis import BlueprintAnalysis, analyze_blueprint
from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError
from flowcraft.graph import compile_graph
from flowcraft.lint.batches import check_batches
from flowcraft.lint.fallbacks import check_compensations, check_dragged, check_fallbacks
from flowcraft.lint.functions import check_functions
from flowcraft.lint.issues import LintCode, LintIssue, LintReport
from flowcraft.lint.loops import check_early_exits, check_endless_loops, check_loops
from flowcraft.lint.raw import read_blueprint
from flowcraft.lint.reach import check_reach
from flowcraft.lint.structure import check_cycles, check_deadlines, check_duplicates, check_ends, check_orphans
from flowcraft.lint.subflows import check_endless_subflows, check_subflows
from flowcraft.lint.subject import Check, GraphCheck, Subject
from flowcraft.lint.texts import check_texts, without_broken
from flowcraft.lint.waits import check_waits
from flowcraft.registry import Implementation, NodeFunction, Registry
from flowcraft.runtime import FlowRuntime

__all__ = ["BlueprintAnalysis", "LintCode", "LintIssue", "LintReport", "analyze_blueprint", "lint_blueprint"]

Functions = Registry | Mapping[str, Implementation | NodeFunction]
_CHECKS: tuple[Check, ...] = (
    check_texts,
    check_functions,
    check_duplicates,
    check_fallbacks,
    check_compensations,
    check_deadlines,
    check_orphans,
    check_loops,
    check_batches,
    check_waits,
    check_subflows,
    check_endless_subflows,
)
_GRAPH_CHECKS: tuple[GraphCheck, ...] = (
    check_reach,
    check_cycles,
    check_ends,
    check_dragged,
    check_endless_loops,
    check_early_exits,
)


def lint_blueprint(
    blueprint: Blueprint | Mapping[str, object],
    registry: FlowRuntime | Functions | None = None,
    blueprints: Iterable[Blueprint] | Mapping[str, Blueprint] | None = None,
) -> LintReport:
    """Look for everything that is wrong or odd.

    Args:
        blueprint: a blueprint, or its decoded JSON, which need not be a blueprint at all.
        registry: the functions, to look for those that are missing; or a runtime, with its functions and blueprints.
        blueprints: those that subflows may run, to look for missing ones and for runs without end.

    Raises:
        DefinitionError: the registry holds something that is no node function.
    """
    if isinstance(registry, FlowRuntime):
        functions: Registry | None = registry.registry
        blueprints = registry.blueprints if blueprints is None else blueprints
    else:
        functions = registry if registry is None or isinstance(registry, Registry) else Registry.of(registry)
    issues: list[LintIssue] = []
    if not isinstance(blueprint, Blueprint):
        made, issues = read_blueprint(blueprint)
        if made is None:
            return LintReport(str(blueprint.get("id", "")), tuple(issues))
        blueprint = made
    subject = Subject(blueprint, functions, _by_id(blueprints))
    for check in _CHECKS:
        issues += check(subject)
    issues += _graph_issues(subject, {issue.subject for issue in issues if issue.severity == "error"})
    return LintReport(blueprint.id, tuple(sorted(issues, key=lambda issue: issue.severity)))


def _by_id(blueprints: Iterable[Blueprint] | Mapping[str, Blueprint] | None) -> Mapping[str, Blueprint] | None:
    if blueprints is None:
        return None
    if isinstance(blueprints, Mapping):
        return cast("Mapping[str, Blueprint]", blueprints)
    return {blueprint.id: blueprint for blueprint in blueprints}


def _graph_issues(subject: Subject, known: set[str]) -> list[LintIssue]:
    """What the compiled blueprint shows; that it does not compile is news only where no error says why."""
    try:
        graph = compile_graph(without_broken(subject))
    except DefinitionError as error:
        if error.subject in known or any(repr(place) in str(error) for place in known):
            return []
        where = error.subject or subject.blueprint.id
        return [LintIssue("INVALID_BLUEPRINT", where, str(error), "a run of it cannot be started")]
    return [issue for check in _GRAPH_CHECKS for issue in check(subject, graph)]
