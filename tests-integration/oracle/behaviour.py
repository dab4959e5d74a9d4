"""What the nodes of generated workflows do: one pure function of params, visit, attempt and input.

A registry needs a single function for all of them: it calls `behave` and turns an `Err` into an exception.
Params (all optional, JSON):

* ``output``: the literal output; ``echo``: the input is the output; else ``{"n": number, "from": node}``, where the
  number hashes the node and, unless ``of`` is ``"nothing"``, the input and, if ``of`` is ``"visit"``, the visit.
* ``actions``: a list of actions or None, chosen ``by`` ``"visit"`` (round robin) or by ``"input"`` (the number).
* ``each``: literal outputs, by visit (round robin).
* ``list``: the output is a list of 0 to so many such numbers.
* ``fail``: ``{"kind": "error" | "final" | "fatal", "attempts": k, "visits": [..], "odd": true}``: the first k attempts
  fail (all without it), in those visits only, for inputs with an odd number only, or for those among ``items``.

The built-in nodes of a batch do what they do; a scatter with ``sourceUsesKey`` does what its params say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from flowcraft.blueprint import Blueprint, Node

from .kinds import expanded

__all__ = ["Behaviour", "Err", "Ok", "Result", "behave", "behaviour_of", "canonical", "without_errors"]


@dataclass(frozen=True)
class Ok:
    """An attempt that succeeded; ``failed`` of the items of its job have not."""

    output: object
    action: str | None = None
    failed: int = 0


@dataclass(frozen=True)
class Err:
    """An attempt that failed. Not ``retryable``: straight to the fallback; ``fatal``: not even that."""

    kind: str = "error"
    retryable: bool = True
    fatal: bool = False


Result = Ok | Err
#: Of (function node, its visit, attempt, input).
Behaviour = Callable[[str, int, int, object], Result]


def canonical(value: object) -> str:
    """JSON text that is equal for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr)


def without_errors(value: object) -> object:
    """The value with the ``error`` of fallbacks' inputs and failed items blanked: its wording is not semantics."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        blank = members.keys() in ({"error", "input"}, {"error"})  # of a fallback's input, of a failed item
        return {key: None if blank and key == "error" else without_errors(item) for key, item in members.items()}
    if isinstance(value, list | tuple):
        return [without_errors(item) for item in cast("list[object]", value)]
    return value


def _number(*parts: object) -> int:
    return int(hashlib.sha256(canonical(parts).encode()).hexdigest()[:8], 16) % 997


def behave(params: Mapping[str, object], node_id: str, visit: int, attempt: int, value: object) -> Result:
    """The outcome of one attempt of the function node ``node_id``."""
    value = without_errors(value)
    of = params.get("of", "visit")
    n = _number(node_id, None if of == "nothing" else value, visit if of == "visit" else 0)
    fail = cast("Mapping[str, object] | None", params.get("fail"))
    if fail is not None and _fails(fail, n, visit, attempt, value):
        kind = cast("str", fail.get("kind", "error"))
        return Err(kind, retryable=kind == "error", fatal=kind == "fatal")
    output: object = {"n": n, "from": node_id}
    if "output" in params:
        output = params["output"]
    elif params.get("echo"):
        output = value
    elif "each" in params:
        each = cast("list[object]", params["each"])
        output = each[(visit - 1) % len(each)]
    elif "list" in params:
        length = n % (cast("int", params["list"]) + 1)
        output = [{"n": _number(node_id, n, i), "from": node_id, "i": i} for i in range(length)]
    actions = cast("list[str | None]", params.get("actions") or [None])
    return Ok(output, actions[(n if params.get("by") == "input" else visit - 1) % len(actions)])


def _fails(fail: Mapping[str, object], n: int, visit: int, attempt: int, value: object) -> bool:
    attempts, visits = fail.get("attempts"), fail.get("visits")
    return (
        (attempts is None or attempt <= cast("int", attempts))
        and (visits is None or visit in cast("list[int]", visits))
        and (not fail.get("odd") or n % 2 == 1)
        and ("items" not in fail or value in cast("list[object]", fail["items"]))
    )


def _grouped(node: Node, visit: int, items: object) -> Result:
    """Of several items in one job: each result, or that it failed for good."""
    results: list[object] = []
    failed = 0
    for item in cast("list[object]", items):
        result = behave(node.params, node.id, visit, 1, item)
        for attempt in range(2, node.retry.attempts + 1):
            if isinstance(result, Err) and result.retryable:
                result = behave(node.params, node.id, visit, attempt, item)
        failed += isinstance(result, Err)
        results.append({"error": None} if isinstance(result, Err) else result.output)
    return Ok(results, failed=failed)


def _scattered(node: Node, visit: int, attempt: int, value: object) -> Result:
    if node.params.get("sourceUsesKey") is not None:
        return behave(node.params, node.id, visit, attempt, value)
    if value is not None and not isinstance(value, list):
        return Err("NodeFailed")
    return Ok(value or [])


def behaviour_of(blueprint: Blueprint) -> Behaviour:
    """The behaviour that the params of the blueprint's nodes describe."""
    graph, batches = expanded(blueprint)
    nodes = {node.id: node for node in graph.nodes}

    def result(node: str, visit: int, attempt: int, value: object) -> Result:
        uses, params = nodes[node].uses, nodes[node].params
        if node in batches and batches[node].per_job > 1:
            return _grouped(nodes[node], visit, value)
        if uses == "batch-scatter":
            return _scattered(nodes[node], visit, attempt, value)
        return Ok(value) if uses == "batch-gather" else behave(params, node, visit, attempt, value)

    return result
