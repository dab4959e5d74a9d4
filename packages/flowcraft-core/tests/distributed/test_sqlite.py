"""The data path over the SQLite backend: real time, real threads, a real file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from flowcraft.adapter import Adapter
from flowcraft.clock import SystemClock
from flowcraft.nodes import NodeContext
from flowcraft.runtime import FlowRuntime
from flowcraft.sqlite import SqliteBackend

from .test_flows import FLOWS
from .world import chain, fan

NAMES = ("chain", "fan", "diamond", "condition", "values of others", "fallback", "loop", "failure")


def runtime(executed: list[tuple[str, str, int]]) -> FlowRuntime:
    async def value(ctx: NodeContext[Any, Any]) -> Any:
        executed.append((ctx.run_id, ctx.node_id, ctx.visit))
        if ctx.node_id in ("a", "b") and "score" in ctx.params:
            return {"score": ctx.params["score"]}
        return ctx.input + 1 if isinstance(ctx.input, int) else ctx.node_id

    async def fail(ctx: NodeContext[Any, Any]) -> Any:
        raise RuntimeError("broken")

    functions = dict.fromkeys(("value", "choose", "count", "write", "slow", "flaky"), value) | {"fail": fail}
    return FlowRuntime(blueprints=[FLOWS[name] for name in NAMES], registry=functions)


def adapter(backend: SqliteBackend, executed: list[tuple[str, str, int]]) -> Adapter:
    return Adapter(
        runtime(executed),
        queue=backend.queue,
        store=backend.store,
        coordination=backend.coordination,
        events=backend.events,
    )


async def test_flows_give_what_they_give_in_process(tmp_path: Path) -> None:
    executed: list[tuple[str, str, int]] = []
    async with SqliteBackend.open(tmp_path / "flow.db", clock=SystemClock()) as backend:
        one, two = adapter(backend, executed), adapter(backend, executed)
        async with one, two, one.worker(concurrency=10), two.worker(concurrency=10):
            runs = [(name, await one.start_run(FLOWS[name], 0)) for name in NAMES for _ in range(5)]
            for name, run in runs:
                result = await run.result(timeout=30)
                expected = await runtime([]).run(FLOWS[name], 0)
                assert (result.status, result.nodes) == (expected.status, expected.nodes), name
                assert {k: v for k, v in result.outputs.items() if k != "f"} == {
                    k: v for k, v in expected.outputs.items() if k != "f"
                }
                events = await run.history()
                assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len(set(executed)) == len(executed), "each visit once"


async def test_a_run_survives_its_process(tmp_path: Path) -> None:
    """Started by one, begun by another that stops, finished by a third that opens the file anew."""
    flows = [chain(20, "value", name="long"), fan(5, name="wide")]
    executed: list[str] = []
    gate = asyncio.Event()

    async def value(ctx: NodeContext[Any, Any]) -> Any:
        executed.append(f"{ctx.run_id}/{ctx.node_id}")
        if ctx.node_id == "n7":
            gate.set()
            await asyncio.Event().wait()
        return ctx.node_id

    async def quick(ctx: NodeContext[Any, Any]) -> Any:
        executed.append(f"{ctx.run_id}/{ctx.node_id}")
        return ctx.node_id

    for function, grace in ((None, 0.0), (value, 0.0), (quick, 5.0)):
        async with SqliteBackend.open(tmp_path / "flow.db", clock=SystemClock()) as backend:
            made = FlowRuntime(blueprints=flows, registry={"value": function or quick})
            async with Adapter(
                made, queue=backend.queue, store=backend.store, coordination=backend.coordination, events=backend.events
            ) as opened:
                if function is None:
                    await opened.start_run("long", run_id="r")
                    continue
                async with opened.worker(grace=grace):
                    if function is value:
                        await gate.wait()
                    else:
                        assert (await opened.result("r", timeout=20)).status == "completed"
    assert len(executed) == 21, "only what was handed back is executed again"
    assert executed.count("r/n7") == 2
