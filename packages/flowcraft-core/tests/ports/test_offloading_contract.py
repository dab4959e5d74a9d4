"""The tests of the run store, all of them, through a claim check that offloads every single value."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from flowcraft.memory import MemoryBackend
from flowcraft.sqlite import SqliteBackend
from flowcraft.values import FileValueStore, OffloadingStore

from . import test_store

OTHERWISE = {
    "test_a_value_beyond_the_limit_applies_nothing": "the limit is that of the value store: see test_offloading",
    "test_only_the_own_queue_is_bound": "asks which backend it has; `bind` is that of the store inside",
    "test_an_id_that_is_no_text_is_a_typed_error_or_none": "likewise",
}


@pytest.fixture(params=["memory", "sqlite", "sqlite and files"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> SimpleNamespace:
    """In place of the one that those tests have at home."""
    made: MemoryBackend | SqliteBackend = request.getfixturevalue(request.param.split()[0])
    values = FileValueStore(tmp_path / "values") if "files" in request.param else made.values
    return SimpleNamespace(store=OffloadingStore(made.store, values, above=0), queue=made.queue)


OURS = {name: test for name, test in vars(test_store).items() if name.startswith("test_")}
assert OURS.keys() >= OTHERWISE.keys()
globals().update({name: test for name, test in OURS.items() if name not in OTHERWISE})
