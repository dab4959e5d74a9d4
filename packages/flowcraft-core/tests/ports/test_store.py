"""The run stores of the embedded backends: what the checks of `flowcraft.conformance` leave to a backend."""

from __future__ import annotations

import asyncio

import pytest

from flowcraft.errors import FlowcraftError, InvalidRequest, PayloadTooLarge
from flowcraft.memory import MemoryBackend, MemoryJobQueue
from flowcraft.model import Page, RunSummary, ValueKey

from .conftest import Backend
from .making import change, event, existing, index, job, new
from .virtual_clock import VirtualClock


def ids(page: Page[RunSummary]) -> list[str]:
    return [row.run_id for row in page.items]


async def test_a_full_last_page_has_no_cursor(backend: Backend) -> None:
    """The contract lets a last page be empty; these two look one row ahead."""
    store = backend.store
    for number in range(4):
        made = new(f"r{number}", wake_at=1.0, blueprint_id="b", events=[event(f"r{number}", 1), event(f"r{number}", 2)])
        await store.create(made)
    first, second = await store.due(2.0, limit=2), await store.list(limit=2)
    assert first.after is not None
    assert second.after is not None
    assert (await store.due(2.0, limit=2, after=first.after)).after is None
    assert (await store.list(limit=2, after=second.after)).after is None
    assert (await store.list(limit=4, status="running", blueprint_id="b")).after is None
    assert (await store.read_events("r0", limit=2)).after is None
    assert (await store.read_events("r0", limit=1)).after == "1"


async def test_a_value_beyond_the_limit_applies_nothing(backend: Backend) -> None:
    store = backend.store
    large = {ValueKey("output", "n", 1): bytes((store.capabilities.max_value_bytes or 0) + 1)}
    await store.create(new("a"))
    await store.create(new("b"))
    with pytest.raises(PayloadTooLarge, match="output 'n'"):
        await store.commit([change("a", "t0", "t1"), change("b", "t0", "t1", values=large)])
    assert existing(await store.load("a")).token == "t0"
    with pytest.raises(PayloadTooLarge):
        await store.create(new("c", values=large))
    assert await store.load("c") is None


async def test_due_follows_the_index(backend: Backend) -> None:
    store = backend.store
    await store.create(new("run", wake_at=1.0))
    last = 1100 if isinstance(backend, MemoryBackend) else 110  # memory tidies its index up after some 1,000 changes
    for number in range(last):
        await store.commit([change("run", f"t{number}", f"t{number + 1}", index=index(wake_at=float(number)))])
        if number % 100 == 0:
            assert ids(await store.due(float(number))) == ["run"]
    assert ids(await store.due(last - 1.5)) == []
    page = await store.due(last - 1.0)
    assert [(row.run_id, row.wake_at, row.token) for row in page.items] == [("run", last - 1.0, f"t{last}")]
    await store.commit([change("run", f"t{last}", "end", index=index("completed"))])
    assert ids(await store.due(1e12)) == []


@pytest.mark.parametrize("cursor", ["", "x", "[]", "[1]", "null", "[1,2,3]", "[[],[]]", '["a","b"]', "[" * 100_000])
async def test_a_cursor_is_input_like_any_other(backend: Backend, cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        await backend.store.list(after=cursor)
    with pytest.raises(InvalidRequest):
        await backend.store.due(1.0, after=cursor)


async def test_bound_jobs_and_acks_are_part_of_the_commit(backend: Backend) -> None:
    store, queue = backend.store, backend.queue
    assert store.bind(queue)
    await store.create(new("run", jobs=[job("run"), job("other")]))
    await store.create(new("run", "again", jobs=[job("lost")]))
    async with queue.deliveries(["q"], prefetch=10) as batches:
        first, second = await anext(batches)
        stale = change("run", "wrong", "t1", jobs=[job("lost")], deliveries=[second])
        step = change("run", "t0", "t1", jobs=[job("next")], deliveries=[first, object()])
        await store.commit([stale])
        await store.commit([step])
        (third,) = await anext(batches)
        assert third.job == job("next")
        await first.ack()
    assert await queue.depth("q") == 2
    async with queue.deliveries(["q"], prefetch=10) as batches:
        assert {delivery.job.run_id for delivery in await anext(batches)} == {"other", "next"}


async def test_a_bound_job_wakes_an_idle_receiver(backend: Backend) -> None:
    """The clock stands still, so nothing but the commit can wake it."""
    assert backend.store.bind(backend.queue)
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        for version in (None, "t0", "t1"):
            reader = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.005)  # give it the chance to find nothing
            assert not reader.done()
            if version is None:
                await backend.store.create(new("run", jobs=[job("run")]))
            else:
                await backend.store.commit([change("run", version, "t1", jobs=[job("run")])])
            (delivery,) = await reader
            await delivery.ack()


async def test_only_the_own_queue_is_bound(backend: Backend, clock: VirtualClock) -> None:
    class Foreign:
        capabilities = backend.queue.capabilities

    assert not backend.store.bind(Foreign())  # type: ignore[arg-type]  # that is the point
    if not isinstance(backend, MemoryBackend):
        assert not backend.store.bind(MemoryJobQueue(clock))


async def test_an_id_that_is_no_text_is_a_typed_error_or_none(backend: Backend) -> None:
    """The core refuses such ids; a store must not let a driver's error through."""
    try:
        await backend.store.create(new("\ud800"))
    except FlowcraftError:
        assert not isinstance(backend, MemoryBackend)
