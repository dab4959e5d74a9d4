"""The contract of the ports: every check of the conformance suite that is about one port, on a real server and in real
time. Whole systems take minutes: `hatch run conformance:redis`, and a choice of them in tests-integration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from flowcraft.conformance.card import as_text
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.loading import load_target
from flowcraft.conformance.runner import run
from flowcraft.conformance.target import PortName

#: The checks of a target take half a minute, which is mostly waiting for leases and messages; here is some air.
pytestmark = pytest.mark.timeout(300)

TARGETS = Path(__file__).with_name("conformance_target.py")
#: What no check can ask of Redis, and why. Large values go to a store of another package: so does the port `values`.
NOT_APPLICABLE = {
    "store.history.none-without": "there is a history",
    "store.limits.no-limit": "a value has at most 1 MiB",
    "store.limits.commit-bytes": "a commit may be as large as its values are",
    "store.limits.commit-items": "a commit may have any number of values",
    "queue.delay.longest": "any delay is kept",
    "queue.live.too-large": "a message has no limit, and carries ids only",
}
NOT_OFFERED: AbstractSet[PortName] = {"values"}


@pytest.mark.parametrize(
    ("target", "ports"),
    [
        ("redis", {"store", "queue", "coordination", "events", "values"}),
        # Leases and events know nothing of partitions: they would only be checked again.
        ("partitioned", {"store", "queue"}),
    ],
    ids=["one partition", "three partitions"],
)
def test_every_check_of_a_port_holds(
    target: str, ports: AbstractSet[PortName], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWCRAFT_REDIS_URL", url)
    report = asyncio.run(run(load_target(f"{TARGETS}:{target}"), only=lambda check: check.port in ports))
    asked = {check.id: check for check in CATALOGUE if check.port in ports}
    outcomes = {result.check_id: result.outcome for result in report.results if result.check_id in asked}
    skipped = {name for name, outcome in outcomes.items() if outcome == "not applicable"}
    expected = {name for name, check in asked.items() if name in NOT_APPLICABLE or check.port in NOT_OFFERED}
    assert skipped == expected
    assert {name for name, outcome in outcomes.items() if outcome != "pass"} == expected, as_text(report)
    assert report.warnings == ()
    assert len(outcomes) == len(asked)
