"""The committer alone: grouping, conflicts, unknown outcomes, what cannot be folded, what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from flowcraft.blueprint import Edge
from flowcraft.committer import Committer
from flowcraft.engine.head import Head
from flowcraft.engine.transition import Cancel, Completed, EngineEvent, Failed, Visit
from flowcraft.errors import Misconfigured, PayloadTooLarge, Unavailable, UnknownOutcome
from flowcraft.folding import Applied, Gone, Stale
from flowcraft.graph import Graph
from flowcraft.model import Change, Committed, ErrorInfo, Job, ValueKey
from flowcraft.runstate import unpack_head

from .conftest import MakeWorld
from .world import Process, World, blueprint, chain, fan


class Script:
    """What the store answers to commits, one entry each, and what it was asked; then it behaves."""

    def __init__(self, process: Process) -> None:
        self.answers: list[Any] = []
        self.calls: list[list[Change]] = []
        self.gate: asyncio.Event | None = None
        self._store = process.world.store
        process.store.commit = self.commit  # type: ignore[method-assign] # this is the point

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        self.calls.append(list(changes))
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            await answer(changes)
        return await self._store.commit(changes)


async def opened(world: World, flow: str) -> tuple[Committer, Script, str]:
    process = await world.process().open()
    await world.finish(process.adapter.start_run(flow, run_id="r"))
    committer = process.adapter._committer
    assert committer is not None
    return committer, Script(process), "r"


async def visit(world: World, node: str) -> Visit:
    stored = await world.store.load("r")
    assert stored is not None
    content_hash, head = unpack_head(stored.head)
    graph = world.processes[0].runtime.graph(content_hash)
    assert graph is not None
    number = graph.index[node]
    activation = head.active[number]
    return Visit(number, activation.nonce, activation.visit, activation.attempt)


async def done(world: World, node: str, output: bytes = b"1") -> Completed:
    return Completed(await visit(world, node), output)


class Recorder:
    """A keeper that wants everything, and a delivery."""

    def __init__(self, *, wins: bool = True) -> None:
        self.wins = wins
        self.claimed: list[str] = []
        self.forgotten: list[str] = []
        self.acked = 0
        self.job = Job("r", "n0", 1, 1, "x")
        self.redelivered = False

    def wants(self, job: Job, node: object) -> bool:
        return True

    async def claim(self, keys: Sequence[str]) -> Sequence[bool]:
        self.claimed += keys
        return [self.wins] * len(keys)

    def forget(self, keys: Sequence[str]) -> None:
        self.forgotten += keys

    async def ack(self) -> None:
        self.acked += 1

    def settled(self) -> None:
        self.acked += 1


async def test_what_arrives_during_a_commit_is_folded_into_the_next(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[fan(20)])
    committer, script, run = await opened(world, "fan")
    await world.finish(committer.submit(run, await done(world, "start")))
    events = [await done(world, f"w{n}") for n in range(20)]
    script.calls.clear()
    script.gate = asyncio.Event()
    first = asyncio.ensure_future(committer.submit(run, events[0]))
    await world.until(lambda: bool(script.calls))
    rest = [asyncio.ensure_future(committer.submit(run, event)) for event in events[1:]]
    await world.pass_time(1)
    assert len(script.calls) == 1, "one commit of a run is in flight"
    script.gate.set()
    for task in (first, *rest):
        assert isinstance(await world.finish(task), Applied)
    assert len(script.calls) == 2


async def test_runs_that_wait_go_to_the_store_together(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    committer, script, _ = await opened(world, "chain")
    adapter = world.processes[0].adapter
    for n in range(9):
        await world.finish(adapter.start_run("chain", run_id=f"r{n}"))
    tasks = [asyncio.ensure_future(committer.submit(f"r{n}", Cancel())) for n in range(9)]
    for task in tasks:
        await world.finish(task)
    assert sum(map(len, script.calls)) == 9
    assert len(script.calls) <= 3
    assert max(map(len, script.calls)) >= 7


async def test_a_conflict_is_planned_again_on_what_is_stored(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[fan(3)])
    committer, script, run = await opened(world, "fan")
    other = await world.process("other").open()
    assert other.adapter._committer is not None
    await world.finish(committer.submit(run, await done(world, "start")))
    theirs, ours = await done(world, "w0", b'"theirs"'), await done(world, "w1", b'"ours"')

    async def intrude(_: object) -> None:
        assert other.adapter._committer is not None
        await other.adapter._committer.submit(run, theirs)

    script.answers = [intrude]
    result = await world.finish(committer.submit(run, ours))
    assert isinstance(result, Applied)
    values = await world.store.read_values(run, space="output")
    assert values[ValueKey("output", "w0", 1)] == b'"theirs"'
    assert values[ValueKey("output", "w1", 1)] == b'"ours"'


async def test_conditions_are_judged_on_the_values_that_are_committed_on(make_world: MakeWorld) -> None:
    edges = ["a>x", "a>y", Edge("y", "z", condition='key == "theirs"')]
    world = make_world(blueprints=[blueprint("judge", {"a": "value", "x": "value", "y": "value", "z": "value"}, edges)])
    committer, script, run = await opened(world, "judge")
    other = await world.process("other").open()
    await world.finish(committer.submit(run, await done(world, "a")))
    theirs, ours = Completed(await visit(world, "x"), b"1", writes={"key": b'"theirs"'}), await done(world, "y")

    async def intrude(_: object) -> None:
        assert other.adapter._committer is not None
        await other.adapter._committer.submit(run, theirs)

    script.answers = [intrude]
    await world.finish(committer.submit(run, ours))
    view = await world.finish(other.adapter.run(run).view())
    assert view.nodes["z"].state == "ready"


@pytest.mark.parametrize("applied", [True, False])
async def test_an_unknown_outcome_is_decided_by_the_token(make_world: MakeWorld, applied: bool) -> None:
    world = make_world(blueprints=[chain(3)])
    committer, script, run = await opened(world, "chain")

    async def lose(changes: Sequence[Change]) -> None:
        if applied:
            await world.store.commit(changes)
        raise UnknownOutcome("cut")

    script.answers = [lose]
    result = await world.finish(committer.submit(run, await done(world, "n0")))
    assert isinstance(result, Applied)
    assert [job.node for job in world.queue.pushed] == ["n0", "n1"], "published once"
    assert len(script.calls) == 1 + (not applied)
    assert len({call[0].token for call in script.calls}) == 1, "the same change again, never another"


async def test_an_unknown_outcome_that_others_built_upon(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    committer, script, run = await opened(world, "chain")
    other = await world.process("other").open()

    async def lose(changes: Sequence[Change]) -> None:
        await world.store.commit(changes)
        assert other.adapter._committer is not None
        await other.adapter._committer.submit(run, await done(world, "n1"))
        raise UnknownOutcome("cut")

    script.answers = [lose]
    keeper = Recorder()
    result = await world.finish(committer.submit(run, await done(world, "n0"), keeper=keeper))
    assert isinstance(result, Applied)
    assert result.kept is None, "n1 is done already"
    assert keeper.forgotten == keeper.claimed != []


async def test_a_write_that_lands_late_is_recognised(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    committer, script, run = await opened(world, "chain")
    late: list[Sequence[Change]] = []

    async def lose(changes: Sequence[Change]) -> None:
        late.append(changes)
        raise UnknownOutcome("still on its way")

    async def land(_: object) -> None:
        await world.store.commit(late[0])

    script.answers = [lose, land]
    assert isinstance(await world.finish(committer.submit(run, await done(world, "n0"))), Applied)
    stored = await world.store.load(run)
    assert stored is not None
    assert unpack_head(stored.head)[1].tokens.count(script.calls[0][0].token) == 1


async def test_unavailable_is_waited_for(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    committer, script, run = await opened(world, "chain")
    script.answers = [Unavailable("down")] * 12
    began = world.clock.now
    assert isinstance(await world.finish(committer.submit(run, await done(world, "n0"))), Applied)
    assert 10 < world.clock.now - began < 200


async def test_one_bad_event_does_not_hurt_the_others(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[fan(8)])
    committer, script, run = await opened(world, "fan")
    await world.finish(committer.submit(run, await done(world, "start")))
    events = [await done(world, f"w{n}") for n in range(8)]

    def broken(graph: Graph, head: Head, now: float) -> Sequence[EngineEvent]:
        raise ZeroDivisionError

    script.gate = asyncio.Event()
    blocker = asyncio.ensure_future(committer.submit(run, events[0]))
    await world.until(lambda: len(script.calls) == 2)
    tasks = [asyncio.ensure_future(committer.submit(run, event)) for event in events[1:]]
    tasks.insert(3, asyncio.ensure_future(committer.submit(run, broken)))
    script.gate.set()
    await world.finish(asyncio.wait({blocker, *tasks}))
    outcomes = [task.exception() or task.result() for task in tasks]
    assert isinstance(outcomes.pop(3), ZeroDivisionError)
    assert all(isinstance(outcome, Applied) for outcome in outcomes)


async def test_a_payload_too_large_fails_its_node(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[fan(2)])
    committer, _, run = await opened(world, "fan")
    await world.finish(committer.submit(run, await done(world, "start")))
    large, small = await done(world, "w0", b'"' + b"x" * 3_000_000 + b'"'), await done(world, "w1")
    results = asyncio.gather(committer.submit(run, large), committer.submit(run, small))
    assert all(isinstance(result, Applied) for result in await world.finish(results))
    view = await world.finish(world.processes[0].adapter.run(run).view())
    assert view.nodes["w0"].state == "failed"
    assert view.nodes["w1"].state == "completed"
    [failure] = view.failures
    [reason] = (await world.store.read_values(run, failure.errors)).values()
    assert b"PayloadTooLarge" in reason


@pytest.mark.parametrize("ok", [True, False])
async def test_what_a_node_said_goes_before_its_outcome(make_world: MakeWorld, ok: bool) -> None:
    world = make_world(blueprints=[chain(2)])
    committer, script, run = await opened(world, "chain")
    script.answers = [PayloadTooLarge("no")]
    event: Completed | Failed = replace(await done(world, "n0"), notes=(b'"said"', 1))
    if not ok:
        event = Failed(event.visit, ErrorInfo("E", "x"), notes=(b'"said"', 1))
    assert isinstance(await world.finish(committer.submit(run, event)), Applied)
    view = await world.finish(world.processes[0].adapter.run(run).view())
    assert (view.nodes["n0"].state, view.logged) == ("completed" if ok else "failed", False)


async def test_too_large_for_any_reason_raises_at_the_submitter(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    committer, script, run = await opened(world, "chain")
    script.answers = [PayloadTooLarge("no")]
    event = Failed(await visit(world, "n0"), ErrorInfo("E", "x"))
    with pytest.raises(PayloadTooLarge):
        await world.finish(committer.submit(run, event))
    assert isinstance(await world.finish(committer.submit(run, event)), Applied), "and the run is not stuck"


async def test_a_store_that_never_works_raises_at_the_submitters(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    committer, script, run = await opened(world, "chain")
    script.answers = [Misconfigured("no such table")]
    with pytest.raises(Misconfigured):
        await world.finish(committer.submit(run, Cancel()))


async def test_stale_and_gone(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    committer, script, run = await opened(world, "chain")
    event, delivery = await done(world, "n0"), Recorder()
    assert isinstance(await world.finish(committer.submit(run, event)), Applied)
    assert isinstance(await world.finish(committer.submit(run, event, delivery=delivery)), Stale)
    assert delivery.acked == 1
    assert isinstance(await world.finish(committer.submit("nobody", event, delivery=delivery)), Gone)
    assert delivery.acked == 2
    assert len(script.calls) == 1, "nothing is written for a stale event"


async def test_stale_is_never_said_of_an_old_head(make_world: MakeWorld) -> None:
    """Another process went on with the run: this one's remembered head does not know the activation yet."""
    world = make_world(blueprints=[chain(3)])
    committer, _, run = await opened(world, "chain")
    other = await world.process("other").open()
    assert other.adapter._committer is not None
    await world.finish(committer.load(run))
    await world.finish(other.adapter._committer.submit(run, await done(world, "n0")))
    assert isinstance(await world.finish(committer.submit(run, await done(world, "n1"))), Applied)


async def test_cancelling_the_submitter_does_not_cancel_the_commit(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    committer, script, run = await opened(world, "chain")
    script.gate = asyncio.Event()
    keeper = Recorder()
    task = asyncio.ensure_future(committer.submit(run, await done(world, "n0"), keeper=keeper))
    await world.until(lambda: bool(script.calls))
    task.cancel()
    script.gate.set()
    await world.pass_time(1)
    assert task.cancelled()
    assert (await visit(world, "n1")).node == 1, "n1 is READY"
    assert [job.node for job in world.queue.pushed] == ["n0", "n1"], "and published, as nobody goes on with it"
    assert keeper.forgotten == keeper.claimed


async def test_readers_never_see_what_is_not_committed_yet(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    committer, script, run = await opened(world, "chain")
    before = await world.finish(committer.load(run))
    script.gate = asyncio.Event()
    task = asyncio.ensure_future(committer.submit(run, await done(world, "n0")))
    await world.until(lambda: bool(script.calls))
    state = committer.peek(run, 1000)
    assert state is before
    assert list(state.committed().active) == [0], "as it is stored"
    script.gate.set()
    await world.finish(task)
    assert list(state.committed().active) == [1]


async def test_kept_is_claimed_and_not_published(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    committer, _, run = await opened(world, "chain")
    keeper, delivery = Recorder(), Recorder()
    event = await done(world, "n0", b'"value"')
    result = await world.finish(committer.submit(run, event, delivery=delivery, keeper=keeper))
    assert isinstance(result, Applied)
    assert result.kept is not None
    assert (result.kept.job.node, result.kept.job.claim_key) == ("n1", keeper.claimed[0])
    assert dict(result.kept.values) == {ValueKey("output", "n0", 1): b'"value"'}, "no read for what was just written"
    assert [job.node for job in world.queue.pushed] == ["n0"]
    assert delivery.acked == 0, "it stays in hand for the whole chain"


@pytest.mark.parametrize("bound", [True, False])
async def test_kept_without_its_lease_is_published(make_world: MakeWorld, bound: bool) -> None:
    world = make_world(bound=bound, blueprints=[chain(3)])
    committer, _, run = await opened(world, "chain")
    delivery = Recorder()
    event = await done(world, "n0")
    result = await world.finish(committer.submit(run, event, delivery=delivery, keeper=Recorder(wins=False)))
    assert isinstance(result, Applied)
    assert result.kept is None
    await world.pass_time(1)
    assert [job.node for job in world.queue.pushed] == ["n0", "n1"]
    assert delivery.acked == 1


async def test_ack_and_publish_come_after_the_commit(make_world: MakeWorld) -> None:
    world = make_world(bound=False, blueprints=[chain(3)])
    committer, script, run = await opened(world, "chain")
    script.gate = asyncio.Event()
    delivery = Recorder()
    task = asyncio.ensure_future(committer.submit(run, await done(world, "n0"), delivery=delivery))
    await world.until(lambda: bool(script.calls))
    await world.pass_time(5)
    assert delivery.acked == 0
    assert [job.node for job in world.queue.pushed] == ["n0"]
    script.gate.set()
    await world.finish(task)
    await world.pass_time(1)
    assert delivery.acked == 1
    assert [job.node for job in world.queue.pushed] == ["n0", "n1"]


async def test_a_closed_committer_lets_go(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(3)])
    committer, script, run = await opened(world, "chain")
    script.answers = [Unavailable("down")] * 1000
    task = asyncio.ensure_future(committer.submit(run, await done(world, "n0")))
    await world.pass_time(5)
    await world.finish(committer.aclose(10.0))
    with pytest.raises(Unavailable):
        await world.finish(task)
    with pytest.raises(Unavailable):
        await world.finish(committer.submit(run, Cancel()))


async def test_many_runs_leave_no_memory_behind(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(2)])
    process = await world.process().start()
    for n in range(700):
        await world.finish(process.adapter.start_run("chain", run_id=f"r{n}"))
    await world.until(lambda: world.executions() == 1400)
    await world.pass_time(10)
    committer = process.adapter._committer
    assert committer is not None
    assert len(committer._boxes) <= 512
    assert process.worker is not None
    assert len(process.worker._claims._finished) == 0
    assert len(world.coordination.inner._leases) == 0, "all leases were given up"


async def test_the_index_wakes_in_the_future(make_world: MakeWorld) -> None:
    """A head's wake time only moves forward in the engine; one in the past would wake tickers after every commit."""
    world = make_world(blueprints=[blueprint("two", {"a": "value", "b": "value", "c": "value"}, ["a>b"])])
    committer, _, run = await opened(world, "two")
    world.clock.now += 100
    await world.finish(committer.submit(run, await done(world, "c")))
    await world.finish(committer.submit(run, await done(world, "a")))
    stored = await world.store.load(run)
    assert stored is not None
    assert stored.index.wake_at is not None
    assert stored.index.wake_at > world.clock.now
