"""Small documents: whether a write happened is always known in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from flowcraft.documents import Documents
from flowcraft.errors import UnknownOutcome
from flowcraft.model import Change, Index, NewRun

from .places import FaultyStore, Place, faults

INDEX = Index("x", 1.0, 1.0)


def new(token: str) -> NewRun:
    return NewRun("d", "f", token, b"1", INDEX, 1.0, kind="dedup")


async def done(place: Place, work: Coroutine[Any, Any, bool]) -> bool:
    task = asyncio.create_task(work)
    await place.until(task.done, step=0.1)
    return task.result()


@pytest.mark.parametrize("what", ["lost before", "lost after"])
async def test_every_write_is_found_out(place: Place, what: str) -> None:
    store = FaultyStore(place.store)
    documents = Documents(store, place.clock, "dedup")  # type: ignore[arg-type] # a transparent proxy

    async def version() -> str:
        stored = await documents.load("d")
        assert stored is not None
        return stored.version

    faults(store, "create", "dedup", what, times=7)
    assert await done(place, documents.create(new("t1")))
    assert not await done(place, documents.create(new("t2"))), "taken"
    first = await version()
    faults(store, "commit", "dedup", what, times=7 if what == "lost before" else 1)
    assert await done(place, documents.change(Change("d", first, "t3", b"2", INDEX, kind="dedup")))
    assert not await done(place, documents.change(Change("d", first, "t4", b"3", INDEX, kind="dedup"))), "outdated"
    faults(store, "delete", "dedup", what, times=7)
    assert not await done(place, documents.delete("d", "t1"))
    assert await done(place, documents.delete("d", "t3"))
    assert not await done(place, documents.change(Change("d", first, "t5", b"4", INDEX, kind="dedup"))), "gone"


@pytest.mark.parametrize("name", ["create", "commit", "delete"])
async def test_a_store_that_never_says_is_given_up(place: Place, name: str) -> None:
    store = FaultyStore(place.store)
    documents = Documents(store, place.clock, "dedup")  # type: ignore[arg-type] # likewise
    await documents.create(new("t1"))
    faults(store, name, "dedup", "lost before", times=8)
    change = Change("d", "t1", "t2", b"2", INDEX, kind="dedup")
    work = {
        "create": documents.create(new("t2")),
        "commit": documents.change(change),
        "delete": documents.delete("d", "t1"),
    }
    asked = work.pop(name)
    for other in work.values():
        other.close()
    with pytest.raises(UnknownOutcome):
        await done(place, asked)
