"""JSON data that is no blueprint yet: what makes it none is reported, and the rest is looked at all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from flowcraft.blueprint import Blueprint
from flowcraft.errors import DefinitionError
from flowcraft.lint.issues import LintIssue

__all__ = ["read_blueprint"]


def read_blueprint(data: object) -> tuple[Blueprint | None, list[LintIssue]]:
    """The blueprint without the edges that end nowhere, which are findings; None if it is none even so."""
    issues: list[LintIssue] = []
    try:
        return Blueprint.from_dict(data), issues
    except DefinitionError as error:
        trouble = error
    if isinstance(data, Mapping):
        row = cast("Mapping[str, object]", data)
        ids = _ids(row.get("nodes"))
        kept = [edge for edge in _members(row.get("edges")) if not _dangling(edge, ids, issues)]
        try:
            return Blueprint.from_dict({**row, "edges": kept}), issues
        except DefinitionError as error:
            trouble = error
    blueprint_id = cast("Mapping[str, object]", data).get("id") if isinstance(data, Mapping) else None
    subject = trouble.subject or (blueprint_id if isinstance(blueprint_id, str) else "the blueprint")
    issues.append(LintIssue("INVALID_BLUEPRINT", subject, str(trouble), "a run of it cannot be started"))
    return None, issues


def _members(found: object) -> list[object]:
    if isinstance(found, Mapping):
        return list(cast("Mapping[str, object]", found).values())
    return list(cast("list[object]", found)) if isinstance(found, list) else []


def _ids(nodes: object) -> set[object]:
    named = cast("Mapping[str, object]", nodes).items() if isinstance(nodes, Mapping) else enumerate(_members(nodes))
    return {
        cast("Mapping[str, object]", node).get("id", key)
        for key, node in named
        if isinstance(node, Mapping) and isinstance(cast("Mapping[str, object]", node).get("id", key), str)
    }


def _dangling(edge: object, ids: set[object], issues: list[LintIssue]) -> bool:
    if not isinstance(edge, Mapping):
        return False
    row = cast("Mapping[str, object]", edge)
    source, target = row.get("source"), row.get("target")
    if not isinstance(source, str) or not isinstance(target, str):
        return False
    found = len(issues)
    name = f"{source} -> {target}"
    if source not in ids:
        issues.append(
            LintIssue("INVALID_EDGE_SOURCE", name, f"edge {name} starts at {source!r}, which is no node", "name a node")
        )
    if target not in ids:
        issues.append(
            LintIssue("INVALID_EDGE_TARGET", name, f"edge {name} leads to {target!r}, which is no node", "name a node")
        )
    return len(issues) > found
