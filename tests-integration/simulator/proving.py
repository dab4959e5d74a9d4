"""How a test looks at many seeds: ``FLOWCRAFT_SEEDS=17,40-60`` makes it look at these only."""

from __future__ import annotations

import os

from .run import check_seeds, command_for, seeds_of, summary

__all__ = ["prove"]

#: What must have happened in so many seeds, or they prove little.
_MUST_HAPPEN = (
    "fault: kills", "fault: pauses", "fault: flush", "fault: lost", "fault: twice", "fault: late", "fault: acks lost",
    "fault: unknown before", "fault: unknown after", "fault: unknown late", "fault: unavailable", "fault: partial",
    "fault: stale due", "fault: store failover", "fault: queue failover", "fault: skew", "fault: scaling",
    "fault: publish",
    "fault: coordination", "again: kill", "again: pause", "accepted", "kept", "slept", "children", "item:completed",
    "retried", "rolled back", "drained", "node:undone", "parked", "marked",
)  # fmt: skip


def prove(first: int, after: int) -> None:
    """Run the seeds from ``first`` up to ``after``; tell how to repeat what fails."""
    chosen = os.environ.get("FLOWCRAFT_SEEDS")
    report = check_seeds(seeds_of(chosen) if chosen else range(first, after))
    print(summary(report, report.spent))
    told = [
        "\n".join([f"seed {outcome.seed}: {outcome.swarm}", *outcome.violations, f"again: {command_for(outcome.seed)}"])
        for outcome in report.failures
    ]
    assert not told, "\n\n".join(told)
    if not chosen:
        never = [what for what in _MUST_HAPPEN if not report.counts[what]]
        assert not never, f"{never} never happened"
