"""What a command says when it fails: one line on stderr, and an exit code by the type of the error."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from typing import Final

from flowcraft.errors import (
    AdapterError,
    DefinitionError,
    FlowcraftError,
    RunError,
    RunFailed,
    SerializationError,
)

__all__ = ["FAILED", "INTERRUPTED", "OK", "TROUBLE", "USAGE", "CommandError", "exit_code", "one_line", "report"]

#: The exit codes of every command.
OK: Final = 0
FAILED: Final = 1  # the run failed or was cancelled; lint found errors
USAGE: Final = 2  # bad arguments or input
TROUBLE: Final = 3  # the infrastructure: store, file, port
INTERRUPTED: Final = 130  # by Ctrl-C


class CommandError(FlowcraftError):
    """A command cannot do what it was asked; the message is for whoever typed it."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def exit_code(error: BaseException) -> int:
    """The exit code for an error that ended a command."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        return INTERRUPTED
    if isinstance(error, RunFailed):
        return FAILED
    if isinstance(error, DefinitionError | RunError | SerializationError):
        return USAGE
    if isinstance(error, AdapterError | OSError):
        return TROUBLE
    return TROUBLE


def report(error: BaseException) -> int:
    """Say what went wrong on stderr, in one line, and return the exit code; FLOWCRAFT_DEBUG=1 adds the traceback."""
    code = exit_code(error)
    if os.environ.get("FLOWCRAFT_DEBUG") not in (None, "", "0"):
        traceback.print_exception(error, file=sys.stderr)
    print(f"flowcraft: {_told(error)}", file=sys.stderr)
    return code


def _told(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        return "interrupted"
    if isinstance(error, BaseExceptionGroup):
        return _told(error.exceptions[0])
    text = one_line(str(error))
    if isinstance(error, FlowcraftError):
        return text or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return f"{where}{error.strerror}"
    return f"unexpected {type(error).__name__}: {text} (FLOWCRAFT_DEBUG=1 shows where)"


def one_line(text: str) -> str:
    """Text without line ends and other control characters, cut at 2,000 characters."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    flat = " ".join(flat.split())
    return flat if len(flat) <= 2000 else flat[:1999] + "…"
