"""Pause and resume, patch, mark completed, retry in a new epoch, rollback: on memory and on SQLite."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from flowcraft import Flow, NodeContext
from flowcraft.engine.draft import MISSING
from flowcraft.engine.events import MarkCompleted, Patch, Pause, Retry, Rollback, Unpause
from flowcraft.runs import RunHandle

from .places import StoredPlace, signal

Ctx = NodeContext[Any, Any]


class Gate:
    """A node's function that waits until it is opened, and begins again for each visit."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.calls = 0

    async def __call__(self, ctx: Ctx) -> Any:
        self.calls += 1
        self.began.set()
        await self.open.wait()
        return f"visit {ctx.visit}"


def number(flow: Flow[Any], node: str) -> int:
    """The number of a node, as events name it."""
    return [each.id for each in flow.blueprint.nodes].index(node)


def a_chain(gate: Gate) -> Flow[Any]:
    flow = Flow[Any]("chain")

    @flow.node
    async def first(ctx: Ctx) -> Any:
        return await gate(ctx)

    @flow.node(after=first)
    async def second(ctx: Ctx) -> Any:
        return {"got": ctx.input, "key": await ctx.context.get("key", "none")}

    return flow


async def test_a_paused_run_finishes_what_runs_and_begins_nothing(stored: StoredPlace) -> None:
    gate = Gate()
    run = await stored.start(a_chain(gate))
    await stored.until(gate.began.is_set)
    assert await stored.tell(run, Pause())
    assert not await stored.tell(run, Pause()), "it is"
    gate.open.set()
    await stored.happened("node:completed", "first")
    assert await run.status() == "paused"
    await stored.pass_time(20.0)
    assert (await run.view()).nodes["second"].state == "ready"
    assert not stored.events.node("second").of("node:started")
    assert await stored.tell(run, Unpause())
    result = await stored.result(run)
    assert result.output("second") == {"got": "visit 1", "key": "none"}
    assert gate.calls == 1


async def test_timers_and_signals_count_while_a_run_is_paused(stored: StoredPlace) -> None:
    flow = Flow[Any]("paused")
    flow.sleep("nap", 5)
    flow.wait("answer")

    @flow.node(after=["nap", "answer"])
    async def end(ctx: Ctx) -> Any:
        return ctx.input["answer"]

    run = await stored.start(flow)
    await stored.reach(run, "awaiting")
    assert await stored.tell(run, Pause())
    await stored.happened("node:completed", "nap")
    assert await stored.finish(signal(run, "answer", 1)) == "accepted"
    await stored.pass_time(5.0)
    assert await run.status() == "paused"
    assert not stored.events.node("end").of("node:started")
    assert await stored.tell(run, Unpause())
    assert (await stored.result(run)).output("end") == 1


async def test_a_paused_run_can_be_cancelled(stored: StoredPlace) -> None:
    gate = Gate()
    run = await stored.start(a_chain(gate))
    await stored.until(gate.began.is_set)
    assert await stored.tell(run, Pause())
    assert await stored.finish(run.cancel())
    assert (await stored.result(run)).status == "cancelled"
    assert not await stored.tell(run, Unpause())


async def test_a_patch_sets_and_deletes_keys(stored: StoredPlace) -> None:
    gate = Gate()
    run = await stored.start(a_chain(gate), context={"gone": 1, "stays": 2})
    await stored.until(gate.began.is_set)
    codec = stored.adapters[0].runtime.codec
    assert await stored.tell(run, Patch({"key": codec.encode("patched"), "gone": MISSING}))
    gate.open.set()
    result = await stored.result(run)
    assert result.output("second") == {"got": "visit 1", "key": "patched"}
    assert result.context == {"key": "patched", "stays": 2}
    assert not await stored.tell(run, Patch({"key": codec.encode(0)})), "it has ended"


async def test_a_running_node_is_marked_as_completed_and_its_outcome_is_stale(stored: StoredPlace) -> None:
    gate = Gate()
    flow = a_chain(gate)
    run = await stored.start(flow)
    await stored.until(gate.began.is_set)
    codec = stored.adapters[0].runtime.codec
    assert await stored.tell(run, MarkCompleted(number(flow, "first"), codec.encode("by hand")))
    result = await stored.result(run)
    assert result.output("first") == "by hand"
    assert result.output("second") == {"got": "by hand", "key": "none"}
    gate.open.set()
    assert not await stored.tell(run, MarkCompleted(number(flow, "first"), codec.encode("again")))
    assert (await stored.result(run)).output("first") == "by hand"


async def test_a_wait_is_marked_with_an_action(stored: StoredPlace) -> None:
    flow = Flow[Any]("marked")
    flow.wait("answer")

    @flow.node
    async def yes(ctx: Ctx) -> Any:
        return ctx.input

    @flow.node
    async def no(ctx: Ctx) -> Any:
        return ctx.input

    flow.edge("answer", yes, action="yes")
    flow.edge("answer", no, action="no")
    run = await stored.start(flow)
    await stored.reach(run, "awaiting")
    codec = stored.adapters[0].runtime.codec
    assert await stored.tell(run, MarkCompleted(number(flow, "answer"), codec.encode(5), "no"))
    result = await stored.result(run)
    assert (result.nodes["yes"], result.output("no")) == ("skipped", 5)


def a_flaky_diamond(broken: set[str], calls: Counter[str]) -> Flow[Any]:
    flow = Flow[Any]("diamond")

    def node(name: str, **options: Any) -> None:
        async def work(ctx: Ctx) -> Any:
            calls[name] += 1
            if name in broken:
                raise ValueError(f"{name} is broken")
            return name if ctx.input is None else [name, ctx.input]

        flow.node(id=name, uses=f"diamond.{name}", **options)(work)

    node("a")
    node("b", after="a")
    node("c", after="a")
    node("d", after=["b", "c"])
    return flow


async def test_retry_executes_what_failed_and_what_follows_and_nothing_else(stored: StoredPlace) -> None:
    broken, calls = {"b"}, Counter[str]()
    run = await stored.start(a_flaky_diamond(broken, calls))
    assert (await stored.result(run)).status == "failed"
    broken.clear()
    assert await stored.tell(run, Retry())
    assert not await stored.tell(run, Retry()), "it runs"
    result = await stored.result(run)
    assert result.status == "completed"
    assert result.failures == ()
    assert result.output("d") == ["d", {"b": ["b", "a"], "c": ["c", "a"]}]
    assert calls == {"a": 1, "b": 2, "c": 1, "d": 1}
    assert stored.events.types().count("run:completed") == 1
    assert not await stored.tell(run, Retry()), "nothing failed"


async def test_retry_from_a_node(stored: StoredPlace) -> None:
    broken, calls = {"d"}, Counter[str]()
    flow = a_flaky_diamond(broken, calls)
    run = await stored.start(flow)
    assert (await stored.result(run)).status == "failed"
    broken.clear()
    assert await stored.tell(run, Retry((number(flow, "c"),)))
    assert (await stored.result(run)).status == "completed"
    assert calls == {"a": 1, "b": 1, "c": 2, "d": 2}


async def test_retry_fails_again_and_again(stored: StoredPlace) -> None:
    calls = Counter[str]()
    run = await stored.start(a_flaky_diamond({"b"}, calls))
    for time in range(1, 4):
        result = await stored.result(run)
        assert (result.status, calls["b"], len(result.failures)) == ("failed", time, 1)
        assert await stored.tell(run, Retry())


async def test_retry_of_a_cancelled_run_goes_on(stored: StoredPlace) -> None:
    gate = Gate()
    run = await stored.start(a_chain(gate))
    await stored.until(gate.began.is_set)
    assert await stored.finish(run.cancel())
    assert (await stored.result(run)).status == "cancelled"
    gate.open.set()
    assert await stored.tell(run, Retry())
    result = await stored.result(run)
    assert result.status == "completed"
    assert result.output("second")["got"] in ("visit 1", "visit 2")
    assert gate.calls == 2


def a_trip(undone: list[tuple[str, Any]], fails: Callable[[], bool] = lambda: True) -> Flow[Any]:
    """Book a flight, then a hotel and a car side by side, then pay."""
    flow = Flow[Any]("trip")

    def undo(name: str) -> str:
        async def cancel(ctx: Ctx) -> None:
            undone.append((name, ctx.input["output"]))

        flow.node(id=f"cancel {name}", uses=f"trip.cancel.{name}")(cancel)
        return f"cancel {name}"

    def book(name: str, **options: Any) -> None:
        async def booked(ctx: Ctx) -> Any:
            return f"{name} booked"

        flow.node(id=name, uses=f"trip.{name}", compensate=undo(name), **options)(booked)

    book("flight")
    book("hotel", after="flight")
    book("car", after="hotel")

    @flow.node(after="car")
    async def pay(ctx: Ctx) -> Any:
        if fails():
            raise ValueError("no money")
        return "paid"

    return flow


async def test_rollback_undoes_in_reverse_order(stored: StoredPlace) -> None:
    undone: list[tuple[str, Any]] = []
    run = await stored.start(a_trip(undone))
    assert (await stored.result(run)).status == "failed"
    assert await stored.tell(run, Rollback())
    await stored.reach(run, "cancelled")
    assert undone == [("car", "car booked"), ("hotel", "hotel booked"), ("flight", "flight booked")]
    await stored.happened("node:undone", count=3)  # events are told after the commit that `reach` has seen
    assert [event.node for event in stored.events.of("node:undone")] == ["car", "hotel", "flight"]


async def test_rollback_to_a_node_starts_it_again(stored: StoredPlace) -> None:
    undone: list[tuple[str, Any]] = []
    poor = [True]
    flow = a_trip(undone, lambda: poor[0])
    run = await stored.start(flow)
    assert (await stored.result(run)).status == "failed"
    poor[0] = False
    assert await stored.tell(run, Rollback(number(flow, "hotel")))
    await stored.reach(run, "completed")
    result = await stored.result(run)
    assert result.output("pay") == "paid"
    assert [name for name, _ in undone] == ["car", "hotel"]


async def test_rollback_of_a_running_run_waits_for_what_runs(stored: StoredPlace) -> None:
    undone: list[Any] = []
    gate = Gate()
    flow = Flow[Any]("running")

    @flow.node(id="undo")
    async def undo(ctx: Ctx) -> None:
        undone.append((ctx.node_id, ctx.input["output"], gate.open.is_set()))

    @flow.node(compensate="undo")
    async def first(ctx: Ctx) -> str:
        return "one"

    @flow.node(after=first, compensate="undo")
    async def second(ctx: Ctx) -> Any:
        gate.began.set()
        try:
            await gate.open.wait()
        except asyncio.CancelledError:
            gate.open.set()
            raise

    run = await stored.start(flow)
    await stored.until(gate.began.is_set)
    assert await stored.tell(run, Rollback())
    await stored.reach(run, "cancelled")
    assert [(output, ended) for _, output, ended in undone] == [("one", True)], "the second never completed"


async def test_a_compensation_that_fails_fails_the_run(stored: StoredPlace) -> None:
    flow = Flow[Any]("stuck")
    calls = Counter[str]()

    @flow.node
    async def undo_first(ctx: Ctx) -> None:
        calls["first"] += 1

    @flow.node(retries=2)
    async def undo_second(ctx: Ctx) -> None:
        calls["second"] += 1
        raise ValueError("it cannot be undone")

    @flow.node(compensate=undo_first)
    async def first(ctx: Ctx) -> int:
        return 1

    @flow.node(after=first, compensate=undo_second)
    async def second(ctx: Ctx) -> int:
        return 2

    run = await stored.start(flow)
    assert (await stored.result(run)).status == "completed"
    assert await stored.tell(run, Rollback())
    await stored.reach(run, "failed")
    result = await stored.result(run)
    assert "it cannot be undone" in result.cause
    assert calls == {"second": 2}, "what is left is not undone"


async def test_commands_of_runs_that_run_or_have_ended(stored: StoredPlace) -> None:
    gate = Gate()
    run: RunHandle = await stored.start(a_chain(gate))
    await stored.until(gate.began.is_set)
    assert not await stored.tell(run, Retry()), "it runs"
    gate.open.set()
    assert (await stored.result(run)).status == "completed"
    for event in (Pause(), Unpause(), Retry()):
        assert not await stored.tell(run, event)
