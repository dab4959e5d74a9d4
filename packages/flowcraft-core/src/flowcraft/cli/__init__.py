"""The command ``flowcraft``; docs/cli.md is its reference."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

from flowcraft.cli.deadletters import deadletters_command
from flowcraft.cli.documents import diagram_command, lint_command
from flowcraft.cli.failures import OK, USAGE, report
from flowcraft.cli.inspecting import inspect_command
from flowcraft.cli.looking import (
    cancel_command,
    list_command,
    migrate_run_command,
    reconcile_command,
    status_command,
)
from flowcraft.cli.parser import build_parser
from flowcraft.cli.running import run_command, start_command
from flowcraft.cli.scheduling import schedule_command
from flowcraft.cli.serving import worker_command
from flowcraft.cli.steering import STEERING

__all__ = ["main"]

Command = Callable[[argparse.Namespace], Coroutine[Any, Any, int]]


async def _conformance(args: argparse.Namespace) -> int:
    from flowcraft.cli.conforming import conformance_command  # noqa: PLC0415 - no other command waits for its checks

    return await conformance_command(args)


_COMMANDS: Mapping[str, Command] = {
    "run": run_command,
    "worker": worker_command,
    "start": start_command,
    "status": status_command,
    "list": list_command,
    "cancel": cancel_command,
    "reconcile": reconcile_command,
    "inspect": inspect_command,
    "migrate-run": migrate_run_command,
    "deadletters": deadletters_command,
    "lint": lint_command,
    "diagram": diagram_command,
    "schedule": schedule_command,
    "conformance": _conformance,
    **STEERING,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Whatever goes wrong is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character is no error
    try:
        parser = build_parser()
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help(sys.stderr)
            return USAGE
        code = asyncio.run(_run(_COMMANDS[args.command], args))
        sys.stdout.flush()
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:  # noqa: BLE001 - told in one line
        return report(error)
    return code


async def _run(command: Command, args: argparse.Namespace) -> int:
    """SIGTERM ends a command as Ctrl-C does: what is open is closed. The worker has handlers of its own."""
    task = cast("asyncio.Task[int]", asyncio.current_task())
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await command(args)
