"""The first half of the seeds that are looked at in every run of the tests; the seeds that once found something."""

from __future__ import annotations

import pytest

from .found import FOUND
from .proving import prove
from .simulation import simulate


@pytest.mark.timeout(3600)
def test_seeds() -> None:
    prove(0, 2000)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", FOUND)
def test_a_seed_that_found_something(seed: int) -> None:
    outcome = simulate(seed)
    assert outcome.violations == [], FOUND[seed]
