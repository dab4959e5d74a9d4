"""In memory: our engine, LangGraph and the TypeScript original on the same no-op graphs (hatch run bench:memory)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import report
from harness import PEERS, Case, Contender, Samples, measure, say, verdict
from installing import from_npm

OURS, LANGGRAPH, TYPESCRIPT, ASYNCIO = "Flowcraft", "LangGraph", "TypeScript Flowcraft", "asyncio itself"
SIZES = (10, 100, 1_000, 10_000)
PEER_SIZES = (10, 100, 1_000)
SMALL_RUN = 3  # nodes of the runs whose memory is watched


def main() -> int:
    """Measure, print, save; the exit status."""
    options = arguments()
    where = report.machine()
    contenders = all_contenders(options)
    samples = measure(contenders, options.rounds)
    judged = targets(samples, options.runs)
    section = report.markdown(tables(options), judged, samples, where, options.rounds)
    print(section)
    say(f"every sample: {report.save('memory', samples, judged, where, options.rounds).name} in benchmarks/results")
    status = verdict(contenders, samples)
    if options.write and status == 0:
        report.write_section("memory", section)
    return max(status, int(options.check and any(target.outcome != "PASS" for target in judged)))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; contenders alternate (default 5)")
    parser.add_argument("--seconds", type=float, default=0.6, help="measured time per case and round (default 0.6)")
    parser.add_argument("--runs", type=int, default=20_000, help="runs over which memory is watched (default 20,000)")
    parser.add_argument(
        "--full", action="store_true", help="watch memory over 100,000 runs, and give the peers 10,000 nodes too"
    )
    parser.add_argument("--write", action="store_true", help="replace the section in README.md, if all was measured")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless every target is met")
    options = parser.parse_args()
    if options.full:
        options.runs = max(options.runs, 100_000)
    return options


def all_contenders(options: argparse.Namespace) -> list[Contender]:
    """Who takes part, with which cases."""
    sizes = SIZES if options.full else PEER_SIZES

    def rates(shapes: Sequence[str], sizes: Sequence[int]) -> list[Case]:
        return [
            Case(f"{shape} {size}", {"shape": shape, "size": size, "seconds": options.seconds})
            for shape in shapes
            for size in sizes
        ]

    empty = Case("empty", {"shape": "chain", "size": 1, "seconds": options.seconds})
    growth = Case("memory", {"shape": "chain", "size": SMALL_RUN, "runs": options.runs}, timeout=1_800.0)
    return [
        Contender(
            OURS, "flowcraft", python("flowcraft_memory.py"), [empty, *rates(["chain", "fan"], SIZES)], ours=True
        ),
        Contender(
            LANGGRAPH,
            "langgraph",
            python("langgraph_peer.py"),
            [empty, *rates(["chain", "fan_edges", "fan_send"], sizes)],
        ),
        Contender(TYPESCRIPT, "typescript", typescript, [empty, *rates(["chain", "fan"], sizes)]),
        Contender(ASYNCIO, "asyncio", python("asyncio_peer.py"), rates(["await", "task"], [1_000])),
        Contender(f"{OURS}, memory", "flowcraft", python("flowcraft_memory.py"), [growth], ours=True, rounds=1),
    ]


def python(script: str) -> Callable[[], list[list[str]]]:
    """The command lines of one process of this interpreter."""
    return lambda: [[sys.executable, str(PEERS / script)]]


def typescript() -> list[list[str]]:
    """The command line of the TypeScript original."""
    return [from_npm("flowcraft_ts")]


def tables(options: argparse.Namespace) -> list[report.Table]:
    """What is shown."""
    rows = [report.Row(f"chain of {size:,}", [f"chain {size}"]) for size in SIZES]
    rows += [report.Row(f"fan of {size:,}", [f"fan {size}", f"fan_edges {size}", f"fan_send {size}"]) for size in SIZES]
    ours = report.Column(OURS, OURS)
    return [
        report.Table(
            "No-op nodes", ours, [report.Column(LANGGRAPH, LANGGRAPH), report.Column(TYPESCRIPT, TYPESCRIPT)], rows
        ),
        report.Table(
            "A run of one no-op node, from call to result",
            ours,
            [report.Column(LANGGRAPH, LANGGRAPH), report.Column(TYPESCRIPT, TYPESCRIPT)],
            [report.Row("empty run", ["empty"], figure="per_work_us", unit="µs", less_is_better=True)],
        ),
        report.Table(
            "This machine, for comparison with others",
            report.Column(ASYNCIO, ASYNCIO),
            [],
            [report.Row("inline awaits", ["await 1000"], unit="1/s"), report.Row("tasks", ["task 1000"], unit="1/s")],
        ),
        report.Table(
            f"Resident memory over {options.runs:,} runs of {SMALL_RUN} nodes in one process",
            report.Column(f"{OURS}, memory", OURS),
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

    def steady(shape: str) -> float | None:
        return samples.ratio((OURS, f"{shape} 10000"), (OURS, f"{shape} 100"))

    def against(shape: str) -> float | None:
        return samples.ratio((OURS, f"{shape} 1000"), (TYPESCRIPT, f"{shape} 1000"))

    return [
        report.Target("chain of 1,000", 150_000, samples.median(OURS, "chain 1000"), " nodes/s"),
        report.Target("fan of 1,000", 60_000, samples.median(OURS, "fan 1000"), " nodes/s"),
        report.Target("chain of 1,000 against the TypeScript original", 10, against("chain"), " ×"),
        report.Target("fan of 1,000 against the TypeScript original", 10, against("fan"), " ×"),
        report.Target("chain: rate at 10,000 against the rate at 100", 0.8, steady("chain"), " ×"),
        report.Target("fan: rate at 10,000 against the rate at 100", 0.8, steady("fan"), " ×"),
        report.Target(
            f"growth of memory over {runs:,} runs",
            4,
            samples.median(f"{OURS}, memory", "memory", "growth_mb"),
            " MB",
            at_most=True,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
