"""The command line: what can be asked, as data for argparse. docs/cli.md is compared with it by a test."""

from __future__ import annotations

import argparse
import importlib.metadata
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from flowcraft.cli.conformanceoptions import add_conformance
from flowcraft.cli.failures import CommandError
from flowcraft.cli.steeroptions import add_steering

__all__ = ["EPILOG", "Parser", "build_parser"]

EPILOG = (
    "TARGET is module:attribute (a Flow, FlowRuntime or Adapter, or a function without arguments that returns one) or "
    "a blueprint's JSON file. Exit codes: 0 done, 1 the run failed or lint found errors, 2 bad arguments or input, "
    "3 trouble with the store, a file or a port, 130 interrupted. FLOWCRAFT_DEBUG=1 shows tracebacks."
)
_Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - it has no public name


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` whose errors are one line, like all others of the command."""

    def error(self, message: str) -> NoReturn:
        """Raises `CommandError` with the message and where to read on."""
        raise CommandError(f"{message} (see: {self.prog} --help)")


def build_parser() -> Parser:
    """All commands with their options; ``command`` of the parsed arguments is the command's name."""
    parser = Parser(
        prog="flowcraft",
        description="Run workflows, and look after those that run.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    version = importlib.metadata.version("flowcraft-core")
    parser.add_argument("--version", action="version", version=f"flowcraft-core {version}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    looking = (_status, _list, _inspect, _lint, _diagram, _conformance)
    for add in (_run, _worker, _start, _cancel, _steering, _migrate_run, _reconcile, _deadletters, _schedule, *looking):
        add(commands)
    return parser


def _add(commands: _Commands, name: str, told: str, *options: Callable[[Parser], object]) -> Parser:
    parser = commands.add_parser(name, help=told, description=told[0].upper() + told[1:] + ".", allow_abbrev=False)
    for option in options:
        option(parser)
    return parser


def _number(kind: type[int | float], least: float, most: float = math.inf) -> Callable[[str], Any]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not least <= value <= most:
            limits = f"at least {least:g}" if most == math.inf else f"between {least:g} and {most:g}"
            raise argparse.ArgumentTypeError(f"{text} is out of range: it must be {limits}")
        return value

    return parse


# ---- options that several commands have


def _target(parser: Parser, nargs: str | None = None) -> None:
    parser.add_argument("target", metavar="TARGET", nargs=nargs, help="module:attribute, or a blueprint's JSON file")
    parser.add_argument(
        "--registry", metavar="MODULE:DICT", help="the functions by 'uses', if TARGET is a blueprint's file"
    )


def _schedule_id(parser: Parser) -> None:
    parser.add_argument("schedule", metavar="SCHEDULE", help="the id of the schedule")


def _run_id(parser: Parser) -> None:
    parser.add_argument("run_id", metavar="RUN", help="the id of the run")


def _url(parser: Parser) -> None:
    parser.add_argument("--url", help="the store, e.g. sqlite:///flowcraft.db; default: $FLOWCRAFT_URL")


def _app(parser: Parser) -> None:
    parser.add_argument("--app", metavar="TARGET", help="module:attribute of an adapter, instead of --url")
    _url(parser)


def _flow(parser: Parser) -> None:
    parser.add_argument("--flow", metavar="ID", help="which flow, if TARGET has several")


def _input(parser: Parser) -> None:
    parser.add_argument("--input", metavar="JSON", help="what the run gets: JSON, @file, or - for standard input")


def _payload(parser: Parser) -> None:
    _flow(parser)
    _input(parser)
    parser.add_argument(
        "--context", metavar="JSON", help="the run's context keys at the start: a JSON object, @file or -"
    )
    parser.add_argument("--run-id", metavar="ID", help="an id of your own; starting it again finds the same run")


def _json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document, for scripts")


def _quiet(parser: Parser) -> None:
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _concurrency(default: int) -> Callable[[Parser], object]:
    return lambda parser: parser.add_argument(
        "--concurrency", metavar="N", type=_number(int, 1), default=default, help=f"nodes at a time (default {default})"
    )


def _queue(parser: Parser) -> None:
    parser.add_argument(
        "--queue", metavar="NAME", action="append", help="a queue to serve; repeat for several (default: the adapter's)"
    )


# ---- the commands


def _run(commands: _Commands) -> None:
    parser = _add(
        commands,
        "run",
        "run a flow to its end and print its output",
        _target,
        _payload,
        _json,
        _quiet,
        _concurrency(100),
    )
    parser.add_argument(
        "--url", help="run it durably in this store, with a worker of this process (default: in process)"
    )


def _worker(commands: _Commands) -> None:
    parser = _add(commands, "worker", "execute nodes until told to stop", _target, _url, _concurrency(50), _queue)
    options = parser.add_argument
    options("--processes", metavar="N", type=_number(int, 1, 1024), default=1, help="worker processes (default 1)")
    options(
        "--grace", metavar="SECONDS", type=_number(float, 0), default=20.0,
        help="time that running nodes get to finish at the first signal (default 20); a second signal ends it",
    )  # fmt: skip
    options(
        "--health-port", metavar="PORT", type=_number(int, 0, 65535),
        help="answer GET /healthz on 127.0.0.1 with 200 or 503 (0: any free port)",
    )  # fmt: skip
    options("--log-format", choices=("text", "json"), default="text", help="how log lines are written to stderr")
    options(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="the least that is logged"
    )


def _start(commands: _Commands) -> None:
    parser = _add(
        commands, "start", "start a run for workers to execute and print its id", _target, _payload, _url, _json
    )
    parser.add_argument("--dedup-key", metavar="KEY", help="if a run was started with this key before, find that one")
    parser.add_argument(
        "--dedup-window", metavar="SECONDS", type=_number(float, 0),
        help="with --dedup-key: for so long after the first start (default: while its run exists)",
    )  # fmt: skip
    parser.add_argument("--wait", action="store_true", help="watch it to its end and print its output")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_number(float, 0), help="with --wait: give up waiting; the run goes on"
    )
    _quiet(parser)


def _status(commands: _Commands) -> None:
    parser = _add(commands, "status", "tell the status of a run and its nodes", _run_id, _app, _json)
    parser.add_argument("--watch", action="store_true", help="show its progress until it has ended")


def _list(commands: _Commands) -> None:
    parser = _add(commands, "list", "list runs, newest first", _app, _json)
    words = ("running", "awaiting", "paused", "cancelling", "completed", "failed", "cancelled")
    parser.add_argument("--status", choices=words, help="only runs of this status")
    parser.add_argument("--flow", metavar="ID", help="only runs of this flow")
    parser.add_argument(
        "--limit", metavar="N", type=_number(int, 1, 1000), default=50, help="at most so many (default 50)"
    )
    parser.add_argument("--after", metavar="CURSOR", help="go on after a page: its 'after' in --json")


def _cancel(commands: _Commands) -> None:
    parser = _add(commands, "cancel", "cancel a run", _run_id, _app, _json)
    parser.add_argument("--reason", metavar="TEXT", default="", help="kept with the run")


def _steering(commands: _Commands) -> None:
    add_steering(lambda name, told, *options: _add(commands, name, told, *options), _run_id, (_app, _json))


def _reconcile(commands: _Commands) -> None:
    parser = _add(commands, "reconcile", "repair runs that seem stuck (any running worker does this too)", _app, _json)
    parser.add_argument(
        "--stalled-after", metavar="SECONDS", type=_number(float, 0), help="without progress for so long (default 300)"
    )


def _inspect(commands: _Commands) -> None:
    parser = _add(commands, "inspect", "show a run's timeline and errors", _run_id, _app, _json)
    parser.add_argument(
        "--at", metavar="SEQ", type=_number(int, 1), help="its state as it was after event number SEQ, instead"
    )
    parser.add_argument("--all", action="store_true", help="every visit, retry and failure, however many there are")
    parser.add_argument("--logs", action="store_true", help="and what its nodes logged, and how far they said to be")


def _migrate_run(commands: _Commands) -> None:
    told = "move a run that goes on to another blueprint, where its nodes still match"
    _add(commands, "migrate-run", told, _run_id, _target, _flow, _url, _json)


def _deadletters(commands: _Commands) -> None:
    parser = _add(commands, "deadletters", "look after what was given up: messages, and visits that killed workers")
    options = parser.add_argument
    options("action", metavar="ACTION", choices=("list", "show", "replay", "delete"), help="what to do")
    options("letter", metavar="ID", nargs="?", help="the id of a dead letter, as `list` tells it; not for `list`")
    _app(parser)
    _json(parser)
    options("--limit", metavar="N", type=_number(int, 1, 1000), default=50, help="list at most so many (default 50)")
    options("--after", metavar="CURSOR", help="list on after a page: its 'after' in --json")


def _lint(commands: _Commands) -> None:
    parser = _add(commands, "lint", "look for mistakes in flows", _target, _flow, _json)
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")


def _diagram(commands: _Commands) -> None:
    parser = _add(commands, "diagram", "draw a flow, or what happened in a run of it", _flow)
    options = parser.add_argument
    _target(parser, "?")
    options("--run", metavar="RUN", help="draw this run of the store (with --app or --url) with its states")
    _app(parser)
    options(
        "--format", choices=("mermaid", "dot", "ui"), default="mermaid",
        help="for Mermaid, for Graphviz, or the simplified graph for user interfaces as JSON, which has no states",
    )  # fmt: skip
    options("--direction", choices=("TD", "LR"), default="TD", help="top down or left to right")
    options("--fold", metavar="N", type=_number(int, 1), help="draw more than N nodes that are alike as one")
    options("--legend", action="store_true", help="add what shapes and colours mean")
    options("--output", metavar="FILE", help="write it there instead of printing it")


def _schedule(commands: _Commands) -> None:
    parser = _add(commands, "schedule", "start flows at times, by themselves")
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", title="actions", parser_class=Parser, required=True, help="what to do"
    )
    _schedule_create(actions)
    listing = _add(actions, "list", "list schedules, newest first", _app, _json)
    listing.add_argument(
        "--limit", metavar="N", type=_number(int, 1, 1000), default=100, help="at most so many (default 100)"
    )
    listing.add_argument("--after", metavar="CURSOR", help="go on after a page: its 'after' in --json")
    _add(actions, "show", "show a schedule and its next times", _schedule_id, _app, _json)
    _add(actions, "pause", "stop a schedule until it is resumed", _schedule_id, _app, _json)
    _add(actions, "resume", "let a paused schedule go on with its next time", _schedule_id, _app, _json)
    _add(actions, "delete", "remove a schedule; its runs stay", _schedule_id, _app, _json)
    _add(actions, "trigger", "start a run of a schedule now and print its id", _schedule_id, _app, _json)


def _schedule_create(actions: _Commands) -> None:
    parser = _add(
        actions, "create", "make a schedule that the tickers of workers fire", _schedule_id, _target, _flow, _input
    )
    options = parser.add_argument
    options(
        "--cron", metavar="EXPRESSION", help="minute, hour, day of month, month, day of week; or @daily and the like"
    )
    options("--timezone", metavar="NAME", help="with --cron: whose clocks count, e.g. Europe/Berlin (default UTC)")
    options("--every", metavar="SECONDS", type=_number(float, 1), help="an interval, instead of --cron")
    options("--start", metavar="MOMENT", help="with --every: counted from, e.g. 2026-03-29T06:00:00Z (default: now)")
    options(
        "--catch-up", choices=("skip", "latest", "all"), default="skip",
        help="of the times that came while no worker was there, fire none (default), the last one, or all (up to 100)",
    )  # fmt: skip
    options("--pin", action="store_true", help="always start this very version, not the one that workers have")
    _url(parser)
    _json(parser)


def _conformance(commands: _Commands) -> None:
    parser = _add(commands, "conformance", "check backends against the contract of the ports")
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", title="actions", parser_class=Parser, required=True, help="what to do"
    )
    add_conformance(lambda name, told, *options: _add(actions, name, told, *options))
