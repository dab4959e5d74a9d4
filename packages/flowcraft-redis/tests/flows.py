"""Flows that use every construct, for this process and for others."""

from __future__ import annotations

from typing import Any

from flowcraft import Flow, FlowRuntime, NodeContext, Retry
from flowcraft.ports import Clock

Ctx = NodeContext[Any, Any]


def add(flow: Flow[Any], id: str, function: Any, after: str | None = None) -> None:
    flow.node(after=after, id=id, uses=function.__name__)(function)


def chain(length: int = 10) -> Flow[Any]:
    flow = Flow[Any]("chain")
    for number in range(length):
        add(flow, f"n{number}", add_one, f"n{number - 1}" if number else None)
    return flow


def fan(width: int = 20) -> Flow[Any]:
    flow = Flow[Any]("fan")
    add(flow, "first", add_one)
    branches = [f"b{number}" for number in range(width)]
    for name in branches:
        add(flow, name, add_one, "first")
    flow.node(after=branches, id="last")(total)
    return flow


def batch() -> Flow[Any]:
    flow = Flow[Any]("batch")
    add(flow, "numbers", numbers)
    flow.batch("doubled", double, after="numbers")
    add(flow, "sum", total, "doubled")
    return flow


def loop() -> Flow[Any]:
    flow = Flow[Any]("loop")
    add(flow, "start", add_one)
    add(flow, "step", add_one)
    flow.loop("more", condition="input < 5", start="step", end="step", after="start")
    add(flow, "end", add_one, "more")
    return flow


def choice() -> Flow[Any]:
    flow = Flow[Any]("choice")
    add(flow, "a", add_one)
    add(flow, "small", remember)
    add(flow, "large", add_one)
    flow.node(after=["small", "large"], id="end")(recall)
    flow.edge("a", "small", condition="result.output < 10")
    flow.edge("a", "large", condition="result.output >= 10")
    return flow


def approval() -> Flow[Any]:
    flow = Flow[Any]("approval")
    add(flow, "ask", add_one)
    flow.wait("answer", after="ask")
    add(flow, "use", double, "answer")
    return flow


def nap() -> Flow[Any]:
    flow = Flow[Any]("nap")
    add(flow, "before", add_one)
    flow.sleep("sleep", 0.3, after="before")
    add(flow, "after", add_one, "sleep")
    return flow


def parent() -> Flow[Any]:
    flow = Flow[Any]("parent")
    add(flow, "before", add_one)
    flow.subflow("child", chain(), after="before")
    add(flow, "after", add_one, "child")
    return flow


def flaky() -> Flow[Any]:
    flow = Flow[Any]("flaky")
    flow.node(id="flaky", retries=Retry(attempts=3, delay=0.0))(fails_twice)
    add(flow, "after", add_one, "flaky")
    return flow


def failing() -> Flow[Any]:
    flow = Flow[Any]("failing")
    add(flow, "bad", fails)
    add(flow, "never", add_one, "bad")
    return flow


async def add_one(ctx: Ctx) -> Any:
    return ctx.input + 1 if isinstance(ctx.input, int) else 1


async def double(ctx: Ctx) -> Any:
    return 2 * ctx.input


async def numbers(ctx: Ctx) -> list[int]:
    return list(range(ctx.input))


async def total(ctx: Ctx) -> Any:
    values = ctx.input.values() if isinstance(ctx.input, dict) else ctx.input
    return sum(values)


async def remember(ctx: Ctx) -> Any:
    await ctx.context.set("seen", ctx.input)
    return ctx.input


async def recall(ctx: Ctx) -> Any:
    return await ctx.context.get("seen", "nothing")


async def fails_twice(ctx: Ctx) -> Any:
    if not ctx.last_attempt:
        raise RuntimeError(f"attempt {ctx.attempt}")
    return ctx.attempt


async def fails(ctx: Ctx) -> Any:
    raise RuntimeError("broken")


def runtime(clock: Clock | None = None) -> FlowRuntime:
    flows = [chain(), fan(), batch(), loop(), choice(), approval(), nap(), parent(), flaky(), failing()]
    return FlowRuntime(flows, clock=clock)


#: Each flow with what it is given, for flows that end by themselves.
INPUTS: dict[str, Any] = {
    "chain": 0, "fan": 1, "batch": 300, "loop": 0, "choice": 3, "parent": 1, "flaky": 0, "failing": 0, "nap": 5,
}  # fmt: skip
