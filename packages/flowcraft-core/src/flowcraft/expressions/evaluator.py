"""A parsed tree to closures.

An evaluation visits each node of the tree at most once: there are no loops and at most 1,000 nodes. Chains
(``a.b.c``, ``a + b + c``, ``a && b && c``) are loops in one closure, so the Python stack stays as shallow as the
nesting of the text. Work on data comes out of the budget in :mod:`flowcraft.expressions.values`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from flowcraft.errors import ConditionError
from flowcraft.expressions.functions import FUNCTIONS, negative
from flowcraft.expressions.lexer import quoted, refuse
from flowcraft.expressions.parser import MAX_LEVELS, Apply, Index, Literally, Member, Node, Read, Reference
from flowcraft.expressions.values import (
    OPERATIONS,
    Budget,
    Refused,
    arithmetic,
    contained,
    equal,
    length,
    ordered,
    read,
    truthy,
)

__all__ = ["Frame", "Run", "compile_tree"]

_FAST: Final = frozenset({int, float})
_ORDERS: Final = frozenset({"<", "<=", ">", ">="})
_ARITHMETIC: Final = frozenset({"+", "-", "*", "/", "%"})
_SHORT: Final = 1024  # characters that are compared for free
_SHOWN: Final = 80  # characters of the expression in a message


class Frame(Budget):
    """One evaluation: its budget and how it resolves references."""

    __slots__ = ("resolve",)

    def __init__(self, resolve: Callable[[Reference], Any]) -> None:
        super().__init__()
        self.resolve = resolve


Run = Callable[[Frame], Any]
"""A compiled node: the value it has in one evaluation."""
_Guard = Callable[..., Any]


def compile_tree(tree: Node, source: str) -> Run:
    """The closure that evaluates ``tree``; ``source`` is shown in the messages of ``ConditionError``.

    Raises:
        ExpressionError: the tree is nested too deeply.
    """
    return _Compiler(source).build(tree, 0)


class _Compiler:
    def __init__(self, source: str) -> None:
        self._source = source
        self._shown = quoted(source, _SHOWN)

    def build(self, node: Node, level: int) -> Run:
        if level > MAX_LEVELS:
            message = f"operators are nested more than {MAX_LEVELS} deep"
            raise refuse(self._source, node.position, message)
        match node:
            case Literally(value=value):
                return lambda _frame: value
            case Read(reference=reference):
                return lambda frame: frame.resolve(reference)
            case Member() | Index():
                return self._path(node, level + 1)
            case Apply(operator=sign) if sign in _ARITHMETIC or sign in ("and", "or", "??"):
                return self._chain(node, level + 1)
            case Apply():
                runs = [self.build(operand, level + 1) for operand in node.operands]
                return _apply(node.operator, runs, self._guard(node.position))
            case _:
                raise AssertionError(f"no such node: {node!r}")

    def _guard(self, position: int) -> _Guard:
        """A caller of operators and functions that adds the place to what they refuse."""
        place = f"(position {position} of {self._shown})"

        def guard(function: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return function(*arguments)
            except Refused as error:
                raise ConditionError(f"{error} {place}") from None

        return guard

    def _path(self, node: Node, level: int) -> Run:
        steps: list[tuple[Callable[[Any, Any], Any], Run]] = []
        keys: list[str] = []
        while isinstance(node, Member | Index):
            key: Node = node.key if isinstance(node, Index) else Literally(node.position, node.name)
            reader = length if isinstance(node, Member) and node.name == "length" else read
            steps.append((reader, self.build(key, level)))
            if reader is read and isinstance(key, Literally) and isinstance(key.value, str):
                keys.append(key.value)
            node = node.base
        if isinstance(node, Read) and len(keys) == len(steps):
            return _path_of_keys(node.reference, tuple(reversed(keys)))
        base = self.build(node, level)
        steps.reverse()

        def run(frame: Frame) -> Any:
            value = base(frame)
            for reader, key in steps:
                value = reader(value, key(frame))
            return value

        return run

    def _chain(self, node: Apply, level: int) -> Run:
        """A run of arithmetic, or of one logical operator, that associates to the left."""
        logical = node.operator not in _ARITHMETIC
        links: list[Apply] = [node]
        while isinstance(left := links[-1].operands[0], Apply) and (
            left.operator == node.operator if logical else left.operator in _ARITHMETIC
        ):
            links.append(left)
        links.reverse()
        first = self.build(links[0].operands[0], level)
        others = [self.build(link.operands[1], level) for link in links]
        if logical:
            return _LOGICAL[node.operator](first, others)
        guards = [self._guard(link.position) for link in links]
        signs = [link.operator for link in links]
        return _arithmetic(first, tuple(zip(signs, others, guards, strict=True)))


# -- closures ---------------------------------------------------------------------------------------------------


def _path_of_keys(reference: Reference, keys: tuple[str, ...]) -> Run:
    def run(frame: Frame) -> Any:
        value = frame.resolve(reference)
        for key in keys:
            value = value.get(key) if type(value) is dict else read(value, key)
        return value

    return run


def _arithmetic(first: Run, links: Sequence[tuple[str, Run, _Guard]]) -> Run:
    def run(frame: Frame) -> Any:
        value = first(frame)
        for sign, operand, guard in links:
            value = guard(arithmetic, sign, value, operand(frame), frame)
        return value

    return run


def _until(stops: Callable[[Any], bool]) -> Callable[[Run, Sequence[Run]], Run]:
    """A maker of closures whose value is that of the first operand at which it stops, else of the last one."""

    def make(first: Run, others: Sequence[Run]) -> Run:
        def run(frame: Frame) -> Any:
            value = first(frame)
            for operand in others:
                if stops(value):
                    break
                value = operand(frame)
            return value

        return run

    return make


_LOGICAL: Final = {
    "and": _until(lambda value: not truthy(value)),
    "or": _until(truthy),
    "??": _until(lambda value: value is not None),
}


def _apply(sign: str, runs: Sequence[Run], guard: _Guard) -> Run:
    if sign in _ORDERS:
        return _order(sign, runs[0], runs[1], guard)
    if sign in ("==", "!="):
        return _equality(sign, runs[0], runs[1], guard)
    if sign in ("in", "not in"):
        item, container = runs
        return lambda frame: guard(contained, item(frame), container(frame), frame) is (sign == "in")
    if sign == "?":
        condition, yes, no = runs
        return lambda frame: yes(frame) if truthy(condition(frame)) else no(frame)
    if sign == "list":
        return lambda frame: [run(frame) for run in runs]
    if sign == "not":
        (operand,) = runs
        return lambda frame: not truthy(operand(frame))
    if sign == "negative":
        (operand,) = runs
        return lambda frame: guard(negative, operand(frame))
    function = FUNCTIONS[sign.removesuffix("()")]
    return lambda frame: guard(function, frame, *[run(frame) for run in runs])


def _order(sign: str, left: Run, right: Run, guard: _Guard) -> Run:
    compare = OPERATIONS[sign]

    def run(frame: Frame) -> Any:
        one, other = left(frame), right(frame)
        if type(one) in _FAST and type(other) in _FAST:
            return compare(one, other)
        return guard(ordered, sign, one, other, frame)

    return run


def _equality(sign: str, left: Run, right: Run, guard: _Guard) -> Run:
    wanted = sign == "=="

    def run(frame: Frame) -> Any:
        one, other = left(frame), right(frame)
        if type(one) in _FAST and type(other) in _FAST:
            return (one == other) is wanted
        if type(one) is str and type(other) is str and len(other) <= _SHORT:
            return (one == other) is wanted
        return guard(equal, one, other, frame) is wanted

    return run
