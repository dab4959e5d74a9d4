"""The checks of the ports on sound targets that are unlike the two backends: what they must not complain of."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowcraft.conformance import Check, Place, Ports, Target
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.facts import Facts
from flowcraft.conformance.mutants.breaking import broken
from flowcraft.conformance.mutants.store_handles import limited
from flowcraft.conformance.runner import examine, look_at
from flowcraft.conformance.targets import memory, sqlite
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Page, RunSummary
from flowcraft.values import FileValueStore, OffloadingStore

pytestmark = pytest.mark.timeout(180)


def folder(place: Place) -> Path:
    return Path(tempfile.gettempdir()) / f"flowcraft-test-{place.namespace}"


def offloading(base: Target, *, files: bool = False) -> Target:
    """A target whose store keeps not a single value of a run itself; with ``files`` they lie in a folder."""

    @asynccontextmanager
    async def opened(place: Place) -> AsyncGenerator[Ports]:
        async with base.open(place) as ports:
            assert ports.store is not None
            assert ports.values is not None
            values = FileValueStore(folder(place)) if files else ports.values
            yield replace(ports, store=OffloadingStore(ports.store, values, above=0), values=values)

    async def drop(place: Place) -> None:
        shutil.rmtree(folder(place), ignore_errors=True)
        if base.drop is not None:
            await base.drop(place)

    return replace(base, name=f"offloading {base.name}", open=opened, drop=drop, leftovers=None)


class Lagging(MemoryRunStore):
    """`due` and `list` show how things were up to half a second ago, which the first of them may."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._seen: dict[str, tuple[float, Page[RunSummary]]] = {}

    async def _lagging(self, asked: str, ask: Callable[[], Awaitable[Page[RunSummary]]]) -> Page[RunSummary]:
        at, page = self._seen.get(asked, (-math.inf, Page(())))
        if self._clock.monotonic() - at >= 0.5:
            page = await ask()
            self._seen[asked] = (self._clock.monotonic(), page)
        return page

    async def due(self, now: float, **asked: Any) -> Page[RunSummary]:
        call = super().due
        return await self._lagging(f"due {now} {asked}", lambda: call(now, **asked))

    async def list(self, **asked: Any) -> Page[RunSummary]:
        call = super().list
        return await self._lagging(f"list {asked}", lambda: call(**asked))


STORE = [check for check in CATALOGUE if check.port == "store" and "leftovers" not in check.requires]
VALUES = [check for check in CATALOGUE if check.port == "values" and "leftovers" not in check.requires]
EMBEDDED = [check for check in STORE if "durable" not in check.requires]

#: What is checked on what, and what must fail on it.
CASES: dict[str, tuple[Callable[[], Target], list[Check], set[str]]] = {
    "offloading memory": (lambda: offloading(memory), STORE, set()),
    "offloading sqlite to files": (lambda: offloading(sqlite, files=True), EMBEDDED, set()),
    "files": (lambda: offloading(memory, files=True), VALUES, set()),
    "limits": (limited, STORE, set()),
    "lagging": (
        lambda: replace(broken("lagging", store=Lagging), settle=1.0), STORE, {"store.list.own-commits-at-once"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_the_checks_hold(case: str) -> None:
    make, checks, expected = CASES[case]
    target = make()
    found = await look_at(target)
    assert isinstance(found, Facts)
    results = [await examine(target, found, check) for check in checks]
    wrong = {result.check_id: result.evidence for result in results if result.outcome not in {"pass", "not applicable"}}
    assert set(wrong) == expected, wrong
    if case == "limits":
        assert {result.check_id for result in results if result.outcome == "pass"} >= {
            "store.limits.commit-bytes", "store.limits.commit-items",
        }  # fmt: skip


async def test_leases_that_lie_in_the_store_do_not_stop_the_clock() -> None:
    """Without a coordination store a worker dies within a call within a call: time must not wait for the outer one."""

    @asynccontextmanager
    async def opened(place: Place) -> AsyncGenerator[Ports]:
        async with sqlite.open(place) as ports:
            yield replace(ports, coordination=None)

    offers = sqlite.offers - {"coordination"}
    alone = replace(sqlite, name="no coordination", open=opened, offers=offers, leftovers=None)
    found = await look_at(alone)
    assert isinstance(found, Facts)
    for check in CATALOGUE:
        if check.id in ("system.chain.killed", "system.fan.killed"):
            result = await examine(alone, found, check)
            assert result.outcome == "pass", result.evidence
