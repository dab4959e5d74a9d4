"""The expressions in a blueprint, parsed: conditions, transforms and `inputs`. An error says where the text stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowcraft.blueprint import Edge, Node
from flowcraft.constructs import SUBFLOW, mapping_of
from flowcraft.errors import ExpressionError
from flowcraft.expressions import Expression, parse

__all__ = ["InputPath", "edge_expression", "input_of", "loop_condition"]

#: One source of an input: the expression that reads it. Several: alternatives, the first that exists.
InputPath = tuple[Expression, ...]


def loop_condition(node: Node, names: frozenset[str]) -> Expression:
    """Whether a loop controller goes on. ``names`` are the ids of all nodes.

    Raises:
        ExpressionError: it does not parse.
    """
    try:
        return parse(str(node.params["condition"]), names=names)
    except ExpressionError as error:
        raise ExpressionError(
            f"the condition of loop {node.id!r} does not parse: {error}",
            source=error.source, position=error.position, subject=node.id,
        ) from error  # fmt: skip


def edge_expression(edge: Edge, text: str | None, what: str, names: frozenset[str]) -> Expression | None:
    """An edge's condition or transform (``what``), if it has one.

    Raises:
        ExpressionError: it does not parse.
    """
    if text is None:
        return None
    try:
        return parse(text, names=names)
    except ExpressionError as error:
        raise ExpressionError(
            f"the {what} of edge {edge} does not parse: {error}",
            source=error.source, position=error.position, subject=str(edge),
        ) from error  # fmt: skip


def input_of(node: Node, names: frozenset[str]) -> InputPath | Mapping[str, InputPath] | None:
    """What `inputs` of a node name, or those of a subflow; None: it takes what led to it.

    Raises:
        DefinitionError: mappings of a subflow that are none. ExpressionError: a name does not parse.
    """
    inputs = node.inputs
    if inputs is None and node.uses == SUBFLOW:
        inputs = mapping_of(node, "inputs")
        mapping_of(node, "outputs")
    if inputs is None:
        return None
    if isinstance(inputs, Mapping):
        return {name: _input_path(node, source, names) for name, source in inputs.items()}
    return _input_path(node, inputs, names)


def _input_path(node: Node, source: str | Sequence[str], names: frozenset[str]) -> InputPath:
    paths = (source,) if isinstance(source, str) else tuple(source)
    try:
        return tuple(_parse_name(path, names) for path in paths)
    except ExpressionError as error:
        raise ExpressionError(
            f"inputs of node {node.id!r} do not parse: {error}",
            source=error.source, position=error.position, subject=node.id,
        ) from error  # fmt: skip


def _parse_name(name: str, names: frozenset[str]) -> Expression:
    """A name or dotted path; a node's whole id is tried first, however odd it looks."""
    if name in names:
        return parse(f"_outputs[{_quote(name)}]")
    head, dot, rest = name.partition(".")
    plain = head.isidentifier() or head in names
    if not plain:
        return parse(f"context[{_quote(name)}]")
    if head.startswith("_") or not dot:
        return parse(name if head.startswith("_") else f"context[{_quote(name)}]", names=names)
    return parse(f"context[{_quote(head)}].{rest}")


def _quote(text: str) -> str:
    """A text as the grammar of expressions spells it."""
    plain = (c not in ('"', "\\") and (c.isprintable() or c > "\uffff") for c in text)
    return '"' + "".join(c if kept else f"\\u{ord(c):04x}" for c, kept in zip(text, plain, strict=True)) + '"'
