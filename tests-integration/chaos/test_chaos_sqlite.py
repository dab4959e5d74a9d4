"""Workers killed at random moments: the small size of ``hatch run chaos:sqlite``."""

from __future__ import annotations

from pathlib import Path

import pytest

from .campaign import Campaign, Outcome
from .program import preset
from .settings import Settings
from .summary import figures, table

__all__ = ["hurt"]


def hurt(settings: Settings) -> Outcome:
    """Run a campaign; the test fails with all that was broken."""
    outcome = Campaign(preset(settings)).run()
    told = "\n".join(f"{what}: {value}" for what, value in table(figures(outcome)))
    broken = "\n".join(f"{violation.promise}: {violation.text}" for violation in outcome.verdict.violations)
    assert not broken, f"{broken}\n\n{told}\n\nfiles in {settings.folder}"
    assert len(outcome.evidence.started) == settings.runs
    return outcome


@pytest.mark.timeout(240)
def test_killed_workers_lose_nothing_and_finish_nothing_twice(tmp_path: Path) -> None:
    outcome = hurt(Settings(str(tmp_path), runs=60, strikes=8, every=0.8, seed=11, echoes=60))
    assert sum(in_flight > 0 for in_flight, _ in outcome.verdict.in_flight) >= 8, "the kills hit executions"
    assert outcome.cut_starts, "a client was killed in the middle of a start"
    assert all(repetition.cause for repetition in outcome.verdict.repetitions)
