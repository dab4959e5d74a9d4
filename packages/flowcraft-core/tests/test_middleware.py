"""Middleware: layers like those of an onion, around every attempt."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowcraft import Blueprint, ClassNode, Edge, FlowRuntime, Middleware, Node, NodeContext, Result, Retry
from flowcraft.errors import SerializationError
from flowcraft.middleware import Call

Ctx = NodeContext[Any, Any]


class Layer(Middleware):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def before(self, ctx: Ctx) -> None:
        self.log.append(f"before {self.name}")

    async def after(self, ctx: Ctx, result: object, error: BaseException | None) -> None:
        self.log.append(f"after {self.name}: {type(error).__name__ if error else result}")

    async def around(self, ctx: Ctx, call_next: Call) -> Any:
        self.log.append(f"in {self.name}")
        try:
            return await call_next(ctx)
        finally:
            self.log.append(f"out {self.name}")


async def run(function: Any, *middleware: Middleware, node: dict[str, Any] | None = None, **options: Any) -> Any:
    runtime = FlowRuntime(registry={"f": function}, middleware=middleware, **options)
    return await runtime.run(Blueprint("b", (Node("a", "f", **(node or {})),)), 1)


async def test_the_first_is_the_outermost() -> None:
    log: list[str] = []

    async def work(ctx: Ctx) -> str:
        log.append("node")
        return "done"

    await run(work, Layer("1", log), Layer("2", log))
    assert log == [
        "before 1", "in 1", "before 2", "in 2", "node", "out 2", "after 2: done", "out 1", "after 1: done"
    ]  # fmt: skip


async def test_every_attempt_is_wrapped_and_its_error_told() -> None:
    log: list[str] = []

    async def work(ctx: Ctx) -> str:
        if ctx.attempt == 1:
            raise ValueError
        return "done"

    result = await run(work, Layer("1", log), node={"retry": Retry(attempts=2, delay=0.0)})
    assert result.output() == "done"
    assert log == ["before 1", "in 1", "out 1", "after 1: ValueError", "before 1", "in 1", "out 1", "after 1: done"]


async def test_it_may_answer_in_place_of_the_node() -> None:
    class Cache(Middleware):
        async def around(self, ctx: Ctx, call_next: Call) -> Any:
            return Result("cached", action="hit")

    async def never(ctx: Ctx) -> None:
        raise AssertionError

    runtime = FlowRuntime(registry={"a": never, "b": never}, middleware=[Cache()])
    blueprint = Blueprint("b", (Node("a", "a"), Node("b", "b")), (Edge("a", "b", action="miss"),))
    result = await runtime.run(blueprint)
    assert (result.output("a"), result.nodes["b"]) == ("cached", "skipped")


async def test_it_may_change_the_result_and_the_input() -> None:
    class Change(Middleware):
        async def around(self, ctx: Ctx, call_next: Call) -> Any:
            ctx.input += 1
            return [await call_next(ctx)]

    async def echo(ctx: Ctx) -> Any:
        return ctx.input

    assert (await run(echo, Change(), Change())).output() == [[3]]


async def test_it_may_handle_an_error_or_call_again() -> None:
    class Persistent(Middleware):
        async def around(self, ctx: Ctx, call_next: Call) -> Any:
            try:
                return await call_next(ctx)
            except ValueError:
                return await call_next(ctx)

    calls: list[int] = []

    async def flaky(ctx: Ctx) -> str:
        calls.append(ctx.attempt)
        if len(calls) == 1:
            raise ValueError
        return "second"

    assert (await run(flaky, Persistent())).output() == "second"
    assert calls == [1, 1]


@pytest.mark.parametrize("where", ["before", "around", "after"])
async def test_its_errors_are_failures_of_the_node(where: str) -> None:
    attempts: list[int] = []

    class Broken(Middleware):
        async def _raise(self, ctx: Ctx, *rest: Any) -> Any:
            attempts.append(ctx.attempt)
            raise LookupError(where)

    setattr(Broken, where, Broken._raise)
    outer: list[str] = []

    async def work(ctx: Ctx) -> str:
        return "done"

    result = await run(work, Layer("outer", outer), Broken(), node={"retry": Retry(attempts=2, delay=0.0)})
    assert str(result.errors[0]) == f"a: LookupError: {where}"
    assert attempts == [1, 2]
    assert outer[-1] == "after outer: LookupError"


async def test_after_is_told_of_a_cancellation_and_does_not_stop_it() -> None:
    log: list[str] = []
    started = asyncio.Event()

    async def slow(ctx: Ctx) -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(run(slow, Layer("1", log)))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert log == ["before 1", "in 1", "out 1", "after 1: CancelledError"]


async def test_it_is_within_the_time_limit() -> None:
    class Slow(Middleware):
        async def before(self, ctx: Ctx) -> None:
            await asyncio.Event().wait()

    async def work(ctx: Ctx) -> None: ...

    assert (await run(work, Slow(), node={"timeout": 0.005})).errors[0].errors[0].kind == "NodeTimedOut"


async def test_it_wraps_classes_and_blocking_functions_alike() -> None:
    class Step(ClassNode[int, int, None]):
        async def exec(self, prepared: int, ctx: Ctx) -> int:
            return prepared + 1

    def blocking(ctx: Ctx) -> int:
        return int(ctx.input) + 1

    for function in (Step, blocking):
        log: list[str] = []
        assert (await run(function, Layer("1", log))).output() == 2
        assert log == ["before 1", "in 1", "out 1", "after 1: 2"]


async def test_what_it_makes_must_be_storable_too() -> None:
    class Wrong(Middleware):
        async def around(self, ctx: Ctx, call_next: Call) -> Any:
            return object()

    async def work(ctx: Ctx) -> None: ...

    assert (await run(work, Wrong())).errors[0].errors[0].kind == SerializationError.__name__


async def test_its_writes_count_like_those_of_the_node() -> None:
    class Stamp(Middleware):
        async def after(self, ctx: Ctx, result: object, error: BaseException | None) -> None:
            await ctx.context.set(f"stamp-{ctx.node_id}", ctx.writes["key"])

    async def work(ctx: Ctx) -> None:
        await ctx.context.set("key", 1)

    assert (await run(work, Stamp())).context == {"key": 1, "stamp-a": 1}


async def test_without_middleware_nothing_is_wrapped() -> None:
    async def work(ctx: Ctx) -> str:
        return "done"

    assert (await run(work, Middleware())).output() == "done"
    assert (await run(work)).output() == "done"
