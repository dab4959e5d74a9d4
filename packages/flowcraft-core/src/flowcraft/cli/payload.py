"""``--input`` and ``--context``: JSON on the command line, in a file or on standard input."""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import sys
from pathlib import Path
from typing import cast

from flowcraft.cli.failures import CommandError

__all__ = ["read_context", "read_input", "read_text_file", "to_json"]


def read_input(argument: str | None, option: str = "--input") -> object:
    """The value of ``JSON``, ``@file`` or ``-``; None without an argument.

    Raises:
        CommandError: no such file, or not JSON; the message has the position.
    """
    if argument is None:
        return None
    if argument == "-":
        text, origin = _standard_input(option), "standard input"
    elif argument.startswith("@"):
        text, origin = read_text_file(Path(argument[1:]), option), argument[1:]
    else:
        text, origin = argument, option
    try:
        return cast("object", json.loads(text, parse_constant=_refuse))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        hint = "" if origin != option else f"; text needs quotes: {option} '\"text\"'"
        raise CommandError(f"{origin}: malformed JSON at {where}: {error.msg}{hint}") from error
    except _NotJson as error:
        raise CommandError(f"{origin}: {error} is not JSON") from error
    except RecursionError:
        raise CommandError(f"{origin}: nested too deeply") from None


def read_context(argument: str | None) -> dict[str, object]:
    """``--context``: a JSON object of context keys.

    Raises:
        CommandError: see `read_input`; or not an object.
    """
    value = read_input(argument, "--context")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CommandError(f"--context must be a JSON object, not {type(value).__name__}")
    return cast("dict[str, object]", value)


def read_text_file(path: Path, what: str) -> str:
    """A file's text.

    Raises:
        CommandError: it cannot be read, or is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{what}: cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{what}: {path} is not UTF-8 text (byte {error.start})") from error


def to_json(value: object) -> str:
    """JSON for scripts, on one line; dataclasses become objects, what else JSON cannot say its text."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.value if isinstance(value, enum.Enum) else str(value)


class _NotJson(ValueError):
    pass


def _refuse(name: str) -> float:
    raise _NotJson(name)


def _standard_input(option: str) -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise CommandError(f"{option}: standard input is not UTF-8 text (byte {error.start})") from error
