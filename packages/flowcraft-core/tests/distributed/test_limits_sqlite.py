"""Limits over one SQLite file that three workers share, each with a connection of its own: real time, real threads."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from flowcraft.blueprint import Node
from flowcraft.limit import Limit
from flowcraft.nodes import NodeContext
from flowcraft.runtime import FlowRuntime
from flowcraft.sqlite import SqliteAdapter

from .world import blueprint


async def test_five_of_a_key_and_never_six_in_a_file(tmp_path: Path) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    order: list[str] = []

    async def work(ctx: NodeContext[Any, Any]) -> None:
        customer = ctx.input["customer"]
        running[customer] += 1
        most[customer] = max(most[customer], running[customer])
        await asyncio.sleep(0.02)  # the work
        running[customer] -= 1
        order.append(customer)

    limits = (Limit(key="input.customer", concurrency=5),)
    flow = blueprint("limited", {"a": Node("a", "work", limits=limits)}, [])
    async with AsyncExitStack() as stack:
        adapters: list[SqliteAdapter] = []
        for _ in range(3):
            runtime = FlowRuntime(blueprints=[flow], registry={"work": work})
            adapters.append(await stack.enter_async_context(SqliteAdapter(runtime, tmp_path / "limits.db")))
        names = ["busy"] * 200 + ["small"] * 10
        runs = [await adapters[0].start_run("limited", {"customer": name}) for name in names]
        for adapter in adapters:
            await stack.enter_async_context(adapter.worker(concurrency=10))
        results = await asyncio.gather(*(run.result(timeout=50) for run in runs))
        events = [event for run in runs for event in await run.history()]
    assert Counter(result.status for result in results) == {"completed": 210}
    assert most == {"busy": 5, "small": 5}
    assert len(order) == 210, "each once"
    last = max(n for n, name in enumerate(order) if name == "small")
    assert order[:last].count("busy") < 150, "the small key had its share"
    parked = sum(event.type == "node:parked" for event in events)
    assert parked < 300, "hardly any is parked twice"
