"""The safe expression language of conditions and transforms.

An expression is one value, in a spelling that Python and JavaScript authors both know::

    result.output.total > 100 && result.action !== "skip"
    order.items.length >= 1 and order.customer?.tier in ["gold", "silver"]
    _outputs["load-user"].name ?? context.fallback_name ?? "nobody"

It has its own tokenizer, parser and evaluator: no text of a user is ever Python code. It reads keys of dicts,
indexes of lists and fields of dataclass instances, never a Python attribute, and calls only the functions in
:data:`FUNCTION_NAMES`, which are not values. A missing key, a missing index and a member of None are None; order
comparisons with None are false; a bool equals only a bool. ``/`` is true division, ``%`` has the sign of the
divisor (as in Python) and ``round`` rounds a half to even. ``str`` writes ``true``, ``false`` and ``null``.

Bounds: 4,096 characters, 1,000 parts, 50 open brackets and 120 levels of operands, all checked while parsing; a
budget for work on large values, 100,000 elements in a produced str or list, and 256 bits in an integer.

::

    condition = parse("total > 5", names={"total"})
    condition.references  # frozenset({Reference("name", "total")})
    condition.evaluate({Reference("name", "total"): 6}.get)  # True
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from flowcraft.errors import ConditionError
from flowcraft.expressions.evaluator import Frame, Run, compile_tree
from flowcraft.expressions.functions import FUNCTIONS
from flowcraft.expressions.lexer import MAX_INT_BITS, MAX_SOURCE, quoted
from flowcraft.expressions.parser import MAX_DEPTH, MAX_LEVELS, MAX_NODES, Reference, parse_tree
from flowcraft.expressions.values import MAX_SIZE, MAX_STEPS, PLAIN_TYPES, is_code, truthy

__all__ = [
    "FUNCTION_NAMES",
    "MAX_DEPTH",
    "MAX_INT_BITS",
    "MAX_LEVELS",
    "MAX_NODES",
    "MAX_SIZE",
    "MAX_SOURCE",
    "MAX_STEPS",
    "Expression",
    "Reference",
    "parse",
    "truthy",
]

FUNCTION_NAMES = frozenset(FUNCTIONS)
"""The functions of the language."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression, made by :func:`parse`. Immutable; equal to one of the same text and known names."""

    source: str
    """The text, as it was given."""
    names: frozenset[str] = field(repr=False)
    """The node ids that were known while parsing."""
    references: frozenset[Reference] = field(repr=False, compare=False)
    """Everything that an evaluation may ask for."""
    _run: Run = field(repr=False, compare=False)

    def evaluate(self, resolve: Callable[[Reference], object]) -> object:
        """The value of the expression, with ``resolve`` called for references that are needed, in order.

        ``resolve`` gets members of ``references`` only and returns plain data, and None for what is missing; it
        is not called for operands that ``&&``, ``||``, ``??`` or ``? :`` skip. What it raises passes through.
        Safe to call from several threads at once.

        Raises:
            ConditionError: an operator or function does not take these values, or the work or the result is too
                large; one line that says what, where and in which expression.
        """
        value: object = self._run(Frame(resolve))
        if type(value) not in PLAIN_TYPES and is_code(value):
            raise ConditionError(f"the value is code, not data, in {quoted(self.source, 80)}")
        return value

    def __reduce__(self) -> tuple[Callable[..., Expression], tuple[str, frozenset[str]]]:
        return _again, (self.source, self.names)


def parse(source: str, *, names: Collection[str] = ()) -> Expression:
    """The expression in ``source``.

    ``names`` are the known node ids. One that is not a plain identifier (``load-user``) can be written bare where
    it is known, and the longest one that fits is read; otherwise ``-`` is subtraction. Pass the same frozenset
    for many expressions and it is looked at once.

    Raises:
        ExpressionError: the text does not parse, or is beyond the bounds of the language; ``position`` says where.
    """
    known = frozenset(names)
    tree, references = parse_tree(source, known)
    return Expression(source, known, references, compile_tree(tree, source))


def _again(source: str, names: frozenset[str]) -> Expression:
    return parse(source, names=names)
