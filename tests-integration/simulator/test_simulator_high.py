"""The second half of the seeds that are looked at in every run of the tests."""

from __future__ import annotations

import pytest

from .proving import prove


@pytest.mark.timeout(3600)
def test_seeds() -> None:
    prove(2000, 4000)
