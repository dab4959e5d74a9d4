"""Nobody is hurt, or workers are replaced in order: then nothing at all is executed twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from .settings import Settings
from .test_chaos_sqlite import hurt


@pytest.mark.timeout(240)
def test_without_kills_nothing_is_executed_twice(tmp_path: Path) -> None:
    outcome = hurt(Settings(str(tmp_path), runs=60, strikes=0, seed=12, echoes=150))
    assert not outcome.verdict.repetitions


@pytest.mark.timeout(240)
def test_workers_that_end_in_order_cause_no_repetition(tmp_path: Path) -> None:
    outcome = hurt(Settings(str(tmp_path), runs=60, strikes=8, signal="TERM", every=0.8, seed=13))
    assert sum(in_flight > 0 for in_flight, _ in outcome.verdict.in_flight) >= 8, "the signals came amid executions"
    assert not outcome.verdict.repetitions
