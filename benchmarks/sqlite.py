"""On SQLite, every step durable: our engine and DBOS on the same chains and fans (hatch run bench:sqlite)."""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import report
from harness import CACHE, PEERS, Case, Contender, Samples, measure, say, sync_cost_us, verdict

OURS, DBOS, DBOS_WAL = "Flowcraft", "DBOS", "DBOS, write-ahead log"
TWO = ", 2 processes"
MEMORY = ", memory"
CHAIN, FAN = 10, 100
IN_FLIGHT = {"chain": (1, 16, 100), "fan": (1, 16)}
IN_FLIGHT_OF_TWO = {"chain": (100,), "fan": (16,)}  # in total; each process starts half of them
SMALL_RUN = 3  # nodes of the runs whose memory is watched


def main() -> int:
    """Measure, print, save; the exit status."""
    options = arguments()
    CACHE.mkdir(exist_ok=True)
    where = report.machine(one_fsync=f"{sync_cost_us(CACHE):.0f} µs")
    folder = Path(
        tempfile.mkdtemp(prefix="bench-sqlite-", dir=CACHE)
    )  # beside the checkout: temporary folders may be in memory
    try:
        contenders = all_contenders(options, folder)
        samples = measure(contenders, options.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    judged = targets(samples, options.runs)
    section = report.markdown(tables(options.runs), judged, samples, where, options.rounds)
    print(section)
    say(f"every sample: {report.save('sqlite', samples, judged, where, options.rounds).name} in benchmarks/results")
    status = verdict(contenders, samples)
    if options.write and status == 0:
        report.write_section("sqlite", section)
    return max(status, int(options.check and any(target.outcome != "PASS" for target in judged)))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds; contenders alternate (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time per case and round (default 3)")
    parser.add_argument(
        "--runs", type=int, default=100_000, help="runs over which a worker's memory is watched (default 100,000)"
    )
    parser.add_argument("--write", action="store_true", help="replace the section in README.md, if all was measured")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless every target is met")
    return parser.parse_args()


def all_contenders(options: argparse.Namespace, folder: Path) -> list[Contender]:
    """Who takes part, with which cases; every round has a new database file."""
    files = (str(folder / f"{number}.db") for number in itertools.count())
    one = cases(IN_FLIGHT, options.seconds)
    two = cases(IN_FLIGHT_OF_TWO, options.seconds, processes=2)
    growth = Case(
        "memory", {"shape": "chain", "size": SMALL_RUN, "in_flight": 16, "runs": options.runs}, timeout=3_600.0
    )
    return [
        Contender(OURS, "flowcraft", ours(files), one, ours=True),
        Contender(DBOS, "dbos", dbos(files, "shipped"), one),
        Contender(DBOS_WAL, "dbos", dbos(files, "wal"), one),
        Contender(OURS + TWO, "flowcraft", ours(files, processes=2), two, ours=True),
        Contender(DBOS + TWO, "dbos", dbos(files, "shipped", processes=2), two),
        Contender(DBOS_WAL + TWO, "dbos", dbos(files, "wal", processes=2), two),
        Contender(OURS + MEMORY, "flowcraft", ours(files), [growth], ours=True, rounds=1),
    ]


def cases(in_flight: Mapping[str, tuple[int, ...]], seconds: float, processes: int = 1) -> list[Case]:
    """One per shape and number of runs in flight; each process gets its share of them."""
    sizes = {"chain": CHAIN, "fan": FAN}
    return [
        Case(
            f"{shape} {runs}",
            {"shape": shape, "size": sizes[shape], "in_flight": runs // processes, "seconds": seconds},
            timeout=300.0,
        )
        for shape, many in in_flight.items()
        for runs in many
    ]


def ours(files: Iterable[str], processes: int = 1) -> Callable[[], list[list[str]]]:
    """The command lines of our engine on the next file."""

    def commands() -> list[list[str]]:
        path = next(iter(files))
        return [[sys.executable, str(PEERS / "flowcraft_sqlite.py"), path]] * processes

    return commands


def dbos(files: Iterable[str], journal: str, processes: int = 1) -> Callable[[], list[list[str]]]:
    """The command lines of DBOS on the next file; each process executes what it started."""

    def commands() -> list[list[str]]:
        path = next(iter(files))
        return [
            [sys.executable, str(PEERS / "dbos_peer.py"), path, f"executor-{number}", journal]
            for number in range(processes)
        ]

    return commands


def tables(runs: int) -> list[report.Table]:
    """What is shown."""

    def rows(in_flight: Mapping[str, tuple[int, ...]]) -> list[report.Row]:
        names = {"chain": f"chain of {CHAIN}", "fan": f"fan of {FAN}"}
        return [
            report.Row(f"{names[shape]}, {number} in flight", [f"{shape} {number}"], unit="steps/s")
            for shape, many in in_flight.items()
            for number in many
        ]

    latency = [
        report.Row(f"{name} alone, latency", [case], figure="latency_ms", unit="ms", less_is_better=True)
        for name, case in ((f"chain of {CHAIN}", "chain 1"), (f"fan of {FAN}", "fan 1"))
    ]
    peers = [report.Column(DBOS, DBOS), report.Column(DBOS_WAL, DBOS_WAL)]
    pairs = [report.Column(DBOS + TWO, DBOS), report.Column(DBOS_WAL + TWO, DBOS_WAL)]
    return [
        report.Table("One process with worker and client", report.Column(OURS, OURS), peers, rows(IN_FLIGHT) + latency),
        report.Table("Two processes on one file", report.Column(OURS + TWO, OURS), pairs, rows(IN_FLIGHT_OF_TWO)),
        report.Table(
            f"Resident memory of one worker over {runs:,} runs of {SMALL_RUN} nodes",
            report.Column(OURS + MEMORY, OURS),
            [],
            [
                report.Row(
                    "growth after the first tenth", ["memory"], figure="growth_mb", unit="MB", less_is_better=True
                ),
                report.Row("resident at the end", ["memory"], figure="resident_mb", unit="MB", less_is_better=True),
            ],
        ),
    ]


def targets(samples: Samples, runs: int) -> list[report.Target]:
    """The floors of the design."""
    growth = samples.median(OURS + MEMORY, "memory", "growth_mb")
    return [
        report.Target(f"chain of {CHAIN}, 100 runs in flight", 2_000, samples.median(OURS, "chain 100"), " steps/s"),
        report.Target(f"fan of {FAN}, 16 runs in flight", 2_000, samples.median(OURS, "fan 16"), " steps/s"),
        report.Target(f"growth of a worker's memory over {runs:,} runs", 8, growth, " MB", at_most=True),
    ]


if __name__ == "__main__":
    sys.exit(main())
