"""10,000 sleeping runs: how late they wake, on memory and on SQLite (hatch run bench:sleepers)."""

from __future__ import annotations

import sys

import report
from constructs import Benchmark, options_of, run, table
from harness import Case


def main() -> int:
    """Measure, print, save; the exit status."""
    parser = options_of(__doc__, what="sleepers", usual=10_000, rounds=3)
    parser.add_argument("--length", type=float, default=60.0, help="seconds that each sleeps (default 60)")
    options = parser.parse_args()

    def late(label: str, figure: str) -> report.Row:
        return report.Row(label, ["sleepers"], figure=figure, unit="ms", less_is_better=True)

    rows = [
        late("late, median", "late_p50_ms"),
        late("late, 99 of 100", "late_p99_ms"),
        late("late, the last", "late_max_ms"),
        report.Row("all were started within", ["sleepers"], figure="starting_s", unit="s", less_is_better=True),
        report.Row("highest resident memory", ["sleepers"], figure="peak_mb", unit="MB", less_is_better=True),
    ]
    request = {"sleepers": options.sleepers, "length": options.length}
    title = f"{options.sleepers:,} runs that sleep for {options.length:g} s, four workers in one process"
    return run(Benchmark("sleepers", Case("sleepers", request, timeout=1_900.0), [table(title, rows)]), options)


if __name__ == "__main__":
    sys.exit(main())
