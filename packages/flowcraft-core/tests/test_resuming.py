"""Runs in process that wait: what `run` returns, and how `resume` goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.errors import (
    CommandRefused,
    InvalidPayload,
    InvalidRequest,
    NotWaiting,
    SerializationError,
    SignalConflict,
    TooLate,
)
from flowcraft.flow import Flow
from flowcraft.memory import MemoryAdapter
from flowcraft.nodes import NodeContext
from flowcraft.results import RunResult
from flowcraft.runtime import FlowRuntime

from .ports.virtual_clock import VirtualClock


async def value(ctx: NodeContext[Any, Any]) -> Any:
    return f"{ctx.node_id} of {ctx.input}"


def flow_of(name: str, nodes: dict[str, Any], *edges: str | Edge, **options: Any) -> Blueprint:
    made = tuple(node if isinstance(node, Node) else Node(key, node) for key, node in nodes.items())
    return Blueprint(name, made, tuple(e if isinstance(e, Edge) else Edge(*e.split(">")) for e in edges), **options)


def runtime(*blueprints: Blueprint, **options: Any) -> FlowRuntime:
    return FlowRuntime(blueprints=blueprints, registry={"value": value}, **options)


ASK = flow_of(
    "ask", {"a": "value", "wait": "wait", "yes": "value", "no": "value"},
    "a>wait", "wait>yes", Edge("wait", "no", "reject"),
)  # fmt: skip


async def test_a_run_that_waits_is_returned_and_resumed() -> None:
    made = runtime(ASK)
    first = await made.run("ask", 1)
    assert first.status == "awaiting"
    with pytest.raises(Exception, match="awaiting"):
        first.raise_for_failure()
    second = await made.resume(first, "wait", "go")
    assert (second.status, second.output("yes"), second.nodes["no"]) == ("completed", "yes of go", "skipped")
    assert (first.status, first.nodes["wait"], first.nodes["yes"]) == ("awaiting", "waiting", "pending"), (
        "as it was then"
    )
    assert dict(first.outputs) == {"a": "a of 1"}


async def test_the_action_of_a_signal_routes() -> None:
    made = runtime(ASK)
    result = await made.resume(await made.run("ask"), "wait", action="reject")
    assert (result.nodes["yes"], result.nodes["no"]) == ("skipped", "completed")


async def test_several_waits_one_after_the_other_in_any_order() -> None:
    made = runtime(
        flow_of("two", {"w1": "wait", "w2": "wait", "w3": "wait", "end": "value"}, "w1>end", "w2>end", "w1>w3")
    )
    first = await made.run("two")
    second = await made.resume(first, "w2", 2)
    third = await made.resume(first, "w3", 3)
    assert (second.status, third.status) == ("awaiting", "awaiting")
    with pytest.raises(SignalConflict):
        await made.resume(third, "w2", 4)
    with pytest.raises(SignalConflict):
        await made.resume(third, "w3", 4)
    last = await made.resume(second, "w1", 1)
    assert (last.status, last.outputs["w3"]) == ("completed", 3), "what came early was kept"
    assert last.output("end") == "end of {'w1': 1, 'w2': 2}"
    with pytest.raises(TooLate, match="ended"):
        await made.resume(last, "w1", 1)
    with pytest.raises(TooLate, match="ended"):
        await made.resume(first, "w1", 1)


async def test_the_same_signal_again_changes_nothing() -> None:
    made = runtime(flow_of("two", {"w1": "wait", "w2": "wait"}))
    first = await made.run("two")
    for _ in range(2):
        again = await made.resume(first, "w1", 1, signal_id="s")
        assert (again.status, dict(again.outputs)) == ("awaiting", {"w1": 1})


async def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    made = runtime(ASK)
    result = await made.run("ask")
    for node, why in (("a", "uses 'value'"), ("nothing", "no node"), ("a/wait", "no subflow")):
        with pytest.raises(NotWaiting, match=why):
            await made.resume(result, node)
    with pytest.raises(InvalidRequest, match="id"):
        await made.resume(result, value)
    with pytest.raises(SerializationError):
        await made.resume(result, "wait", object())
    assert (await made.resume(result, "wait")).status == "completed", "nothing had happened"
    async with MemoryAdapter(runtime(ASK)) as adapter, adapter.worker():
        run = await adapter.start_run("ask")
        await run.signal("wait")
        with pytest.raises(TooLate):
            await made.resume(await run.result(10), "wait")
    foreign = RunResult("r", "awaiting", {}, (), {})
    with pytest.raises(InvalidRequest, match="adapter"):
        await made.resume(foreign, "wait")


async def test_a_wait_in_a_subflow_of_a_subflow() -> None:
    inner = flow_of("inner", {"a": "value", "wait": "wait", "b": "value"}, "a>wait", "wait>b")
    middle = flow_of("middle", {"sub": Node("sub", "subflow", {"blueprintId": "inner"}), "own": "wait"})
    outer = flow_of("outer", {"x/y": Node("x/y", "subflow", {"blueprintId": "middle"}), "end": "value"}, "x/y>end")
    made = runtime(inner, middle, outer)
    result = await made.run("outer", 0)
    assert result.status == "awaiting"
    for name, why in (
        ("x/y/sub/b", "uses 'value'"), ("x/y/sub/none", "no node"), ("x/y/own/wait", "no subflow"),
        ("x/y", "only a wait"), ("end/wait", "no subflow"),
    ):  # fmt: skip
        with pytest.raises(NotWaiting, match=why):
            await made.resume(result, name)
    second = await made.resume(result, "x/y/own", 1)
    with pytest.raises(SignalConflict):
        await made.resume(second, "x/y/own", 2)
    last = await made.resume(second, "x/y/sub/wait", 2)
    assert (last.status, last.output("end")) == ("completed", "end of {'sub': 'b of 2', 'own': 1}")


async def test_dependencies_are_open_while_it_runs_and_only_then() -> None:
    opened: list[str] = []

    @asynccontextmanager
    async def deps() -> AsyncIterator[str]:
        opened.append("open")
        yield f"connection {opened.count('open')}"
        opened.append("close")

    async def use(ctx: NodeContext[Any, str]) -> str:
        return ctx.deps

    child = flow_of("child", {"w": "wait", "use": "use"}, "w>use")
    parent = flow_of("parent", {"one": "use", "sub": Node("sub", "subflow", {"blueprintId": "child"}), "three": "use"},
                     "one>sub", "sub>three")  # fmt: skip
    made = FlowRuntime(blueprints=[child, parent], registry={"use": use}, deps=deps)
    first = await made.run("parent")
    assert opened == ["open", "close"]
    with pytest.raises(NotWaiting):
        await made.resume(first, "one")
    assert opened == ["open", "close"], "what is refused opens nothing"
    second = await made.resume(first, "sub/w")
    assert opened == ["open", "close"] * 2
    assert {n: second.output(n) for n in ("one", "sub", "three")} == {
        "one": "connection 1", "sub": "connection 2", "three": "connection 2",
    }  # fmt: skip


async def test_dependencies_that_cannot_be_opened_change_nothing() -> None:
    broken = [False]

    @asynccontextmanager
    async def deps() -> AsyncIterator[None]:
        if broken[0]:
            raise OSError("no connection")
        yield

    made = runtime(ASK, deps=deps)
    result = await made.run("ask")
    broken[0] = True
    with pytest.raises(OSError, match="no connection"):
        await made.resume(result, "wait", 1)
    broken[0] = False
    assert (await made.resume(result, "wait", 2)).output("wait") == 2


async def test_one_resume_at_a_time_and_none_after_an_interruption() -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def slow(ctx: NodeContext[Any, Any]) -> None:
        entered.set()
        await gate.wait()

    flow = flow_of("slow", {"w": "wait", "slow": "slow", "w2": "wait"}, "w>slow")
    made = FlowRuntime(blueprints=[flow], registry={"slow": slow})
    result = await made.run("slow")
    task = asyncio.create_task(made.resume(result, "w"))
    await entered.wait()
    with pytest.raises(CommandRefused, match="being resumed"):
        await made.resume(result, "w2")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(CommandRefused, match="interrupted"):
        await made.resume(result, "w2")


async def test_timers_after_a_wait_run_and_a_deadline_is_kept() -> None:
    clock = VirtualClock()
    nodes = {
        "w": "wait",
        "sleep": Node("sleep", "sleep", {"duration": "1h"}),
        "w2": Node("w2", "wait", {"timeout": "3h"}),
    }
    made = runtime(flow_of("timed", nodes, "w>sleep", "sleep>w2", timeout=7200.0), clock=clock)
    result = await made.run("timed")
    assert result.status == "awaiting"
    task = asyncio.create_task(made.resume(result, "w", 1))
    await clock.advance(3601)
    assert not task.done(), "a wait with a timeout is waited for"
    await clock.advance(3600)
    last = await task
    assert (last.status, last.cause) == ("failed", "DeadlineExceeded: the run did not end in time")


async def test_a_deadline_counts_after_a_resume_without_other_timers() -> None:
    """The first wait ends, and what runs then takes too long."""
    clock = VirtualClock()

    async def for_ever(ctx: NodeContext[Any, Any]) -> None:
        await asyncio.Event().wait()

    flow = flow_of("late", {"w": "wait", "slow": "slow"}, "w>slow", timeout=60.0)
    made = FlowRuntime(blueprints=[flow], registry={"slow": for_ever}, clock=clock)
    task = asyncio.create_task(made.resume(await made.run("late"), "w"))
    await clock.advance(61)
    assert (await task).status == "failed"


@dataclass
class Answer:
    yes: bool
    why: str = ""


async def test_payloads_have_their_type_and_nodes_are_named_by_what_the_builder_gave() -> None:
    flow = Flow[None]("typed")

    @flow.node
    async def ask(ctx: NodeContext[object, None]) -> str:
        return "?"

    wait = flow.wait("answer", after=ask, payload=Answer)

    @flow.node(after=wait)
    async def use(ctx: NodeContext[Answer, None]) -> bool:
        return ctx.input.yes

    made = FlowRuntime([flow])
    result = await made.run(flow)
    with pytest.raises(InvalidPayload, match="answer") as caught:
        await made.resume(result, wait, {"yes": "perhaps"})
    assert caught.value.field == "$.yes"
    with pytest.raises(NotWaiting):
        await made.resume(result, use)
    last = await made.resume(result, wait, {"yes": True})
    assert (last.output("answer"), last.output(use)) == (Answer(True), True)


async def test_a_loop_that_waits_in_each_round() -> None:
    flow = Flow[None]("rounds")

    @flow.node
    async def begin(ctx: NodeContext[object, None]) -> int:
        return 3

    flow.wait("step")

    @flow.node(after="step")
    async def left(ctx: NodeContext[int, None]) -> int:
        return ctx.input

    flow.loop("loop", condition="input > 0", start="step", end=left, after=begin)
    made = FlowRuntime([flow])
    result = await made.run(flow)
    for number in (2, 1, 0):
        assert result.status == "awaiting"
        result = await made.resume(result, "step", number)
    assert (result.status, result.output("left")) == ("completed", 0)
