"""The small size of ``hatch run chaos:redis``: everything goes wrong, and yet nothing is lost or finished twice."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from .on_redis import required
from .settings import Settings
from .test_chaos_sqlite import hurt

FAULTS = {"restart": 2, "cut": 5, "stall": 3, "kick": 5, "scripts": 4, "wipe": 8, "pause": 1}


@pytest.fixture
def redis_server() -> None:
    """There is one; else this is skipped, or fails where it is required."""
    if shutil.which("redis-server") is None:
        if required("redis"):
            pytest.fail("redis is required here: redis-server is not installed", pytrace=False)
        pytest.skip("NOT TESTED on redis: redis-server is not installed")


@pytest.mark.usefixtures("redis_server")
@pytest.mark.timeout(300)
def test_killed_servers_broken_connections_and_lost_leases_lose_nothing_and_finish_nothing_twice(
    tmp_path: Path,
) -> None:
    outcome = hurt(Settings(str(tmp_path), "redis", runs=60, strikes=5, every=2.5, seed=21, echoes=60, faults=FAULTS))
    made = Counter(outage.what for outage in outcome.evidence.outages)
    made["pause"] = sum(strike.signal == "STOP" for strike in outcome.evidence.strikes)
    assert made == FAULTS, "each fault was made as often as was asked for"
    kills = zip(outcome.evidence.strikes, outcome.verdict.in_flight, strict=True)
    assert sum(strike.signal == "KILL" and hit[0] > 0 for strike, hit in kills) >= 5, "the kills hit executions"
    assert any(outage.leases for outage in outcome.evidence.outages), "leases were removed"
    assert all(repetition.cause for repetition in outcome.verdict.repetitions)
