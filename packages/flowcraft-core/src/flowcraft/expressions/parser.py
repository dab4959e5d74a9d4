"""Tokens to a tree: a Pratt parser that is bounded in nesting and in size.

From loose to tight: ``? :``; ``||`` ``or`` and ``??`` (not mixed without brackets); ``&&`` ``and``; ``not``;
comparisons, ``in`` and ``not in`` (not chained); ``+ -``; ``* / %``; unary ``-`` and ``!``; ``.`` ``?.`` ``[ ]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NoReturn, cast

from flowcraft.expressions.lexer import NAMESPACES, Token, quoted, refuse, tokenize

__all__ = [
    "ARITIES",
    "MAX_DEPTH",
    "MAX_LEVELS",
    "MAX_NODES",
    "Apply",
    "Index",
    "Literally",
    "Member",
    "Node",
    "Read",
    "Reference",
    "parse_tree",
]

MAX_DEPTH: Final = 50
"""Most brackets open at once."""
MAX_LEVELS: Final = 120
"""Most operands inside operands (brackets included), in the text and in the tree."""
MAX_NODES: Final = 1000
"""Most literals, names, members, operators and calls in one expression."""

_CONSTANTS: Final[dict[str, object]] = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
    "undefined": None,
}
_WORD_OPERATORS: Final = {"and": "and", "or": "or", "in": "in", "not": "not in"}
_SPELLINGS: Final = {"&&": "and", "||": "or", "===": "==", "!==": "!="}
_TERNARY, _OR, _AND, _NOT, _COMPARE, _ADD, _MULTIPLY, _UNARY = range(1, 9)
_STRENGTH: Final = {
    "?": _TERNARY,
    **dict.fromkeys(("or", "??"), _OR),
    "and": _AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in", "not in"), _COMPARE),
    **dict.fromkeys(("+", "-"), _ADD),
    **dict.fromkeys(("*", "/", "%"), _MULTIPLY),
}
ARITIES: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(("len", "abs", "lower", "upper", "str", "int", "float", "bool"), (1, 1)),
    **dict.fromkeys(("any", "all", "sum", "keys", "values"), (1, 1)),
    **dict.fromkeys(("min", "max"), (1, MAX_NODES)),
    "round": (1, 2),
    **dict.fromkeys(("contains", "startswith", "endswith"), (2, 2)),
}
"""The functions of the language with the least and the most arguments of each."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One value that an expression may ask its caller for.

    ``result``: ``{"output": ..., "action": ...}`` of the node that just settled; ``input``: that node's output;
    ``name``: a node's output, else the context key ``name``; ``output`` / ``input_of``: the output / the input
    of the node ``name``. ``name`` is empty for the first two.
    """

    kind: Literal["result", "input", "name", "output", "input_of"]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the tree; ``position`` is where its operator or first character stands in the text."""

    position: int


@dataclass(frozen=True, slots=True)
class Literally(Node):
    """A literal value."""

    value: object


@dataclass(frozen=True, slots=True)
class Read(Node):
    """A value that the caller resolves."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class Member(Node):
    """``base.name``."""

    base: Node
    name: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    """``base[key]``."""

    base: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Apply(Node):
    """An operator with its operands, or a function of :data:`ARITIES` with its arguments.

    Operators are in their Python spelling (``and``, ``==``, ``not in``), with one operand for ``negative`` and
    ``not``, three for ``?`` and any number for ``list``; a function has brackets: ``len()``.
    """

    operator: str
    operands: tuple[Node, ...]


def parse_tree(source: str, names: frozenset[str] = frozenset()) -> tuple[Node, frozenset[Reference]]:
    """The tree of ``source`` and everything that it may ask for; ``names`` are known node ids.

    Raises:
        ExpressionError: the text does not parse, or is too long, too deep or too large.
    """
    parser = _Parser(source, tokenize(source, names))
    return parser.whole(), frozenset(parser.references)


class _Parser:
    def __init__(self, source: str, tokens: list[Token]) -> None:
        self.references: set[Reference] = set()
        self._source = source
        self._tokens = tokens
        self._next = 0
        self._depth = self._levels = self._nodes = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def whole(self) -> Node:
        if self._token.kind == "end":
            raise refuse(self._source, 0, "the expression is empty: expected a value")
        tree = self._expression(0)
        if self._next < len(self._tokens) - 1:
            self._expected("an operator or the end")
        return tree

    def _expected(self, what: str) -> NoReturn:
        token = self._token
        found = "the end" if token.kind == "end" else quoted(token.text)
        raise refuse(self._source, token.position, f"expected {what}, found {found}")

    def _count(self) -> int:
        """Count one node of the tree and return the position where it stands."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise refuse(self._source, self._token.position, f"the expression has more than {MAX_NODES} parts")
        return self._token.position

    def _take(self, *texts: str) -> bool:
        """Go past the operator if it is one of ``texts``."""
        if self._token.kind != "op" or self._token.text not in texts:
            return False
        self._next += 1
        return True

    def _close(self, text: str, what: str) -> None:
        if not self._take(text):
            self._expected(what)
        self._depth -= 1

    def _open(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise refuse(self._source, self._token.position, f"more than {MAX_DEPTH} brackets are open")

    # -- operators ----------------------------------------------------------------------------------------------

    def _expression(self, weakest: int) -> Node:
        """An operand and the operators behind it that bind at least as tightly as ``weakest``."""
        self._levels += 1
        if self._levels > MAX_LEVELS:
            raise refuse(self._source, self._token.position, f"operands are nested more than {MAX_LEVELS} deep")
        left = self._postfix(self._prefix(weakest))
        latest = ""
        while operator := self._operator():
            strength = _STRENGTH[operator]
            if strength < weakest:
                break
            self._refuse_mixture(latest, operator)
            latest = operator
            left = self._binary(left, operator, strength)
        self._levels -= 1
        return left

    def _operator(self) -> str:
        token = self._token
        if token.kind == "op":
            operator = _SPELLINGS.get(token.text, token.text)
            return operator if operator in _STRENGTH else ""
        operator = _WORD_OPERATORS.get(token.text, "") if token.kind == "name" else ""
        if operator == "not in":
            following = self._tokens[self._next + 1]
            return operator if following.kind == "name" and following.text == "in" else ""
        return operator

    def _binary(self, left: Node, operator: str, strength: int) -> Node:
        position = self._count()
        self._next += 2 if operator == "not in" else 1
        if operator == "?":
            yes = self._expression(_TERNARY)
            if not self._take(":"):
                self._expected(f"':' of the '?' at position {position}")
            return Apply(position, operator, (left, yes, self._expression(_TERNARY)))
        return Apply(position, operator, (left, self._expression(strength + 1)))

    def _refuse_mixture(self, latest: str, operator: str) -> None:
        position = self._token.position
        if latest and _STRENGTH[latest] == _STRENGTH[operator] == _COMPARE:
            text = quoted(self._token.text)
            raise refuse(self._source, position, f"comparisons are not chained, found {text}; use '&&' or brackets")
        if {latest, operator} == {"or", "??"}:
            raise refuse(self._source, position, "'??' next to '||' needs brackets")

    def _prefix(self, weakest: int) -> Node:
        token = self._token
        if self._take("-", "!"):
            operand = self._expression(_UNARY)
            self._count()
            if token.text == "!":
                return Apply(token.position, "not", (operand,))
            if isinstance(operand, Literally) and type(operand.value) in (int, float):
                return Literally(token.position, -cast("float", operand.value))
            return Apply(token.position, "negative", (operand,))
        if token.kind == "name" and token.text == "not":
            if weakest > _NOT:
                self._expected("a value (put brackets round 'not ...')")
            position = self._count()
            self._next += 1
            return Apply(position, "not", (self._expression(_NOT),))
        return self._primary(token)

    # -- operands -----------------------------------------------------------------------------------------------

    def _primary(self, token: Token) -> Node:
        position = self._count()
        if token.kind in ("number", "string"):
            self._next += 1
            return Literally(position, token.value)
        if token.kind in ("name", "id"):
            return self._name(token)
        if self._take("("):
            self._open()
            inner = self._expression(0)
            self._close(")", f"')' for the '(' at position {position}")
            return inner
        if self._take("["):
            items = self._list("]", f"',' or ']' for the '[' at position {position}")
            return Apply(position, "list", items)
        self._expected("a value")

    def _list(self, closing: str, what: str) -> tuple[Node, ...]:
        self._open()
        items: list[Node] = []
        if not (self._token.kind == "op" and self._token.text == closing):
            items.append(self._expression(0))
            while self._take(","):
                items.append(self._expression(0))
        self._close(closing, what)
        return tuple(items)

    def _name(self, token: Token) -> Node:
        word = token.text if token.kind == "name" else ""
        if word in _WORD_OPERATORS:
            self._expected("a value")
        self._next += 1
        if word in _CONSTANTS:
            return Literally(token.position, _CONSTANTS[word])
        if word in NAMESPACES:
            return self._read(token.position, NAMESPACES[word], self._name_inside(word))
        if word in ("result", "input"):
            return self._read(token.position, word, "")
        if word and self._token.text == "(" and self._token.kind == "op":
            return self._call(token)
        return self._read(token.position, "name", token.text)

    def _read(self, position: int, kind: str, name: str) -> Read:
        reference = Reference(cast('Literal["result", "input", "name", "output", "input_of"]', kind), name)
        self.references.add(reference)
        return Read(position, reference)

    def _name_inside(self, namespace: str) -> str:
        """The name in ``namespace.name`` or ``namespace["name"]``: always written out, never computed."""
        self._take("?.")
        if self._take("["):
            token, following = self._token, self._tokens[min(self._next + 1, len(self._tokens) - 1)]
            if token.kind != "string" or following.kind != "op" or following.text != "]":
                self._expected(f"one quoted name in {namespace}[...], which is never computed")
            self._next += 2
            return str(token.value)
        if self._tokens[self._next - 1].text != "?." and not self._take("."):
            self._expected(f"'.' or '[' and a name after {namespace}")
        return self._member_name()

    def _call(self, token: Token) -> Apply:
        if token.text not in ARITIES:
            message = f"there is no function {quoted(token.text)}; there are {', '.join(sorted(ARITIES))}"
            raise refuse(self._source, token.position, message)
        opening = self._token.position
        self._next += 1
        arguments = self._list(")", f"',' or ')' for the '(' at position {opening}")
        least, most = ARITIES[token.text]
        if not least <= len(arguments) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            message = f"{token.text}() takes {wanted} argument(s), found {len(arguments)}"
            raise refuse(self._source, token.position, message)
        return Apply(token.position, f"{token.text}()", arguments)

    def _postfix(self, base: Node) -> Node:
        while self._token.kind == "op" and self._token.text in (".", "?.", "[", "("):
            if self._token.text == "(":
                self._expected("an operator (only the functions of the language are called, by their plain names)")
            position = self._count()
            dotted = self._take(".") or (self._take("?.") and self._token.text != "[")
            if dotted:
                base = Member(position, base, self._member_name())
                continue
            self._take("[")
            self._open()
            base = Index(position, base, self._expression(0))
            self._close("]", f"']' for the '[' at position {position}")
        return base

    def _member_name(self) -> str:
        token = self._token
        if token.kind not in ("name", "id"):
            self._expected("a name after '.'")
        self._next += 1
        return token.text
