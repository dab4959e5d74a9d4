"""What the benchmarks of constructs have in common: memory and SQLite, a fresh process of ours in each round."""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import report
from harness import CACHE, PEERS, Case, Contender, Samples, measure, say, sync_cost_us, verdict

MEMORY, SQLITE = "memory", "SQLite"


@dataclass(frozen=True)
class Benchmark:
    """One script: its name, its case, and what is shown and promised of it."""

    name: str
    case: Case
    tables: Sequence[report.Table]
    targets: Callable[[Samples], list[report.Target]] = lambda _: []


def options_of(description: str | None, *, what: str, usual: int, rounds: int) -> argparse.ArgumentParser:
    """The options that both scripts have; `what` is counted."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds (default {rounds})")
    parser.add_argument(f"--{what}", type=int, default=usual, help=f"how many (default {usual:,})")
    parser.add_argument("--write", action="store_true", help="replace the section in README.md, if all was measured")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless every target is met")
    return parser


def run(benchmark: Benchmark, options: argparse.Namespace) -> int:
    """Measure, print, save; the exit status."""
    CACHE.mkdir(exist_ok=True)
    where = report.machine(one_fsync=f"{sync_cost_us(CACHE):.0f} µs")
    # beside the checkout: temporary folders may be in memory
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{benchmark.name}-", dir=CACHE))
    files = (str(folder / f"{number}.db") for number in itertools.count())
    try:
        contenders = [
            Contender(name, "flowcraft", _command(place), [benchmark.case], ours=True)
            for name, place in ((MEMORY, lambda: "memory"), (SQLITE, lambda: next(files)))
        ]
        samples = measure(contenders, options.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    judged = benchmark.targets(samples)
    section = report.markdown(benchmark.tables, judged, samples, where, options.rounds)
    print(section)
    saved = report.save(benchmark.name, samples, judged, where, options.rounds)
    say(f"every sample: {saved.name} in benchmarks/results")
    status = verdict(contenders, samples)
    if options.write and status == 0:
        report.write_section(benchmark.name, section)
    return max(status, int(options.check and any(target.outcome != "PASS" for target in judged)))


def _command(place: Callable[[], str]) -> Callable[[], list[list[str]]]:
    return lambda: [[sys.executable, str(PEERS / "flowcraft_constructs.py"), place()]]


def table(title: str, rows: Sequence[report.Row]) -> report.Table:
    """Memory, and SQLite beside it."""
    return report.Table(title, report.Column(MEMORY, MEMORY), [report.Column(SQLITE, SQLITE, ratio=False)], rows)
