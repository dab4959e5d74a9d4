"""Two processes at one run, one of which goes by what it remembers."""

from __future__ import annotations

from collections.abc import Sequence

from flowcraft.blueprint import Node
from flowcraft.committer import Committer
from flowcraft.engine.events import Completed, Visit
from flowcraft.folding import Applied, Stale
from flowcraft.runstate import unpack_head

from .conftest import MakeWorld
from .world import Process, World, blueprint, chain

_WAITS = blueprint("waits", {"a": "value", "w": Node("w", "wait"), "b": "value"}, ["a>w", "w>b"])


def _committer(process: Process) -> Committer:
    made = process.adapter._committer
    assert made is not None
    return made


async def _visit(world: World, run_id: str, number: int) -> Visit:
    stored = await world.store.load(run_id)
    assert stored is not None
    activation = unpack_head(stored.head)[1].active[number]
    return Visit(number, activation.nonce, activation.visit, activation.attempt)


async def test_a_run_that_ends_while_a_ticker_looks_at_it_is_not_due_again(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[chain(1)])
    process = await world.process().open()
    await world.finish(process.adapter.start_run("chain", run_id="r"))
    ticker = process.adapter.ticker(lambda _: True)
    done = Completed(await _visit(world, "r", 0), b"1", None)
    ask = process.adapter.coordination.holders

    async def holders(keys: Sequence[str]) -> Sequence[str | None]:
        assert isinstance(await _committer(process).submit("r", done), Applied)
        return await ask(keys)

    process.adapter.coordination.holders = holders  # type: ignore[method-assign] # the end comes at this moment
    world.clock.now += 31
    await world.finish(ticker.run_once())
    [row] = (await world.store.list()).items
    assert row.status == "completed"
    assert row.wake_at is None, "it is kept for ever, so nobody is to look at it, and delete it, at any time"


async def test_what_another_process_used_up_is_a_conflict(make_world: MakeWorld) -> None:
    world = make_world(blueprints=[_WAITS])
    one, two = await world.process("one").open(), await world.process("two").open()
    handle = await world.finish(one.adapter.start_run("waits", run_id="r"))
    assert await world.finish(handle.signal("w", "hello", signal_id="s")) == "early"
    done = Completed(await _visit(world, "r", 0), b"1", None)
    assert isinstance(await world.finish(_committer(two).submit("r", done)), Applied)
    again = await world.finish(_committer(one).submit("r", done))  # one remembers the head with the kept signal
    assert isinstance(again, Stale)
    view = await world.finish(handle.view())
    assert view.nodes["w"].state == "completed"


async def test_a_visit_that_is_over_is_not_executed_without_what_it_was_to_get(make_world: MakeWorld) -> None:
    """A worker is held up between its look at the run and its look at the values."""
    world = make_world(blueprints=[chain(2)])
    worker = world.process("w")
    read = worker.store.read_values
    gone: list[str] = []

    async def read_values(run_id: str, keys: Sequence[object] = (), **named: object) -> object:
        if not gone:
            gone.append(run_id)
            visit = await _visit(world, run_id, 0)
            assert isinstance(await _committer(other).submit(run_id, Completed(visit, b"1", None)), Applied)
            return {}
        return await read(run_id, keys, **named)

    worker.store.read_values = read_values  # type: ignore[method-assign] # the other is quicker at this moment
    other = await world.process("other").open()
    handle = await world.finish(other.adapter.start_run("chain", run_id="r"))
    await worker.start()
    result = await world.finish(handle.result())
    assert result.status == "completed"
    assert gone == ["r"]
    assert world.executions("r", "n0") == 0
    assert world.executions("r", "n1") == 1


async def test_a_visit_that_is_still_to_run_gets_what_was_missing_for_a_moment(make_world: MakeWorld) -> None:
    """The store is back at an older state when the values are read, and is not when the run is looked at."""
    world = make_world(blueprints=[chain(2)])
    worker = world.process("w")
    read = worker.store.read_values
    missed: list[str] = []

    async def read_values(run_id: str, keys: Sequence[object] = (), **named: object) -> object:
        if run_id == "disturbed" and not missed:
            missed.append(run_id)
            return {}
        return await read(run_id, keys, **named)

    worker.store.read_values = read_values  # type: ignore[method-assign] # one answer of a replica that is behind
    client = await world.process("client").open()
    runs = [await world.finish(client.adapter.start_run("chain", 7, run_id=name)) for name in ("calm", "disturbed")]
    await worker.start()
    calm, disturbed = [await world.finish(run.result()) for run in runs]
    assert missed == ["disturbed"]
    assert disturbed.outputs == calm.outputs
