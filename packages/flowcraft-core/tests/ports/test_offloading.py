"""The claim check: what it adds to a run store. That it is one itself, tests/contract/test_port_targets.py shows."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flowcraft.errors import InvalidRequest, Misconfigured, PayloadTooLarge, Tampered, Unavailable, UnknownOutcome
from flowcraft.memory import MemoryBackend, MemoryRunStore, MemoryValueStore
from flowcraft.model import Change, Committed, NewRun, ValueKey, value_address
from flowcraft.ports import RunStore
from flowcraft.sqlite import SqliteBackend
from flowcraft.values import FileValueStore, OffloadingStore
from flowcraft.values.offloading import offloading

from .making import change, existing, new
from .virtual_clock import VirtualClock

ABOVE = 100
SMALL, LARGE, LARGER = b"s" * ABOVE, b"l" * (ABOVE + 1), b"L" * 5000
A, B, C = ValueKey("context", "a"), ValueKey("output", "b"), ValueKey("item", "c", 7)


@pytest.fixture(params=["memory", "sqlite", "memory and files", "sqlite and files"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> SimpleNamespace:
    made: MemoryBackend | SqliteBackend = request.getfixturevalue(request.param.split()[0])
    values = FileValueStore(tmp_path / "values") if "files" in request.param else made.values
    store = OffloadingStore(made.store, values, above=ABOVE)
    return SimpleNamespace(store=store, queue=made.queue, inner=made.store, values=values)


async def test_large_values_come_back_and_only_references_are_stored(backend: SimpleNamespace) -> None:
    store: RunStore = backend.store
    assert isinstance(store, RunStore)
    await store.create(new("run", values={A: SMALL, B: LARGE}))
    step = change("run", "t0", "t1", values={A: LARGER, C: LARGER})
    assert (await store.commit([step]))[0].applied
    everything = {A: LARGER, B: LARGE, C: LARGER}
    assert existing(await store.load("run", want=[A, B, C])).values == everything
    assert await store.read_values("run", [A, B, C]) == everything
    assert await store.read_values("run", space="item") == {C: LARGER}
    inside = await backend.inner.read_values("run", [A, B, C])
    assert {len(data) for data in inside.values()} == {35}
    assert len(set(inside.values())) == 2, "equal contents of a run are stored once"
    assert store.capabilities.max_value_bytes == backend.values.max_value_bytes


async def test_a_value_beyond_the_limit_of_the_store_inside(backend: SimpleNamespace) -> None:
    huge = b"h" * (3 << 20)
    await backend.store.create(new("run", values={A: huge}))
    assert (await backend.store.read_values("run", [A]))[A] == huge
    with pytest.raises(PayloadTooLarge):
        await backend.inner.create(new("other", values={A: huge}))


async def test_a_value_that_looks_like_a_reference_is_none(backend: SimpleNamespace) -> None:
    await backend.store.create(new("run", values={A: LARGE}))
    forged = (await backend.inner.read_values("run", [A]))[A]
    await backend.store.create(new("other", values={A: forged, B: b"\xfcr\x01short"}))
    assert await backend.store.read_values("other", [A, B]) == {A: forged, B: b"\xfcr\x01short"}


async def test_everything_goes_with_the_run(backend: SimpleNamespace, tmp_path: Path) -> None:
    """Also what was put for a commit that met a conflict."""
    store: RunStore = backend.store
    await store.create(new("run", values={A: LARGE}))
    await store.create(new("other", values={A: LARGE}))
    (lost,) = await store.commit([change("run", "wrong", "t1", values={B: LARGER})])
    assert not lost.applied
    orphan, kept = value_address("run", LARGER), value_address("other", LARGE)
    assert len(await backend.values.get_many([orphan])) == 1
    assert not await store.delete("run", "wrong")
    assert (await store.read_values("run", [A]))[A] == LARGE, "a removal that is refused removes nothing"
    assert await store.delete("run", "t0")
    assert await store.load("run") is None
    assert await backend.values.get_many([orphan, value_address("run", LARGE)]) == {}
    assert len(await backend.values.get_many([kept])) == 1
    assert await store.delete("run", "t0"), "may be repeated"


async def test_a_removal_that_was_interrupted_can_be_repeated() -> None:
    class Interrupted(MemoryRunStore):
        trouble = True

        async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
            if self.trouble:
                raise Unavailable("between the values and the document")
            return await super().delete(run_id, token, kind=kind)

    inner, values = Interrupted(VirtualClock()), MemoryValueStore()
    store = OffloadingStore(inner, values, above=ABOVE)
    await store.create(new("run", values={A: LARGE}))
    with pytest.raises(Unavailable):
        await store.delete("run", "t0")
    inner.trouble = False
    assert await store.delete("run", "t0")
    assert await inner.load("run") is None


async def test_values_are_put_before_they_are_named() -> None:
    steps: list[str] = []

    class Values(MemoryValueStore):
        async def put(self, key: str, data: bytes) -> None:
            await asyncio.sleep(0)
            await super().put(key, data)
            steps.append("put")

    class Store(MemoryRunStore):
        async def create(self, new: NewRun) -> Any:
            steps.append("create")
            return await super().create(new)

        async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
            steps.append("commit")
            return await super().commit(changes)

    store = OffloadingStore(Store(VirtualClock()), Values(), above=ABOVE)
    await store.create(new("run", values={A: LARGE, B: LARGER}))
    await store.commit([change("run", "t0", "t1", values={A: LARGER + b"1"}), change("none", "t0", "t1")])
    assert steps == ["put", "put", "create", "put", "commit"]


@pytest.mark.parametrize("trouble", [Unavailable, UnknownOutcome, PayloadTooLarge])
async def test_nothing_is_committed_if_a_value_could_not_be_put(trouble: type[Exception]) -> None:
    class Values(MemoryValueStore):
        async def put(self, key: str, data: bytes) -> None:
            raise trouble("no")

    inner = MemoryRunStore(VirtualClock())
    store = OffloadingStore(inner, Values(), above=ABOVE)
    await store.create(new("run"))
    with pytest.raises(PayloadTooLarge if trouble is PayloadTooLarge else Unavailable):
        await store.commit([change("run", "t0", "t1", values={A: LARGE})])
    assert existing(await inner.load("run")).token == "t0"
    with pytest.raises(PayloadTooLarge if trouble is PayloadTooLarge else Unavailable):
        await store.create(new("other", values={A: LARGE}))
    assert await inner.load("other") is None


async def test_a_value_that_is_lost_or_changed_is_a_typed_error(tmp_path: Path) -> None:
    inner = MemoryRunStore(VirtualClock())
    store = OffloadingStore(inner, FileValueStore(tmp_path / "here"), above=ABOVE)
    await store.create(new("run", values={A: LARGE, B: SMALL}))
    elsewhere = OffloadingStore(inner, FileValueStore(tmp_path / "there"), above=ABOVE)
    with pytest.raises(Misconfigured, match=r"context 'a'.*is not in the value store"):
        await elsewhere.read_values("run", [A])
    assert await elsewhere.read_values("run", [B]) == {B: SMALL}
    (file,) = (path for path in (tmp_path / "here").rglob("*") if path.is_file())
    file.write_bytes(LARGE[:-1] + b"!")
    with pytest.raises(Tampered, match="was changed") as caught:
        await store.load("run", want=[A])
    assert "lll" not in str(caught.value)


async def test_a_run_that_is_deleted_while_it_is_read_is_just_gone() -> None:
    inner = MemoryRunStore(VirtualClock())

    class Values(MemoryValueStore):
        async def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
            await store.delete("run", "t0")
            return await super().get_many(keys)

    store = OffloadingStore(inner, Values(), above=ABOVE)
    await store.create(new("run", values={A: LARGE}))
    assert await store.read_values("run", [A]) == {}


async def test_a_removal_of_a_run_that_is_gone_spares_the_next_one_of_its_id() -> None:
    """A second ticker is late, and meanwhile a run of the same id is being created: its values are put already."""
    values = MemoryValueStore()
    store = OffloadingStore(MemoryRunStore(VirtualClock()), values, above=ABOVE)
    await values.put(value_address("run", LARGE), LARGE)
    assert await store.delete("run", "token of the run before")
    assert len(await values.get_many([value_address("run", LARGE)])) == 1


async def test_a_change_that_is_too_large_together_is_offloaded_further() -> None:
    inner = MemoryRunStore(VirtualClock())
    inner.capabilities = replace(inner.capabilities, max_commit_bytes=1000)
    store = OffloadingStore(inner, MemoryValueStore(), above=500)
    assert store.capabilities.max_commit_bytes is None
    many = {ValueKey("item", str(n)): bytes([n]) * 200 for n in range(20)}
    await store.create(new("run", values=many))
    stored = await inner.read_values("run", space="item")
    assert sum(map(len, stored.values())) <= 1000
    assert await store.read_values("run", space="item") == many
    with pytest.raises(PayloadTooLarge, match="a commit of run 'run'"):
        await store.commit([change("run", "t0", "t1", head=b"x" * 1001)])


async def test_other_documents_stay_as_they_are(backend: SimpleNamespace) -> None:
    await backend.store.create(new("x", kind="meta", values={A: LARGER}))
    assert existing(await backend.inner.load("x", kind="meta", want=[A])).values == {A: LARGER}
    assert existing(await backend.store.load("x", kind="meta", want=[A])).values == {A: LARGER}
    assert await backend.store.delete("x", "t0", kind="meta")


def test_unusable_limits_are_refused() -> None:
    for above in (-1, (1 << 20) + 1):
        with pytest.raises(InvalidRequest, match="above"):
            OffloadingStore(MemoryRunStore(VirtualClock()), MemoryValueStore(), above=above)


async def test_no_content_is_in_the_table_of_values(tmp_path: Path) -> None:
    """What makes a step cheap: SQLite does not read or rewrite large values with the small ones."""
    path = tmp_path / "flow.db"
    async with SqliteBackend.open(path, clock=VirtualClock()) as made:
        store = OffloadingStore(made.store, made.values, above=ABOVE)
        await store.create(new("run", values={A: LARGER}))
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT max(length(data)) FROM run_values").fetchone() == (35,)
        assert connection.execute("SELECT max(length(data)) FROM large_values").fetchone() == (5000,)
        connection.close()


# ---- a removal, and what meets it


class Met(MemoryValueStore):
    """Something happens in the middle of a removal."""

    meanwhile: Any = None

    async def delete_run(self, run_id: str) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        await super().delete_run(run_id)


async def test_a_change_in_the_middle_of_a_removal_is_refused(memory: MemoryBackend) -> None:
    """Else the run would go on without its values."""
    values = Met()
    store = OffloadingStore(memory.store, values, above=0)
    key = ValueKey("context", "k")
    await store.create(new("run", values={key: b"data"}))
    version = existing(await store.load("run")).version
    seen: list[object] = []

    async def resume() -> None:
        (result,) = await store.commit([change("run", version, "t1")])
        seen.extend([result.applied, result.stored, await store.load("run"), await store.read_values("run", [key])])
        seen.extend([await store.read_values("run", space="context"), (await store.list()).items])

    values.meanwhile = resume
    assert await store.delete("run", "t0")
    assert seen == [False, None, None, {}, {}, ()]
    assert await memory.store.load("run") is None


async def test_a_removal_that_meets_a_change_removes_nothing(memory: MemoryBackend) -> None:
    store = OffloadingStore(memory.store, MemoryValueStore(), above=0)
    key = ValueKey("context", "k")
    await store.create(new("run", values={key: b"data"}))
    inner = memory.store.load

    async def late(*args: Any, **named: Any) -> Any:
        stored = await inner(*args, **named)
        memory.store.load = inner  # type: ignore[method-assign]  # once
        await memory.store.commit([change("run", "t0", "t1")])
        return stored

    memory.store.load = late  # type: ignore[method-assign]  # between looking and marking, another process commits
    assert not await store.delete("run", "t0")
    assert existing(await store.load("run", want=[key])).values == {key: b"data"}


@pytest.mark.parametrize("how", ["delete", "create", "due"])
async def test_a_removal_that_was_interrupted_is_ended_by_whoever_meets_it(memory: MemoryBackend, how: str) -> None:
    values = Met()
    store = OffloadingStore(memory.store, values, above=0)
    key = ValueKey("context", "k")
    await store.create(new("run", wake_at=1.0, values={key: b"data"}))

    async def stop() -> None:
        raise Unavailable("the value store is away")

    values.meanwhile = stop
    with pytest.raises(Unavailable):
        await store.delete("run", "t0")
    assert await memory.store.load("run") is not None
    if how == "delete":
        assert await store.delete("run", "t0")
    elif how == "create":
        assert (await store.create(new("run", "t9"))).made
        assert existing(await store.load("run", want=[key])).values == {}
        return
    else:
        assert (await store.due(9.0)).items == ()
    assert await memory.store.load("run") is None
    assert await values.get_many([value_address("run", b"data")]) == {}


def test_an_adapter_without_a_value_store_of_its_own_needs_one_for_large_values(memory: MemoryBackend) -> None:
    assert offloading(memory.store, None, None) is memory.store
    assert isinstance(offloading(memory.store, memory.values, None), OffloadingStore)
    with pytest.raises(Misconfigured, match="offload_above needs values"):
        offloading(memory.store, None, 1000)
