"""The options of the commands that steer runs; `flowcraft.cli.parser` puts them among the others."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ["add_steering"]

_Option = Callable[..., object]


class _Add(Protocol):
    def __call__(self, name: str, told: str, /, *options: _Option) -> argparse.ArgumentParser: ...


def add_steering(add: _Add, run_id: _Option, common: Sequence[_Option]) -> None:
    """Add ``signal``, ``publish``, ``pause``, ``resume``, ``retry``, ``rerun``, ``rollback``, ``patch``, ``mark``."""
    add("signal", "give a wait of a run what it waits for", run_id, _wait, *common, _payload, _action, _id, _visit)
    add("publish", "resume whatever waits for an event", _event, *common, _run, _payload, _action, _id)
    add("pause", "hand out no more nodes of a run until it is resumed", run_id, *common)
    add("resume", "let a paused run go on", run_id, *common)
    add("retry", "start a run again that failed or was cancelled", run_id, _nodes, *common)
    told = "make a new run that takes over from a run what came before a node, and go on from there"
    add("rerun", told, run_id, _from, *common, _input, _context, _as)
    add("rollback", "undo what a run has done, and start again or end it", run_id, *common, _to)
    add("patch", "set or delete context keys of a run", run_id, _keys, *common, _delete)
    add("mark", "complete a node by hand", run_id, _node, *common, _output, _action)


def _wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the id of the wait")


def _node(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the id of the node")


def _nodes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nodes", metavar="NODE", nargs="*", help="from these nodes (default: all whose failure counts)")


def _event(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("event", metavar="EVENT", help="webhook:RUN:NODE, or with --run the eventName of waits")


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", metavar="RUN", help="the run whose waits are meant, if the event names none")


def _payload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--payload", metavar="JSON", help="the wait's output: JSON, @file, or - for standard input")


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="JSON", help="the node's output: JSON, @file, or - for standard input")


def _action(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--action", metavar="ACTION", help="choose the edges with this action")


def _id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--id", metavar="ID", help="an id of your own: the same one again changes nothing")


def _visit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--visit", metavar="N", type=int, help="which visit of the wait (default: the one that waits)")


def _to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", metavar="NODE", help="start again from this node (default: undo all and end the run)")


def _from(parser: argparse.ArgumentParser) -> None:
    told = "run this node again, and all that follows from it"
    parser.add_argument("--from", metavar="NODE", dest="from_node", required=True, help=told)


def _input(parser: argparse.ArgumentParser) -> None:
    told = "another input for that node: JSON, @file, or - for standard input (default: the one that it had)"
    parser.add_argument("--input", metavar="JSON", help=told)


def _context(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--context", metavar="JSON", help="context keys that are changed: a JSON object, @file or -")


def _as(parser: argparse.ArgumentParser) -> None:
    told = "an id of your own for the new run; the same command again finds the same run"
    parser.add_argument("--as", metavar="ID", dest="new_run_id", help=told)


def _keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("values", metavar="KEY=JSON", nargs="*", help="a key and its value as JSON, @file or -")


def _delete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--delete", metavar="KEY", action="append", default=[], help="a key to delete; may be repeated")
