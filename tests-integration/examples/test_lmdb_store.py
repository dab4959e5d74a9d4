"""The run store that an outsider wrote from the guide holds to the contract of its port, and is as long as we say."""

from __future__ import annotations

import asyncio
import sys

import pytest

from flowcraft.conformance.card import as_text
from flowcraft.conformance.levels import levels
from flowcraft.conformance.loading import load_target
from flowcraft.conformance.runner import run

from .conftest import EXAMPLES

FOLDER = EXAMPLES / "lmdb_store"


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # the folder of a target stays on it


@pytest.mark.timeout(
    240
)  # some ten seconds on an idle machine: it writes to a disk, and is killed in processes of its own
def test_the_store_reaches_the_last_level() -> None:
    target = load_target(f"{FOLDER / 'target.py'}:lmdb_and_sqlite")
    report = asyncio.run(run(target, only=lambda check: check.port == "store"))
    card = as_text(report)
    assert (report.count("fail"), report.count("blocked"), report.count("deviation")) == (0, 0, 0), card
    assert report.count("pass") > 90, card
    # A selection certifies nothing, for the overall level is that of whole systems; a port's own is that of its checks
    assert levels(report.results, report.facts)["store"] == 4, card


def test_the_store_is_as_long_as_the_guide_says() -> None:
    assert (FOLDER / "lmdb_store.py").read_text(encoding="utf-8").count("\n") <= 300
