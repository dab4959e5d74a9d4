"""Subflows: the run that a node's visit stands for, and what comes back from it, in process and distributed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from flowcraft.blueprint import Node
from flowcraft.checks import check_id
from flowcraft.errors import DefinitionError
from flowcraft.model import ErrorInfo
from flowcraft.results import RunResult

__all__ = ["MAX_DEPTH", "ChildResult", "blueprint_of", "child_context", "child_id", "result_of_child", "too_deep"]

#: How deep subflows may be nested.
MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class ChildResult:
    """What a child's end means for its parent's visit: an output and context keys, or an error."""

    output: object = None
    writes: Mapping[str, object] | None = None
    error: ErrorInfo | None = None
    retryable: bool = True


def blueprint_of(node: Node) -> str:
    """The id of the blueprint that a subflow node runs.

    Raises:
        DefinitionError: it names none.
    """
    try:
        return check_id(node.params.get("blueprintId"), "blueprintId")
    except DefinitionError as error:
        raise DefinitionError(f"params of subflow {node.id!r}: {error}", subject=node.id) from error


def child_id(run_id: str, node_id: str, item: int, visit: int, attempt: int, *, fallback: str = "") -> str:
    """The id of the child's run: the same for every repetition of the attempt, another for the next attempt.

    ``fallback``: the node that stands in for ``node_id``, whose visit it is then.
    """
    told = "\x1f".join((run_id, node_id, str(item), str(visit), str(attempt), *filter(None, [fallback])))
    return f"sub-{hashlib.sha256(told.encode()).hexdigest()[:32]}"


def child_context(node: Node, given: object) -> Mapping[str, object]:
    """The context that a child starts with: what the mapping ``params.inputs`` made of the parent's values."""
    mapped = isinstance(node.params.get("inputs"), Mapping) and isinstance(given, Mapping)
    return cast("Mapping[str, object]", given) if mapped else {}


def too_deep(node: Node) -> ErrorInfo:
    """Why a subflow that is nested too deeply fails."""
    return ErrorInfo("SubflowTooDeep", f"subflow {node.id!r} would be nested more than {MAX_DEPTH} deep")


def result_of_child(node: Node, result: RunResult) -> ChildResult:
    """Read a child that has ended."""
    if result.status != "completed":
        first = next((str(failure) for failure in result.errors), result.cause)
        text = f"run {result.run_id!r} of {node.params.get('blueprintId')!r} {result.status}" + (first and f": {first}")
        return ChildResult(error=ErrorInfo("SubflowFailed", text), retryable=result.status == "failed")
    writes: dict[str, object] = {}
    for key, name in cast("Mapping[str, str]", node.params.get("outputs") or {}).items():
        if name in result.outputs:
            writes[key] = result.outputs[name]
        elif name in result.context:
            writes[key] = result.context[name]
    return ChildResult(result.output(), writes)
