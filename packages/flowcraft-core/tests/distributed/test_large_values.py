"""Runs with values beyond the limit of their store: the claim check as an option of adapters, and by composition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from flowcraft import FlowRuntime, JsonCodec, NodeContext
from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.clock import SystemClock
from flowcraft.errors import Misconfigured, PayloadTooLarge
from flowcraft.memory import MemoryAdapter, MemoryBackend, MemoryValueStore
from flowcraft.sqlite import SqliteAdapter, SqliteBackend
from flowcraft.values import FileValueStore, OffloadingStore

SIZE = 3 << 20
GROWS = Blueprint(
    "grows",
    tuple(Node(name, name) for name in ("make", "measure")),
    (Edge("make", "measure", condition="len(result.output) > 2000000"),),
)


async def make(ctx: NodeContext[Any, Any]) -> str:
    await ctx.context.set("copy", "c" * SIZE)
    return "x" * SIZE


async def measure(ctx: NodeContext[Any, Any]) -> list[int]:
    return [len(ctx.input), len(await ctx.context.get("copy")), len(await ctx.context.get("given"))]


def runtime() -> FlowRuntime:
    functions = {"make": make, "measure": measure}
    return FlowRuntime(blueprints=[GROWS], registry=functions, codec=JsonCodec(max_bytes=16 << 20))


def sqlite_table(folder: Path) -> Adapter:
    return SqliteAdapter(runtime(), folder / "runs.db", offload_above=1000, retention=0.0, tick=0.05)


def sqlite_files(folder: Path) -> Adapter:
    values = FileValueStore(folder / "values")
    return SqliteAdapter(runtime(), folder / "runs.db", values=values, retention=0.0, tick=0.05)


def memory(folder: Path) -> Adapter:
    return MemoryAdapter(runtime(), offload_above=1000, retention=0.0, tick=0.05)


def composed(folder: Path) -> Adapter:
    made = MemoryBackend(SystemClock())
    store = OffloadingStore(made.store, MemoryValueStore())
    return Adapter(runtime(), queue=made.queue, store=store, events=made.events, retention=0.0, tick=0.05)


ADAPTERS = [sqlite_table, sqlite_files, memory, composed]


@pytest.fixture(params=ADAPTERS, ids=lambda make: make.__name__)
async def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Adapter]:
    make: Callable[[Path], Adapter] = request.param
    async with make(tmp_path) as opened:
        yield opened


async def test_a_run_with_values_of_three_megabytes(adapter: Adapter, tmp_path: Path) -> None:
    assert adapter._bound, "jobs are part of the commit, through the claim check as well"
    run = await adapter.start_run("grows", "input" * SIZE, run_id="run", context={"given": "g" * SIZE})
    assert (await adapter.start_run("grows", "input" * SIZE, run_id="run", context={"given": "g" * SIZE})).run_id
    async with adapter.worker(ticker=False):
        result = await run.result(timeout=30)
    assert result.raise_for_failure().output() == [SIZE, SIZE, SIZE]
    assert len(result.outputs["make"]) == SIZE
    folder = tmp_path / "values"
    assert not folder.exists() or len([path for path in folder.rglob("*") if path.is_file()]) == 4
    stats = await adapter.ticker().run_once()
    assert stats.deleted == 1
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    if isinstance(adapter.store, OffloadingStore) and isinstance(adapter.store._values, MemoryValueStore):
        assert adapter.store._values._runs == {}


@pytest.mark.parametrize("make", [lambda path: SqliteAdapter(runtime(), path / "runs.db"),
                                  lambda path: MemoryAdapter(runtime())], ids=["sqlite", "memory"])  # fmt: skip
async def test_without_a_value_store_the_limit_is_that_of_the_store(make: Any, tmp_path: Path) -> None:
    async with make(tmp_path) as adapter:
        with pytest.raises(PayloadTooLarge, match="1,048,576"):
            await adapter.start_run("grows", "i" * SIZE)
        run = await adapter.start_run("grows")
        async with adapter.worker():
            result = await run.result(timeout=30)
        assert result.status == "failed"
        assert "PayloadTooLarge" in str(result.errors)


async def test_a_process_that_does_not_know_of_the_value_store_says_so(tmp_path: Path) -> None:
    async with sqlite_files(tmp_path) as adapter:
        run = await adapter.start_run("grows", "i" * SIZE, context={"given": ""})
        async with SqliteAdapter(runtime(), tmp_path / "runs.db") as unaware:
            async with adapter.worker(ticker=False):
                await run.result(timeout=30)
            assert await unaware.status(run.run_id) == "completed"
            with pytest.raises(Misconfigured, match="elsewhere"):
                (await unaware.result(run.run_id)).output()


async def test_the_value_store_of_a_shared_backend(tmp_path: Path) -> None:
    async with SqliteBackend.open(tmp_path / "runs.db", clock=SystemClock()) as made:
        store = OffloadingStore(made.store, made.values)
        async with Adapter(runtime(), queue=made.queue, store=store, events=made.events) as adapter:
            run = await adapter.start_run("grows", context={"given": ""})
            async with adapter.worker():
                assert (await run.result(timeout=30)).raise_for_failure().output() == [SIZE, SIZE, 0]
