"""The options of ``flowcraft conformance``; `flowcraft.cli.parser` puts them among the others."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol

__all__ = ["add_conformance"]


class _Add(Protocol):
    def __call__(self, name: str, told: str, /, *options: Callable[..., object]) -> argparse.ArgumentParser: ...


def add_conformance(add: _Add) -> None:
    """Add ``run``, ``list``, ``explain``, ``diff``, ``init`` and ``mutants``."""
    add("run", "check a backend against the contract of the ports", _target, _profile, _only, _files, _quiet)
    add("list", "list the checks, with what they prove", _profile, _only, _json)
    add("explain", "tell what a check proves and why it is there", _check)
    add("diff", "compare two reports of `run --json`", _reports, _json)
    add("init", "write what an adapter's tests need: a target, a fixture, a CI workflow", _folder)
    add("mutants", "show that the checks catch backends that are broken on purpose", _only_mutants, _every, _json)


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="package.module:target, or path/to/file.py:target")


def _profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", metavar="PROFILE", help="the checks of this profile (default: the latest)")


def _only(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-k", metavar="TEXT", action="append", dest="only",
        help="only checks whose id contains this, or matches it with * and ?; repeat for more; certifies nothing",
    )  # fmt: skip


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the report there as JSON; - prints it, and no card")
    parser.add_argument("--junit", metavar="FILE", help="write the results there as JUnit XML")
    parser.add_argument("--markdown", metavar="FILE", help="write the card there as Markdown")


def _quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document, for scripts")


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("check", metavar="CHECK", help="the id of the check, as `list` tells it")


def _reports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="the earlier report")
    parser.add_argument("new", metavar="NEW", help="the later report")


def _folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", nargs="?", default=".", help="where (default: the current directory)")
    parser.add_argument("--port", choices=["store"], help="only this port is yours; those of SQLite stand beside it")


def _only_mutants(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-k", metavar="TEXT", action="append", dest="only",
        help="only mutants whose name contains this, or matches it with * and ?; repeat for more",
    )  # fmt: skip


def _every(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--every-check", action="store_true", help="name all checks that fail on each of them (slow)")
