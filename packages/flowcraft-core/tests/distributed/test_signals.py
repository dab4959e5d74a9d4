"""Signals for waits: each answer, its races, and what the payload may be."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.errors import (
    FlowcraftError,
    InvalidPayload,
    InvalidRequest,
    MailboxFull,
    NotWaiting,
    RunNotFound,
    SerializationError,
    SignalConflict,
    TooLate,
)
from flowcraft.flow import Flow
from flowcraft.nodes import NodeContext

from .leaping import Stand, reaches, states
from .world import blueprint


async def value(ctx: NodeContext[Any, Any]) -> Any:
    return {"node": ctx.node_id, "input": ctx.input}


REGISTRY = {"value": value}


def approval(name: str = "approval", *, held: bool = False, **params: Any) -> Blueprint:
    """ask → approval (wait) → done, and with the action ``reject`` → rejected, ``timeout`` → late.

    ``held``: after done comes another wait, so that the run does not end.
    """
    nodes: dict[str, Node | str] = {
        "ask": "value", "approval": Node("approval", "wait", params), "done": "value", "rejected": "value",
        "late": "value",
    }  # fmt: skip
    edges: list[str | Edge] = [
        "ask>approval", "approval>done", Edge("approval", "rejected", "reject"), Edge("approval", "late", "timeout"),
    ]  # fmt: skip
    if held:
        nodes["hold"] = Node("hold", "wait")
        edges.append("done>hold")
    return blueprint(name, nodes, edges)


def awaiting(view: Any) -> bool:
    return view.status == "awaiting"


async def test_a_wait_is_ended_by_exactly_one_signal(stand: Stand) -> None:
    async with stand.adapter([approval(held=True)], REGISTRY) as adapter, adapter.worker():
        run = await adapter.start_run("approval", 1)
        await reaches(run, awaiting)
        assert await run.signal("approval", {"by": "Ann"}, signal_id="s1") == "accepted"
        assert await run.signal("approval", {"by": "Ann"}, signal_id="s1") == "repeated"
        with pytest.raises(SignalConflict, match="'approval'"):
            await run.signal("approval", {"by": "Bob"}, signal_id="s2")
        assert await run.signal("hold") in ("accepted", "early")
        result = await run.result(10)
        assert result.status == "completed"
        assert result.output("approval") == {"by": "Ann"}
        assert result.output("done") == {"node": "done", "input": {"by": "Ann"}}
        assert await run.signal("approval", {"by": "Ann"}, signal_id="s1") == "repeated", "also after the end"
        with pytest.raises(TooLate, match="ended"):
            await run.signal("approval", {"by": "Bob"}, signal_id="s2")


async def test_the_action_of_a_signal_chooses_the_edge(stand: Stand) -> None:
    async with stand.adapter([approval()], REGISTRY) as adapter, adapter.worker():
        run = await adapter.start_run("approval")
        await reaches(run, awaiting)
        await run.signal("approval", "no", action="reject")
        result = await run.result(10)
        assert (result.nodes["rejected"], result.nodes["done"]) == ("completed", "skipped")


async def test_a_signal_before_its_wait_is_kept(stand: Stand) -> None:
    """No worker has begun the run yet."""
    async with stand.adapter([approval()], REGISTRY) as adapter:
        run = await adapter.start_run("approval")
        assert await run.signal("approval", 7, signal_id="s1") == "early"
        assert await run.signal("approval", 7, signal_id="s1") == "early"
        with pytest.raises(SignalConflict):
            await run.signal("approval", 8, signal_id="s2")
        async with adapter.worker():
            assert (await run.result(10)).output("approval") == 7
        assert await run.signal("approval", 7, signal_id="s1") == "repeated"


async def test_what_cannot_be_signalled(stand: Stand) -> None:
    async with stand.adapter([approval()], REGISTRY) as adapter, adapter.worker():
        with pytest.raises(RunNotFound):
            await adapter.signal("nobody", "approval")
        run = await adapter.start_run("approval")
        await reaches(run, awaiting)
        with pytest.raises(NotWaiting, match="uses 'value'"):
            await run.signal("ask")
        with pytest.raises(NotWaiting, match="no node 'nothing'"):
            await run.signal("nothing")
        with pytest.raises(InvalidRequest, match="id"):
            await run.signal(value)
        with pytest.raises(SerializationError, match=r"\$\.x"):
            await run.signal("approval", {"x": object()})
        for wrong in ({"visit": 0}, {"visit": True}, {"action": ""}, {"signal_id": ""}, {"signal_id": "x" * 201}):
            with pytest.raises(InvalidRequest):
                await run.signal("approval", **wrong)
        assert await run.status() == "awaiting"
        await run.signal("approval", visit=1)
        await run.result(10)


async def test_a_wait_that_is_skipped_takes_no_signal(stand: Stand) -> None:
    flow = blueprint(
        "skipping", {"ask": "value", "wait": Node("wait", "wait"), "slow": Node("slow", "wait")},
        [Edge("ask", "wait", condition="false"), "ask>slow"],
    )  # fmt: skip
    async with stand.adapter([flow], REGISTRY) as adapter, adapter.worker():
        run = await adapter.start_run("skipping")
        await reaches(run, awaiting)
        with pytest.raises(TooLate, match="skipped"):
            await run.signal("wait")
        await run.cancel()
        with pytest.raises(TooLate):
            await run.signal("slow")


async def test_the_mailbox_is_bounded(stand: Stand) -> None:
    waits: dict[str, Node | str] = {f"w{i}": Node(f"w{i}", "wait") for i in range(101)}
    flow = blueprint("many", {"ask": "value", **waits}, [f"ask>w{i}" for i in range(101)])
    async with stand.adapter([flow], REGISTRY) as adapter:
        run = await adapter.start_run("many")
        for i in range(100):
            assert await run.signal(f"w{i}", i) == "early"
        with pytest.raises(MailboxFull, match="100"):
            await run.signal("w100", 100)
        async with adapter.worker():
            await reaches(run, awaiting)
            assert await run.signal("w100", 100) == "accepted"
            assert (await run.result(10)).outputs["w42"] == 42


async def test_of_fifty_signals_at_once_one_is_accepted(stand: Stand) -> None:
    """From two processes, for the same visit; and the run goes on with the payload of that one."""
    one, two = (stand.adapter([approval()], REGISTRY) for _ in range(2))
    async with one, two, one.worker(), two.worker():
        for _ in range(5):
            run = await one.start_run("approval")
            await reaches(run, awaiting)

            async def send(adapter: Adapter, number: int, run_id: str = run.run_id) -> str:
                try:
                    return await adapter.signal(run_id, "approval", number, signal_id=f"s{number}")
                except FlowcraftError as error:
                    return type(error).__name__

            answers = await asyncio.gather(*(send((one, two)[n % 2], n) for n in range(50)))
            assert answers.count("accepted") == 1, Counter(answers)
            assert set(answers) <= {"accepted", "SignalConflict", "TooLate"}
            result = await run.result(10)
            assert result.output("approval") == answers.index("accepted")


async def test_the_same_signal_fifty_times_at_once_is_one(stand: Stand) -> None:
    one, two = (stand.adapter([approval()], REGISTRY) for _ in range(2))
    async with one, two, one.worker():
        run = await one.start_run("approval")
        await reaches(run, awaiting)
        ids = [(one, two)[n % 2].signal(run.run_id, "approval", "yes", signal_id="same") for n in range(50)]
        assert Counter(await asyncio.gather(*ids)) == {"accepted": 1, "repeated": 49}
        assert (await run.result(10)).output("approval") == "yes"


async def test_signal_against_timeout_has_one_outcome(stand: Stand) -> None:
    async with stand.adapter([approval(timeout="1h")], REGISTRY) as adapter, adapter.worker():
        outcomes: set[str] = set()
        runs = [await adapter.start_run("approval") for _ in range(20)]
        for run in runs:
            await reaches(run, awaiting)
        stand.clock.leap(3600 - 0.5)

        async def send(run: Any, number: int) -> str:
            await stand.clock.sleep(0.4 + number * 0.01)
            try:
                return await run.signal("approval", "yes")
            except (TooLate, SignalConflict) as error:
                return type(error).__name__

        answers = await asyncio.gather(*(send(run, number) for number, run in enumerate(runs)))
        for run, answer in zip(runs, answers, strict=True):
            result = await run.result(10)
            way = "done" if answer == "accepted" else "late"
            assert [n for n in ("done", "late") if result.nodes[n] == "completed"] == [way], (answer, result.nodes)
            assert result.output("approval") == ("yes" if answer == "accepted" else None)
            outcomes.add(answer)
        assert outcomes <= {"accepted", "TooLate"}


async def test_a_timeout_without_its_edge_fails_the_wait(stand: Stand) -> None:
    flow = blueprint("short", {"wait": Node("wait", "wait", {"timeout": "3d"}), "then": "value"}, ["wait>then"])
    async with stand.adapter([flow], REGISTRY) as adapter, adapter.worker():
        run = await adapter.start_run("short")
        await reaches(run, awaiting)
        stand.clock.leap(3 * 86400 + 1)
        result = await run.result(10)
        assert (result.status, str(result.errors[0])) == (
            "failed", "wait: WaitTimedOut: nothing came for node 'wait' in time",
        )  # fmt: skip
        with pytest.raises(TooLate, match="ended"):
            await run.signal("wait")


async def test_a_wait_in_a_loop_takes_a_signal_for_each_visit(stand: Stand) -> None:
    """The current visit, if none is named; a later one only by its number."""
    flow = Blueprint.from_json(
        '{"id": "rounds", "nodes": ['
        '{"id": "begin", "uses": "value"}, {"id": "wait", "uses": "wait"}, {"id": "use", "uses": "value"},'
        '{"id": "again", "uses": "loop-controller", "params": {"condition": "input.input < 3"}},'
        '{"id": "end", "uses": "value"}], "edges": [{"source": "begin", "target": "again"},'
        '{"source": "again", "target": "wait", "action": "continue"}, {"source": "wait", "target": "use"},'
        '{"source": "use", "target": "again"}, {"source": "again", "target": "end", "action": "break"}]}'
    )
    async with stand.adapter([flow], REGISTRY) as adapter, adapter.worker():
        run = await adapter.start_run("rounds", 0)

        async def visit(number: int) -> None:
            before = max(1, number - 1)  # the view tells the visit of the latest output
            await reaches(run, lambda view: view.status == "awaiting" and view.nodes["wait"].visit == before)

        await visit(1)
        assert await run.signal("wait", 2, visit=2, signal_id="second") == "early"
        assert await run.signal("wait", 1, signal_id="first") == "accepted"
        await visit(3)
        with pytest.raises((SignalConflict, TooLate)):
            await run.signal("wait", 9, visit=1)
        assert await run.signal("wait", 2, visit=2, signal_id="second") == "repeated"
        assert await run.signal("wait", 3) == "accepted"
        result = await run.result(10)
        assert result.status == "completed", result.failures
        assert result.output("use") == {"node": "use", "input": 3}


@dataclass
class Approval:
    by: str
    amount: int = 0


def typed_flow() -> Flow[None]:
    flow = Flow[None]("typed")

    @flow.node
    async def ask(ctx: NodeContext[object, None]) -> str:
        return "?"

    flow.wait("approval", after=ask, payload=Approval)

    @flow.node(after="approval")
    async def done(ctx: NodeContext[Approval, None]) -> str:
        return f"{type(ctx.input).__name__} by {ctx.input.by}"

    flow.edge("approval", "big", condition="result.output.amount > 100")

    @flow.node(id="big")
    async def big(ctx: NodeContext[Approval, None]) -> int:
        return ctx.input.amount

    return flow


async def test_a_payload_has_the_declared_type(stand: Stand) -> None:
    flow = typed_flow()
    async with stand.adapter(flows=[flow]) as adapter, adapter.worker():
        run = await adapter.start_run(flow)
        await reaches(run, awaiting)
        for wrong, where in (
            ({"by": 7}, "$.by"),
            ({"amount": 1}, "$"),
            ("Ann", "$"),
            ({"by": "A", "amount": "x"}, "$"),
        ):
            with pytest.raises(InvalidPayload, match="approval") as caught:
                await run.signal("approval", wrong)
            assert caught.value.field.startswith(where), (wrong, str(caught.value))
        assert await run.status() == "awaiting"
        assert await run.signal("approval", {"by": "Ann", "amount": 500}) == "accepted"
        result = (await run.result(10)).raise_for_failure()
        assert result.output("approval") == Approval("Ann", 500)
        assert (result.output("done"), result.output("big")) == ("Approval by Ann", 500)


async def test_events_by_name(stand: Stand) -> None:
    nodes: dict[str, Node | str] = {
        "a": Node("a", "wait", {"eventName": "paid"}), "b": Node("b", "wait", {"eventName": "paid"}),
        "c": Node("c", "wait", {"eventName": "shipped"}), "d": Node("d", "wait", {"eventName": "paid"}),
    }  # fmt: skip
    async with stand.adapter([blueprint("events", nodes, ["c>d"])], REGISTRY) as adapter, adapter.worker():
        run = await adapter.start_run("events")
        await reaches(run, awaiting)
        with pytest.raises(InvalidRequest, match="run_id"):
            await adapter.publish_event("paid", 1)
        with pytest.raises(NotWaiting, match="'nothing'"):
            await adapter.publish_event("nothing", 1, run_id=run.run_id)
        told = await adapter.publish_event("paid", 1, run_id=run.run_id, signal_id="p1")
        assert told == {"a": "accepted", "b": "accepted", "d": "early"}
        assert await adapter.publish_event("paid", 1, run_id=run.run_id, signal_id="p1") == {
            "a": "repeated", "b": "repeated", "d": "early",
        }  # fmt: skip
        with pytest.raises(SignalConflict):
            await adapter.publish_event("paid", 2, run_id=run.run_id)
        assert await adapter.publish_event("shipped", 3, run_id=run.run_id) == {"c": "accepted"}
        result = await run.result(10)
        assert {n: result.output(n) for n in "abcd"} == {"a": 1, "b": 1, "c": 3, "d": 1}


async def test_an_event_is_for_what_waits_when_its_turn_comes(stand: Stand) -> None:
    """The first wait that it ends makes the second a loser: the answers say what became of each."""
    joined = Blueprint.from_json(
        '{"id": "first", "nodes": [{"id": "a", "uses": "wait", "params": {"eventName": "e"}},'
        '{"id": "b", "uses": "wait", "params": {"eventName": "e"}},'
        '{"id": "end", "uses": "value", "config": {"joinStrategy": "any"}}],'
        '"edges": [{"source": "a", "target": "end"}, {"source": "b", "target": "end"}]}'
    )
    async with stand.adapter([joined], REGISTRY) as adapter, adapter.worker():
        run = await adapter.start_run("first")
        await reaches(run, awaiting)
        assert await adapter.publish_event("e", 1, run_id=run.run_id) == {"a": "accepted"}
        view = await reaches(run, lambda view: view.status == "completed")
        assert states(view)["b"] == "cancelled"
