"""Sleeps and waits: in process, on memory and on SQLite."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flowcraft import Flow, NodeContext

from .places import Place, StoredPlace, signal

Ctx = NodeContext[Any, Any]


def a_sleep(length: Any) -> Flow[Any]:
    flow = Flow[Any]("sleep")

    @flow.node
    async def before(ctx: Ctx) -> Any:
        return {"passed": "on"}

    flow.sleep("nap", length, after=before)

    @flow.node(after="nap")
    async def end(ctx: Ctx) -> Any:
        return ctx.input

    return flow


@pytest.mark.parametrize("length", [20, 20.0, "20s", timedelta(seconds=20)])
async def test_a_sleep_lasts_and_passes_its_input_on(place: Place, length: Any) -> None:
    began = place.clock.now
    result = await place.run(a_sleep(length))
    assert result.output("end") == {"passed": "on"}
    assert place.clock.now - began >= 20.0
    if place.kind != "sqlite":  # there time goes by while the disk writes
        assert place.clock.now - began < 25.0


async def test_a_sleep_of_nothing(place: Place) -> None:
    assert (await place.run(a_sleep(0))).status == "completed"


def an_approval(*, timeout: Any = None, route: bool = False, fallback: bool = False) -> Flow[Any]:
    flow = Flow[Any]("approval")

    @flow.node
    async def ask(ctx: Ctx) -> Any:
        return "asked"

    async def instead(ctx: Ctx) -> Any:
        return ctx.input

    if fallback:
        flow.node(instead)
    flow.wait("answer", after=ask, timeout=timeout, fallback=instead if fallback else None)

    @flow.node
    async def use(ctx: Ctx) -> Any:
        return ctx.input

    flow.edge("answer", use)
    if route:

        @flow.node
        async def late(ctx: Ctx) -> Any:
            return {"late": ctx.input}

        flow.edge("answer", late, action="timeout")
    return flow


async def test_the_route_of_a_timeout(place: Place) -> None:
    result = await place.run(an_approval(timeout=15, route=True))
    assert result.status == "completed"
    assert result.output("late") == {"late": None}
    assert result.nodes["use"] == "skipped"


async def test_a_timeout_without_a_route_fails(place: Place) -> None:
    result = await place.run(an_approval(timeout=15))
    assert result.status == "failed"
    assert "WaitTimedOut" in str(result.errors[0])


async def test_a_fallback_stands_in_for_a_wait(place: Place) -> None:
    result = await place.run(an_approval(timeout=15, fallback=True))
    assert result.status == "completed"
    found = result.output("use")
    assert found["error"]["kind"] == "WaitTimedOut"
    assert found["input"] == "asked"


async def test_a_signal_ends_a_wait(stored: StoredPlace) -> None:
    run = await stored.start(an_approval(timeout="30d", route=True))
    await stored.reach(run, "awaiting")
    assert await stored.finish(signal(run, "answer", {"by": "Ada"}, id="one")) == "accepted"
    assert await stored.finish(signal(run, "answer", {"by": "Ada"}, id="one")) == "repeated"
    result = await stored.result(run)
    assert result.output("use") == {"by": "Ada"}
    assert result.nodes["late"] == "skipped"
    assert await stored.finish(signal(run, "answer", {"by": "Bob"}, id="two")) in ("late", "conflict")


async def test_a_signal_chooses_a_route(stored: StoredPlace) -> None:
    run = await stored.start(an_approval(route=True))
    await stored.reach(run, "awaiting")
    assert await stored.finish(signal(run, "answer", None, action="timeout")) == "accepted"
    result = await stored.result(run)
    assert result.output("late") == {"late": None}
    assert "use" not in result.outputs


async def test_a_signal_that_comes_early_is_kept(stored: StoredPlace) -> None:
    flow = an_approval()
    process = await stored.process([flow], worker=False)
    run = await stored.start(flow)
    assert await stored.finish(signal(run, "answer", 7, id="one")) == "early"
    assert await stored.finish(signal(run, "answer", 7, id="one")) == "early"
    assert await stored.finish(signal(run, "answer", 8, id="two")) == "conflict"
    await stored.stack.enter_async_context(process.worker(grace=0.0))
    assert (await stored.result(run)).output("use") == 7
    kept = await stored.finish(process.store.read_values(run.run_id, space="signal"))
    assert not kept, "the mailbox is empty"
    assert stored.events.node("answer").of("node:waiting").types() == []


async def test_waiting_runs_end_when_they_are_cancelled(stored: StoredPlace) -> None:
    run = await stored.start(an_approval(timeout="30d"))
    await stored.reach(run, "awaiting")
    assert await stored.finish(run.cancel())
    result = await stored.result(run)
    assert result.status == "cancelled"
    assert result.nodes["answer"] == "cancelled"
    assert await stored.finish(signal(run, "answer")) == "late"


async def test_a_wait_that_is_not_needed_any_more_is_cancelled(stored: StoredPlace) -> None:
    flow = Flow[Any]("either")
    flow.wait("by mail")
    flow.wait("by phone")

    @flow.node(after=["by mail", "by phone"], join="any")
    async def first(ctx: Ctx) -> Any:
        return ctx.input

    run = await stored.start(flow)
    await stored.reach(run, "awaiting")
    assert await stored.finish(signal(run, "by phone", "hello")) == "accepted"
    result = await stored.result(run)
    assert result.output("first") == "hello"
    assert result.nodes["by mail"] == "cancelled"


async def test_the_deadline_of_a_run_that_sleeps(place: Place) -> None:
    flow = Flow[Any]("deadline", timeout=5.0)
    flow.sleep("nap", "1d")
    result = await place.run(flow)
    assert result.status == "failed"
    assert "DeadlineExceeded" in result.cause
