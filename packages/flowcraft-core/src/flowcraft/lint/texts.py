"""Expressions and names: conditions, transforms, ``inputs``, the conditions of loops, the mappings of subflows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import cast

from flowcraft.blueprint import Blueprint, Inputs, Json, Node
from flowcraft.constructs import LOOP, SUBFLOW, kind_of
from flowcraft.errors import DefinitionError, ExpressionError
from flowcraft.expressions import Reference, parse
from flowcraft.graph import compile_graph
from flowcraft.limits import check_key
from flowcraft.lint.issues import LintIssue
from flowcraft.lint.subject import Subject
from flowcraft.shapes import text_of

__all__ = ["check_texts", "parses", "without_broken"]


def parses(text: str, names: frozenset[str]) -> bool:
    """Whether the text is an expression."""
    try:
        parse(text, names=names)
    except ExpressionError:
        return False
    return True


def without_broken(subject: Subject) -> Blueprint:
    """The same shape without what does not parse: it was reported, and the rest can be looked at."""
    names = subject.names
    edges = tuple(
        edge
        if edge.transform is None and (edge.condition is None or parses(edge.condition, names))
        else replace(edge, transform=None, condition=edge.condition and _neutral(edge.condition, names))
        for edge in subject.blueprint.edges
    )
    nodes = tuple(replace(node, inputs=None, params=_readable(node)) for node in subject.blueprint.nodes)
    return replace(subject.blueprint, edges=edges, nodes=nodes)


def _readable(node: Node) -> Mapping[str, Json]:
    """The parameters without a subflow's mapping, which is read like ``inputs``."""
    return {k: v for k, v in node.params.items() if k != "inputs"} if node.uses == SUBFLOW else node.params


def _neutral(text: str, names: frozenset[str]) -> str:
    return text if parses(text, names) else "input"


def check_texts(subject: Subject) -> Iterator[LintIssue]:
    """``INVALID_EXPRESSION``, ``UNKNOWN_NAME`` and ``INVALID_`` loop conditions, subflow mappings and limit keys."""
    names = subject.names
    for edge in subject.blueprint.edges:
        for what, text in (("condition", edge.condition), ("transform", edge.transform)):
            if text is not None:
                yield from _expression(f"the {what} of edge {edge}", str(edge), text, names)
    for node in subject.blueprint.nodes:
        if kind_of(node) == LOOP:
            yield from _loop_condition(node, names)
    yield from _inputs(
        [(node.id, f"inputs of node {node.id!r}", node.inputs) for node in subject.blueprint.nodes if node.inputs],
        names,
    )
    for node in subject.blueprint.nodes:
        yield from _limit_keys(node)
    yield from _mappings([node for node in subject.blueprint.nodes if node.uses == SUBFLOW], names)


def _loop_condition(node: Node, names: frozenset[str]) -> Iterator[LintIssue]:
    condition = text_of(node.params["condition"])
    if condition is None:
        yield LintIssue(
            "INVALID_LOOP_CONDITION", node.id, f"params.condition of loop {node.id!r} is no text",
            "write an expression, e.g. 'input.page < 10', or leave it out and register a function for the controller",
        )  # fmt: skip
    else:
        yield from _expression(f"the condition of loop {node.id!r}", node.id, condition, names)


def _limit_keys(node: Node) -> Iterator[LintIssue]:
    for limit in node.limits:
        try:
            check_key(limit, f"node {node.id!r}", node.id)
        except DefinitionError as error:
            remedy = "write an expression over input and params, e.g. 'input.customer'"
            yield LintIssue("INVALID_LIMIT_KEY", node.id, str(error), remedy)


def _expression(what: str, subject: str, text: str, names: frozenset[str]) -> Iterator[LintIssue]:
    try:
        parsed = parse(text, names=names)
    except ExpressionError as error:
        yield LintIssue(
            "INVALID_EXPRESSION", subject, f"{what} does not parse: {error}", f"mend it at position {error.position}"
        )
        return
    for reference in sorted(parsed.references, key=_order):
        yield from _reference(what, subject, reference, names)


def _reference(what: str, subject: str, reference: Reference, names: frozenset[str]) -> Iterator[LintIssue]:
    """A name may be a context key, which nobody knows beforehand: only what nearly is a node's id is reported."""
    if reference.kind in ("result", "input") or reference.name in names:
        return
    certain = reference.kind in ("output", "input_of")
    close = difflib.get_close_matches(reference.name, names, n=1, cutoff=0.6 if certain else 0.85)
    if certain or close:
        meant = f"did you mean {close[0]!r}?" if close else "name one of the blueprint's nodes"
        yield LintIssue("UNKNOWN_NAME", subject, f"{what} reads {reference.name!r}, which is no node", meant)


def _mappings(nodes: Iterable[Node], names: frozenset[str]) -> Iterator[LintIssue]:
    """What a subflow is given, and what is taken from it: names that are read, by keys."""
    readable: list[tuple[str, str, Inputs]] = []
    for node in nodes:
        for side, example in (("inputs", '{"child key": "name"}'), ("outputs", '{"key": "child\'s name"}')):
            value = node.params.get(side)
            if value is None:
                continue
            rows = cast("dict[str, object]", value) if isinstance(value, dict) else None
            if rows is None or not all(key and text_of(name) for key, name in rows.items()):
                yield LintIssue(
                    "INVALID_SUBFLOW_MAPPING", node.id,
                    f"params.{side} of subflow {node.id!r} is no object of names", f"write it as {example}",
                )  # fmt: skip
            elif side == "inputs" and rows:
                readable.append((node.id, f"params.inputs of subflow {node.id!r}", cast("Mapping[str, str]", rows)))
    yield from _inputs(readable, names)


def _inputs(rows: Iterable[tuple[str, str, Inputs]], names: frozenset[str]) -> Iterator[LintIssue]:
    """The graph's own reading of inputs; after an error once more, without those that had it."""
    wanted = {node_id: (what, inputs) for node_id, what, inputs in rows}
    while wanted:
        others = sorted(names - wanted.keys())
        nodes = [Node(node_id, "any", inputs=inputs) for node_id, (_, inputs) in wanted.items()]
        try:
            graph = compile_graph(Blueprint("inputs", (*nodes, *(Node(other, "any") for other in others))))
        except DefinitionError as error:
            subject = error.subject or ""
            if not isinstance(error, ExpressionError) or subject not in wanted:
                return  # more than any reading of inputs finds
            what, _ = wanted.pop(subject)
            said = str(error).removeprefix(f"inputs of node {subject!r} ")
            yield LintIssue("INVALID_EXPRESSION", subject, f"{what} {said}", f"mend it at position {error.position}")
            continue
        for node_id, compiled in zip(graph.ids, graph.inputs, strict=True):
            if node_id in wanted:
                paths = compiled.values() if isinstance(compiled, Mapping) else (compiled or (),)
                for reference in sorted({r for path in paths for e in path for r in e.references}, key=_order):
                    yield from _reference(wanted[node_id][0], node_id, reference, names)
        return


def _order(reference: Reference) -> tuple[str, str]:
    return reference.kind, reference.name
