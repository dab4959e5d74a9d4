"""Ten thousand items with four workers, and a small run beside them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from flowcraft import Flow, NodeContext

from .places import LocalPlace, StoredPlace

Ctx = NodeContext[Any, Any]
ITEMS = 10_000
#: The small run must end before so many more items were executed; behind all of the batch it would see 9,500.
PROMPT = 5_000


def a_large_batch(visits: Counter[int]) -> Flow[Any]:
    flow = Flow[Any]("large")

    @flow.node
    async def numbers(ctx: Ctx) -> list[int]:
        return list(range(ITEMS))

    async def square(ctx: Ctx) -> int:
        visits[ctx.input] += 1
        return int(ctx.input) ** 2

    flow.batch("squares", square, after=numbers)

    @flow.node(after="squares")
    async def total(ctx: Ctx) -> list[int]:
        assert ctx.input == [i * i for i in range(ITEMS)], "in order"
        return [len(ctx.input), sum(ctx.input)]

    return flow


def a_small_run() -> Flow[Any]:
    flow = Flow[Any]("small")

    @flow.node
    async def one(ctx: Ctx) -> int:
        return 1

    @flow.node(after=one)
    async def two(ctx: Ctx) -> int:
        return 2

    @flow.node(after=two)
    async def three(ctx: Ctx) -> int:
        return 3

    return flow


TOTAL = [ITEMS, sum(i * i for i in range(ITEMS))]


@pytest.mark.timeout(180)
async def test_ten_thousand_items_on_four_workers_do_not_starve_a_small_run(stored: StoredPlace) -> None:
    visits = Counter[int]()
    large, small = a_large_batch(visits), a_small_run()
    for _ in range(4):
        await stored.process([large, small], concurrency=20)
    run = await stored.start(large)
    await stored.until(lambda: visits.total() >= 500, within=36_000.0, real=100.0)
    before = visits.total()
    beside = await stored.start(small)
    assert (await stored.result(beside, within=36_000.0, real=100.0)).status == "completed"
    meanwhile = visits.total() - before
    result = await stored.result(run, within=36_000.0, real=170.0)
    assert result.output("total") == TOTAL
    assert visits == dict.fromkeys(range(ITEMS), 1), "each once"
    assert meanwhile < PROMPT, f"{meanwhile} items were executed before the small run ended"


@pytest.mark.timeout(120)
async def test_ten_thousand_items_in_process() -> None:
    visits = Counter[int]()
    result = await LocalPlace().run(a_large_batch(visits))
    assert result.output("total") == TOTAL
    assert visits == dict.fromkeys(range(ITEMS), 1)
