"""Limits at work: never too many, all of them in the end, every key its share, and nothing lost with a worker."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from flowcraft.blueprint import Blueprint, Node, Retry
from flowcraft.errors import DefinitionError, ExpressionError
from flowcraft.leases import StoreLeases
from flowcraft.limit import Limit
from flowcraft.model import Change, Committed, StoredHead
from flowcraft.nodes import NodeContext
from flowcraft.ports import CoordinationStore

from .conftest import MakeWorld
from .world import Process, World, blueprint, fan

PER_CUSTOMER = Limit(key="input.customer", concurrency=5)


class Gauge:
    """What the node's function sees: who runs at the same time, and when each began. The dead do not count."""

    def __init__(self, world: World, seconds: float = 1.0) -> None:
        self.world = world
        self.seconds = seconds
        self.running: list[tuple[Process, str]] = []
        self.most: Counter[str] = Counter()
        self.begun: dict[str, list[float]] = defaultdict(list)
        self.ended: dict[str, list[float]] = defaultdict(list)
        self.commits = 0
        self.loads = 0
        world.behaviours["work"] = self.work
        inner = world.store.commit

        async def commit(changes: Sequence[Change]) -> Sequence[Committed]:
            results = await inner(changes)
            self.commits += sum(result.applied for result in results)
            return results

        load_one = world.store.load

        async def load(run_id: str, **named: Any) -> StoredHead | None:
            self.loads += 1
            return await load_one(run_id, **named)

        world.store.commit = commit  # type: ignore[method-assign] # to count
        world.store.load = load  # type: ignore[method-assign] # likewise

    async def work(self, process: Process, ctx: NodeContext[Any, Any]) -> None:
        customer = ctx.input.get("customer", "all") if isinstance(ctx.input, dict) else "all"
        self.running.append((process, customer))
        self.most[customer] = max(self.most[customer], self.now_running(customer))
        self.most["together"] = max(self.most["together"], self.now_running())
        self.begun[customer].append(self.world.clock.now)
        try:
            await self.world.clock.sleep(self.seconds)
        finally:
            self.running.remove((process, customer))
        self.ended[customer].append(self.world.clock.now)

    def now_running(self, customer: str | None = None) -> int:
        return sum(not process.link.dead and customer in (None, name) for process, name in self.running)

    @property
    def done(self) -> int:
        return sum(map(len, self.ended.values()))


def one_node(*limits: Limit, name: str = "work", **more: Any) -> Blueprint:
    return blueprint(name, {"a": Node("a", "work", limits=limits, **more)}, [])


async def start(process: Process, flow: Blueprint, customer: str, count: int) -> None:
    starting = (process.adapter.start_run(flow, {"customer": customer}, run_id=f"{customer}-{n}") for n in range(count))
    await process.world.finish(asyncio.gather(*starting))


async def workers(world: World, count: int = 3, **options: Any) -> list[Process]:
    return [await world.process(f"w{n}", **options).start() for n in range(count)]


async def statuses(process: Process) -> Counter[str]:
    page = await process.world.finish(process.adapter.list(limit=1000))
    return Counter(run.status for run in page.items)


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("leases_in_the_store", [False, True])
async def test_five_of_a_key_and_never_six(make_world: MakeWorld, bound: bool, leases_in_the_store: bool) -> None:
    flow = one_node(PER_CUSTOMER)
    world = make_world(bound=bound, blueprints=[flow])
    gauge = Gauge(world)
    if leases_in_the_store:
        shared: CoordinationStore = StoreLeases(world.store, world.clock)
        world.coordination.inner = shared  # type: ignore[assignment] # the same protocol
    one, _, _ = await workers(world)
    for customer in ("a", "b"):
        await start(one, flow, customer, 60)
    await world.until(lambda: gauge.done == 120, within=60)
    assert (gauge.most["a"], gauge.most["b"]) == (5, 5)
    assert world.duplicates == {}
    assert await statuses(one) == {"completed": 120}


async def test_a_limit_is_used_without_a_pause(make_world: MakeWorld) -> None:
    """Two hundred visits of a tenth of a second, two at a time, take 10 s: not one tick each."""
    flow = one_node(Limit(concurrency=2))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 0.1)
    [one] = await workers(world, 1)
    began = world.clock.now
    await start(one, flow, "a", 200)
    await world.until(lambda: gauge.done == 200, step=0.05)
    assert world.clock.now - began < 11.5


async def test_a_small_key_beside_a_busy_one(make_world: MakeWorld) -> None:
    flow = one_node(PER_CUSTOMER)
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 0.2)
    one, _, _ = await workers(world)
    began = world.clock.now
    await start(one, flow, "busy", 1000)
    await start(one, flow, "small", 10)
    await world.until(lambda: len(gauge.ended["small"]) == 10, step=0.05)
    assert world.clock.now - began < 5
    assert len(gauge.ended["busy"]) < 150
    await world.until(lambda: gauge.done == 1010, step=0.05)
    assert world.clock.now - began < 50, "1,000 · 0.2 s / 5, and a quarter for the way"
    assert gauge.most["busy"] == 5
    assert gauge.commits / 1010 < 3.1, "parked once, woken once, completed"


async def test_those_who_wait_cost_the_tickers_little(make_world: MakeWorld) -> None:
    """Long visits: hundreds wait for minutes, and are neither woken in vain nor parked again."""
    flow = one_node(PER_CUSTOMER)
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 60.0)
    one, _, _ = await workers(world)
    await start(one, flow, "busy", 150)
    await world.until(lambda: gauge.done == 5)
    await world.pass_time(30)
    commits, loads = gauge.commits, gauge.loads
    await world.until(lambda: gauge.done == 25)
    assert (gauge.commits - commits) / 20 < 2.5, "woken, completed"
    assert (gauge.loads - loads) < 4 * 145 * 3, "each looked at once a minute"


async def test_the_tickers_do_not_look_at_all_who_wait_at_once(make_world: MakeWorld) -> None:
    flow = one_node(PER_CUSTOMER)
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 600.0)
    [one] = await workers(world, 1)
    began = world.clock.now
    await start(one, flow, "busy", 400)
    await world.until(lambda: gauge.commits == 395)
    page = await world.finish(one.adapter.list(limit=1000))
    dues = sorted(run.wake_at - began for run in page.items if run.wake_at is not None and run.wake_at - began < 29)
    assert len(dues) == 395
    assert dues[5] < 4
    assert sum(due < 2 for due in dues) < 60
    assert max(sum(start <= due < start + 1 for due in dues) for start in range(30)) < 60


async def test_the_visits_of_one_run(make_world: MakeWorld) -> None:
    flow = fan(40, "work", name="wide", limits=[Limit("mail-api", concurrency=3)])
    world = make_world(blueprints=[flow])
    gauge = Gauge(world)
    one, _, _ = await workers(world)
    run = await world.finish(one.adapter.start_run(flow))
    assert (await world.finish(run.result(), within=60)).status == "completed"
    assert gauge.most["together"] == 3
    parked = [event for event in await world.finish(run.history()) if event.type == "node:parked"]
    assert {event.data["reason"] for event in parked} == {"limit mail-api"}


async def test_the_slot_of_a_visit_is_not_its_successors(make_world: MakeWorld) -> None:
    """A worker goes on with the next node of a chain at once: by then the slot is free, and that node has its own."""
    nodes = {
        "a": Node("a", "value", limits=(Limit("one", concurrency=1),)),
        "b": Node("b", "slow", {"seconds": 100.0}, limits=(Limit("two", concurrency=2),)),
    }
    flow = blueprint("chained", nodes, ["a>b"])
    world = make_world(blueprints=[flow])
    [one] = await workers(world, 1)
    for n in range(3):
        await world.finish(one.adapter.start_run(flow))
        await world.until(lambda n=n: world.executions(node="a") == n + 1, within=5)  # type: ignore[misc]
        await world.pass_time(5)
        assert world.executions(node="b") == min(n + 1, 2)
    assert [job.node for job in world.queue.pushed] == ["a"] * 3, "what follows was kept"


async def test_nodes_share_a_limit_by_its_name(make_world: MakeWorld) -> None:
    shared, own = (Limit("api", concurrency=2),), (Limit(concurrency=2),)
    nodes = {name: Node(name, "work", limits=shared if name in "ab" else own) for name in "abc"}
    flow = blueprint("shared", dict(nodes), [])
    world = make_world(blueprints=[flow])
    gauge = Gauge(world)
    [one] = await workers(world, 1)
    for n in range(10):
        await world.finish(one.adapter.start_run(flow, {"customer": f"{n}"}))
    most: Counter[str] = Counter()

    def all_done() -> bool:
        most["all"] = max(most["all"], gauge.now_running())
        return gauge.done == 30

    await world.until(all_done)
    assert most["all"] == 4, "two of a and b together, two of c"


async def test_a_worker_that_dies_with_its_slots(make_world: MakeWorld) -> None:
    flow = one_node(PER_CUSTOMER)
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 4.0)
    first, *others = await workers(world, lease_ttl=20.0)
    await start(others[0], flow, "a", 40)
    await world.until(lambda: gauge.now_running() == 5)
    victims = [process for process, _ in gauge.running]
    assert victims
    for process in {*victims, first} - {others[-1]}:
        process.kill()
    killed = world.clock.now
    left = gauge.now_running()
    await world.until(lambda: gauge.now_running() == 5, within=45)
    assert left < 5
    assert world.clock.now - killed > 10, "not before the leases are over"
    survivor = others[-1]
    runs = [survivor.adapter.result(f"a-{n}") for n in range(40)]
    results = await world.finish(asyncio.gather(*runs), within=600)
    assert {result.status for result in results} == {"completed"}
    assert gauge.most["a"] == 5


async def test_slots_are_kept_as_long_as_a_visit_runs(make_world: MakeWorld) -> None:
    flow = one_node(Limit(concurrency=1))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 100.0)
    one, *_ = await workers(world, 2, lease_ttl=9.0)
    await start(one, flow, "a", 3)
    await world.until(lambda: gauge.done == 3, within=400)
    assert gauge.most["a"] == 1


async def test_a_slot_is_free_however_its_visit_ends(make_world: MakeWorld) -> None:
    """Failed, tried again, cancelled, handed back: the next one need not wait for a lease."""
    limit = (Limit("one", concurrency=1),)
    flows = [
        blueprint("fails", {"a": Node("a", "fail", limits=limit)}, []),
        blueprint("retries", {"a": Node("a", "flaky", limits=limit, retry=Retry(2, delay=60.0))}, []),
        one_node(*limit),
    ]
    world = make_world(blueprints=flows)
    gauge = Gauge(world, 1000.0)
    one, two = await workers(world, 2, worker={"grace": 0.0}, lease_ttl=300.0)
    for flow in ("fails", "retries"):
        run = await world.finish(one.adapter.start_run(flow, {"customer": "x"}, run_id=flow))
        if flow == "fails":
            assert (await world.finish(run.result(), within=5)).status == "failed"
    await world.until(lambda: world.executions(run_id="retries") == 1, within=5)
    cancelled = await world.finish(two.adapter.start_run("work", {"customer": "x"}))
    await world.until(lambda: gauge.now_running() == 1, within=5)
    await world.finish(two.adapter.cancel(cancelled.run_id))
    await world.until(lambda: gauge.now_running() == 0, within=20)
    await start(two, flows[2], "y", 1)
    await world.until(lambda: gauge.now_running() == 1, within=5)
    [(holder, _)] = gauge.running
    await holder.stop()
    await world.until(lambda: gauge.now_running() == 1, within=5)


async def test_rates_are_never_exceeded(make_world: MakeWorld) -> None:
    flow = one_node(Limit("mail-api", rate=10, per=60.0, burst=10))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 0.5)
    one, _, _ = await workers(world)
    began = world.clock.now
    await start(one, flow, "a", 70)
    await world.until(lambda: gauge.done == 70, within=600)
    times = gauge.begun["a"]
    assert times[9] - began < 2, "ten at once"
    for n, first in enumerate(times):
        for m in range(n, len(times)):
            assert m - n + 1 <= 10 + (times[m] - first + 1e-6) * 10 / 60, "burst + rate"
    assert times[-1] - began < 60 * 6 + 20, "and no token lies about for long"
    assert gauge.commits / 70 < 3.1


async def test_a_rate_of_each_key(make_world: MakeWorld) -> None:
    flow = one_node(Limit(rate=1, per=10.0, key="input.customer"))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 0.1)
    one, _, _ = await workers(world, worker={"concurrency": 30})
    customers = [f"c{n}" for n in range(12)]
    for customer in customers:
        await start(one, flow, customer, 5)
    await world.until(lambda: gauge.done == 60, within=150)
    for customer in customers:
        gaps = [
            later - earlier for earlier, later in zip(gauge.begun[customer], gauge.begun[customer][1:], strict=False)
        ]
        assert all(10 - 1e-6 <= gap < 12 for gap in gaps), f"no token is wasted: {gaps}"
    await world.pass_time(15)  # the lines of the others, in which those who are gone still stand, are due again
    late = world.clock.now
    for customer in customers:
        await world.finish(one.adapter.start_run(flow, {"customer": customer}))
    await world.until(lambda: gauge.done == 72)
    assert world.clock.now - late < 3, "nobody has taken the token for a visit that is gone"


async def test_many_tokens_come_at_once_and_there_are_few_places(make_world: MakeWorld) -> None:
    """Visits whose message came twice, or was handed back, get on as well: a token is not taken again and again."""
    flow = one_node(Limit(rate=1, per=10.0, key="input.customer"))
    world = make_world(copies=2, blueprints=[flow])
    gauge = Gauge(world, 0.1)
    one, _, _ = await workers(world, worker={"concurrency": 2})
    for n in range(12):
        await start(one, flow, f"c{n}", 4)
    await world.until(lambda: gauge.done == 48, within=150)
    assert world.duplicates == {}


async def test_no_token_is_taken_without_a_place(make_world: MakeWorld) -> None:
    flow = one_node(Limit(rate=1, per=10.0, key="input.customer"))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 0.1)
    [one] = await workers(world, 1, worker={"concurrency": 12})
    for n in range(12):
        await start(one, flow, f"c{n}", 4)
    await world.until(lambda: gauge.done == 48, within=40)


async def test_several_limits_of_one_node(make_world: MakeWorld) -> None:
    """All or nothing: who waits for the wide limit holds no slot of the narrow one."""
    flow = one_node(Limit("all", concurrency=4), Limit("one", key="input.customer", concurrency=2))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world)
    one, _, _ = await workers(world)
    customers = [f"c{n}" for n in range(6)]
    for customer in customers:
        await start(one, flow, customer, 10)
    await world.until(lambda: gauge.done == 60, within=60)
    assert gauge.most["together"] == 4
    assert max(gauge.most[customer] for customer in customers) == 2


async def test_keys_take_turns_at_a_wide_limit(make_world: MakeWorld) -> None:
    """Two busy keys could hand all the slots to their own for ever; the small one's share of four is more than one."""
    flow = one_node(Limit("all", concurrency=4), Limit("one", key="input.customer", concurrency=3))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world)
    one, _, _ = await workers(world)
    began = world.clock.now
    for customer, count in (("busy", 60), ("other", 60), ("small", 6)):
        await start(one, flow, customer, count)
    await world.until(lambda: len(gauge.ended["small"]) == 6, within=60)
    assert world.clock.now - began < 11
    await world.until(lambda: gauge.done == 126, within=60)
    assert world.clock.now - began < 36, "126 s / 4, and the slots were hardly ever idle"
    assert (gauge.most["together"], gauge.most["busy"]) == (4, 3)


async def test_keys_take_turns_in_a_line(make_world: MakeWorld) -> None:
    """All wait for the same slot: the small key does not stand behind the busy one."""
    flow = one_node(Limit("all", concurrency=1), Limit("one", key="input.customer", concurrency=100))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world)
    [one] = await workers(world, 1)
    await start(one, flow, "busy", 30)
    await start(one, flow, "small", 3)
    await world.until(lambda: len(gauge.ended["small"]) == 3, within=60)
    assert 2 <= len(gauge.ended["busy"]) <= 4


async def test_timers_are_not_late_beside_a_visit_that_waits(make_world: MakeWorld) -> None:
    nodes = {
        "first": Node("first", "work", limits=(Limit("one", concurrency=1),)),
        "second": Node("second", "work", limits=(Limit("one", concurrency=1),)),
        "retried": Node("retried", "flaky", {"failures": 4}, retry=Retry(5, delay=1.5, backoff=1.0, jitter=0.0)),
    }
    flow = blueprint("timers", nodes, [])
    world = make_world(blueprints=[flow])
    Gauge(world, 60.0)
    [one] = await workers(world, 1, tick=0.2)
    began = world.clock.now
    await world.finish(one.adapter.start_run(flow))
    await world.until(lambda: world.executions(node="retried") == 5, within=60)
    assert world.clock.now - began < 9, "4 · 1.5 s"


async def test_a_limit_of_a_queue(make_world: MakeWorld) -> None:
    limits = {"flowcraft-queue": Limit(concurrency=4), "other": Limit(concurrency=1)}
    here, there = one_node(), one_node(name="there", queue="other")
    world = make_world(blueprints=[here, there])
    gauge = Gauge(world)
    served = {"queues": ["flowcraft-queue", "other"]}
    one, _, _ = await workers(world, worker=served, queue_limits=limits)
    await start(one, here, "here", 30)
    await start(one, there, "there", 5)
    await world.until(lambda: gauge.done == 35, within=60)
    assert (gauge.most["here"], gauge.most["there"], gauge.most["together"]) == (4, 1, 5)


async def test_a_worker_without_room_lets_them_in_through_the_queue(make_world: MakeWorld) -> None:
    """Their slot is free again, but each place is taken again and again, without end, by visits without a limit."""
    limited, free = one_node(Limit(concurrency=1)), one_node(name="free")
    world = make_world(blueprints=[limited, free])
    gauge = Gauge(world, 2.0)
    [one] = await workers(world, 1, worker={"concurrency": 1}, lease_ttl=10.0)
    await start(one, limited, "dying", 1)
    await world.until(lambda: gauge.now_running("dying") == 1)
    two = await world.process("w2", worker={"concurrency": 2}, lease_ttl=10.0).start()
    one.kill()
    await start(two, limited, "more", 2)
    for n in range(40):
        await start(two, free, f"free {n}", 2)
        await world.pass_time(1.0)
    assert len(gauge.ended["more"]) == 2, "behind what was in the queue, before what came later"


async def test_a_visit_takes_the_place_of_the_one_before(make_world: MakeWorld) -> None:
    """However much waits in the queue: it gets the place with the slot."""
    limited, free = one_node(Limit(concurrency=1)), one_node(name="free")
    world = make_world(blueprints=[limited, free])
    gauge = Gauge(world, 2.0)
    [one] = await workers(world, 1, worker={"concurrency": 2})
    began = world.clock.now
    await start(one, limited, "limited", 5)
    await start(one, free, "free", 60)
    await world.until(lambda: len(gauge.ended["limited"]) == 5)
    assert world.clock.now - began < 11


async def test_a_parked_visit_that_nobody_remembers(make_world: MakeWorld) -> None:
    """Its worker was stopped: the ticker of another one finds it when its time has come."""
    flow = one_node(Limit(concurrency=1))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 30.0)
    first, second = await workers(world, 2, worker={"grace": 100.0})
    await start(first, flow, "a", 6)
    await world.until(lambda: gauge.now_running() == 1)
    await first.stop()
    await world.until(lambda: gauge.done == 6, within=300)
    assert gauge.most["a"] == 1
    assert await statuses(second) == {"completed": 6}


async def test_cancelled_while_it_waits(make_world: MakeWorld) -> None:
    flow = one_node(Limit(concurrency=1))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 10.0)
    one, _ = await workers(world, 2)
    await start(one, flow, "a", 4)
    await world.until(lambda: gauge.now_running() == 1)
    running = next(effect.run_id for effect in world.effects)
    first, second, last = sorted({"a-0", "a-1", "a-2", "a-3"} - {running})
    for run_id in (first, second):
        assert await world.finish(one.adapter.cancel(run_id), within=3)
    assert await statuses(one) == {"running": 2, "cancelled": 2}
    assert (await world.finish(one.adapter.result(last), within=60)).status == "completed"
    assert await statuses(one) == {"completed": 2, "cancelled": 2}


@pytest.mark.parametrize("wrong", ["customer.name", "[1]", "{}"])
async def test_a_key_that_cannot_be(make_world: MakeWorld, wrong: str) -> None:
    """The node fails for good, with the limit's and its own name; the others under the limit go on."""
    limit = Limit("api", key="input.customer + 1" if wrong == "customer.name" else "input", concurrency=1)
    flow = one_node(limit, retry=Retry(3))
    world = make_world(blueprints=[flow])
    Gauge(world)
    [one] = await workers(world, 1)
    wrong_input: Any = {"customer": {}} if wrong == "customer.name" else [1] if wrong == "[1]" else {}
    run = await world.finish(one.adapter.start_run(flow, wrong_input))
    result = await world.finish(run.result(), within=10)
    assert result.status == "failed"
    [error] = result.errors[0].errors
    assert error.kind == "ConditionError"
    assert "'api'" in error.text
    assert world.executions() == 0
    good: Any = {"customer": 1} if wrong == "customer.name" else "text"
    assert (await world.finish((await one.adapter.start_run(flow, good)).result())).status == "completed"


@pytest.mark.parametrize("key", ["input.customer ==", "context.customer", "customer", "_outputs.a", "result.action"])
async def test_keys_are_checked_when_a_blueprint_is_registered(make_world: MakeWorld, key: str) -> None:
    world = make_world()
    process = world.process()
    with pytest.raises((DefinitionError, ExpressionError), match="node 'a'"):
        process.runtime.register(one_node(Limit(key=key, concurrency=1)))
    with pytest.raises((DefinitionError, ExpressionError), match="queue 'q'"):
        world.process(queue_limits={"q": Limit(key=key, concurrency=1)})


async def test_coordination_forgets_everything(make_world: MakeWorld) -> None:
    """So many too many may begin until the next heartbeat, and no more after it."""
    flow = one_node(Limit(concurrency=3))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world, 20.0)
    one, _, _ = await workers(world)
    await start(one, flow, "a", 24)
    await world.until(lambda: gauge.now_running() == 3)
    world.coordination.flush()
    await world.pass_time(12)
    assert gauge.now_running() == 6
    await world.pass_time(13)
    assert gauge.now_running() == 3, "who lost its slot hands over none"
    gauge.most.clear()
    await world.until(lambda: gauge.done == 24, within=400)
    assert gauge.most["a"] <= 3
    assert await statuses(one) == {"completed": 24}


async def test_without_coordination_nothing_begins_and_nothing_is_lost(make_world: MakeWorld) -> None:
    flow = one_node(Limit(concurrency=2))
    world = make_world(blueprints=[flow])
    gauge = Gauge(world)
    one, _ = await workers(world, 2)
    await start(one, flow, "a", 2)
    await world.until(lambda: gauge.now_running() == 2)
    world.coordination.down = True
    await start(one, flow, "b", 6)
    await world.pass_time(5)
    assert (len(gauge.ended["a"]), gauge.begun["b"]) == (2, [])
    world.coordination.down = False
    await world.until(lambda: gauge.done == 8, within=90)
    assert await statuses(one) == {"completed": 8}


async def test_poison_is_counted_across_parking(make_world: MakeWorld) -> None:
    """A visit that kills its workers comes again under a limit that others want, too."""
    limit = (Limit("one", concurrency=1),)
    killer = blueprint("killer", {"a": Node("a", "killer", limits=limit)}, [])
    world = make_world(blueprints=[killer, one_node(*limit)])
    gauge = Gauge(world, 3.0)
    client = await world.process("client").open()
    run = await world.finish(client.adapter.start_run(killer, run_id="killer"))
    ended = asyncio.ensure_future(run.result())
    for n in range(10):
        if n:  # they are first, and the killer has to be parked
            await start(client, world.blueprints[1], f"a{n}", 2)
        worker = await world.process(f"w{n}", lease_ttl=6.0, resend_after=6.0, worker={"max_deliveries": 3}).start()
        await world.until(lambda worker=worker: worker.link.dead or ended.done(), within=300)  # type: ignore[misc]
        if ended.done():
            break
    result = await ended
    assert result.errors[0].errors[0].kind == "Poisoned"
    assert world.executions(run_id="killer") == 3
    parked = [event for event in await world.finish(run.history()) if event.type == "node:parked"]
    assert parked, "between its executions"
    assert gauge.most["together"] == 1
