"""Text of an expression to tokens, in one pass from left to right.

No regular expressions: every character is looked at a bounded number of times, so the time is linear in the
text (times the number of distinct lengths of odd node ids). The text is at most ``MAX_SOURCE`` characters long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Literal, NamedTuple

from flowcraft.errors import ExpressionError

__all__ = ["MAX_INT_BITS", "MAX_SOURCE", "NAMESPACES", "Token", "quoted", "refuse", "tokenize"]

MAX_SOURCE = 4096
"""Most characters in one expression."""
MAX_INT_BITS = 256
"""Most bits in an integer that is written or computed."""
NAMESPACES = {"_outputs": "output", "_inputs": "input_of", "context": "name"}
"""Roots that are followed by a name of their own, with the kind of reference that makes."""

_DIGITS = frozenset("0123456789")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_SPACE = frozenset(" \t\r\n")
_GRAMMAR = frozenset("()[]{},.?:!=<>&|+-*/%'\"`;\\") | _SPACE
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_OPERATORS = frozenset({"===", "!==", "==", "!=", "<=", ">=", "&&", "||", "??", "?."}) | frozenset("<>+-*/%!?:()[],.")
_REFUSED = {
    "=>": "arrow functions are not part of the language",
    "**": "there is no power operator; found '**'",
    "//": "there are no comments and no integer division; found '//'",
    "/*": "there are no comments; found '/*'",
    "=": "a single '=' does not compare; write '=='",
    "&": "a single '&' is not an operator; write '&&' or 'and'",
    "|": "a single '|' is not an operator; write '||' or 'or'",
    "`": "template strings are not part of the language; use single or double quotes",
    "{": "'{' is not part of the language: there are no object literals and no blocks",
    "}": "'}' is not part of the language: there are no object literals and no blocks",
    ";": "';' is not part of the language: an expression is one value, not statements",
}


class Token(NamedTuple):
    """One token: ``text`` is the text as written, ``value`` what a literal stands for.

    Kind ``id`` is a known node id that is not a plain identifier; it is never a keyword or a function.
    """

    kind: Literal["name", "id", "number", "string", "op", "end"]
    text: str
    value: str | int | float
    position: int


@dataclass(frozen=True, slots=True)
class _OddIds:
    """The node ids that are not plain identifiers, and their lengths, longest first."""

    ids: frozenset[str]
    lengths: tuple[int, ...]


def quoted(text: str, limit: int = 40) -> str:
    """``text`` in quotes on one line, cut to ``limit`` characters."""
    return repr(text if len(text) <= limit else text[:limit] + "...")


def refuse(source: str, position: int, message: str) -> ExpressionError:
    """The error to raise for ``message``, with the position in its text and as a field."""
    return ExpressionError(f"{message} (position {position})", source=source, position=position)


def tokenize(source: str, names: frozenset[str] = frozenset()) -> list[Token]:
    """All tokens of ``source``, the last one of kind ``end``.

    ``names`` are known node ids; those that are not plain identifiers are recognised where a name may stand
    (and after ``_outputs.``, ``_inputs.`` and ``context.``), the longest one first. An id that is a number, or
    that starts with an operator, a quote or a space, is not: ``_outputs["..."]`` reaches it.

    Raises:
        ExpressionError: too long, or a character, number or string that is not part of the language.
    """
    if len(source) > MAX_SOURCE:
        raise refuse(source, MAX_SOURCE, f"the expression has {len(source)} characters, more than {MAX_SOURCE}")
    odd = _odd_ids(names)
    tokens: list[Token] = []
    at, end = 0, len(source)
    while at < end:
        if source[at] in _SPACE:
            at += 1
            continue
        token = _next(source, at, odd, tokens)
        tokens.append(token)
        at += len(token.text)
    tokens.append(Token("end", "", "", end))
    return tokens


def _next(source: str, at: int, odd: _OddIds, before: list[Token]) -> Token:
    char = source[at]
    if odd.ids and char not in _GRAMMAR and _may_be_id(before):
        known = _known_id(source, at, odd)
        if known:
            return Token("id", known, known, at)
    if _starts_name(char):
        end = _name_end(source, at)
        return Token("name", source[at:end], source[at:end], at)
    if char in _DIGITS or (char == "." and source[at + 1 : at + 2] in _DIGITS and not _ends_operand(before)):
        end = _number_end(source, at)
        return Token("number", source[at:end], _number(source, at, end), at)
    if char in "'\"":
        value, end = _string(source, at)
        return Token("string", source[at:end], value, at)
    return _operator(source, at)


def _operator(source: str, at: int) -> Token:
    for size in (3, 2, 1):
        piece = source[at : at + size]
        if piece == "?." and source[at + 2 : at + 3] in _DIGITS:
            continue  # `a ?.5 : 1` is a ternary, as in JavaScript
        if piece in _OPERATORS:
            return Token("op", piece, piece, at)
        if piece in _REFUSED:
            raise refuse(source, at, _REFUSED[piece])
    raise refuse(source, at, f"unexpected character {quoted(source[at])}")


# -- names ------------------------------------------------------------------------------------------------------


def _starts_name(char: str) -> bool:
    return char in "_$" or char.isalpha()


def _continues_name(char: str) -> bool:
    return char in "_$" or char.isalnum()


def _name_end(source: str, at: int) -> int:
    while at < len(source) and _continues_name(source[at]):
        at += 1
    return at


@lru_cache(maxsize=16)
def _odd_ids(names: frozenset[str]) -> _OddIds:
    odd = frozenset(_only_odd(names))
    return _OddIds(odd, tuple(sorted({len(name) for name in odd}, reverse=True)))


def _only_odd(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if not name or len(name) > MAX_SOURCE or name[0] in _GRAMMAR:
            continue
        if _starts_name(name[0]) and _name_end(name, 0) == len(name):
            continue
        if name[0] in _DIGITS and _number_end(name, 0) == len(name):
            continue
        yield name


def _may_be_id(before: list[Token]) -> bool:
    """Whether a node id may stand here: not as a member, except as the member of a namespace."""
    if not before or before[-1].text not in (".", "?."):
        return True
    after_namespace = len(before) > 1 and before[-2].kind == "name" and before[-2].text in NAMESPACES
    return after_namespace and (len(before) == 2 or before[-3].text not in (".", "?."))


def _known_id(source: str, at: int, odd: _OddIds) -> str:
    for length in odd.lengths:
        piece = source[at : at + length]
        if piece in odd.ids:
            following = source[at + length : at + length + 1]
            if not (following and _continues_name(following) and _continues_name(piece[-1])):
                return piece
    return ""


# -- literals ---------------------------------------------------------------------------------------------------


def _ends_operand(before: list[Token]) -> bool:
    return bool(before) and (before[-1].kind != "op" or before[-1].text in (")", "]"))


def _skip_digits(source: str, at: int) -> int:
    while at < len(source) and source[at] in _DIGITS:
        at += 1
    return at


def _number_end(source: str, at: int) -> int:
    at = _skip_digits(source, at)
    if source[at : at + 1] == "." and source[at + 1 : at + 2] in _DIGITS:
        at = _skip_digits(source, at + 1)
    if source[at : at + 1] in ("e", "E"):
        sign = 1 if source[at + 1 : at + 2] in ("+", "-") else 0
        if source[at + 1 + sign : at + 2 + sign] in _DIGITS:
            at = _skip_digits(source, at + 1 + sign)
    return at


def _number(source: str, at: int, end: int) -> int | float:
    text = source[at:end]
    if end < len(source) and _continues_name(source[end]):
        rest = source[at : _name_end(source, end)]
        raise refuse(source, end, f"expected the end of the number, found {quoted(rest)}")
    if not all(char in _DIGITS for char in text):
        number = float(text)
        if not isfinite(number):
            raise refuse(source, at, f"the number {quoted(text)} is too large")
        return number
    if len(text) > 1 and text[0] == "0":
        raise refuse(source, at, f"a whole number does not start with 0, found {quoted(text)}")
    if len(text) * 3 > MAX_INT_BITS or int(text).bit_length() > MAX_INT_BITS:
        raise refuse(source, at, f"the number {quoted(text)} is too large")
    return int(text)


def _string(source: str, at: int) -> tuple[str, int]:
    """The value of the string that opens at ``at``, and the position behind its closing quote."""
    quote, begin = source[at], at
    pieces: list[str] = []
    at += 1
    while at < len(source):
        char = source[at]
        if char == quote:
            return "".join(pieces), at + 1
        if char in "\r\n" or "\ud800" <= char <= "\udfff":
            break
        if char == "\\":
            piece, at = _escape(source, at)
            pieces.append(piece)
        else:
            pieces.append(char)
            at += 1
    found = quoted(source[at]) if at < len(source) else "the end"
    raise refuse(source, at, f"expected {quote} to close the string of position {begin}, found {found}")


def _escape(source: str, at: int) -> tuple[str, int]:
    char = source[at + 1 : at + 2]
    if char in _ESCAPES:
        return _ESCAPES[char], at + 2
    if char != "u":
        raise refuse(source, at, rf"expected one of \n \t \\ \' \" \uXXXX, found {quoted(source[at : at + 2])}")
    unit = _unit(source, at)
    if 0xD800 <= unit < 0xDC00 and source[at + 6 : at + 8] == "\\u":
        low = _unit(source, at + 6)
        if 0xDC00 <= low < 0xE000:
            return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)), at + 12
    if 0xD800 <= unit < 0xE000:
        raise refuse(source, at, f"{source[at : at + 6]} is half of a surrogate pair")
    return chr(unit), at + 6


def _unit(source: str, at: int) -> int:
    text = source[at + 2 : at + 6]
    if len(text) != 4 or not all(char in _HEX_DIGITS for char in text):
        raise refuse(source, at, rf"expected four hexadecimal digits after \u, found {quoted(text)}")
    return int(text, 16)
