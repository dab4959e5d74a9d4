"""What a limit is, what it asks for, and how runs in one process wait for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import pytest

from flowcraft import Flow, FlowRuntime, Limit, NodeContext
from flowcraft.blueprint import Blueprint, Node
from flowcraft.engine.draft import Draft
from flowcraft.engine.head import PARKED, READY
from flowcraft.engine.transition import Parked, Pause, Tick, Unparked, Unpause, Visit, apply, fresh_head, seal, start
from flowcraft.errors import ConditionError, DefinitionError, ExpressionError, InvalidRequest
from flowcraft.graph import compile_graph
from flowcraft.limits import Limits, Permit, exchange, give_back, renew
from flowcraft.memory import MemoryAdapter, MemoryCoordination
from flowcraft.model import Job
from flowcraft.turns import Host, _Only
from flowcraft.waiting import Waiter

from .ports.virtual_clock import VirtualClock

MAIL = Limit("mail-api", rate=10, per=60.0, burst=10)


def blueprint(*limits: Limit) -> Blueprint:
    return Blueprint("b", (Node("a", "work", limits=limits),))


# ---- the definition


def test_json_both_ways() -> None:
    made = blueprint(Limit(key="input.customer", concurrency=5), MAIL, Limit("slow", rate=0.5, per=0.25))
    data: Any = made.to_dict()
    assert data["nodes"][0]["config"]["limits"] == [
        {"key": "input.customer", "concurrency": 5},
        {"name": "mail-api", "rate": 10, "per": 60_000, "burst": 10},
        {"name": "slow", "rate": 0.5, "per": 250},
    ]
    again = Blueprint.from_json(made.to_json())
    assert again == made
    assert again.content_hash == made.content_hash
    assert [limit.name for limit in again.node("a").limits] == ["b.a", "mail-api", "slow"]


def test_without_limits_nothing_is_written() -> None:
    assert Blueprint("b", (Node("a", "work"),)).to_dict()["nodes"] == [{"id": "a", "uses": "work"}]


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({}, "limits nothing"),
        ({"name": "x", "burst": 3, "concurrency": 1}, "'x' has a burst but no rate"),
        ({"concurrency": 0}, "concurrency of a limit must be at least 1"),
        ({"concurrency": 1.5}, "concurrency of a limit must be a whole number"),
        ({"concurrency": True}, "must be a whole number"),
        ({"rate": 0}, "rate of a limit must be above 0"),
        ({"rate": "10"}, "rate of a limit must be a number"),
        ({"rate": 1, "per": 0}, "per of a limit must be above 0"),
        ({"rate": 1, "per": "minute"}, "per of a limit must be a number"),
        ({"rate": 1, "burst": 0}, "burst of a limit must be at least 1"),
        ({"name": "", "concurrency": 1}, "name of a limit must not be empty"),
        ({"name": 5, "concurrency": 1}, "name of a limit must be text"),
        ({"key": "", "concurrency": 1}, "key of a limit must not be empty"),
        ({"concurency": 1}, "a limit has no 'concurency'"),
        ("five", "a limit must be an object"),
    ],
)
def test_json_that_is_no_limit(limit: Any, told: str) -> None:
    node = {"id": "a", "uses": "work", "config": {"limits": [limit]}}
    with pytest.raises(DefinitionError, match=told) as caught:
        Blueprint.from_dict({"id": "b", "nodes": [node]})
    assert "node 'a'" in str(caught.value)


@pytest.mark.parametrize("limits", [Limit(concurrency=1), "x", [5], [{"concurrency": 1}]])
def test_limits_are_a_list_of_limits(limits: Any) -> None:
    with pytest.raises(DefinitionError, match="limits of node 'a' must be a list"):
        Node("a", "work", limits=limits)


def test_two_limits_that_cannot_be_told_apart() -> None:
    with pytest.raises(DefinitionError, match="node 'a' has two limits of concurrency"):
        blueprint(Limit(concurrency=5, key="input.a"), Limit(concurrency=5, key="input.b"))
    blueprint(Limit(concurrency=5), Limit(rate=5))
    blueprint(Limit(concurrency=5), Limit("wide", concurrency=5))


def test_a_flow_has_limits_for_nodes_that_give_none() -> None:
    flow = Flow[None]("f", limits=[MAIL])

    @flow.node
    async def one(ctx: NodeContext[int, None]) -> int:
        return 1

    @flow.node(after=one, limits=[Limit(concurrency=1)])
    async def two(ctx: NodeContext[int, None]) -> int:
        return 2

    @flow.node(after=two, limits=[])
    async def three(ctx: NodeContext[int, None]) -> int:
        return 3

    assert [node.limits for node in flow.blueprint.nodes] == [(MAIL,), (Limit("f.two", concurrency=1),), ()]


@pytest.mark.parametrize("key", ["input.", "_outputs.a", "customer", "context.customer", "result.action"])
def test_a_key_reads_input_and_params_only(key: str) -> None:
    with pytest.raises((DefinitionError, ExpressionError), match="node 'a'"):
        FlowRuntime(blueprints=[blueprint(Limit(key=key, concurrency=1))], registry={"work": lambda _: None})


def test_queue_limits_are_checked() -> None:
    with pytest.raises(DefinitionError, match="queue 'q'"):
        MemoryAdapter(FlowRuntime(), queue_limits={"q": Limit(key="customer", concurrency=1)})
    with pytest.raises(InvalidRequest, match="queue 'q'"):
        MemoryAdapter(FlowRuntime(), queue_limits={"q": 5})


# ---- what it asks for


def keys(limit: Limit, *values: object) -> list[str]:
    node = blueprint(limit).node("a")
    return [Limits().demands(node, value)[0].key for value in values]


def test_equal_values_count_together_and_others_do_not() -> None:
    limit = Limit(key="input", concurrency=1)
    number = UUID(int=1)
    day = datetime(2026, 1, 1, tzinfo=UTC)
    distinct = [None, True, "", "1", 1, 1.5, "true", Decimal(1), number, str(number), day, str(day), "ä"]
    assert len(set(keys(limit, *distinct))) == len(distinct)
    assert len(set(keys(limit, 5, 5.0))) == 1
    assert keys(limit, "x")[0] != keys(Limit("other", key="input", concurrency=1), "x")[0]
    assert keys(limit, None)[0] != keys(Limit(concurrency=1), None)[0]


def test_a_value_is_in_no_key() -> None:
    [key] = keys(Limit(key="input.customer", concurrency=1), {"customer": "secret"})
    assert "secret" not in key
    assert len(key) < 60


def test_params_are_read() -> None:
    limit = Limit("n", key="params.region", concurrency=1)
    one, two = (Node("a", "work", {"region": region}, limits=(limit,)) for region in ("eu", "us"))
    assert Limits().demands(one, 1) != Limits().demands(two, 1)


@pytest.mark.parametrize("value", [[1], {"a": 1}, b"x"])
def test_what_gives_no_key(value: object) -> None:
    with pytest.raises(ConditionError, match=r"limit 'b\.a'"):
        keys(Limit(key="input", concurrency=1), value)


async def test_all_or_nothing() -> None:
    clock = VirtualClock()
    coordination = MemoryCoordination(clock)
    node = blueprint(Limit("two", key="input", concurrency=2), Limit("one", concurrency=1), MAIL).node("a")
    demands = Limits().demands(node, "x")
    assert [demand.name for demand in demands] == ["two", "one", "mail-api"]
    first, second = Permit("1"), Permit("2")
    assert await exchange(coordination, first, demands, 30) is None
    refused = await exchange(coordination, second, demands, 30)
    assert refused is not None
    assert (refused.demand.name, second.slots) == ("one", ())
    assert await coordination.acquire_slot(demands[0].key, "other", 2, 30), "what was got is given back"
    await coordination.release_slot(demands[0].key, "other")
    assert len(await give_back(coordination, first)) == 2
    assert await exchange(coordination, second, demands, 30) is None
    await clock.advance(20)
    await renew(coordination, second, 30)
    await clock.advance(20)
    assert not await coordination.acquire_slot(demands[1].key, "other", 1, 30), "renewed"
    await clock.advance(20)
    assert await coordination.acquire_slot(demands[1].key, "other", 1, 30)
    await renew(coordination, second, 30)
    assert second.lost


async def test_a_token_is_kept_until_it_is_used() -> None:
    coordination = MemoryCoordination(VirtualClock())
    demands = Limits().demands(blueprint(Limit(rate=1, per=10.0)).node("a"), None)
    permit, other = Permit("1"), Permit("2")
    assert await exchange(coordination, permit, demands, 30) is None
    assert await exchange(coordination, permit, demands, 30) is None, "it has one"
    refused = await exchange(coordination, other, demands, 30)
    assert refused is not None
    assert refused.wait == pytest.approx(10)
    permit.tokens = ()
    assert await exchange(coordination, permit, demands, 30) is not None


async def test_slots_are_handed_on_without_being_free() -> None:
    """From one visit to another with the wide slot in common; the narrow one is given back."""
    coordination = MemoryCoordination(VirtualClock())
    node = blueprint(Limit("wide", concurrency=1), Limit("narrow", key="input", concurrency=1)).node("a")
    x, y = Limits().demands(node, "x"), Limits().demands(node, "y")
    permit = Permit("1")
    assert await exchange(coordination, permit, x, 30) is None
    assert await exchange(coordination, permit, y, 30) is None
    assert not await coordination.acquire_slot(x[1].key, "other", 1, 30)
    assert await coordination.acquire_slot(x[0].key, "other", 1, 30)
    assert not await coordination.acquire_slot(y[0].key, "other", 1, 30)
    refused = await exchange(coordination, permit, x, 30)
    assert refused is not None
    assert permit.slots == y, "as it was"


# ---- in the engine


def test_parked_by_a_limit_is_woken_by_its_turn_only() -> None:
    graph = compile_graph(blueprint(MAIL))
    draft = Draft(
        graph, fresh_head(graph, 100.0), read=lambda _: None, decode=lambda cell: cell, encode=lambda value: value,
        record=True,
    )  # fmt: skip
    head = draft.head
    draft.begin("n0", 100.0)
    start(draft, None, {})
    seal(draft)
    for turn in range(3):
        draft.begin(f"p{turn}", 100.0)
        assert apply(draft, Parked(Visit(0, f"n{turn}", 1, 1), "limit mail-api", 0.75))
        assert (head.states[0], head.active[0].due, head.active[0].resend) == (PARKED, 100.75, 0), "always as short"
        draft.begin("t", 500.0)
        assert not apply(draft, Tick(lambda _: True))
        assert not apply(draft, Unparked(0, 2)), "another visit"
        draft.begin(f"n{turn + 1}", 100.1)
        assert apply(draft, Unparked(0, 1)), "before it is due, too"
        assert (head.states[0], draft.ready) == (READY, [0])
        assert not apply(draft, Unparked(0, 1)), "it is READY already"
    draft.begin("p", 100.0)
    assert apply(draft, Parked(Visit(0, "n3", 1, 1), "limit mail-api", 0.75, again=True))
    assert apply(draft, Unparked(0, 1))
    assert head.active[0].resend == 1, "whether it may have been begun is not forgotten"
    draft.begin("q", 100.0)
    assert apply(draft, Parked(Visit(0, "p", 1, 1), "no function"))
    assert not apply(draft, Unparked(0, 1)), "that is no question of a turn"


def test_parked_by_a_limit_has_no_turn_while_its_run_is_paused() -> None:
    graph = compile_graph(blueprint(MAIL))
    draft = Draft(
        graph, fresh_head(graph, 100.0), read=lambda _: None, decode=lambda cell: cell, encode=lambda value: value,
        record=True,
    )  # fmt: skip
    draft.begin("n0", 100.0)
    start(draft, None, {})
    seal(draft)
    draft.begin("p", 100.0)
    assert apply(draft, Parked(Visit(0, "n0", 1, 1), "limit mail-api", 0.75))
    assert apply(draft, Pause())
    draft.begin("u", 101.0)
    assert not apply(draft, Unparked(0, 1))
    assert draft.head.states[0] == PARKED
    assert apply(draft, Unpause())
    assert draft.head.wake_at is not None
    assert draft.head.wake_at <= 101.0, "and the tickers look at it then"
    assert apply(draft, Unparked(0, 1))
    assert (draft.head.states[0], draft.ready) == (READY, [0])


# ---- in process


async def runs(limits: list[Limit], inputs: list[Any], seconds: float = 1.0) -> tuple[Counter[str], list[float], float]:
    """How many ran at the same time by customer, when each began, and when all had ended."""
    clock = VirtualClock(0.0)
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    begun: list[float] = []

    async def work(ctx: NodeContext[Any, Any]) -> None:
        customer = ctx.input["customer"]
        begun.append(clock.time())
        running[customer] += 1
        most[customer] = max(most[customer], running[customer])
        most["together"] = max(most["together"], running.total())
        await clock.sleep(seconds)
        running[customer] -= 1

    runtime = FlowRuntime(blueprints=[blueprint(*limits)], registry={"work": work}, clock=clock)
    task = asyncio.gather(*(runtime.run("b", value) for value in inputs))
    while not task.done():
        await clock.advance(0.1)
    assert {result.status for result in task.result()} == {"completed"}
    return most, begun, clock.time()


async def test_in_process_they_wait() -> None:
    customers = [{"customer": name} for name in "ab" for _ in range(20)]
    most, _, ended = await runs([Limit(key="input.customer", concurrency=5)], customers)
    assert (most["a"], most["b"], most["together"]) == (5, 5, 10)
    assert ended == pytest.approx(4, abs=0.5)


async def test_in_process_a_wide_and_a_narrow_limit() -> None:
    customers = [{"customer": name} for name in "abc" for _ in range(8)]
    most, _, ended = await runs([Limit("wide", concurrency=4), Limit(key="input.customer", concurrency=2)], customers)
    assert (most["a"], most["together"]) == (2, 4)
    assert ended == pytest.approx(6, abs=1.5)


async def test_in_process_a_rate() -> None:
    _, begun, _ = await runs([Limit(rate=2, per=10.0, burst=3)], [{"customer": "a"}] * 9)
    assert begun == [0, 0, 0, *(pytest.approx(5.0 * n, abs=0.2) for n in range(1, 7))]


async def test_in_process_a_cancelled_run_leaves_its_slot_and_its_place() -> None:
    clock = VirtualClock()
    begun: list[str] = []

    async def work(ctx: NodeContext[Any, Any]) -> None:
        begun.append(ctx.run_id)
        await clock.sleep(10)

    runtime = FlowRuntime(blueprints=[blueprint(Limit(concurrency=1))], registry={"work": work}, clock=clock)
    tasks = [asyncio.ensure_future(runtime.run("b", run_id=f"r{n}")) for n in range(4)]
    await clock.advance(1)
    for cancelled in (2, 1, 0):  # two that wait, then the one that runs
        tasks[cancelled].cancel()
    await asyncio.gather(*tasks[:3], return_exceptions=True)
    await clock.advance(1)
    assert begun == ["r0", "r3"]
    await clock.advance(10)
    assert (await tasks[3]).status == "completed"


async def test_in_process_a_key_that_cannot_be() -> None:
    runtime = FlowRuntime(
        blueprints=[blueprint(Limit("api", key="input.a + 1", concurrency=1))], registry={"work": lambda _: 1}
    )
    result = await runtime.run("b", {"a": {}})
    assert result.errors[0].errors[0].kind == "ConditionError"
    assert "'api'" in result.errors[0].errors[0].text
    assert (await runtime.run("b", {"a": 1})).status == "completed"


# ---- who may go on with a permit


async def test_a_permit_is_for_one_visit_only() -> None:
    class Worker:
        async def claim(self, keys: Sequence[str]) -> Sequence[bool]:
            return [True for _ in keys]

        def forget(self, keys: Sequence[str]) -> None: ...

        def wants(self, job: Job, node: Node) -> bool:
            return job.queue == "served"

    keeper = _Only(cast("Host", Worker()), Waiter("r", 0, "a", 2))
    node = Node("a", "work")
    assert keeper.wants(Job("r", "a", 2, 1, "n", "served"), node)
    assert not keeper.wants(Job("r", "b", 2, 1, "n", "served"), node)
    assert not keeper.wants(Job("r", "a", 1, 1, "n", "served"), node)
    assert not keeper.wants(Job("r", "a", 2, 1, "n", "other"), node)
