"""Commands: what each does, that it may be repeated, why it is refused; with executions under way, and races."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from typing import Any

import pytest

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Edge, Node, Retry
from flowcraft.errors import CommandRefused, InvalidRequest, RunNotFound, SerializationError
from flowcraft.flow import Flow
from flowcraft.nodes import NodeContext
from flowcraft.runs import RunHandle

from .conftest import MakeWorld
from .leaping import Stand, reaches, states
from .world import blueprint, chain


class Work:
    """Functions whose executions are recorded; ``gated`` ones wait until they are let go, or fail as they are told."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.begun: list[tuple[str, int]] = []
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.entered: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.failing: set[str] = set()
        self.undone: list[tuple[str, Any]] = []

    @property
    def registry(self) -> dict[str, Any]:
        return {"value": self.value, "gated": self.gated, "undo": self.undo}

    async def value(self, ctx: NodeContext[Any, Any]) -> Any:
        self.begun.append((ctx.node_id, ctx.visit))
        if ctx.node_id in self.failing:
            raise RuntimeError(f"{ctx.node_id} is broken")
        self.done.append((ctx.node_id, ctx.visit))
        return f"{ctx.node_id}{ctx.visit}"

    async def gated(self, ctx: NodeContext[Any, Any]) -> Any:
        self.entered[ctx.node_id].set()
        await self.gates[ctx.node_id].wait()
        return await self.value(ctx)

    async def undo(self, ctx: NodeContext[Any, Any]) -> None:
        self.undone.append((ctx.input["output"], ctx.input["input"]))
        if "undo" in self.failing:
            raise RuntimeError("cannot be undone")


@pytest.fixture
def work() -> Work:
    return Work()


def line(*names: str, uses: str = "value", name: str = "line", **options: Any) -> Blueprint:
    nodes: dict[str, Node | str] = {n: Node(n, uses) for n in names}
    return blueprint(name, nodes, [f"{a}>{b}" for a, b in itertools.pairwise(names)], **options)


# ---- pause and resume


async def test_a_paused_run_hands_out_nothing_and_what_runs_counts(stand: Stand, work: Work) -> None:
    flow = blueprint("p", {"a": Node("a", "gated"), "b": "value", "c": "value"}, ["a>b", "b>c"])
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        run = await adapter.start_run("p")
        await work.entered["a"].wait()
        assert await run.pause() is True
        assert await run.pause() is False
        assert await run.status() == "paused"
        work.gates["a"].set()
        view = await reaches(run, lambda view: states(view)["a"] == "completed")
        assert (view.status, states(view)["b"]) == ("paused", "ready")
        await adapter.ticker().run_once(stand.clock.time() + 3600)  # nobody sends it again
        assert work.begun == [("a", 1)]
        assert await run.resume() is True
        assert await run.resume() is False or await run.status() == "completed"
        assert (await run.result(10)).output() == "c1"
        for refused in (run.pause, run.resume):
            with pytest.raises(CommandRefused, match="has ended as completed"):
                await refused()


async def test_timers_and_signals_count_during_a_pause(stand: Stand, work: Work) -> None:
    nodes: dict[str, Node | str] = {
        "wait": Node("wait", "wait"), "sleep": Node("sleep", "sleep", {"duration": "1d"}), "then": "value",
        "after": "value",
    }  # fmt: skip
    flow = blueprint("p", nodes, ["wait>then", "sleep>after"])
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        run = await adapter.start_run("p")
        await run.pause()
        assert await run.signal("wait", 1) == "accepted"
        stand.clock.leap(86401)
        view = await reaches(run, lambda view: states(view)["after"] == "ready")
        assert (view.status, work.begun) == ("paused", [])
        await run.resume()
        assert (await run.result(10)).status == "completed"


async def test_pause_and_resume_race_and_the_run_ends(stand: Stand, work: Work) -> None:
    names = [f"n{i}" for i in range(30)]
    one, two = (stand.adapter([line(*names)], work.registry) for _ in range(2))
    async with one, two, one.worker(), two.worker():
        run = await one.start_run("line")

        async def press(adapter: Adapter, number: int) -> int:
            changed = 0
            for turn in range(10):
                try:
                    command = adapter.pause if (number + turn) % 2 else adapter.resume
                    changed += await command(run.run_id)
                except CommandRefused:
                    break
            return changed

        await asyncio.gather(*(press((one, two)[n % 2], n) for n in range(10)))
        if await run.status() != "completed":
            await run.resume()
        assert (await run.result(8)).output() == "n291", "nobody has to wait for half a lease"
        assert Counter(work.done) == Counter((n, 1) for n in names), "each node once"
        kinds = [e.type for e in await run.history() if e.type in ("run:paused", "run:resumed")]
        assert kinds == ["run:paused", "run:resumed"] * (len(kinds) // 2), "they alternate"


async def test_a_message_that_meets_a_pause_leaves_no_lease_behind(make_world: MakeWorld) -> None:
    """So that whoever gets the next one, when the run goes on, can begin at once."""
    world = make_world(blueprints=[chain(2)])
    client = await world.process("client").open()
    run = await world.finish(client.adapter.start_run("chain"))
    await world.finish(run.pause())
    (job,) = world.queue.pushed
    settle, settled = world.queue.settle, asyncio.Event()

    async def noted(delivery: Any) -> None:
        settled.set()
        await settle(delivery)

    world.queue.settle = noted  # type: ignore[method-assign] # of this one queue
    await world.process("one").start()
    await world.until(settled.is_set)
    assert await world.coordination.holders([job.claim_key]) == [None]
    await world.finish(run.resume())
    assert (await world.finish(run.result())).status == "completed"


async def test_a_paused_run_can_be_cancelled(stand: Stand, work: Work) -> None:
    async with stand.adapter([line("a", "b")], work.registry, drain_grace=0.1) as adapter:
        run = await adapter.start_run("line")
        await run.pause()
        async with adapter.worker():
            await run.cancel("enough")
            assert (await run.result(10)).status == "cancelled"
        assert work.begun == []


# ---- patch


async def test_patched_context(stand: Stand, work: Work) -> None:
    seen: dict[str, Any] = {}

    async def look(ctx: NodeContext[Any, Any]) -> None:
        seen.update(await ctx.context.to_dict())

    flow = blueprint("p", {"wait": Node("wait", "wait"), "look": "look"}, ["wait>look"])
    async with stand.adapter([flow], {"look": look}) as adapter, adapter.worker():
        run = await adapter.start_run("p", context={"old": 1, "kept": [1]})
        await run.patch_context({"new": {"a": 1}}, delete=["old", "absent"])
        await run.patch_context({})
        for wrong, error in (({"": 1}, InvalidRequest), ({"x": object()}, SerializationError)):
            with pytest.raises(error):
                await run.patch_context(wrong)
        with pytest.raises(InvalidRequest, match="both"):
            await run.patch_context({"k": 1}, delete="k")
        await run.signal("wait")
        result = await run.result(10)
        assert seen == dict(result.context) == {"new": {"a": 1}, "kept": [1]}
        with pytest.raises(CommandRefused, match="has ended"):
            await run.patch_context({"late": 1})
        with pytest.raises(RunNotFound):
            await adapter.patch_context("nobody", {})


# ---- mark completed


async def test_a_node_is_completed_by_hand(stand: Stand, work: Work) -> None:
    """While its function runs, while it waits for a worker that has it, and before its turn."""
    nodes: dict[str, Node | str] = {
        "stuck": Node("stuck", "gated"), "alien": Node("alien", "unknown"), "b": "value", "c": "value", "end": "value",
    }  # fmt: skip
    edges: list[str | Edge] = ["stuck>b", Edge("alien", "c", "yes"), "b>end", "c>end"]
    async with stand.adapter([blueprint("m", nodes, edges)], work.registry) as adapter, adapter.worker():
        run = await adapter.start_run("m")
        await work.entered["stuck"].wait()
        assert await run.mark_completed("stuck", {"by": "hand"}) is True
        assert await run.mark_completed("stuck", {"by": "another"}) is False
        await reaches(run, lambda view: states(view)["alien"] == "parked")
        assert await run.mark_completed("alien", 1, "yes") is True
        result = (await run.result(10)).raise_for_failure()
        assert (result.outputs["stuck"], result.outputs["alien"]) == ({"by": "hand"}, 1)
        assert ("stuck", 1) not in work.done
        with pytest.raises(CommandRefused, match="no node 'x'"):
            await run.mark_completed("x")


async def test_what_cannot_be_marked(stand: Stand, work: Work) -> None:
    flow = Blueprint.from_json(
        '{"id": "odd", "nodes": [{"id": "wait", "uses": "wait"}, {"id": "skip", "uses": "value"},'
        '{"id": "go", "uses": "value", "config": {"fallback": "stand", "compensate": "undo"}},'
        '{"id": "stand", "uses": "value"}, {"id": "undo", "uses": "undo"},'
        '{"id": "loop", "uses": "loop-controller", "params": {"condition": "false"}},'
        '{"id": "in", "uses": "value"}, {"id": "out", "uses": "value"},'
        '{"id": "sub", "uses": "subflow", "params": {"blueprintId": "child"}}],'
        '"edges": [{"source": "go", "target": "skip", "condition": "false"}, {"source": "wait", "target": "loop"},'
        '{"source": "loop", "target": "in", "action": "continue"}, {"source": "in", "target": "loop"},'
        '{"source": "loop", "target": "out", "action": "break"}]}'
    )
    child = blueprint("child", {"w": Node("w", "wait")}, [])
    async with stand.adapter([flow, child], work.registry) as adapter, adapter.worker():
        run = await adapter.start_run("odd")
        await reaches(run, lambda view: states(view)["sub"] == "waiting" and states(view)["skip"] == "skipped")
        for node, why in (
            ("skip", "is skipped"), ("stand", "stands in for 'go'"), ("undo", "undoes"), ("loop", "controller"),
            ("sub", "subflow"),
        ):  # fmt: skip
            with pytest.raises(CommandRefused, match=why):
                await run.mark_completed(node)
        await run.cancel()
        await run.result(10)
        with pytest.raises(CommandRefused, match="ended as cancelled"):
            await run.mark_completed("wait")


# ---- retry


async def test_a_failed_run_is_retried_from_what_failed(stand: Stand, work: Work) -> None:
    flow = blueprint("r", {"a": "value", "b": "value", "c": "value", "other": "value"}, ["a>b", "b>c", "a>other"])
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        work.failing.add("b")
        run = await adapter.start_run("r")
        assert (await run.result(10)).status == "failed"
        events = [e.seq for e in await run.history()]
        work.failing.clear()
        assert await run.retry() == 2
        seen = [event.type async for event in run.watch()]
        assert (seen.count("run:failed"), seen[-1]) == (1, "run:completed"), "watching goes on after the first end"
        result = await run.result(10)
        assert (result.status, result.failures, result.output("b")) == ("completed", (), "b2")
        assert Counter(n for n, _ in work.done) == {"a": 1, "other": 1, "b": 1, "c": 1}
        assert [e.seq for e in await run.history()][: len(events)] == events
        with pytest.raises(CommandRefused, match="completed"):
            await run.retry()


async def test_what_cannot_be_retried(stand: Stand, work: Work) -> None:
    flow = blueprint(
        "r", {"a": Node("a", "gated"), "b": "value", "no": "value", "c": "value"}, ["a>b", Edge("a", "no", "x"), "b>c"]
    )
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        work.failing.add("b")
        run = await adapter.start_run("r")
        with pytest.raises(CommandRefused, match="it is running"):
            await run.retry()
        work.gates["a"].set()
        await run.result(10)
        with pytest.raises(CommandRefused, match="no node 'x'"):
            await run.retry(["x"])
        with pytest.raises(CommandRefused, match="skipped"):
            await run.retry("no")
        work.failing.clear()
        assert await run.retry(["a"]) == 2
        assert (await run.result(10)).status == "completed"
        assert [n for n, _ in work.done] == ["a", "a", "b", "c"]


async def test_of_many_retries_at_once_one_starts(stand: Stand, work: Work) -> None:
    one, two = (stand.adapter([line("a", "b", "c")], work.registry) for _ in range(2))
    async with one, two, one.worker(), two.worker():
        work.failing.add("b")
        run = await one.start_run("line")
        await run.result(10)
        work.failing.clear()

        async def again(adapter: Adapter) -> int:
            try:
                return await adapter.retry(run.run_id)
            except CommandRefused:
                return 0

        epochs = await asyncio.gather(*(again((one, two)[n % 2]) for n in range(20)))
        assert sorted(epochs)[-2:] == [0, 2]
        assert (await run.result(10)).status == "completed"
        assert Counter(work.done)["b", 2] == 1


async def test_an_outcome_after_the_cancel_leads_on_only_after_a_retry(stand: Stand, work: Work) -> None:
    """A node does not hear that it is cancelled: its outcome is kept, and the retry goes on from it."""
    release = asyncio.Event()

    async def deaf(ctx: NodeContext[Any, Any]) -> Any:
        work.entered["deaf"].set()
        if ctx.visit == 1:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
        return f"visit {ctx.visit}"

    flow = blueprint("d", {"deaf": "deaf", "then": "value"}, ["deaf>then"])
    async with stand.adapter([flow], work.registry | {"deaf": deaf}, drain_grace=0.2, lease_ttl=0.4) as adapter:
        async with adapter.worker(), adapter.worker():
            run = await adapter.start_run("d")
            await work.entered["deaf"].wait()
            await run.cancel()
            release.set()
            result = await run.result(10)
            assert (result.status, result.output("deaf"), work.done) == ("cancelled", "visit 1", []), "it leads nowhere"
            assert await run.retry() == 2
            result = await run.result(10)
        assert (result.status, result.output("deaf"), work.done) == ("completed", "visit 1", [("then", 1)])


# ---- roll back


def saga(uses: str = "value") -> Blueprint:
    return Blueprint(
        "saga",
        (
            Node("book", "value", compensate="unbook"), Node("pay", "value", compensate="unpay"), Node("ship", uses),
            Node("unbook", "undo"), Node("unpay", "undo"),
        ),
        (Edge("book", "pay"), Edge("pay", "ship")),
    )  # fmt: skip


async def test_everything_is_undone_in_reverse_and_the_run_is_cancelled(stand: Stand, work: Work) -> None:
    async with stand.adapter([saga()], work.registry) as adapter, adapter.worker():
        run = await adapter.start_run("saga", "order")
        assert (await run.result(10)).status == "completed"
        assert await run.rollback() is True
        result = await run.result(10)
        assert result.status == "cancelled"
        assert work.undone == [("pay1", "book1"), ("book1", "order")]


async def test_rolled_back_to_a_node_it_starts_there_again(stand: Stand, work: Work) -> None:
    async with stand.adapter([saga()], work.registry) as adapter, adapter.worker():
        work.failing.add("ship")
        run = await adapter.start_run("saga", "order")
        assert (await run.result(10)).status == "failed"
        work.failing.clear()
        for node, why in (("unpay", "undoes"), ("x", "no node")):
            with pytest.raises(CommandRefused, match=why):
                await run.rollback(node)
        assert await run.rollback("pay") is True
        result = await run.result(10)
        assert (result.status, result.output("ship")) == ("completed", "ship2")
        assert work.undone == [("pay1", "book1")]
        assert [n for n, _ in work.done] == ["book", "pay", "pay", "ship"]


async def test_what_completes_while_a_rollback_waits_for_it_is_undone_too(stand: Stand, work: Work) -> None:
    """``pay`` is under way, and does not hear that it is to end."""

    async def deaf(ctx: NodeContext[Any, Any]) -> Any:
        work.entered["pay"].set()
        while not work.gates["pay"].is_set():
            try:
                await work.gates["pay"].wait()
            except asyncio.CancelledError:
                continue
        return "paid after all"

    flow = Blueprint(
        "saga",
        (
            Node("book", "value", compensate="unbook"), Node("pay", "deaf", compensate="unpay"), Node("ship", "value"),
            Node("unbook", "undo"), Node("unpay", "undo"),
        ),
        (Edge("book", "pay"), Edge("pay", "ship")),
    )  # fmt: skip
    async with stand.adapter([flow], work.registry | {"deaf": deaf}) as adapter, adapter.worker():
        run = await adapter.start_run("saga", "order")
        await work.entered["pay"].wait()
        assert await run.rollback() is True
        assert await run.rollback() is False, "it is on its way"
        with pytest.raises(CommandRefused, match="rolled back"):
            await run.rollback("book")
        with pytest.raises(CommandRefused, match="rolled back"):
            await run.pause()
        work.gates["pay"].set()
        assert (await run.result(10)).status == "cancelled"
        assert work.undone == [("paid after all", "book1"), ("book1", "order")]
        assert [n for n, _ in work.done] == ["book"], "nothing came after it"


async def test_a_rollback_of_a_waiting_run_starts_again(stand: Stand, work: Work) -> None:
    nodes = (
        Node("book", "value", compensate="unbook"),
        Node("wait", "wait"),
        Node("end", "value"),
        Node("unbook", "undo"),
    )
    flow = Blueprint("w", nodes, (Edge("book", "wait"), Edge("wait", "end")))
    async with stand.adapter([flow], work.registry) as adapter, adapter.worker():
        run = await adapter.start_run("w", 1)
        await reaches(run, lambda view: view.status == "awaiting")
        with pytest.raises(CommandRefused, match="pending"):
            await run.rollback("end")
        await run.rollback("book")
        await reaches(run, lambda view: view.status == "awaiting" and states(view)["book"] == "completed")
        await reaches(run, lambda view: view.nodes["book"].visit == 2)
        assert await run.signal("wait", "go") == "accepted"
        assert (await run.result(10)).status == "completed"
        assert work.undone == [("book1", 1)]
        assert work.done == [("book", 1), ("book", 2), ("end", 1)]


async def test_an_undoing_that_fails_for_good_fails_the_run(stand: Stand, work: Work) -> None:
    async with stand.adapter([saga()], work.registry) as adapter, adapter.worker():
        run = await adapter.start_run("saga", "order")
        await run.result(10)
        work.failing.add("undo")
        await run.rollback()
        result = await run.result(10)
        assert result.status == "failed"
        assert "could not be undone" in result.cause
        assert len(work.undone) == 1, "what is left is not undone"


async def test_the_run_of_a_subflow_is_not_started_again_by_itself(stand: Stand, work: Work) -> None:
    parent = blueprint("parent", {"sub": Node("sub", "subflow", {"blueprintId": "line"})}, [])
    async with stand.adapter([parent, line("a")], work.registry) as adapter, adapter.worker():
        work.failing.add("a")
        run = await adapter.start_run("parent")
        await run.result(10)
        (child,) = [row.run_id for row in (await adapter.list(blueprint_id="line")).items]
        for command in (adapter.retry, adapter.rollback):
            with pytest.raises(CommandRefused, match=run.run_id):
                await command(child)
        work.failing.clear()
        await run.retry()
        assert (await run.result(10)).output() == "a1"


async def test_commands_race_with_each_other_and_the_run_ends_once(stand: Stand, work: Work) -> None:
    """Whatever comes first: afterwards the run is in one status, and its history is of one piece."""
    flow = saga("gated")
    one, two = (stand.adapter([flow], work.registry) for _ in range(2))
    async with one, two, one.worker(), two.worker():
        for number in range(6):
            run = await one.start_run("saga", number)
            await work.entered["ship"].wait()
            handles: list[RunHandle] = [one.run(run.run_id), two.run(run.run_id)]
            told = await asyncio.gather(
                handles[0].cancel(), handles[1].rollback(), handles[0].pause(), handles[1].mark_completed("ship", 1),
                return_exceptions=True,
            )  # fmt: skip
            assert all(isinstance(one_told, bool | CommandRefused) for one_told in told), told
            if await run.status() == "paused":
                await run.resume()
            work.gates["ship"].set()
            result = await run.result(15)
            assert result.status in ("cancelled", "completed")
            ends = [e.type for e in await run.history() if e.type in ("run:completed", "run:cancelled", "run:failed")]
            assert len(ends) == 1, ends


async def test_nodes_are_named_by_function_too(stand: Stand) -> None:
    flow = Flow[None]("named")
    broken = [True]

    @flow.node
    async def first(ctx: NodeContext[object, None]) -> int:
        return ctx.visit

    @flow.node(after=first, retries=Retry(attempts=1))
    async def second(ctx: NodeContext[int, None]) -> int:
        if broken[0]:
            raise RuntimeError("broken")
        return ctx.input

    async def foreign(ctx: NodeContext[object, None]) -> None: ...

    async with stand.adapter(flows=[flow]) as adapter, adapter.worker():
        run = await adapter.start_run(flow)
        await run.result(10)
        with pytest.raises(CommandRefused, match="no node foreign"):
            await run.retry([foreign])
        broken[0] = False
        await run.retry(first)
        assert (await run.result(10)).output(second) == 2
