"""Every backend of the repository through the same suite. `hatch run conformance:<backend>` prints the card of one.

What has a clock of its own takes minutes: of such a backend a choice of scenarios is run here, its ports are checked by
its package, and the command does it all.
"""

# ruff: noqa: TID252 - the folder has a hyphen in its name, so nothing here can be imported absolutely
from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowcraft.conformance import Target
from flowcraft.conformance.card import as_text
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.loading import load_target
from flowcraft.conformance.runner import run

from ..services import REDIS, Service, provided

pytestmark = pytest.mark.timeout(600)

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
#: Of backends on virtual time, which are run as a whole: where the target is.
WHOLE = {
    "memory": "flowcraft.conformance.targets:memory",
    "sqlite": "flowcraft.conformance.targets:sqlite",
}
#: Of the others: where the target is, and the service that it needs. The target finds the service's address in the
#: variable of the service, as it does in production.
IN_REAL_TIME = {
    "redis": (f"{PACKAGES}/flowcraft-redis/tests/conformance_target.py:redis", REDIS),
}
#: Each way in which things go wrong, each construct that keeps more than a head, and the end of a process in order.
SCENARIOS = {
    "system.chain.killed", "system.fan.doubled-and-lost", "system.any-join.unanswered", "system.loop.wiped",
    "system.batch.killed", "system.subflow.doubled-and-lost", "system.wait.killed", "system.rollback.unanswered",
    "system.process.shutdown", "system.process.strangers", "system.runs.same-id", "system.runs.limits",
    "system.ports.conflicts", "system.ports.everything-at-once",
}  # fmt: skip


@pytest.fixture(params=WHOLE)
def backend(request: pytest.FixtureRequest) -> Target:
    return load_target(WHOLE[request.param])


@pytest.fixture(params=IN_REAL_TIME)
def backend_in_real_time(request: pytest.FixtureRequest) -> Iterator[Target]:
    source, service = IN_REAL_TIME[request.param]
    with addressed(service):
        yield load_target(source)


@contextmanager
def addressed(service: Service) -> Iterator[None]:
    with provided(service) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv(service.variable, address)
        yield


def test_backend_reaches_the_highest_level_that_it_declares(backend: Target) -> None:
    """For a backend that is not durable that is the first; else the last that there are checks of."""
    report = asyncio.run(run(backend))
    card = as_text(report)
    print(card)
    assert report.complete
    assert (report.count("fail"), report.count("blocked"), report.count("deviation")) == (0, 0, 0), card
    assert report.warnings == (), card
    for port, reached in report.levels.items():
        most = 4 if report.facts.durable(port) else 1
        there_is = max((check.level for check in CATALOGUE if check.port == port and check.level <= most), default=0)
        assert reached == there_is, card
    assert report.overall == report.levels["system"], card


def test_chosen_scenarios_hold_in_real_time(backend_in_real_time: Target) -> None:
    report = asyncio.run(run(backend_in_real_time, only=lambda check: check.id in SCENARIOS))
    passed = {result.check_id for result in report.results if result.outcome == "pass"}
    assert passed == SCENARIOS, as_text(report)
