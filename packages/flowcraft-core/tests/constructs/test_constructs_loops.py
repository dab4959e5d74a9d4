"""Loops: in process, on memory and on SQLite."""

from __future__ import annotations

import asyncio
from typing import Any

from flowcraft import Flow, NodeContext, Result

from .places import Place, StoredPlace, signal

Ctx = NodeContext[Any, Any]


async def test_a_body_of_several_nodes_goes_round(place: Place) -> None:
    flow = Flow[Any]("several")
    seen: list[tuple[str, int, Any]] = []

    @flow.node
    async def first(ctx: Ctx) -> int:
        seen.append(("first", ctx.visit, ctx.input))
        return ctx.input + 1

    @flow.node(after=first)
    async def left(ctx: Ctx) -> int:
        return ctx.input * 10

    @flow.node(after=first)
    async def right(ctx: Ctx) -> int:
        return ctx.input

    @flow.node(after=[left, right])
    async def last(ctx: Ctx) -> int:
        assert ctx.input["left"] == 10 * ctx.input["right"], "both branches of the same round"
        return ctx.input["right"]

    flow.loop("up", condition="input < 4", start=first, end=last)

    @flow.node(after="up")
    async def end(ctx: Ctx) -> Any:
        return ctx.input

    result = await place.run(flow, 0)
    assert result.output("end") == 4
    assert seen == [("first", 1, 0), ("first", 2, 1), ("first", 3, 2), ("first", 4, 3)]


async def test_a_loop_that_never_begins(place: Place) -> None:
    flow = Flow[Any]("never")

    @flow.node
    async def body(ctx: Ctx) -> int:
        raise AssertionError("not once")

    flow.loop("none", condition="input > 10", start=body, end=body)

    @flow.node(after="none")
    async def end(ctx: Ctx) -> Any:
        return ctx.input

    result = await place.run(flow, 3)
    assert result.output("end") == 3
    assert result.nodes["body"] == "skipped"


async def test_nested_loops(place: Place) -> None:
    flow = Flow[Any]("nested")
    steps: list[tuple[int, int]] = []

    @flow.node
    async def begin(ctx: Ctx) -> Any:  # what comes from outside says which of the two is the outer one
        return ctx.input

    @flow.node
    async def outer(ctx: Ctx) -> dict[str, int]:
        return {"i": ctx.input["i"] + 1, "j": 0}

    @flow.node
    async def inner(ctx: Ctx) -> dict[str, int]:
        steps.append((ctx.input["i"], ctx.input["j"]))
        return {"i": ctx.input["i"], "j": ctx.input["j"] + 1}

    flow.loop("inner_loop", condition="input.j < 3", start=inner, end=inner, after=outer)

    @flow.node(after="inner_loop")
    async def close(ctx: Ctx) -> Any:
        return ctx.input

    flow.loop("outer_loop", condition="input.i < 2", start=outer, end=close, after=begin)

    @flow.node(after="outer_loop")
    async def end(ctx: Ctx) -> Any:
        return ctx.input

    result = await place.run(flow, {"i": 0, "j": 0})
    assert result.output("end") == {"i": 2, "j": 3}
    assert steps == [(i, j) for i in (1, 2) for j in range(3)]


async def test_max_visits_of_a_loop(place: Place) -> None:
    flow = Flow[Any]("endless", max_visits=5)
    visits: list[int] = []

    @flow.node
    async def body(ctx: Ctx) -> int:
        visits.append(ctx.visit)
        return 1

    flow.loop("forever", condition="true", start=body, end=body)
    result = await place.run(flow, 1)
    assert result.status == "failed"
    assert [failure.node_id for failure in result.errors] == ["forever"]
    assert "VisitLimitReached" in str(result.errors[0])
    assert visits == [1, 2, 3, 4, 5]


async def test_a_condition_that_cannot_be_evaluated(place: Place) -> None:
    flow = Flow[Any]("broken")

    @flow.node
    async def body(ctx: Ctx) -> int:
        return 1

    flow.loop("round", condition="input.left - 1 > 0", start=body, end=body)
    result = await place.run(flow, {"left": "three"})
    assert result.status == "failed"
    assert "ConditionError" in str(result.errors[0])


async def test_a_failure_in_the_body_ends_the_loop(place: Place) -> None:
    flow = Flow[Any]("fails")

    @flow.node
    async def body(ctx: Ctx) -> int:
        if ctx.visit == 3:
            raise ValueError("in round three")
        return ctx.visit

    flow.loop("round", condition="true", start=body, end=body)

    @flow.node(after="round")
    async def end(ctx: Ctx) -> Any:
        return ctx.input

    result = await place.run(flow)
    assert result.status == "failed"
    assert [(failure.node_id, failure.visit) for failure in result.errors] == [("body", 3)]
    assert result.nodes["end"] == "skipped"


async def test_an_early_exit_drains_what_still_runs(place: Place) -> None:
    flow = Flow[Any]("exit")
    cancelled: list[int] = []
    slow_began = asyncio.Event()

    @flow.node
    async def start(ctx: Ctx) -> Any:
        return ctx.visit

    @flow.node(after=start)
    async def search(ctx: Ctx) -> Result[Any]:
        if ctx.visit < 2:
            return Result(ctx.visit, "next")
        await slow_began.wait()
        return Result("found", "found")

    @flow.node(after=start)
    async def slow(ctx: Ctx) -> int:
        if ctx.visit == 2:
            slow_began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(ctx.visit)
                raise
        return ctx.visit

    @flow.node
    async def join(ctx: Ctx) -> Any:
        return ctx.input

    flow.edge(search, join, action="next")
    flow.edge(slow, join)
    flow.loop("round", condition="true", start=start, end=join)

    @flow.node(after="round", join="any")  # an end that only the loop reaches would be part of its body
    async def found(ctx: Ctx) -> Any:
        return ctx.input

    flow.edge(search, found, action="found")
    result = await place.run(flow)
    assert result.status == "completed"
    assert result.output("found") == "found"
    assert cancelled == [2]


async def test_an_early_exit_over_two_loops(place: Place) -> None:
    flow = Flow[Any]("two")
    rounds: list[tuple[int, int]] = []

    @flow.node
    async def begin(ctx: Ctx) -> Any:
        return ctx.input

    @flow.node
    async def outer(ctx: Ctx) -> dict[str, int]:
        return {"i": ctx.visit, "j": 0}

    @flow.node
    async def inner(ctx: Ctx) -> Result[dict[str, int]]:
        at = {"i": ctx.input["i"], "j": ctx.input["j"] + 1}
        rounds.append((at["i"], at["j"]))
        return Result(at, "out" if (at["i"], at["j"]) == (2, 2) else "on")

    @flow.node
    async def keep(ctx: Ctx) -> Any:
        return ctx.input

    flow.edge(inner, keep, action="on")
    flow.loop("inner_loop", condition="input.j < 3", start=inner, end=keep, after=outer)

    @flow.node(after="inner_loop")
    async def close(ctx: Ctx) -> Any:
        return ctx.input

    flow.loop("outer_loop", condition="true", start=outer, end=close, after=begin)

    @flow.node(after="outer_loop", join="any")
    async def out(ctx: Ctx) -> Any:
        return ctx.input

    flow.edge(inner, out, action="out")
    result = await place.run(flow)
    assert result.status == "completed"
    assert result.output("out") == {"i": 2, "j": 2}
    assert rounds == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]


async def test_sleeps_in_the_body(place: Place) -> None:
    flow = Flow[Any]("poll")
    at: list[float] = []

    @flow.node
    async def poll(ctx: Ctx) -> int:
        at.append(place.clock.now)
        return ctx.visit

    nap = flow.sleep("nap", 10, after=poll)
    flow.loop("polling", condition="input != 3", start=poll, end=nap)
    result = await place.run(flow, 0)
    assert result.status == "completed"
    assert len(at) == 3
    assert min(at[1] - at[0], at[2] - at[1]) >= 10
    if place.kind != "sqlite":  # there time goes by while the disk writes
        assert max(at[1] - at[0], at[2] - at[1]) < 12


async def test_a_wait_in_the_body_takes_one_signal_for_each_round(stored: StoredPlace) -> None:
    flow = Flow[Any]("asks")
    answer = flow.wait("answer")

    @flow.node(after=answer)
    async def check(ctx: Ctx) -> Any:
        return ctx.input

    flow.loop("until yes", condition="input != 'yes'", start="answer", end=check)

    @flow.node(after="until yes")
    async def end(ctx: Ctx) -> Any:
        return ctx.input

    run = await stored.start(flow, "?")
    await stored.reach(run, "awaiting")
    assert await stored.finish(signal(run, "answer", "no", id="one")) == "accepted"
    await stored.happened("node:waiting", "answer", 2)
    assert await stored.finish(signal(run, "answer", "third", id="three", visit=3)) == "early"
    assert await stored.finish(signal(run, "answer", "second", id="two")) == "accepted"
    await stored.happened("node:waiting", "answer", 3)
    assert await stored.finish(signal(run, "answer", "yes", id="four")) == "accepted"
    result = await stored.result(run)
    assert result.output("end") == "yes"
    assert [event.visit for event in stored.events.of("node:completed").node("check")] == [1, 2, 3, 4]


async def test_many_rounds(place: Place) -> None:
    flow = Flow[Any]("many")

    @flow.node
    async def down(ctx: Ctx) -> int:
        return ctx.input - 1

    flow.loop("countdown", condition="input > 0", start=down, end=down)

    @flow.node(after="countdown")
    async def end(ctx: Ctx) -> Any:
        return ctx.input

    result = await place.run(flow, 200)
    assert result.output("end") == 0
