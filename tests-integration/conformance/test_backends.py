"""Every backend of the repository through the same suite. `hatch run conformance:<backend>` prints the card of one."""

# ruff: noqa: TID252 - the folder has a hyphen in its name, so nothing here can be imported absolutely
from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from flowcraft.conformance import Target
from flowcraft.conformance.card import as_text
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.loading import load_target
from flowcraft.conformance.runner import run

from ..services import Service, provided

pytestmark = pytest.mark.timeout(600)

#: One line for each backend: where its target is, and the service that it needs. The target finds the service's address
#: in the variable of the service, as it does in production.
BACKENDS: dict[str, tuple[str, Service | None]] = {
    "memory": ("flowcraft.conformance.targets:memory", None),
    "sqlite": ("flowcraft.conformance.targets:sqlite", None),
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Target]:
    source, service = BACKENDS[request.param]
    with ExitStack() as stack:
        if service is not None:
            address = stack.enter_context(provided(service))
            stack.enter_context(pytest.MonkeyPatch.context()).setenv(service.variable, address)
        yield load_target(source)


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
