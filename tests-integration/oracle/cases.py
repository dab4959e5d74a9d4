"""Named examples of docs/semantics.md with the outcome worked out by hand, for the oracle and for the engine.

A flow is written as its edges: ``"a>b, a>c:x, b>d?input.n > 3, c>d!input.n"`` (action after a colon, condition after a
question mark, transform after an exclamation mark). A node's output is its own name, unless told otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

__all__ = ["Case", "case", "flow"]

Row = dict[str, object]
_EDGE = re.compile(r"(\w+)>(\w+)(?::(\w+))?(?:\?([^!]+))?(?:!(.+))?")


@dataclass(frozen=True)
class Case:
    """One example.

    ``order`` scripts the run (see `script`): ``"a"`` or ``"f@a"`` settles that visit, which must be ready; ``"-a"``
    says that nothing runs for ``a`` now; ``"cancel"`` cancels the run. What is ready when the script ends runs in
    the blueprint's order.
    ``states`` has completed, failed, cancelled, and for skipped nodes dead or upstream. What is absent is not checked.
    ``reading`` names the choice that the page leaves open and this expectation takes.
    """

    name: str
    blueprint: Row
    order: tuple[str, ...] = ()
    run_input: object = "input"
    refused: bool = False
    status: str = "completed"
    states: Mapping[str, str] = field(default_factory=dict[str, str])
    outputs: Mapping[str, object] = field(default_factory=dict[str, object])
    visits: Mapping[str, int] = field(default_factory=dict[str, int])
    failures: tuple[str, ...] = ()
    context: Mapping[str, object] = field(default_factory=dict[str, object])
    reading: str = ""


def flow(edges: str, nodes: Mapping[str, Row] | None = None, **metadata: object) -> Row:
    """The blueprint's JSON.

    Options of a node: uses, join, losers, fallback, compensate, tries, delay (seconds), inputs;
    the rest are its params.
    """
    options = {name: dict(row) for name, row in (nodes or {}).items()}
    links: list[Row] = []
    names: list[str] = []
    for text in filter(None, (part.strip() for part in edges.split(","))):
        match = _EDGE.fullmatch(text)
        if match is None:
            names.append(text)
            continue
        values = zip(("source", "target", "action", "condition", "transform"), match.groups(), strict=True)
        links.append({key: value.strip() for key, value in values if value})
        names += [match[1], match[2]]
    wanted = dict.fromkeys([*names, *options])
    return {
        "id": "case",
        "nodes": [_node(name, options.get(name, {})) for name in wanted],
        "edges": links,
        "metadata": metadata,
    }


def _node(name: str, options: Row) -> Row:
    config: Row = {"retryDelay": 0, "retryJitter": 0}
    params: Row = {}
    node: Row = {"id": name, "uses": "behave", "params": params, "config": config}
    for key, value in options.items():
        if key == "join":
            config["joinStrategy"] = {"atLeast": value} if isinstance(value, int) else value
        elif key in ("losers", "fallback", "compensate"):
            config[key] = value
        elif key == "tries":
            config["maxRetries"] = value
        elif key == "delay":
            config["retryDelay"] = 1000 * cast("float", value)
        elif key in ("uses", "inputs"):
            node[key] = value
        else:
            params[key] = value
    if not params.keys() & {"output", "echo", "each", "list"} and node["uses"] == "behave":
        params["output"] = name
    return node


def case(name: str, blueprint: Row, order: str = "", **expected: object) -> Case:
    """A case; ``ok``, ``failed``, ``dead``, ``upstream`` and ``cancelled`` list nodes, ``failures`` nodes too."""
    states: dict[str, str] = {}
    for word, state in (("ok", "completed"), *((s, s) for s in ("failed", "dead", "upstream", "cancelled"))):
        states |= dict.fromkeys(cast("str", expected.pop(word, "")).split(), state)
    failures = tuple(cast("str", expected.pop("failures", "")).split())
    fields = cast("Mapping[str, Mapping[str, object]]", expected)
    return _with(Case(name, blueprint, tuple(order.split()), states=states, failures=failures), fields)


def _with(start: Case, fields: Mapping[str, object]) -> Case:
    values = {key: getattr(start, key) for key in start.__dataclass_fields__}
    unknown: Sequence[str] = [key for key in fields if key not in values]
    if unknown:
        raise TypeError(f"a case has no {unknown}")
    return Case(**{**values, **fields})
