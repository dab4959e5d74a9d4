"""Runs many seeds, on several cores, and tells what came of them.

python -m tests-integration.simulator.run --seeds 0-49999 --jobs 2     many, with progress
python -m tests-integration.simulator.run --seeds 4711                 one, with its trace if something is wrong
python -m tests-integration.simulator.run --seeds 4711 --without kills,pauses --most 1 --trace    smaller, to look at

Seeds of the same block share their workflows, so a chunk of work is a block.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from .simulation import Outcome, simulate
from .swarm import FAULTS
from .workload import BLOCK

__all__ = ["EVERY", "Report", "check_seeds", "command_for", "main", "seeds_of", "summary"]

#: Every so many seeds one is run twice, and must come to the same.
EVERY = 50


@dataclass
class Report:
    """What many seeds came to."""

    seeds: int = 0
    steps: int = 0
    virtual: float = 0.0
    spent: float = 0.0
    counts: Counter[str] = field(default_factory=Counter[str])
    failures: list[Outcome] = field(default_factory=list[Outcome])

    def add(self, other: Report) -> None:
        """Both."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.virtual += other.virtual
        self.spent += other.spent
        self.counts.update(other.counts)
        self.failures += other.failures


def command_for(seed: int, without: Iterable[str] = (), most: int = 8) -> str:
    """What runs this seed again."""
    left = f" --without {','.join(sorted(without))}" if without else ""
    fewer = f" --most {most}" if most != 8 else ""
    return f"python -m tests-integration.simulator.run --seeds {seed}{left}{fewer}"


def check_seeds(seeds: Sequence[int], *, without: Iterable[str] = (), most: int = 8, stop_after: int = 20) -> Report:
    """Run these, some of them twice, until so many have failed."""
    report = Report()
    left = frozenset(without)
    began = time.process_time()
    for seed in seeds:
        outcome = simulate(seed, without=left, most=most)
        if seed % EVERY == 0:
            again = simulate(seed, without=left, most=most)
            report.counts["run twice"] += 1
            if again.digest != outcome.digest:
                outcome.violations.append(f"the same seed comes to the same: {outcome.digest}, then {again.digest}")
        report.seeds += 1
        report.steps += outcome.steps
        report.virtual += outcome.seconds
        report.counts.update(outcome.counts)
        if outcome.violations:
            report.failures.append(outcome)
            if len(report.failures) >= stop_after:
                break
    report.spent = time.process_time() - began
    return report


def seeds_of(text: str) -> list[int]:
    """Seeds as people write them: ``17,40-60``."""
    found: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def _chunks(seeds: Sequence[int]) -> Iterator[list[int]]:
    chunk: list[int] = []
    for seed in seeds:
        if chunk and seed // BLOCK != chunk[-1] // BLOCK:
            yield chunk
            chunk = []
        chunk.append(seed)
    if chunk:
        yield chunk


def _faults(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in FAULTS]:
        raise argparse.ArgumentTypeError(f"no such faults: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    return names


def _told(outcome: Outcome, args: argparse.Namespace) -> str:
    told = [f"\nseed {outcome.seed}: {outcome.swarm}", *outcome.violations]
    if args.trace:
        told += outcome.trace
    told.append(f"again: {command_for(outcome.seed, args.without, args.most)} --trace")
    return "\n".join(told)


def main(words: Sequence[str] | None = None) -> int:
    """The command; 1 if an invariant was broken."""
    parser = argparse.ArgumentParser(
        prog="simulate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("0-3999"), help="a number, or ranges: 17,40-60")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--without", type=_faults, default=[], help="faults to leave out, by name, with commas")
    parser.add_argument("--most", type=int, default=8, help="runs in one seed, at most")
    parser.add_argument("--trace", action="store_true", help="tell all that happened in seeds that fail")
    parser.add_argument("--stop-after", type=int, default=20, help="failures, after which no more are looked for")
    args = parser.parse_args(words)
    report, began, said = Report(), time.monotonic(), 0.0
    work = partial(check_seeds, without=args.without, most=args.most, stop_after=args.stop_after)
    chunks = list(_chunks(args.seeds))
    with ProcessPoolExecutor(max(1, min(args.jobs, len(chunks)))) as pool:
        waiting = [pool.submit(work, chunk) for chunk in chunks]
        for done in waiting:
            found = done.result()
            report.add(found)
            for outcome in found.failures:
                print(_told(outcome, args), flush=True)
            if len(report.failures) >= args.stop_after:
                pool.shutdown(cancel_futures=True)
                break
            if time.monotonic() - said > 10:
                said = time.monotonic()
                rate = report.seeds / max(0.001, said - began)
                print(f"{report.seeds} seeds, {len(report.failures)} failed, {rate:.1f}/s", file=sys.stderr, flush=True)
    print(summary(report, time.monotonic() - began))
    return 1 if report.failures else 0


def summary(report: Report, seconds: float) -> str:
    """What came of many seeds in so much time."""
    rate, rate_of_core = report.seeds / max(0.001, seconds), report.seeds / max(0.001, report.spent)
    rates = f"{rate:.1f} seeds/s, {rate_of_core:.1f} per second of one core"
    hours = f"{report.steps} steps, {report.virtual / 3600:.1f} simulated hours"
    lines = [f"{report.seeds} seeds, {len(report.failures)} failed; {rates}; {hours}"]
    lines += [f"  {name}: {count}" for name, count in sorted(report.counts.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
