"""How a check says what it expects. Never by `assert`, which ``-O`` takes away."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

__all__ = ["Blocked", "Violated", "equal", "expect", "fail", "raises"]


class Violated(AssertionError):
    """The contract does not hold; the text says what was seen. Raised by `expect` and its like, also under ``-O``."""


class Blocked(Exception):
    """A check cannot be run here; the text says what to do about it. It counts for nothing."""


def fail(what: str) -> NoReturn:
    """Say that the contract does not hold. Raises: Violated."""
    raise Violated(what)


def expect(holds: object, what: str) -> None:
    """Raises: Violated, with ``what`` as its text, unless it ``holds``."""
    if not holds:
        raise Violated(what)


def equal(actual: object, expected: object, what: str) -> None:
    """Raises: Violated, with both, unless ``actual == expected`` and both are of one type."""
    if type(actual) is not type(expected) or actual != expected:
        raise Violated(f"{what}: expected {_shown(expected)}, got {_shown(actual)}")


@contextmanager
def raises(kind: type[BaseException] | tuple[type[BaseException], ...], what: str) -> Generator[None]:
    """Raises: Violated, unless the block raises an exception of this kind (and of no other)."""
    names = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
    try:
        yield
    except kind:
        return
    except Exception as error:
        raise Violated(f"{what}: expected {names}, got {type(error).__name__}: {error}") from error
    raise Violated(f"{what}: expected {names}, nothing was raised")


def _shown(value: object, limit: int = 400) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
