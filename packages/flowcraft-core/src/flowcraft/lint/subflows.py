"""Subflows: blueprints that nobody knows, and blueprints that run themselves without end."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError
from flowcraft.graph import compile_graph
from flowcraft.lint.decisions import certain_nodes
from flowcraft.lint.issues import LintIssue
from flowcraft.lint.subject import Subject
from flowcraft.lint.texts import without_broken
from flowcraft.shapes import subflows_of

__all__ = ["check_endless_subflows", "check_subflows"]


def check_subflows(subject: Subject) -> Iterator[LintIssue]:
    """``INVALID_SUBFLOW_BLUEPRINT_ID``."""
    known = None if subject.blueprints is None else {*subject.blueprints, subject.blueprint.id}
    for subflow in subflows_of(subject.blueprint):
        wanted = subflow.blueprint_id
        if wanted is None:
            yield LintIssue(
                "INVALID_SUBFLOW_BLUEPRINT_ID", subflow.node, f"subflow {subflow.node!r} names no blueprint",
                "name it in params.blueprintId",
            )  # fmt: skip
        elif known is not None and wanted not in known:
            close = difflib.get_close_matches(wanted, known, n=1)
            yield LintIssue(
                "INVALID_SUBFLOW_BLUEPRINT_ID", subflow.node,
                f"subflow {subflow.node!r} runs blueprint {wanted!r}, which is not here",
                f"did you mean {close[0]!r}?" if close else f"add blueprint {wanted!r} to the runtime",
            )  # fmt: skip


def check_endless_subflows(subject: Subject) -> Iterator[LintIssue]:
    """``ENDLESS_SUBFLOW``: a node that is executed in every run and leads, in every run, to this blueprint again."""
    blueprints = {**(subject.blueprints or {}), subject.blueprint.id: subject.blueprint}
    runs = {blueprint_id: _always_run(blueprint) for blueprint_id, blueprint in blueprints.items()}
    own = subject.blueprint.id
    for node, target in runs[own].items():
        path = _path(runs, target, own)
        if path is not None:
            told = " runs ".join(map(repr, (own, *path)))
            yield LintIssue(
                "ENDLESS_SUBFLOW", node, f"subflow {node!r} is executed in every run, without end: {told}",
                "put a condition or an action on an edge that leads to the subflow",
            )  # fmt: skip


def _path(runs: Mapping[str, Mapping[str, str]], start: str, end: str) -> Sequence[str] | None:
    """From one blueprint to another by those that each one always runs, both ends included."""
    ways: dict[str, tuple[str, ...]] = {start: (start,)}
    todo = deque([start])
    while todo and end not in ways:
        at = todo.popleft()
        for target in runs.get(at, {}).values():
            if target not in ways:
                ways[target] = (*ways[at], target)
                todo.append(target)
    return ways.get(end)


def _always_run(blueprint: Blueprint) -> Mapping[str, str]:
    """By node, the blueprints that are run whenever this one is, unless something fails before."""
    subflows = {s.node: s.blueprint_id for s in subflows_of(blueprint) if s.blueprint_id is not None}
    if not subflows:
        return {}
    try:
        graph = compile_graph(without_broken(Subject(blueprint, None, None)))
    except DefinitionError:
        return {}
    certain = certain_nodes(graph)
    return {node: target for node, target in subflows.items() if graph.index[node] in certain}
