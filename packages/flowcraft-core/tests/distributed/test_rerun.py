"""Running again: a new run takes over what another one had come to before a node, and goes on from there."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Edge, Node, Retry
from flowcraft.codec import JsonCodec
from flowcraft.codecs import CompressingCodec, EncryptingCodec
from flowcraft.errors import (
    CommandRefused,
    InvalidRequest,
    Misconfigured,
    PayloadTooLarge,
    RunConflict,
    RunNotFound,
    SerializationError,
    Unavailable,
)
from flowcraft.flow import Flow
from flowcraft.memory import MemoryValueStore
from flowcraft.model import RUN_INPUT, ValueKey
from flowcraft.nodes import NodeContext, Result
from flowcraft.runs import RunHandle
from flowcraft.runstate import unpack_head
from flowcraft.values import OffloadingStore

from .leaping import Stand, reaches, states
from .places import FaultyStore, Place, faults
from .world import blueprint

OLD, NEW = "old", "new"


class Work:
    """Functions that tell what they got; ``failing`` nodes fail, ``gated`` ones wait in the run that is named."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.failing: set[str] = set()
        self.gate = asyncio.Event()
        self.entered: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.undone: list[tuple[str, Any]] = []
        self.actions: dict[str, str] = {}

    @property
    def registry(self) -> dict[str, Any]:
        return {"value": self.value, "gated": self.gated, "undo": self.undo, "write": self.write, "count": self.count}

    async def value(self, ctx: NodeContext[Any, Any]) -> Any:
        self.calls.append((ctx.run_id, ctx.node_id, ctx.input))
        if ctx.node_id in self.failing:
            raise RuntimeError(f"{ctx.node_id} is broken")
        return Result(f"{ctx.node_id} of {ctx.input}", action=self.actions.get(ctx.node_id))

    async def write(self, ctx: NodeContext[Any, Any]) -> Any:
        await ctx.context.set("seen", [*(await ctx.context.get("seen") or []), ctx.node_id])
        return await self.value(ctx)

    async def count(self, ctx: NodeContext[Any, Any]) -> Any:
        self.calls.append((ctx.run_id, ctx.node_id, ctx.input))
        return (ctx.input or 0) + 1

    async def gated(self, ctx: NodeContext[Any, Any]) -> Any:
        self.entered[ctx.run_id].set()
        if ctx.run_id == OLD:
            await self.gate.wait()
        return await self.value(ctx)

    async def undo(self, ctx: NodeContext[Any, Any]) -> None:
        self.undone.append((ctx.run_id, ctx.input["output"]))

    def of(self, run_id: str) -> list[tuple[str, Any]]:
        return [(node, given) for run, node, given in self.calls if run == run_id]


@pytest.fixture
def work() -> Work:
    return Work()


def line(*names: str, **options: Any) -> Blueprint:
    return blueprint(
        "line", dict.fromkeys(names, "value"), [f"{a}>{b}" for a, b in itertools.pairwise(names)], **options
    )


async def contents(adapter: Adapter, run_id: str) -> dict[ValueKey, bytes]:
    """All values of a run."""
    spaces = ("context", "output", "input", "error", "item", "result", "signal", "webhook", "log")
    found: dict[ValueKey, bytes] = {}
    for space in spaces:
        found |= await adapter.store.read_values(run_id, space=space)
    return found


async def ended(adapter: Adapter, flow: str, given: Any = None, **options: Any) -> RunHandle:
    run = await adapter.start_run(flow, given, run_id=OLD, **options)
    await run.result(10)
    return run


# ---- what runs again, and with what


async def test_from_a_node_of_a_run_that_has_ended(stand: Stand, work: Work) -> None:
    async with stand.adapter([line("a", "b", "c")], work.registry) as adapter, adapter.worker():
        old = await ended(adapter, "line", 1)
        before = (await adapter.store.load(OLD), await old.history(), await contents(adapter, OLD))
        new = await adapter.rerun(OLD, "b", input="other", new_run_id=NEW)
        assert new.run_id == NEW
        result = (await new.result(10)).raise_for_failure()
        assert work.of(NEW) == [("b", "other"), ("c", "b of other")]
        assert dict(result.outputs) == {"a": "a of 1", "b": "b of other", "c": "c of b of other"}
        assert (await adapter.store.load(OLD), await old.history(), await contents(adapter, OLD)) == before
        history = await new.history()
        assert (history[0].seq, history[0].type) == (1, "run:started")
        assert dict(history[0].data) == {"rerun_of": OLD, "rerun_from": "b"}
        assert [event.node for event in history if event.type == "node:completed"] == ["b", "c"]
        assert [event.type async for event in new.watch()][-1] == "run:completed"
        assert (await new.view()).origin == (OLD, "b")
        assert (await old.view()).origin is None
        assert states(await new.state_at(1)) == {"a": "completed", "b": "ready", "c": "pending"}


async def test_without_another_input_the_node_gets_what_it_had(stand: Stand, work: Work) -> None:
    flow = blueprint(
        "f", {"a": "value", "b": "value", "c": "value", "d": Node("d", "value", inputs={"x": "b", "k": "key"})},
        ["a>c", "b>c", Edge("c", "d", transform="'changed'")],
    )  # fmt: skip
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        await ended(adapter, "f", 1, context={"key": "v"})
        for number, node in enumerate(("a", "c", "d")):
            run = await adapter.rerun(OLD, node, new_run_id=f"new{number}")
            assert (await run.result(10)).status == "completed"
            assert work.of(f"new{number}") == [
                call for call in work.of(OLD) if call[0] in {"a": "acd", "c": "cd", "d": "d"}[node]
            ]


async def test_an_input_of_none_is_another_input(stand: Stand, work: Work) -> None:
    async with stand.adapter([line("a", "b")], work.registry) as adapter, adapter.worker():
        await ended(adapter, "line", 1)
        await (await adapter.rerun(OLD, "b", input=None, new_run_id=NEW)).result(10)
        await (await adapter.rerun(OLD, "a", input=2, new_run_id="first")).result(10)
        assert work.of(NEW) == [("b", None)]
        assert work.of("first") == [("a", 2), ("b", "a of 2")]
        assert await adapter.store.read_values("first", [RUN_INPUT]) == await adapter.store.read_values(
            OLD, [RUN_INPUT]
        )


async def test_changed_context_keys(stand: Stand, work: Work) -> None:
    flow = blueprint("f", {"a": Node("a", "write"), "b": Node("b", "write")}, ["a>b"])
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        await ended(adapter, "f", context={"kept": 1, "changed": 1})
        new = await adapter.rerun(OLD, "b", context={"changed": 2, "fresh": 3, "seen": ["x"]})
        assert dict((await new.result(10)).context) == {"kept": 1, "changed": 2, "fresh": 3, "seen": ["x", "b"]}
        again = await adapter.rerun(OLD, "b")
        assert dict((await again.result(10)).context)["seen"] == ["a", "b", "b"], (
            "the latest committed, not an earlier one"
        )
        assert dict((await adapter.result(OLD, 10)).context) == {"kept": 1, "changed": 1, "seen": ["a", "b"]}


async def test_a_node_is_named_by_its_function(stand: Stand) -> None:
    flow = Flow[None]("f")
    seen: list[Any] = []

    @flow.node
    async def first(ctx: NodeContext[int, None]) -> int:
        return ctx.input + 1

    @flow.node(after=first)
    async def second(ctx: NodeContext[int, None]) -> int:
        seen.append(ctx.input)
        return ctx.input * 2

    async def stranger(ctx: NodeContext[int, None]) -> int:
        return 0

    async with stand.adapter(flows=[flow]) as adapter, adapter.worker():
        run = await adapter.start_run(flow, 1)
        await run.result(10)
        result = await (await adapter.rerun(run.run_id, second, input=5)).result(10)
        assert (result.output(second), seen) == (10, [2, 5])
        with pytest.raises(CommandRefused, match="stranger"):
            await adapter.rerun(run.run_id, stranger)
        with pytest.raises(RunNotFound, match="'nobody'"):
            await adapter.rerun("nobody", second)


async def test_what_is_not_after_the_node_stays(stand: Stand, work: Work) -> None:
    """Beside it: what completed or was skipped. What failed beside it runs again, and what follows from that."""
    nodes = dict.fromkeys(("a", "b", "side", "no", "bad", "after"), "value")
    flow = blueprint("f", nodes, ["a>b", "a>side", Edge("a", "no", "x"), "a>bad", "bad>after"])
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        work.failing.add("bad")
        await ended(adapter, "f", 1)
        work.failing.clear()
        new = await adapter.rerun(OLD, "b", new_run_id=NEW)
        result = await new.result(10)
        assert (result.status, result.failures) == ("completed", ())
        assert sorted(node for node, _ in work.of(NEW)) == ["after", "b", "bad"]
        assert states(await new.view())["no"] == "skipped"
        assert not await adapter.store.read_values(NEW, space="error")


async def test_a_failure_before_the_node_is_taken_over(stand: Stand, work: Work) -> None:
    flow = Blueprint.from_json(
        '{"id": "f", "nodes": [{"id": "bad", "uses": "value"}, {"id": "good", "uses": "value"},'
        '{"id": "join", "uses": "value", "config": {"joinStrategy": "any"}}, {"id": "alone", "uses": "value"}],'
        '"edges": [{"source": "bad", "target": "join"}, {"source": "good", "target": "join"},'
        '{"source": "bad", "target": "alone"}]}'
    )
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        work.failing.add("bad")
        await ended(adapter, "f", 1)
        work.failing.clear()
        result = await (await adapter.rerun(OLD, "join", new_run_id=NEW)).result(10)
        assert (result.status, [f.node_id for f in result.failures]) == ("failed", ["bad"])
        assert result.failures[0].errors[0].text == "bad is broken"
        assert work.of(NEW) == [("join", "good of 1")]
        again = await adapter.rerun(OLD, "bad", new_run_id="whole")
        assert (await again.result(10)).status == "completed"
        assert sorted(node for node, _ in work.of("whole")) == ["alone", "bad", "join"]


async def test_of_a_run_that_goes_on(stand: Stand, work: Work) -> None:
    """What is under way in it, paused or not, is begun again in the new run; the old one does not hear of it."""
    flow = blueprint("f", {"a": "value", "b": "value", "slow": Node("slow", "gated"), "end": "value"},
                     ["a>b", "a>slow", "b>end", "slow>end"])  # fmt: skip
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        old = await adapter.start_run("f", 1, run_id=OLD)
        await work.entered[OLD].wait()
        await reaches(old, lambda view: states(view)["b"] == "completed")
        await old.pause()
        before = await adapter.store.load(OLD)
        new = await adapter.rerun(OLD, "b", input=2, new_run_id=NEW)
        result = await new.result(10)
        assert result.output() == "end of {'b': 'b of 2', 'slow': 'slow of a of 1'}"
        assert sorted(node for node, _ in work.of(NEW)) == ["b", "end", "slow"]
        assert [event.type for event in await new.history()][:2] == ["run:started", "node:completed"]
        assert await adapter.store.load(OLD) == before
        await old.resume()
        work.gate.set()
        assert (await old.result(10)).output() == "end of {'b': 'b of a of 1', 'slow': 'slow of a of 1'}"


async def test_of_a_node_that_is_under_way(stand: Stand, work: Work) -> None:
    flow = blueprint("f", {"a": "value", "slow": Node("slow", "gated"), "end": "value"}, ["a>slow", "slow>end"])
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        old = await adapter.start_run("f", 1, run_id=OLD)
        await work.entered[OLD].wait()
        assert (await (await adapter.rerun(OLD, "slow", new_run_id=NEW)).result(10)).output() == "end of slow of a of 1"
        with pytest.raises(CommandRefused, match=r"'end'.*is pending: nothing has led to it"):
            await adapter.rerun(OLD, "end")
        await old.cancel("enough")
        work.gate.set()
        await old.result(10)
        assert (await (await adapter.rerun(OLD, "slow", new_run_id="x")).result(10)).status == "completed"


async def test_a_failed_run_with_fail_fast(stand: Stand, work: Work) -> None:
    flow = blueprint("f", {"a": "value", "bad": "value", "slow": Node("slow", "gated"), "end": "value"},
                     ["a>bad", "a>slow", "slow>end"], failure="fail-fast")  # fmt: skip
    async with stand.adapter([flow], work.registry, drain_grace=0.1, lease_ttl=0.2) as adapter, adapter.worker():
        work.failing.add("bad")
        await ended(adapter, "f", 1)
        work.failing.clear()
        result = await (await adapter.rerun(OLD, "bad", input=2, new_run_id=NEW)).result(10)
        assert result.status == "completed"
        assert sorted(work.of(NEW)) == [("bad", 2), ("end", "slow of a of 1"), ("slow", "a of 1")]


async def test_the_deadline_is_counted_afresh(stand: Stand, work: Work) -> None:
    async with stand.adapter([line("a", "b", timeout=60.0)], work.registry) as adapter, adapter.worker():
        await ended(adapter, "line", 1)
        stand.clock.leap(600)
        assert (await (await adapter.rerun(OLD, "b")).result(10)).status == "completed"


async def test_retries_and_fallbacks_get_the_input_that_was_given(stand: Stand, work: Work) -> None:
    retry = Retry(attempts=2, delay=0.01, jitter=0.0)
    flow = blueprint("f", {"a": "value", "b": Node("b", "value", retry=retry, fallback="f"), "f": "value"}, ["a>b"])
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        await ended(adapter, "f", 1)
        work.failing |= {"b", "f"}
        new = await adapter.rerun(OLD, "b", input=7, new_run_id=NEW)
        assert (await new.result(10)).status == "failed"
        assert [given for node, given in work.of(NEW) if node == "b"] == [7, 7]
        assert [given["input"] for node, given in work.of(NEW) if node == "f"] == [7]
        work.calls.clear()
        work.failing.clear()
        assert await new.retry() == 3
        assert (await new.result(10)).output("b") == "b of 7", "retried, it starts with what had led there"


async def test_names_tell_the_input_that_was_given(stand: Stand, work: Work) -> None:
    nodes: dict[str, Node | str] = {"a": "value", "b": "value", "c": Node("c", "value", inputs="_inputs.b")}
    async with stand.adapter([blueprint("f", nodes, ["a>b", "b>c"])], work.registry) as adapter, adapter.worker():
        await ended(adapter, "f", 1)
        await (await adapter.rerun(OLD, "b", input="given", new_run_id=NEW)).result(10)
        assert (work.of(OLD)[-1], work.of(NEW)) == (("c", "a of 1"), [("b", "given"), ("c", "given")])


async def test_an_input_is_given_for_one_visit(stand: Stand, work: Work) -> None:
    """What comes before the node runs again, in a rerun of the rerun: then its output counts."""
    async with stand.adapter([line("a", "b", "c")], work.registry) as adapter, adapter.worker():
        await ended(adapter, "line", 1)
        await (await adapter.rerun(OLD, "b", input="given", new_run_id="one")).result(10)
        two = await (await adapter.rerun("one", "a", input=2, new_run_id="two")).result(10)
        assert two.output("b") == "b of a of 2"
        assert not [key for key in await contents(adapter, "two") if key.name == "node:b"]
        three = await adapter.rerun("one", "b", new_run_id="three")
        assert (await three.result(10)).output("b") == "b of given"
        assert (await three.view()).origin == ("one", "b")
        four = await adapter.rerun("one", "c", new_run_id="four")
        assert (await four.result(10)).output() == "c of b of given"


async def test_a_rollback_undoes_only_what_the_run_itself_did(stand: Stand, work: Work) -> None:
    flow = Blueprint(
        "saga",
        (
            Node("book", "value", compensate="undo"), Node("pay", "value", compensate="undo2"),
            Node("undo", "undo"), Node("undo2", "undo"),
        ),
        (Edge("book", "pay"),),
    )  # fmt: skip
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        await ended(adapter, "saga", 1)
        new = await adapter.rerun(OLD, "pay", new_run_id=NEW)
        await new.result(10)
        await new.rollback()
        assert (await new.result(10)).status == "cancelled"
        assert work.undone == [(NEW, "pay of book of 1")]
        with pytest.raises(CommandRefused, match="only undoes"):
            await adapter.rerun(OLD, "undo")


async def test_not_while_it_is_being_rolled_back(stand: Stand, work: Work) -> None:
    flow = Blueprint(
        "saga",
        (Node("a", "value", compensate="undo"), Node("slow", "gated"), Node("undo", "undo")),
        (Edge("a", "slow"),),
    )
    async with stand.adapter([flow], work.registry, drain_grace=600.0) as adapter:
        async with adapter.worker(grace=0.0):
            await adapter.start_run("saga", 1, run_id=OLD)
            await work.entered[OLD].wait()
        await adapter.rollback(OLD)
        with pytest.raises(CommandRefused, match="being rolled back"):
            await adapter.rerun(OLD, "a")


# ---- constructs


LOOP = (
    '{"id": "loop", "nodes": [{"id": "start", "uses": "count"},'
    '{"id": "again", "uses": "loop-controller", "params": {"condition": "input < limit"}},'
    '{"id": "body", "uses": "count"}, {"id": "more", "uses": "count"}, {"id": "out", "uses": "count"}],'
    '"edges": [{"source": "start", "target": "again"}, {"source": "again", "target": "body", "action": "continue"},'
    '{"source": "body", "target": "more"}, {"source": "more", "target": "again"},'
    '{"source": "again", "target": "out", "action": "break"}]}'
)


async def test_a_loop_goes_on_from_its_latest_round(stand: Stand, work: Work) -> None:
    """start 1, rounds with 1, 3 and 5 to 7; break; out 8."""
    async with stand.adapter([Blueprint.from_json(LOOP)], work.registry) as adapter, adapter.worker():
        old = await ended(adapter, "loop", 0, context={"limit": 6})
        assert (await old.result(10)).output("out") == 8
        with pytest.raises(CommandRefused, match=r"'body': it is skipped .* run again from 'again'"):
            await adapter.rerun(OLD, "body")  # what it had got is not known any more
        result = await (await adapter.rerun(OLD, "again", input=-3, new_run_id="back")).result(10)
        assert [given for node, given in work.of("back") if node == "body"] == [-3, -1, 1, 3, 5]
        assert result.output("out") == 8
        await (await adapter.rerun(OLD, "again", new_run_id="same")).result(10)
        assert work.of("same") == [("out", 7)]
        await (await adapter.rerun(OLD, "again", context={"limit": 8}, new_run_id="on")).result(10)
        assert work.of("on") == [("body", 7), ("more", 8), ("out", 9)]
        await (await adapter.rerun(OLD, "again", input=100, new_run_id="far")).result(10)
        assert work.of("far") == [("out", 100)]
        await (await adapter.rerun(OLD, "start", new_run_id="whole")).result(10)
        assert work.of("whole") == work.of(OLD), "before the loop: it begins anew"
        await (await adapter.rerun(OLD, "out", new_run_id="after")).result(10)
        assert work.of("after") == [("out", 7)]


async def test_a_plain_cycle_goes_on_from_its_latest_round(stand: Stand, work: Work) -> None:
    edges: list[str | Edge] = [
        "start>one", "one>two", Edge("two", "one", condition="result.output < 6"),
        Edge("two", "out", condition="result.output >= 6"),
    ]  # fmt: skip
    flow = blueprint("c", dict.fromkeys(("start", "one", "two", "out"), "count"), edges)
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        old = await ended(adapter, "c", 0)
        assert [given for _, given in work.of(OLD)] == list(range(8))
        await (await adapter.rerun(OLD, "two", new_run_id="two")).result(10)
        assert work.of("two") == [("two", 6), ("out", 7)]
        await (await adapter.rerun(OLD, "one", new_run_id="one")).result(10)
        assert work.of("one") == [("one", 5), ("two", 6), ("out", 7)], "with what had sent it round"
        result = await (await adapter.rerun(OLD, "one", input=3, new_run_id="back")).result(10)
        assert work.of("back") == [("one", 3), ("two", 4), ("one", 5), ("two", 6), ("out", 7)], "given for one visit"
        assert result.output() == (await old.result(10)).output() == 8
        await (await adapter.rerun(OLD, "start", new_run_id="whole")).result(10)
        assert work.of("whole") == work.of(OLD)


async def test_a_loop_that_is_under_way(stand: Stand, work: Work) -> None:
    flow = Blueprint.from_json(LOOP.replace('"more", "uses": "count"', '"more", "uses": "slow"'))
    rounds = asyncio.Event()

    async def slow(ctx: NodeContext[Any, Any]) -> Any:
        if ctx.run_id == OLD and ctx.input > 2:
            rounds.set()
            await work.gate.wait()
        return await work.count(ctx)

    async with stand.adapter([flow], work.registry | {"slow": slow}) as adapter, adapter.worker():
        old = await adapter.start_run("loop", 0, run_id=OLD, context={"limit": 6})
        await rounds.wait()
        await (await adapter.rerun(OLD, "body", new_run_id=NEW)).result(10)
        assert work.of(NEW) == [("body", 3), ("more", 4), ("body", 5), ("more", 6), ("out", 7)]
        with pytest.raises(CommandRefused, match="'out'"):
            await adapter.rerun(OLD, "out")
        work.gate.set()
        assert (await old.result(10)).output("out") == 8


async def test_a_node_that_was_skipped_in_the_latest_round(stand: Stand, work: Work) -> None:
    text = LOOP.replace('"target": "more"}', '"target": "more", "condition": "result.output < 5"}')
    back = '{"source": "more", "target": "again"}'
    late = '{"source": "body", "target": "again", "condition": "result.output > 4"}'
    flow = Blueprint.from_json(text.replace(back, f"{back}, {late}"))
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        old = await ended(adapter, "loop", 0, context={"limit": 6})
        assert states(await old.view())["more"] == "completed", "in an earlier round"
        with pytest.raises(CommandRefused, match=r"'more': it is skipped .* run again from 'again'"):
            await adapter.rerun(OLD, "more")


BATCH = (
    '{"id": "batch", "nodes": [{"id": "list", "uses": "list"}, {"id": "b_scatter", "uses": "batch-scatter",'
    '"params": {"gatherNodeId": "b_gather", "workerUsesKey": "value", "onItemError": "collect"}},'
    '{"id": "b_gather", "uses": "batch-gather"}, {"id": "end", "uses": "size"}],'
    '"edges": [{"source": "list", "target": "b_scatter"}, {"source": "b_scatter", "target": "b_gather"},'
    '{"source": "b_gather", "target": "end"}]}'
)


async def test_batches(stand: Stand, work: Work) -> None:
    async def numbers(_: NodeContext[Any, Any]) -> list[int]:
        return list(range(5))

    async def size(ctx: NodeContext[Any, Any]) -> Any:
        return len(ctx.input), ctx.input[0]

    registry = work.registry | {"list": numbers, "size": size}
    async with stand.adapter([Blueprint.from_json(BATCH)], registry) as adapter, adapter.worker():
        await ended(adapter, "batch")

        async def again(node: str, **options: Any) -> tuple[list[Any], Any]:
            run = await adapter.rerun(OLD, node, **options)
            result = (await run.result(10)).raise_for_failure()
            return sorted((given for _, given in work.of(run.run_id)), key=str), result.output("end")

        whole = (list(range(5)), (5, "b of 0"))
        assert await again("list") == whole
        assert await again("b_scatter") == whole
        assert await again("b_scatter", input=["x", "y"]) == (["x", "y"], (2, "b of x"))
        assert await again("b") == whole, "all of its items, also those that had completed"
        assert await again("b_gather") == ([], (5, "b of 0"))
        assert await again("b_gather", input=["z"]) == ([], (1, "z"))
        assert await again("end") == ([], (5, "b of 0"))
        with pytest.raises(InvalidRequest, match=r"'b'.*'b_scatter'"):
            await adapter.rerun(OLD, "b", input=[1])


async def test_a_batch_under_way_keeps_what_is_done(stand: Stand, work: Work) -> None:
    async def some(ctx: NodeContext[Any, Any]) -> Any:
        if ctx.run_id == OLD and ctx.input == 4:
            work.entered["4"].set()
            await work.gate.wait()
        return await work.value(ctx)

    async def numbers(_: NodeContext[Any, Any]) -> list[int]:
        return list(range(5))

    async def size(ctx: NodeContext[Any, Any]) -> Any:
        return len(ctx.input)

    text = BATCH.replace('"workerUsesKey": "value"', '"workerUsesKey": "some", "concurrency": 1')
    text = text.replace('"edges": [', '"edges": [{"source": "list", "target": "side"},')
    text = text.replace('{"id": "end"', '{"id": "side", "uses": "value"}, {"id": "end"')
    registry = work.registry | {"list": numbers, "size": size, "some": some}
    async with stand.adapter([Blueprint.from_json(text)], registry) as adapter, adapter.worker():
        old = await adapter.start_run("batch", run_id=OLD)
        await work.entered["4"].wait()
        await reaches(old, lambda view: states(view)["side"] == "completed")
        result = await (await adapter.rerun(OLD, "side", input=0, new_run_id=NEW)).result(10)
        assert (result.status, result.output("end")) == ("completed", 5)
        assert sorted(work.of(NEW)) == [("b", 4), ("side", 0)]
        work.gate.set()
        assert (await old.result(10)).status == "completed"


async def test_waits(stand: Stand, work: Work) -> None:
    flow = blueprint("w", {"ask": Node("ask", "wait"), "b": "value", "late": Node("late", "wait"), "end": "value"},
                     ["ask>b", "b>late", "late>end"])  # fmt: skip
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        old = await adapter.start_run("w", run_id=OLD)
        await old.signal("ask", "yes", signal_id="1")
        await old.signal("late", "done", signal_id="2")
        await old.result(10)
        new = await adapter.rerun(OLD, "b", new_run_id=NEW)
        await reaches(new, lambda view: view.status == "awaiting")
        assert work.of(NEW) == [("b", "yes")], "what was signalled before the node is its output"
        assert await new.signal("late", "again", signal_id="2") == "accepted", "signals are a run's own"
        assert (await new.result(10)).output() == "end of again"
        asks = await adapter.rerun(OLD, "ask", new_run_id="asks")
        await reaches(asks, lambda view: view.status == "awaiting")
        with pytest.raises(InvalidRequest, match=r"'ask'.*payload"):
            await adapter.rerun(OLD, "ask", input=1)


async def test_signals_that_came_early_and_webhooks_stay_with_the_old_run(stand: Stand, work: Work) -> None:
    flow = blueprint(
        "w",
        {"a": Node("a", "value"), "slow": Node("slow", "gated"), "late": Node("late", "wait")},
        ["a>slow", "slow>late"],
    )
    async with (
        stand.adapter([flow], work.registry, webhook_base_url="https://example.org") as adapter,
        adapter.worker(),
    ):
        old = await adapter.start_run("w", run_id=OLD)
        await work.entered[OLD].wait()
        assert await old.signal("late", "done") == "early"
        new = await adapter.rerun(OLD, "a", new_run_id=NEW)
        await reaches(new, lambda view: view.status == "awaiting")
        assert {key.space for key in await contents(adapter, NEW)} <= {"output", "context", "input"}
        work.gate.set()
        assert (await old.result(10)).status == "completed"


async def test_sleeps_begin_again(stand: Stand, work: Work) -> None:
    flow = blueprint(
        "s", {"a": "value", "nap": Node("nap", "sleep", {"duration": "1h"}), "b": "value"}, ["a>nap", "nap>b"]
    )
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        old = await adapter.start_run("s", 1, run_id=OLD)
        await reaches(old, lambda view: view.status == "awaiting")
        new = await adapter.rerun(OLD, "nap", input="rested", new_run_id=NEW)
        assert await new.status() == "awaiting"
        stand.clock.leap(3601)
        assert (await new.result(10)).output() == "b of rested"
        assert (await old.result(10)).output() == "b of a of 1"


async def test_subflows(stand: Stand, work: Work) -> None:
    child = blueprint("child", {"x": "value", "y": "value"}, ["x>y"])
    parent = blueprint(
        "parent",
        {"a": "value", "sub": Node("sub", "subflow", {"blueprintId": "child"}), "b": "value"},
        ["a>sub", "sub>b"],
    )
    async with stand.adapter([child, parent], work.registry) as adapter, adapter.worker():
        await ended(adapter, "parent", 1)
        children = [row.run_id for row in (await adapter.list(blueprint_id="child")).items]
        assert len(children) == 1
        result = await (await adapter.rerun(OLD, "b", input=2, new_run_id=NEW)).result(10)
        assert result.output() == "b of 2"
        assert len((await adapter.list(blueprint_id="child")).items) == 1, "before the node it is only its output"
        result = await (await adapter.rerun(OLD, "sub", input="z", new_run_id="again")).result(10)
        assert result.output() == "b of y of x of z"
        assert len((await adapter.list(blueprint_id="child")).items) == 2
        alone = await adapter.rerun(children[0], "y", input="q", new_run_id="alone")
        assert (await alone.result(10)).output() == "y of q", "a subflow's run, run again, is a run of its own"
        assert (await adapter.run(OLD).status(), (await adapter.result(OLD)).output()) == (
            "completed",
            "b of y of x of a of 1",
        )
        stored = await adapter.store.load("alone")
        assert stored is not None
        assert unpack_head(stored.head)[1].parent is None


async def test_a_subflow_that_is_under_way_beside_it(stand: Stand, work: Work) -> None:
    child = blueprint("child", {"x": Node("x", "wait")}, [])
    parent = blueprint("parent", {"sub": Node("sub", "subflow", {"blueprintId": "child"}), "b": "value"}, [])
    async with stand.adapter([child, parent], work.registry) as adapter, adapter.worker():
        old = await adapter.start_run("parent", 1, run_id=OLD)
        await reaches(old, lambda view: states(view) == {"sub": "waiting", "b": "completed"})
        new = await adapter.rerun(OLD, "b", new_run_id=NEW)
        await reaches(new, lambda view: states(view) == {"sub": "waiting", "b": "completed"})
        rows = (await adapter.list(blueprint_id="child")).items
        assert {row.status for row in rows} == {"awaiting"}
        assert len(rows) == 2, "each has a child of its own, and neither was cancelled"
        for row in rows:
            await adapter.signal(row.run_id, "x", row.run_id)
        assert (await old.result(10)).output("sub") != (await new.result(10)).output("sub")


async def test_fallbacks(stand: Stand, work: Work) -> None:
    flow = blueprint("f", {"a": Node("a", "value", fallback="f"), "f": "value", "b": "value"}, ["a>b"])
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        work.failing.add("a")
        old = await ended(adapter, "f", 1)
        assert (await old.result(10)).status == "completed"
        with pytest.raises(CommandRefused, match=r"'f'.*stood in for 'a'"):
            await adapter.rerun(OLD, "f")
        taken = await (await adapter.rerun(OLD, "b", new_run_id=NEW)).result(10)
        assert (taken.status, [node for node, _ in work.of(NEW)]) == ("completed", ["b"])
        work.failing.clear()
        result = await (await adapter.rerun(OLD, "a", new_run_id="again")).result(10)
        assert (result.output("b"), [node for node, _ in work.of("again")]) == ("b of a of 1", ["a", "b"])


async def test_another_route(stand: Stand, work: Work) -> None:
    edges: list[str | Edge] = [Edge("a", "left", "left"), Edge("a", "right", "right"), "left>end", "right>end"]
    flow = blueprint("f", dict.fromkeys(("a", "left", "right", "end"), "value"), edges)
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        work.actions["a"] = "left"
        await ended(adapter, "f", 1)
        work.actions["a"] = "right"
        new = await adapter.rerun(OLD, "a", new_run_id=NEW)
        await new.result(10)
        assert [node for node, _ in work.of(NEW)] == ["a", "right", "end"]
        assert states(await new.view())["left"] == "skipped"
        assert set((await new.result()).outputs) == {"a", "right", "end"}


# ---- once, and refused


async def test_the_same_again_is_the_same_run(stand: Stand, work: Work) -> None:
    one, two = (stand.adapter([line("a", "b")], work.registry) for _ in range(2))
    async with one, two, one.worker(), two.worker():
        old = await ended(one, "line", 1)
        made = await asyncio.gather(
            *(
                (one, two)[n % 2].rerun(OLD, "b", input={"x": [1]}, context={"k": n // 99}, new_run_id=NEW)
                for n in range(20)
            )
        )
        assert {run.run_id for run in made} == {NEW}
        await made[0].result(10)
        assert work.of(NEW) == [("b", {"x": [1]})]
        for node, options in (
            ("b", {}),
            ("b", {"input": {"x": [2]}}),
            ("a", {"input": {"x": [1]}}),
            ("b", {"input": {"x": [1]}}),
        ):
            with pytest.raises(RunConflict, match=r"'new'.*'old'"):
                await one.rerun(OLD, node, new_run_id=NEW, **options)
        for taken in (OLD, NEW):
            with pytest.raises(RunConflict):
                await one.rerun(NEW, "b", new_run_id=taken)
        with pytest.raises(RunConflict):
            await one.start_run("line", {"x": [1]}, run_id=NEW)
        stored = await one.store.load(OLD)
        assert stored is not None
        assert await one.store.delete(OLD, stored.token)
        again = await two.rerun(OLD, "b", input={"x": [1]}, context={"k": 0}, new_run_id=NEW)
        assert (await again.result(10)).output() == "b of {'x': [1]}", "also when the old run is gone"
        with pytest.raises(RunNotFound, match="'old'"):
            await two.rerun(old.run_id, "b")


async def test_no_input_and_an_input_of_none_are_two_things(stand: Stand, work: Work) -> None:
    async with stand.adapter([line("a", "b")], work.registry) as adapter, adapter.worker():
        await ended(adapter, "line", 1)
        await adapter.rerun(OLD, "b", input=None, new_run_id=NEW)
        with pytest.raises(RunConflict):
            await adapter.rerun(OLD, "b", new_run_id=NEW)


async def test_what_no_node_will_ask_for_is_not_copied(stand: Stand, work: Work) -> None:
    async def numbers(_: NodeContext[Any, Any]) -> list[int]:
        return list(range(5))

    async def size(ctx: NodeContext[Any, Any]) -> int:
        ctx.log.info("told")
        return len(ctx.input)

    async with stand.adapter([Blueprint.from_json(BATCH)], work.registry | {"list": numbers, "size": size}) as adapter:
        async with adapter.worker():
            await ended(adapter, "batch", context={"k": 1})

        async def copied(node: str) -> set[tuple[str, str, int]]:
            run = await adapter.rerun(OLD, node, new_run_id=f"from {node}")
            return {tuple(key) for key in await contents(adapter, run.run_id)}

        start = {("context", "k", 0), ("output", "", 0)}
        assert await copied("list") == start
        assert await copied("b_scatter") == start | {("output", "list", 1)}
        frozen = start | {("output", "list", 1), ("output", "b_scatter", 1), ("item", "b_scatter", 1 << 24)}
        assert await copied("b") == frozen
        results = {("result", "b", 1 << 24 | item) for item in range(5)}
        assert await copied("b_gather") == frozen | {("output", "b", 1)} | results
        assert await copied("end") == frozen | {("output", "b", 1), ("output", "b_gather", 1)} | results


async def test_without_an_id_each_is_another_run(stand: Stand, work: Work) -> None:
    async with stand.adapter([line("a", "b")], work.registry) as adapter:
        async with adapter.worker():
            await ended(adapter, "line", 1)
        assert len({(await adapter.rerun(OLD, "b")).run_id for _ in range(3)}) == 3


async def test_what_is_refused_names_it_and_makes_nothing(stand: Stand, work: Work) -> None:
    flow = blueprint("f", dict.fromkeys(("a", "no", "b"), "value"), [Edge("a", "no", "x"), "a>b"])
    async with stand.adapter([flow], work.registry) as adapter:
        async with adapter.worker():
            await ended(adapter, "f", 1)
        for run, node, options, error, told in (
            ("nobody", "a", {}, RunNotFound, "'nobody'"),
            (OLD, "x", {}, CommandRefused, "'old'.*'f' has no node 'x'"),
            (OLD, "no", {}, CommandRefused, "'old'.*'no': it is skipped: nothing has led to it"),
            (OLD, "a", {"input": object()}, SerializationError, "object"),
            (OLD, "a", {"context": {"k": object()}}, SerializationError, "object"),
            (OLD, "a", {"context": {"": 1}}, Exception, "context key"),
            (OLD, "a", {"new_run_id": ""}, Exception, "run id"),
        ):
            with pytest.raises(error, match=told):
                await adapter.rerun(run, node, **options)
        assert [row.run_id for row in (await adapter.list()).items] == [OLD]


async def test_a_blueprint_that_is_nowhere(stand: Stand, work: Work) -> None:
    async with stand.adapter([line("a", "b")], work.registry) as adapter, adapter.worker():
        await ended(adapter, "line", 1)
        stored = await adapter.store.load(OLD)
        assert stored is not None
        content_hash = unpack_head(stored.head)[0]
    async with stand.adapter() as stranger:
        run = await stranger.rerun(OLD, "b", new_run_id=NEW)
        assert states(await run.view()) == {"a": "completed", "b": "ready"}, "the stored one is enough"
    await stand.backend.store.delete_blueprint(content_hash)
    async with stand.adapter([line("a", "b")], work.registry) as adapter:
        await adapter.rerun(OLD, "b")
        assert await stand.backend.store.load_blueprint(content_hash) is not None, "it is stored again"
    await stand.backend.store.delete_blueprint(content_hash)
    async with stand.adapter() as stranger:
        with pytest.raises(Misconfigured, match=f"'old'.*{content_hash}"):
            await stranger.rerun(OLD, "b")


async def test_too_much_for_one_step_is_refused(stand: Stand, work: Work) -> None:
    async with stand.adapter([line("a", "b", "c")], work.registry) as adapter, adapter.worker():
        await ended(adapter, "line", "x" * 5000)
        store: Any = adapter.store
        whole = store.capabilities
        try:
            for limit in ({"max_commit_items": 4}, {"max_commit_bytes": 9000}):
                store.capabilities = replace(whole, **limit)
                with pytest.raises(PayloadTooLarge, match="'old'"):
                    await adapter.rerun(OLD, "c", new_run_id=NEW)
                assert await adapter.store.load(NEW) is None
            store.capabilities = replace(whole, max_commit_items=7, max_commit_bytes=30_000)
            assert (await (await adapter.rerun(OLD, "b", new_run_id=NEW)).result(10)).status == "completed"
        finally:
            store.capabilities = whole


async def test_large_values_have_addresses_of_the_new_run(place: Place) -> None:
    inner = place.adapter
    store = OffloadingStore(inner.store, MemoryValueStore(), above=100)
    adapter = Adapter(inner.runtime, queue=inner.queue, store=store, events=inner.events)
    two = blueprint("two", {"a": "record", "b": "record"}, ["a>b"])
    async with adapter, adapter.worker():
        run = await adapter.start_run(two, "x" * 1000, run_id=OLD)
        task = asyncio.ensure_future(run.result())
        await place.until(task.done)
        new = await adapter.rerun(OLD, "b", new_run_id=NEW)
        stored = await adapter.store.load(OLD)
        assert stored is not None
        assert await adapter.store.delete(OLD, stored.token), "with its large values"
        task = asyncio.ensure_future(new.result())
        await place.until(task.done)
        assert task.result().output() == "x" * 1000
        assert place.executed[-1] == (NEW, "x" * 1000)


async def test_it_is_made_once_when_the_store_does_not_say(place: Place) -> None:
    adapter = await place.process(blueprint("one", {"a": "record"}, []), faulty=True)
    async with adapter.worker():
        task = asyncio.ensure_future((await adapter.start_run("one", 1, run_id=OLD)).result())
        await place.until(task.done)
        for what in ("lost before", "lost after"):
            faults(adapter.store, "create", "run", what)
            making = asyncio.ensure_future(adapter.rerun(OLD, "a", input=what, new_run_id=what))
            await place.until(making.done)
            task = asyncio.ensure_future(making.result().result())
            await place.until(task.done)
            assert [run for run, _ in place.executed].count(what) == 1


class Changing(FaultyStore):
    """A store in which somebody writes to the run while it is read, so often."""

    def __init__(self, store: Any, run: RunHandle, times: int) -> None:
        super().__init__(store)
        self.run, self.left, self.number = run, times, 0

    def __getattr__(self, name: str) -> Any:
        call = super().__getattr__(name)
        if name != "read_values":
            return call

        async def read(*args: Any, **named: Any) -> Any:
            if named.get("space") == "output" and self.left:
                self.left -= 1
                self.number += 1
                await self.run.patch_context({"one": self.number, "two": self.number})
            return await call(*args, **named)

        return read


@pytest.mark.parametrize("times", [3, 1000])
async def test_a_run_that_changes_while_it_is_read(stand: Stand, work: Work, times: int) -> None:
    """What is taken over is of one moment."""
    flow = blueprint("f", {"a": "value", "w": Node("w", "wait")}, [])
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        run = await adapter.start_run("f", 1, run_id=OLD)
        await reaches(run, lambda view: states(view)["a"] == "completed")
        store = Changing(adapter.store, run, times)
        reading = Adapter(adapter.runtime, queue=adapter.queue, store=store, coordination=adapter.coordination)  # type: ignore[arg-type] # a proxy
        async with reading:
            if times == 1000:
                with pytest.raises(Unavailable, match=r"'old'.*pause it"):
                    await reading.rerun(OLD, "a", new_run_id=NEW)
                return
            new = await reading.rerun(OLD, "a", new_run_id=NEW)
        found = await adapter.store.read_values(new.run_id, space="context")
        assert {key.name: data for key, data in found.items()} == {"one": b"3", "two": b"3"}


async def test_encrypted_and_compressed_values_are_taken_over(place: Place) -> None:
    """As they are; and the same start is recognised after a rotation of keys."""
    flow = blueprint("two", {"a": "record", "b": "record"}, ["a>b"])
    first, second = {"1": b"k" * 32}, {"2": b"n" * 32, "1": b"k" * 32}
    one = await place.process(flow, codec=EncryptingCodec(CompressingCodec(JsonCodec()), first))
    async with one.worker():
        task = asyncio.ensure_future((await one.start_run("two", "secret" * 1000, run_id=OLD)).result())
        await place.until(task.done)
        new = await one.rerun(OLD, "b", input="hidden", new_run_id=NEW)
        task = asyncio.ensure_future(new.result())
        await place.until(task.done)
    assert place.executed[-1] == (NEW, "hidden")
    assert task.result().outputs == {"a": "secret" * 1000, "b": "hidden"}
    raw = (await one.store.read_events(NEW)).items[0]
    assert dict(raw.data) == {"rerun_of": OLD, "rerun_from": "b"}, "ids and names stay readable"
    assert all(b"secret" not in data and b"hidden" not in data for data in (await contents(one, NEW)).values())
    two = await place.process(flow, codec=EncryptingCodec(CompressingCodec(JsonCodec()), second))
    assert (await two.rerun(OLD, "b", input="hidden", new_run_id=NEW)).run_id == NEW
    with pytest.raises(RunConflict):
        await two.rerun(OLD, "b", input="another", new_run_id=NEW)
