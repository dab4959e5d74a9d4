"""Batches: in process, on memory and on SQLite."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from flowcraft import Flow, NodeContext, Retry
from flowcraft.errors import FatalError

from .places import Place, StoredPlace

Ctx = NodeContext[Any, Any]


def a_batch(worker: Any, **options: Any) -> Flow[Any]:
    """A batch of the run's input, and a node after it."""
    flow = Flow[Any]("batch")

    @flow.node
    async def source(ctx: Ctx) -> Any:
        return ctx.input

    flow.batch("all", worker, after=source, **options)

    @flow.node(after="all")
    async def sink(ctx: Ctx) -> Any:
        return ctx.input

    return flow


async def double(ctx: Ctx) -> int:
    return 2 * ctx.input


async def odd_fails(ctx: Ctx) -> int:
    if ctx.input % 2:
        raise FatalError(f"{ctx.input} is odd")
    return ctx.input


async def test_results_are_in_the_order_of_the_items(place: Place) -> None:
    async def late_first(ctx: Ctx) -> int:
        for _ in range(50 - ctx.input):
            await asyncio.sleep(0)
        return ctx.input * 10

    result = await place.run(a_batch(late_first), list(range(50)))
    assert result.output("sink") == [i * 10 for i in range(50)]


async def test_none_is_a_result(place: Place) -> None:
    async def some(ctx: Ctx) -> int | None:
        return ctx.input if ctx.input != 1 else None

    assert (await place.run(a_batch(some), [0, 1, 2, None])).output("sink") == [0, None, 2, None]


@pytest.mark.parametrize("items", [[], None])
async def test_an_empty_list_completes_at_once(place: Place, items: object) -> None:
    result = await place.run(a_batch(double), items)
    assert (result.status, result.output("sink")) == ("completed", [])


async def test_no_list_fails(place: Place) -> None:
    result = await place.run(a_batch(double), {"not": "a list"})
    assert result.status == "failed"
    assert "works on a list" in str(result.errors[0])


async def test_items_of_an_async_generator_and_the_key_of_the_context(place: Place) -> None:
    async def count(ctx: Ctx) -> AsyncIterator[int]:
        for i in range(ctx.input):
            yield i

    flow = Flow[Any]("generated")
    flow.batch("all", double, items=count, output_key="doubled")
    result = await place.run(flow, 5)
    assert result.output("all") == [0, 2, 4, 6, 8]
    assert result.context == {"doubled": [0, 2, 4, 6, 8]}


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_several_items_to_a_job(place: Place, size: int) -> None:
    calls: list[int] = []

    async def noted(ctx: Ctx) -> int:
        calls.append(ctx.input)
        return ctx.input + ctx.params["plus"]

    flow = a_batch(noted, items_per_job=size, params={"plus": 100})
    result = await place.run(flow, list(range(20)))
    assert result.output("sink") == [i + 100 for i in range(20)]
    assert sorted(calls) == list(range(20)), "each once"


@pytest.mark.parametrize("size", [1, 4])
async def test_collect_tolerates_all_failures(place: Place, size: int) -> None:
    flow = a_batch(odd_fails, on_error="collect", items_per_job=size)
    result = await place.run(flow, list(range(6)))
    assert result.status == "completed"
    found = result.output("sink")
    assert found[0::2] == [0, 2, 4]
    assert [entry["error"]["message"] for entry in found[1::2]] == ["1 is odd", "3 is odd", "5 is odd"]
    assert found[1]["error"]["kind"] == "FatalError"


@pytest.mark.parametrize(("tolerated", "status"), [(3, "completed"), (2, "failed"), ("fail", "failed")])
@pytest.mark.parametrize("size", [1, 2])
async def test_a_number_of_failures_is_tolerated(
    place: Place, tolerated: Literal["fail"] | int, status: str, size: int
) -> None:
    result = await place.run(a_batch(odd_fails, on_error=tolerated, items_per_job=size), list(range(6)))
    assert result.status == status
    if status == "failed":
        assert "BatchFailed" in str(result.errors[0])
        assert result.nodes["sink"] == "skipped"


async def test_a_failed_batch_begins_no_more_items(place: Place) -> None:
    begun: list[int] = []

    async def third_fails(ctx: Ctx) -> int:
        begun.append(ctx.input)
        if ctx.input == 2:
            raise FatalError("enough")
        return ctx.input

    result = await place.run(a_batch(third_fails, concurrency=1), list(range(50)))
    assert result.status == "failed"
    assert begun == [0, 1, 2]


async def test_no_more_items_at_once_than_the_window(place: Place) -> None:
    running = most = 0
    full = asyncio.Event()

    async def counted(ctx: Ctx) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if most == 4:
            full.set()
        await full.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1

    assert (await place.run(a_batch(counted, concurrency=4), list(range(30)))).status == "completed"
    assert most == 4


@pytest.mark.parametrize("delay", [0.1, 5.0, 90.0], ids=["in process", "as a timer", "outside the window"])
async def test_each_item_has_its_own_retries(place: Place, delay: float) -> None:
    calls: Counter[int] = Counter()
    order: list[tuple[int, int]] = []

    async def flaky(ctx: Ctx) -> int:
        calls[ctx.input] += 1
        order.append((ctx.input, ctx.attempt))
        if ctx.input % 3 == 0 and ctx.attempt < 3:
            raise ValueError("not yet")
        return ctx.input

    retry = Retry(attempts=3, delay=delay, jitter=0.0, backoff=1.0)
    result = await place.run(a_batch(flaky, retries=retry, concurrency=2), list(range(9)))
    assert result.output("sink") == list(range(9))
    assert calls == {i: 3 if i % 3 == 0 else 1 for i in range(9)}
    if delay > 60 and place.kind != "sqlite":  # there time goes by while the disk writes
        assert order.index((8, 1)) < order.index((0, 2)), "the others go on meanwhile"


async def test_retries_of_items_that_are_used_up(place: Place) -> None:
    async def never(ctx: Ctx) -> None:
        raise ValueError(f"attempt {ctx.attempt}")

    retry = Retry(attempts=2, delay=3.0, jitter=0.0)
    result = await place.run(a_batch(never, retries=retry, on_error="collect"), [1, 2])
    assert [entry["error"]["message"] for entry in result.output("sink")] == ["attempt 2", "attempt 2"]


@pytest.mark.parametrize("size", [1, 2])
async def test_context_and_keys_of_items(place: Place, size: int) -> None:
    keys: list[str] = []

    async def write(ctx: Ctx) -> None:
        keys.append(ctx.idempotency_key)
        await ctx.context.set(f"item {ctx.input}", True)

    result = await place.run(a_batch(write, items_per_job=size), [1, 2, 3])
    assert result.context == {"item 1": True, "item 2": True, "item 3": True}
    assert len(set(keys)) == 3


async def test_batches_in_a_loop_forget_the_items_of_the_round_before(place: Place) -> None:
    flow = Flow[Any]("rounds")

    @flow.node
    async def grow(ctx: Ctx) -> list[int]:
        last = ctx.input if isinstance(ctx.input, list) else []
        return [*last, len(last)]

    flow.batch("doubled", double, after=grow)

    @flow.node(after="doubled")
    async def check(ctx: Ctx) -> list[int]:
        assert ctx.input == [2 * i for i in range(len(ctx.input))]
        return [i // 2 for i in ctx.input]

    flow.loop("again", condition="len(input or []) < 5", start=grow, end=check)

    @flow.node(after="again")
    async def end(ctx: Ctx) -> Any:
        return ctx.input

    result = await place.run(flow)
    assert result.output("end") == [0, 1, 2, 3, 4]
    if isinstance(place, StoredPlace):
        store = place.adapters[0].store
        assert len(await place.finish(store.read_values(result.run_id, space="result"))) == 5
        assert len(await place.finish(store.read_values(result.run_id, space="item"))) == 1


async def test_the_run_ends_while_items_run(stored: StoredPlace) -> None:
    begun: list[int] = []

    async def endless(ctx: Ctx) -> None:
        begun.append(ctx.input)
        await asyncio.Event().wait()

    run = await stored.start(a_batch(endless, concurrency=5), list(range(1000)))
    await stored.until(lambda: len(begun) == 5)
    assert await stored.finish(run.cancel("enough"))
    result = await stored.result(run)
    assert result.status == "cancelled"
    assert begun == [0, 1, 2, 3, 4]
    assert result.nodes["sink"] == "cancelled"


async def test_items_that_no_worker_can_execute_are_parked_until_one_can(stored: StoredPlace) -> None:
    flow, empty = a_batch(double, concurrency=3), Flow[Any]("empty")

    @empty.node
    async def nothing(ctx: Ctx) -> None: ...

    full = await stored.process([flow], worker=False)
    without = Flow[Any]("batch")  # the same flow as an older process has it: without the worker's function

    @without.node
    async def source(ctx: Ctx) -> Any:
        return ctx.input

    @without.node
    async def sink(ctx: Ctx) -> Any:
        return ctx.input

    await stored.process([without])
    run = await stored.finish(full.start_run(flow, list(range(10))))
    await stored.happened("node:parked", count=10)
    assert await run.status() == "running"
    await stored.stack.enter_async_context(full.worker(grace=0.0))
    result = await stored.result(run)
    assert result.output("sink") == [2 * i for i in range(10)]
