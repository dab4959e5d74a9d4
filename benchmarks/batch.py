"""A batch of 10,000 items with four workers, on memory and on SQLite (hatch run bench:batch)."""

from __future__ import annotations

import sys

import report
from constructs import MEMORY, SQLITE, Benchmark, options_of, run, table
from harness import Case, Samples

SECONDS = 4.0  # the floor for 10,000 items


def main() -> int:
    """Measure, print, save; the exit status."""
    options = options_of(__doc__, what="items", usual=10_000, rounds=5).parse_args()
    items = options.items

    def targets(samples: Samples) -> list[report.Target]:
        bound = SECONDS * items / 10_000
        return [
            report.Target(f"{items:,} items, {place}", bound, samples.median(place, "batch", "seconds"), " s",
                          at_most=True)
            for place in (MEMORY, SQLITE)
        ]  # fmt: skip

    rows = [
        report.Row("from start to result", ["batch"], figure="seconds", unit="s", less_is_better=True),
        report.Row("item visits", ["batch"], unit="1/s"),
        report.Row("highest resident memory", ["batch"], figure="peak_mb", unit="MB", less_is_better=True),
    ]
    case = Case("batch", {"items": items}, timeout=1_900.0)
    title = f"One batch of {items:,} no-op items, four workers in one process"
    return run(Benchmark("batch", case, [table(title, rows)], targets), options)


if __name__ == "__main__":
    sys.exit(main())
