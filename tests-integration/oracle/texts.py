"""The few conditions, transforms and `inputs` that generated workflows use, evaluated by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import cast

from flowcraft.blueprint import Inputs

__all__ = ["CannotEvaluate", "from_inputs", "holds", "transformed"]


class CannotEvaluate(Exception):
    """The expression has no value for these values."""


_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
_NUMBER = re.compile(r"(?:result\.output|input)\.n(?: % (\d+))? (==|!=|<=|>=|<|>) (\d+)")
_OTHER = re.compile(r"(\w+)\.n > (\d+)")
_ACTION = re.compile(r"result\.action (==|!=) '(\w+)'")


def holds(text: str, output: object, action: str | None, outputs: Mapping[str, object]) -> bool:
    """Whether the condition of an edge holds for its source's outcome; ``outputs`` are those of all nodes so far."""
    if text in ("true", "false"):
        return text == "true"
    if match := _ACTION.fullmatch(text):
        return (action == match[2]) == (match[1] == "==")
    if match := _NUMBER.fullmatch(text):
        n = _n(output)
        if n is None and match[1]:
            raise CannotEvaluate(text)
        if n is None:
            return match[2] == "!="  # None equals no number and is neither below nor above one
        return _COMPARE[match[2]](n % int(match[1]) if match[1] else n, int(match[3]))
    if match := _OTHER.fullmatch(text):
        n = _n(outputs.get(match[1]))
        return n is not None and n > int(match[2])
    if text == "1 / 0 == 1":
        raise CannotEvaluate(text)
    raise NotImplementedError(text)


def transformed(text: str, output: object, outputs: Mapping[str, object]) -> object:
    """What the transform of an edge makes of its source's output, or of what the target's `inputs` names."""
    if text == "input":
        return output
    if text == "input.n":
        return _n(output)
    if match := re.fullmatch(r"input\.n \+ (\d+)", text):
        n = _n(output)
        if n is None:
            raise CannotEvaluate(text)
        return n + int(match[1])
    if match := re.fullmatch(r"(\w)\.n", text):
        return _n(outputs.get(match[1]))
    if text == "1 / 0":
        raise CannotEvaluate(text)
    raise NotImplementedError(text)


def _n(output: object) -> int | None:
    n = cast("dict[str, object]", output).get("n") if isinstance(output, dict) else None
    return n if isinstance(n, int) else None


def from_inputs(inputs: Inputs, outputs: Mapping[str, object]) -> object:
    """The input that an `inputs` mapping makes of the outputs so far."""
    if isinstance(inputs, str):
        return _look_up(inputs, outputs)[1]
    if isinstance(inputs, Mapping):
        return {key: from_inputs(name, outputs) for key, name in inputs.items()}
    return next((value for known, value in (_look_up(name, outputs) for name in inputs) if known), None)


def _look_up(name: str, outputs: Mapping[str, object]) -> tuple[bool, object]:
    if name in outputs:
        return True, outputs[name]
    node, *path = name.split(".")
    if node not in outputs:
        return False, None
    value = outputs[node]
    for key in path:
        value = cast("dict[str, object]", value).get(key) if isinstance(value, dict) else None
    return True, value
