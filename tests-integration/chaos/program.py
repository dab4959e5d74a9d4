"""The command line of `run.py`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from .backends import BACKENDS, faults_of, full_size
from .campaign import Campaign
from .settings import SIGNALS, Settings, Signal
from .summary import figures, table, write_report
from .weather import PAUSE

__all__ = ["main", "preset"]


def preset(settings: Settings) -> Settings:
    """Times that fit the signal. Where nobody dies, leases are so long that waiting for one would be noticed."""
    if settings.calm:
        return replace(settings, lease_ttl=60.0, visibility=60.0, resend=120.0)
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one campaign and tell what it came to; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    known = (PAUSE, *faults_of(options.backend))
    if strange := set(options.faults or ()).difference(known):
        parser.error(f"faults on {options.backend} are {', '.join(known)}, not {', '.join(sorted(strange))}")
    folder = tempfile.mkdtemp(prefix="flowcraft-chaos-")
    settings = preset(
        Settings(
            folder, options.backend, processes=options.processes, concurrency=options.concurrency,
            signal=cast("Signal", options.signal), seed=options.seed, source=options.source,
            **{**full_size(options.backend), **_given(options, "runs", "strikes", "every", "echoes", "faults")},
        )
    )  # fmt: skip
    settings = replace(settings, **_given(options, "lease_ttl", "visibility", "resend", "patience"))
    live = sys.stdout.isatty()
    shown = [-10.0]

    def tell(text: str) -> None:
        second = float(text.split(maxsplit=1)[0])
        if live:
            print(f"\r{text}", end="", flush=True)
        elif second - shown[0] >= 5:
            shown[0] = second
            print(text, flush=True)

    print(f"{settings.runs} runs on {settings.backend}, seed {settings.seed}, files in {folder}", flush=True)
    outcome = Campaign(settings, tell).run()
    found = figures(outcome)
    print("\n" if live else "")
    for what, value in table(found):
        print(f"{what:>18}  {value}")
    for violation in outcome.verdict.violations[:20]:
        print(f"\nBROKEN {violation.promise}: {violation.text[:2000]}")
    write_report(Path(folder) / "report.json", found)
    for path in options.report:
        write_report(Path(path), found)
    if outcome.verdict.violations:
        print(f"\n{len(outcome.verdict.violations)} broken promises; the evidence is in {folder}")
        return 1
    if not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those options that the command has."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _faults(text: str) -> dict[str, int]:
    """``cut=40,wipe=120``, or ``none``."""
    pairs = [part.partition("=") for part in text.split(",")] if text != "none" else []
    return {name: int(count or 1) for name, _, count in pairs}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Hurt workers at random moments while runs go through a backend, and check each promise.",
    )
    add = parser.add_argument
    add("backend", choices=BACKENDS)
    add("--runs", type=int, help="runs of mixed shape (default: 300; 2000 on redis)")
    add("--processes", type=int, default=3, help="worker processes (default: %(default)s)")
    add("--concurrency", type=int, default=20, help="of each worker (default: %(default)s)")
    add(
        "--kills",
        dest="strikes",
        type=int,
        help="signals that must hit executions; 0: nobody is hurt (default: 30; 60 on redis)",
    )
    add(
        "--signal",
        choices=SIGNALS,
        default="KILL",
        help="STOP pauses a worker beyond its leases (default: %(default)s)",
    )
    add("--every", type=float, help="mean seconds from one signal to the next (default: 1.2; 10 on redis)")
    add(
        "--faults",
        type=_faults,
        metavar="NAME=COUNT,…",
        help="what is done to the backend, and how often: pause; on redis also restart, cut, stall, kick, scripts, "
        "wipe (default: on redis all of them); none: nothing",
    )
    add("--seed", type=int, default=1, help="of shapes and moments (default: %(default)s)")
    add("--echoes", type=int, help="messages to be sent twice (default: 0; 1000 on redis)")
    add("--lease-ttl", type=float, help="seconds")
    add("--visibility", type=float, help="seconds until a message that nobody acked comes again")
    add("--resend", type=float, help="seconds until a message that nobody works on is sent again")
    add("--patience", type=float, help="seconds for all runs to end after the last signal")
    add("--report", action="append", default=[], metavar="FILE", help="write JSON, or a section of a Markdown document")
    add("--source", default="", metavar="FOLDER", help="test the flowcraft in this folder")
    add("--keep", action="store_true", help="keep the files also if all is well")
    return parser
