"""What nodes say while they run: log records and progress, kept with the run, bounded, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flowcraft import FlowRuntime, JsonCodec, Node, NodeContext, Retry, RunResult
from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Edge
from flowcraft.engine import notes as engine_notes
from flowcraft.engine.events import Rollback
from flowcraft.errors import InvalidRequest, RunNotFound
from flowcraft.memory import MemoryBackend
from flowcraft.notes import LogRecord, NoteTaker, Progress
from flowcraft.sqlite import SqliteBackend

from .ports.virtual_clock import VirtualClock

Ctx = NodeContext[Any, Any]
T = TypeVar("T")
#: Runs a blueprint with these functions and returns the result.
Run = Callable[..., Awaitable[RunResult]]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(5000.0)


async def driven(clock: VirtualClock, awaitable: Awaitable[T]) -> T:
    """Its result, with time passing for as long as it takes; SQLite's threads get real moments."""
    task = asyncio.ensure_future(awaitable)
    while not task.done():
        await clock.advance(0.25)
        await asyncio.sleep(0.001)  # a moment for SQLite's threads, between two looks
    return task.result()


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request: pytest.FixtureRequest, clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield MemoryBackend(clock)
    else:
        async with SqliteBackend.open(tmp_path / "flow.db", clock=clock) as made:
            yield made


Stored = Callable[..., Awaitable[tuple[RunResult, tuple[LogRecord, ...], Mapping[str, Progress]]]]


@pytest.fixture
def stored(backend: Any, clock: VirtualClock) -> Stored:
    """Runs a blueprint on a worker; its result, and what the handle says its nodes said."""

    async def run(blueprint: Blueprint, registry: Mapping[str, Any], **options: Any) -> Any:
        parts = {name: getattr(backend, name) for name in ("queue", "store", "coordination", "events")}
        adapter = Adapter(FlowRuntime(registry=registry, clock=clock, **options), **parts)

        async def through() -> Any:
            async with adapter, adapter.worker():
                handle = await adapter.start_run(blueprint, run_id="r")
                return await handle.result(), await handle.logs(), await handle.progress()

        return await driven(clock, through())

    return run


def texts(records: tuple[LogRecord, ...]) -> list[str]:
    return [f"{record.node_id}#{record.visit}.{record.attempt} {record.level} {record.message}" for record in records]


def single(uses: str = "f", **node: Any) -> Blueprint:
    return Blueprint("b", (Node("a", uses, **node),))


async def says(ctx: Ctx) -> None:
    ctx.log.debug("too little")
    ctx.log.info("looking at %d %s", 3, "things", extra={"mine": 1})
    ctx.progress(0.25, "a quarter")
    ctx.log.warning("hm")
    ctx.progress(0.5, "half")


# ---- kept, in process and stored


async def test_in_process(clock: VirtualClock) -> None:
    result = await FlowRuntime(registry={"f": says}, clock=clock).run(single(), run_id="r")
    assert result.logs == (
        LogRecord("a", 1, 1, 5000.0, "INFO", "looking at 3 things"),
        LogRecord("a", 1, 1, 5000.0, "WARNING", "hm"),
    )
    assert result.progress == {"a": Progress(0.5, "half", 5000.0, 1, 1)}


async def test_stored(stored: Stored) -> None:
    result, logs, progress = await stored(single(), {"f": says})
    assert texts(logs) == ["a#1.1 INFO looking at 3 things", "a#1.1 WARNING hm"]
    assert [(p.share, p.text) for p in progress.values()] == [(0.5, "half")]
    assert (result.logs, result.progress) == (logs, progress), "a result has them, too"


async def test_of_a_node_that_failed_for_good_and_of_its_fallback(stored: Stored) -> None:
    async def fails(ctx: Ctx) -> None:
        ctx.log.info("trying")
        ctx.progress(0.9)
        raise ValueError("no")

    blueprint = Blueprint("b", (Node("a", "fails", fallback="f"), Node("f", "f")))
    result, logs, progress = await stored(blueprint, {"fails": fails, "f": says})
    assert result.status == "completed"
    assert texts(logs) == ["a#1.1 INFO trying", "f#1.1 INFO looking at 3 things", "f#1.1 WARNING hm"]
    assert {node: told.share for node, told in progress.items()} == {"a": 0.9, "f": 0.5}


@pytest.mark.parametrize("delay", [0.01, 30.0], ids=["in process", "durable"])
async def test_attempts_that_are_tried_again_leave_theirs(stored: Stored, delay: float) -> None:
    async def flaky(ctx: Ctx) -> None:
        ctx.log.info("attempt %d", ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError("not yet")

    retry = Retry(attempts=3, delay=delay, jitter=0.0, backoff=1.0)
    result, logs, _ = await stored(single("flaky", retry=retry), {"flaky": flaky})
    assert result.status == "completed"
    assert texts(logs) == [f"a#1.{n} INFO attempt {n}" for n in (1, 2, 3)]
    assert logs[2].at - logs[0].at >= 2 * delay


async def test_each_visit_of_a_loop_has_its_own(stored: Stored) -> None:
    async def count(ctx: Ctx) -> int:
        ctx.log.info("round %d", ctx.visit)
        return (ctx.input or 0) + 1

    blueprint = Blueprint("b", (Node("a", "count"),), (Edge("a", "a", condition="result.output < 4"),))
    _, logs, _ = await stored(blueprint, {"count": count})
    assert texts(logs) == [f"a#{n}.1 INFO round {n}" for n in range(1, 5)]


def batch(**params: Any) -> Blueprint:
    """Five items; the third fails once."""
    params |= {"gatherNodeId": "all", "workerUsesKey": "item"}
    retry = Retry(attempts=2, delay=0.01, jitter=0.0)
    nodes = (
        Node("list", "list"),
        Node("each_scatter", "batch-scatter", params, retry=retry),
        Node("all", "batch-gather"),
    )
    return Blueprint("b", nodes, (Edge("list", "each_scatter"), Edge("each_scatter", "all")))


async def five(ctx: Ctx) -> list[int]:
    return [0, 1, 2, 3, 4]


async def one(ctx: Ctx) -> int:
    ctx.log.info("item %s", ctx.input)
    ctx.progress((ctx.input + 1) / 5)
    if ctx.input == 2 and ctx.attempt == 1:
        raise ValueError("once")
    return int(ctx.input)


ITEMS = ["each#1.1 INFO item 0", "each#1.1 INFO item 1", "each#1.1 INFO item 2", "each#1.1 INFO item 3",
         "each#1.1 INFO item 4", "each#1.2 INFO item 2"]  # fmt: skip


@pytest.mark.parametrize(("size", "outcomes"), [(1, 5), (2, 3), (5, 1)])
async def test_of_the_items_of_a_batch(stored: Stored, backend: Any, size: int, outcomes: int) -> None:
    """However many of them are one job, whose notes are one."""
    result, logs, progress = await stored(batch(itemsPerJob=size), {"list": five, "item": one})
    assert result.output() == [0, 1, 2, 3, 4]
    assert sorted(texts(logs)) == ITEMS
    assert set(progress) == {"each"}
    assert len(await backend.store.read_values("r", space="log")) == outcomes


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_of_the_items_of_a_batch_in_process(size: int) -> None:
    result = await FlowRuntime(registry={"list": five, "item": one}).run(batch(itemsPerJob=size))
    assert result.output() == [0, 1, 2, 3, 4]
    assert sorted(texts(result.logs)) == ITEMS
    assert set(result.progress) == {"each"}


async def test_a_job_of_several_items_is_one_execution_when_it_comes_to_the_bounds() -> None:
    async def chatty(ctx: Ctx) -> None:
        for number in range(60):
            ctx.log.info("%s/%s", ctx.input, number)

    result = await FlowRuntime(registry={"list": five, "item": chatty}).run(batch(itemsPerJob=5))
    messages = [record.message for record in result.logs]
    assert messages == ["… 101 earlier records are not kept", *(f"{n // 60}/{n % 60}" for n in range(101, 300))]


async def test_of_what_undoes_a_visit(backend: Any, clock: VirtualClock) -> None:
    async def undo(ctx: Ctx) -> None:
        ctx.log.info("undoing %s", ctx.input["output"])
        if ctx.attempt == 1:
            raise ValueError("once")

    retry = Retry(attempts=2, delay=30.0, jitter=0.0)
    blueprint = Blueprint("b", (Node("a", "five", compensate="undo"), Node("undo", "undo", retry=retry)))
    parts = {name: getattr(backend, name) for name in ("queue", "store", "coordination", "events")}
    adapter = Adapter(FlowRuntime(registry={"five": five, "undo": undo}, clock=clock), **parts)

    async def through() -> None:
        async with adapter, adapter.worker():
            handle = await adapter.start_run(blueprint, run_id="r")
            await handle.result()
            await adapter._ready()[0].submit("r", Rollback())
            assert (await handle.result()).status == "cancelled"
            assert texts(tuple(await handle.logs())) == [f"undo#1.{n} INFO undoing [0, 1, 2, 3, 4]" for n in (1, 2)]

    await driven(clock, through())


async def test_progress_is_the_last_whatever_the_order_in_which_a_store_answers(
    backend: Any, clock: VirtualClock, stored: Stored
) -> None:
    class Backwards:
        def __getattr__(self, name: str) -> Any:
            return getattr(backend.store, name)

        async def read_values(self, *arguments: Any, **named: Any) -> Any:
            found = await backend.store.read_values(*arguments, **named)
            return dict(sorted(found.items(), key=lambda item: item[0].visit, reverse=True))

    async def count(ctx: Ctx) -> int:
        ctx.progress(ctx.visit / 20, f"round {ctx.visit}")
        return (ctx.input or 0) + 1

    blueprint = Blueprint("b", (Node("a", "count"),), (Edge("a", "a", condition="result.output < 12"),))
    _, _, progress = await stored(blueprint, {"count": count})
    assert (progress["a"].share, progress["a"].text, progress["a"].visit) == (0.6, "round 12", 12)
    parts = {name: getattr(backend, name) for name in ("queue", "coordination", "events")}
    async with Adapter(FlowRuntime(clock=clock), store=Backwards(), **parts) as adapter:  # type: ignore[arg-type] # a proxy
        assert await adapter.run("r").progress() == progress


async def test_logs_of_one_node(backend: Any, clock: VirtualClock, stored: Stored) -> None:
    blueprint = Blueprint("b", (Node("a", "f"), Node("c", "f")), (Edge("a", "c"),))
    await stored(blueprint, {"f": says})
    parts = {name: getattr(backend, name) for name in ("queue", "store", "coordination", "events")}
    async with Adapter(FlowRuntime(clock=clock), **parts) as adapter:
        assert {record.node_id for record in await adapter.run("r").logs("c")} == {"c"}
        assert await adapter.run("r").logs("nobody") == ()
        for asked in (adapter.run("other").logs, adapter.run("other").progress):
            with pytest.raises(RunNotFound):
                await asked()
        stored_head = await backend.store.load("r")
        assert await backend.store.delete("r", stored_head.token)
        assert await backend.store.read_values("r", space="log") == {}, "deleted with the run"


async def test_a_silent_run_costs_nothing(stored: Stored, backend: Any) -> None:
    async def silent(ctx: Ctx) -> None:
        ctx.log.debug("not kept")

    result, logs, progress = await stored(single("silent"), {"silent": silent})
    assert (result.logs, logs, progress) == ((), (), {})
    assert await backend.store.read_values("r", space="log") == {}


async def test_a_visit_that_left_no_outcome_left_nothing(stored: Stored, backend: Any, clock: VirtualClock) -> None:
    """Cancelled by the shutdown of its worker; another one executes it again."""
    begun = asyncio.Event()

    async def first(ctx: Ctx) -> None:
        ctx.log.info("begun")
        begun.set()
        await asyncio.Event().wait()

    async def second(ctx: Ctx) -> None:
        ctx.log.info("done")

    parts = {name: getattr(backend, name) for name in ("queue", "store", "coordination", "events")}
    for function in (first, second):
        adapter = Adapter(FlowRuntime(registry={"f": function}, clock=clock), **parts)

        async def through(adapter: Adapter = adapter, function: Any = function) -> Any:
            async with adapter, adapter.worker(grace=0.0):
                handle = await adapter.start_run(single(), run_id="r")
                if function is first:
                    await begun.wait()
                    return await handle.logs()
                await handle.result()
                return await handle.logs()

        logs = await driven(clock, through())
        assert texts(logs) == ([] if function is first else ["a#1.1 INFO done"])


# ---- the stdlib's side


async def test_records_go_to_the_stdlib_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "flowcraft.node"):
        await FlowRuntime(registry={"f": says}).run(single(), run_id="r")
    assert [record.getMessage() for record in caplog.records] == ["too little", "looking at 3 things", "hm"]
    record = caplog.records[1]
    assert (record.name, record.__dict__["run_id"], record.__dict__["mine"]) == ("flowcraft.node", "r", 1)
    assert (record.filename, record.funcName) == ("test_notes.py", "says"), "the caller is who logs"


async def test_kept_whatever_the_application_logs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL, "flowcraft.node"):
        result = await FlowRuntime(registry={"f": says}).run(single())
    assert caplog.records == []
    assert len(result.logs) == 2


@pytest.mark.parametrize(
    ("level", "kept"), [("DEBUG", 3), ("INFO", 2), ("WARNING", 1), ("ERROR", 0), ("CRITICAL", 0), (None, 0)]
)
async def test_the_least_level_is_chosen(level: Any, kept: int) -> None:
    result = await FlowRuntime(registry={"f": says}, keep_logs=level).run(single())
    assert len(result.logs) == kept
    assert result.progress["a"].text == "half", "progress is no log"


@pytest.mark.parametrize("level", ["info", "NOTSET", "", 20, True])
def test_a_level_that_is_none_is_refused(level: Any) -> None:
    with pytest.raises(InvalidRequest, match="keep_logs is one of DEBUG, INFO"):
        FlowRuntime(keep_logs=level)


async def test_every_way_to_log(caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def work(ctx: Ctx) -> None:
        log = ctx.log
        log.log(logging.INFO, "by %(name)s", {"name": "mapping"})
        log.error("no arguments: 100%")
        log.info("two %s", 1, 2)  # noqa: PLE1205 - a mistake of the author
        log.info(Odd())
        log.log(25, "a level of its own")
        try:
            raise KeyError("x")  # noqa: TRY301 - to have been raised
        except KeyError as error:
            log.exception("caught")
            log.warning("given", exc_info=error)
        log.warning("a lone \ud800 and a NUL \x00")
        log.error("outside", exc_info=True)  # noqa: LOG014 - a mistake of the author

    with caplog.at_level(logging.CRITICAL, "flowcraft.node"):  # pytest's handler raises at what cannot be formatted
        result = await FlowRuntime(registry={"f": work}).run(single())
    assert result.status == "completed"
    assert [(record.level, record.message) for record in result.logs] == [
        ("INFO", "by mapping"),
        ("ERROR", "no arguments: 100%"),
        ("INFO", "(a record that cannot be formatted: TypeError)"),
        ("INFO", "(a record that cannot be formatted: RuntimeError)"),
        ("Level 25", "a level of its own"),
        ("ERROR", "caught\nKeyError: 'x'"),
        ("WARNING", "given\nKeyError: 'x'"),
        ("WARNING", "a lone \\ud800 and a NUL \x00"),
        ("ERROR", "outside"),
    ]


async def test_a_message_is_what_it_was_when_it_was_logged() -> None:
    async def work(ctx: Ctx) -> None:
        items = [1]
        ctx.log.info("%s", items)
        items.append(2)

    assert [r.message for r in (await FlowRuntime(registry={"f": work}).run(single())).logs] == ["[1]"]


async def test_from_threads_also_from_one_that_outlives_its_visit(clock: VirtualClock) -> None:
    gate, ended = threading.Event(), threading.Event()

    def slow(ctx: Ctx) -> None:
        ctx.log.info("begun")
        gate.wait(20)
        ctx.log.info("too late")
        ended.set()

    result = await FlowRuntime(registry={"f": slow}).run(single(timeout=0.01))
    gate.set()
    await asyncio.to_thread(ended.wait, 20)
    assert result.status == "failed"
    assert [record.message for record in result.logs] == ["begun"]


# ---- bounds


def taken(taker: NoteTaker) -> tuple[list[str], dict[str, Any], int]:
    said = taker.close()
    assert said is not None
    return [row[3] for row in said[0]["logs"]], *said


def test_of_an_execution_the_latest_200_records_are_kept() -> None:
    taker = NoteTaker("a", 1, lambda: 1.0)
    for number in range(200):
        taker.record(logging.INFO, str(number), 1)
    messages, _, count = taken(taker)
    assert (messages, count) == ([str(number) for number in range(200)], 200)
    taker = NoteTaker("a", 1, lambda: 1.0)
    for number in range(1000):
        taker.record(logging.INFO, str(number), 1)
    messages, _, count = taken(taker)
    assert count == len(messages) == 200
    assert messages == ["… 801 earlier records are not kept", *(str(number) for number in range(801, 1000))]


@pytest.mark.parametrize("text", ["x" * 1900, "é" * 1900, "\x00" * 1900, "𐍈" * 1900, "x" * 100_000, '"\\' * 900])
def test_an_execution_takes_at_most_32_kb(text: str) -> None:
    taker = NoteTaker("é" * 100, 10_000, lambda: 1234567890.123456)
    for _ in range(300):
        taker.record(logging.WARNING, text, 12)
    taker.progress(0.123456789, "é" * 500, 12)
    messages, value, count = taken(taker)
    assert len(JsonCodec().encode(value)) <= 32 * 1024
    assert len(json.dumps(value)) <= 32 * 1024
    assert max(map(len, messages)) <= 2000
    assert count == len(messages) >= 2


def test_a_long_message_is_cut() -> None:
    taker = NoteTaker("a", 1, lambda: 1.0)
    taker.record(logging.INFO, "x" * 2000, 1)
    taker.record(logging.INFO, "y" * 2001, 1)
    assert taken(taker)[0] == ["x" * 2000, "y" * 1999 + "…"]


async def test_of_a_run_the_latest_2000_records_are_kept(stored: Stored, backend: Any) -> None:
    async def chatty(ctx: Ctx) -> int:
        for number in range(150):
            ctx.log.info("%d/%d", ctx.visit, number)
        return int(ctx.visit)

    blueprint = Blueprint("b", (Node("a", "chatty"),), (Edge("a", "a", condition="result.output < 30"),))
    _, logs, _ = await stored(blueprint, {"chatty": chatty})
    expected = [f"{visit}/{number}" for visit in range(18, 31) for number in range(150)]
    assert [record.message for record in logs] == expected, "13 whole visits are the most that 2,000 can hold"
    assert len(await backend.store.read_values("r", space="log")) == 13


async def test_many_quiet_visits_then_loud_ones(clock: VirtualClock) -> None:
    """The bound on outcomes, and that no outcome erases more than a few."""
    most = 0

    async def work(ctx: Ctx) -> int:
        for number in range(1 if ctx.visit <= 1200 else 200):
            ctx.log.info("%d/%d", ctx.visit, number)
        return int(ctx.visit)

    blueprint = Blueprint("b", (Node("a", "f"),), (Edge("a", "a", condition="result.output < limit"),))
    for limit, first in ((1200, "201/0"), (1260, "1251/0"), (1300, "1291/0")):
        runtime = FlowRuntime(registry={"f": work}, clock=clock)
        result = await runtime.run(blueprint, context={"limit": limit})
        messages = [record.message for record in result.logs]
        assert (messages[0], messages[-1].partition("/")[0]) == (first, str(limit))
        most = max(most, len(messages))
    assert most <= engine_notes.KEPT_RECORDS


async def test_what_cannot_be_kept_fails_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def work(ctx: Ctx) -> str:
        ctx.log.info("x" * 500)
        return "fine"

    result = await FlowRuntime(registry={"f": work}, codec=JsonCodec(max_bytes=200)).run(single())
    assert (result.output(), result.logs) == ("fine", ())
    assert "what node 'a' said cannot be kept" in caplog.text
