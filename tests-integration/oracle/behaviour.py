"""What the nodes of generated workflows do: one pure function of params, visit, attempt and input.

A registry needs a single function for all of them: it calls `behave` and turns an `Err` into an exception.
Params (all optional, JSON):

* ``output``: the literal output; ``echo``: the input is the output; else ``{"n": number, "from": node}``, where the
  number hashes the node and, unless ``of`` is ``"nothing"``, the input and, if ``of`` is ``"visit"``, the visit.
* ``actions``: a list of actions or None, chosen ``by`` ``"visit"`` (round robin) or by ``"input"`` (the number).
* ``fail``: ``{"kind": "error" | "final" | "fatal", "attempts": k, "visits": [..], "odd": true}``: the first k attempts
  fail (all without it), in those visits only, or for inputs with an odd number only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from flowcraft.blueprint import Blueprint

__all__ = ["Behaviour", "Err", "Ok", "Result", "behave", "behaviour_of", "canonical", "without_errors"]


@dataclass(frozen=True)
class Ok:
    """An attempt that succeeded."""

    output: object
    action: str | None = None


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
    """The value with the ``error`` of every fallback's input blanked: its wording is no part of the semantics."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        blank = members.keys() == {"error", "input"}
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
    if fail is not None and _fails(fail, n, visit, attempt):
        kind = cast("str", fail.get("kind", "error"))
        return Err(kind, retryable=kind == "error", fatal=kind == "fatal")
    output: object = {"n": n, "from": node_id}
    if "output" in params:
        output = params["output"]
    elif params.get("echo"):
        output = value
    actions = cast("list[str | None]", params.get("actions") or [None])
    return Ok(output, actions[(n if params.get("by") == "input" else visit - 1) % len(actions)])


def _fails(fail: Mapping[str, object], n: int, visit: int, attempt: int) -> bool:
    attempts, visits = fail.get("attempts"), fail.get("visits")
    return (
        (attempts is None or attempt <= cast("int", attempts))
        and (visits is None or visit in cast("list[int]", visits))
        and (not fail.get("odd") or n % 2 == 1)
    )


def behaviour_of(blueprint: Blueprint) -> Behaviour:
    """The behaviour that the params of the blueprint's nodes describe."""
    params = {node.id: node.params for node in blueprint.nodes}
    return lambda node, visit, attempt, value: behave(params[node], node, visit, attempt, value)
