"""One visit: timeout, short retries, threads, outcomes; what counts as the node's failure and what does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from flowcraft import FatalError, FlowRuntime, JsonCodec, Node, NodeContext, Result, Retry
from flowcraft.blueprint import Blueprint
from flowcraft.clock import SystemClock
from flowcraft.engine.draft import MISSING
from flowcraft.errors import LeaseLost, NodeFailed, SerializationError, Unavailable
from flowcraft.executor import INLINE_DELAY, ExecutionOutcome, Executor, VisitRequest
from flowcraft.model import Event
from flowcraft.registry import NodeFunction, Registry, node_function

from .ports.virtual_clock import VirtualClock

Ctx = NodeContext[Any, Any]


async def nothing(keys: Sequence[str] | None) -> Mapping[str, object]:
    return {}


class Bench:
    """An executor with one function, and what it was asked and told."""

    def __init__(self, function: Any, *, never_retry: Sequence[type[BaseException]] = (), **node: Any) -> None:
        self.clock = VirtualClock(0.0)
        self.hints: list[tuple[str, Mapping[str, object]]] = []
        self.node = Node("n", "f", **node)
        self.executor = Executor(
            Registry({"f": node_function("f", function, never_retry=tuple(never_retry))}),
            codec=JsonCodec(),
            clock=self.clock,
            random_source=lambda: 0.25,
        )
        self.read = nothing

    async def run(self, input: object = None, attempt: int = 1) -> ExecutionOutcome:
        request = VisitRequest("r", self.node, 2, attempt, input, self.read, lambda *hint: self.hints.append(hint))
        return await self.executor.run(request)


async def test_a_completed_outcome_is_ready_to_be_stored() -> None:
    async def work(ctx: Ctx) -> Result[Any]:
        await ctx.context.set("key", (1,))
        await ctx.context.delete("gone")
        return Result({"x": ctx.input}, action="go")

    outcome = await Bench(work).run(5)
    assert (outcome.ok, outcome.output, outcome.action, outcome.attempts) == (True, b'{"x":5}', "go", 1)
    assert outcome.writes == {"key": b'{"$fc:tuple":[1]}', "gone": MISSING}


async def test_how_long_the_last_attempt_took() -> None:
    async def work(ctx: Ctx) -> str:
        await bench.clock.sleep(1.0 if ctx.attempt == 1 else 0.25)
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return "done"

    async def outcome_of(made: Bench, *, attempt: int = 1, timed: bool = True) -> ExecutionOutcome:
        request = VisitRequest("r", made.node, 1, attempt, None, nothing, timed=timed)
        task = asyncio.create_task(made.executor.run(request))
        await made.clock.advance(10)
        return await task

    bench = Bench(work, retry=Retry(attempts=2, delay=0.5, jitter=0.0))
    outcome = await outcome_of(bench)
    assert (outcome.ok, outcome.attempts, outcome.took) == (True, 2, 0.25)
    bench = Bench(work)
    outcome = await outcome_of(bench)
    assert (outcome.ok, outcome.took) == (False, 1.0)
    assert (await outcome_of(bench, attempt=2, timed=False)).took is None, "nobody asked"


async def test_a_failed_outcome_tells_why() -> None:
    async def work(ctx: Ctx) -> None:
        raise LookupError("gone") from KeyError("cause")

    outcome = await Bench(work).run()
    assert outcome.error is not None
    assert (outcome.ok, outcome.retryable, outcome.fatal, outcome.attempts, outcome.random) == (
        False,
        True,
        False,
        1,
        0.25,
    )
    assert (outcome.error.kind, outcome.error.text) == ("LookupError", "gone")
    assert "KeyError: 'cause'" in outcome.error.trace
    assert 'raise LookupError("gone")' in outcome.error.trace


async def test_a_function_that_is_not_registered() -> None:
    async def work(ctx: Ctx) -> None: ...

    bench = Bench(work)
    assert bench.executor.can_run(bench.node)
    bench.node = Node("n", "g@2")
    assert not bench.executor.can_run(bench.node)
    outcome = await bench.run()
    assert (outcome.fatal, str(outcome.error)) == (
        True,
        "NodeNotRegistered: no function is registered for 'g@2' (node 'n')",
    )


async def test_a_function_is_found_by_the_name_it_is_registered_under() -> None:
    async def first(ctx: Ctx) -> str:
        return "first"

    async def second(ctx: Ctx) -> str:
        return "second"

    functions = {"a": NodeFunction("b", first), "b": NodeFunction("b", second), "c": NodeFunction("b", first)}
    result = await FlowRuntime(registry=functions).run(Blueprint("x", tuple(Node(name, name) for name in "abc")))
    assert result.outputs == {"a": "first", "b": "second", "c": "first"}


# Retries within the visit.


async def test_short_retries_happen_here_and_long_ones_are_handed_back() -> None:
    calls: list[tuple[int, bool, float]] = []

    async def flaky(ctx: Ctx) -> None:
        calls.append((ctx.attempt, ctx.last_attempt, bench.clock.time()))
        raise ValueError(ctx.attempt)

    bench = Bench(flaky, retry=Retry(attempts=9, delay=0.2, backoff=2.0, jitter=0.0))
    running = asyncio.ensure_future(bench.run())
    await bench.clock.advance(10)
    outcome = await running
    assert calls == [(1, False, 0.0), (2, False, 0.2), (3, False, pytest.approx(0.6))]
    assert (outcome.attempts, outcome.retryable) == (3, True)
    assert INLINE_DELAY < 0.8
    assert bench.hints == [("node:retry", {"attempt": n, "error": f"ValueError: {n}"}) for n in (1, 2)]
    again = await bench.run(attempt=9)
    assert (again.attempts, calls[-1][:2]) == (9, (9, True))


async def test_it_completes_with_the_attempt_that_did() -> None:
    async def flaky(ctx: Ctx) -> str:
        if not ctx.last_attempt:
            raise ValueError
        return "done"

    outcome = await Bench(flaky, retry=Retry(attempts=4, delay=0.0)).run(attempt=2)
    assert (outcome.ok, outcome.attempts) == (True, 4)


@pytest.mark.parametrize(
    ("error", "retryable", "fatal", "calls"),
    [
        (ValueError("x"), True, False, 3),
        (KeyError("x"), False, False, 1),
        (FatalError("x"), True, True, 1),
        (SerializationError("x"), False, False, 1),
        (SystemExit(1), True, False, 3),
        (Unavailable("of a service that the node called"), True, False, 3),
        (NodeFailed("x"), True, False, 3),
        (ExceptionGroup("x", [ValueError()]), True, False, 3),
    ],
)
async def test_what_is_tried_again(error: BaseException, retryable: bool, fatal: bool, calls: int) -> None:
    seen: list[int] = []

    async def work(ctx: Ctx) -> None:
        seen.append(ctx.attempt)
        raise error

    outcome = await Bench(work, retry=Retry(attempts=3, delay=0.0), never_retry=[LookupError]).run()
    assert (outcome.retryable, outcome.fatal, len(seen), outcome.attempts) == (retryable, fatal, calls, calls)


async def test_trouble_of_the_backend_is_no_failure_of_the_node() -> None:
    async def trouble(keys: Sequence[str] | None) -> Mapping[str, object]:
        raise Unavailable("the store is away")

    async def bare(ctx: Ctx) -> None:
        await ctx.context.get("key")

    async def wrapped(ctx: Ctx) -> None:
        try:
            await ctx.context.to_dict()
        except Unavailable as error:
            raise ValueError("my own words") from error

    async def survived(ctx: Ctx) -> str:
        try:
            await ctx.context.has("key")
        except Unavailable:
            return "did without"
        return "had it"

    for function in (bare, wrapped):
        bench = Bench(function, retry=Retry(attempts=3, delay=0.0))
        bench.read = trouble
        with pytest.raises(Unavailable, match="the store is away"):
            await bench.run()
    bench = Bench(survived)
    bench.read = trouble
    assert (await bench.run()).output == b'"did without"'


# Time limits.


async def test_a_timeout_interrupts_the_attempt_and_counts_as_one() -> None:
    ends: list[str] = []

    async def slow(ctx: Ctx) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append(f"cancelled {ctx.attempt}")
            raise

    outcome = await Bench(slow, timeout=0.005, retry=Retry(attempts=2, delay=0.0)).run()
    assert ends == ["cancelled 1", "cancelled 2"]
    assert str(outcome.error) == "NodeTimedOut: node 'n' ran longer than its timeout of 0.005 s"
    assert outcome.retryable


async def test_a_timeout_follows_the_clock() -> None:
    """Virtual seconds count: a node that sleeps for an hour of them is interrupted after its thirty."""
    woken: list[float] = []

    async def slow(ctx: Ctx) -> str:
        try:
            await bench.clock.sleep(10.0 if ctx.attempt == 2 else 3600.0)
        finally:
            woken.append(bench.clock.monotonic())
        return "in time"

    bench = Bench(slow, timeout=30, retry=Retry(attempts=2, delay=0.4, jitter=0.0))
    running = asyncio.create_task(bench.run())
    await bench.clock.advance(29.9)
    assert woken == []
    await bench.clock.advance(60)
    outcome = await running
    assert (outcome.ok, outcome.output, outcome.attempts) == (True, b'"in time"', 2)
    assert woken == [30.0, 40.4], "the delay between the attempts is of this clock, too"
    assert bench.clock.next_wake() is None, "nobody is left who watches"


async def test_a_timeout_is_watched_by_nobody_when_time_is_real_and_by_nobody_any_more_when_it_is_over() -> None:
    async def count(ctx: Ctx) -> int:
        return len(asyncio.all_tasks())

    before = len(asyncio.all_tasks())
    real = Bench(count, timeout=60)
    real.executor = Executor(Registry({"f": node_function("f", count)}), codec=JsonCodec(), clock=SystemClock())
    assert (await real.run()).output == str(before).encode()
    for bench, tasks in ((Bench(count), before), (Bench(count, timeout=60), before + 1)):
        assert (await bench.run()).output == str(tasks).encode()
        assert len(asyncio.all_tasks()) == before


async def test_a_timeout_error_of_the_node_itself_is_told_apart() -> None:
    async def impatient(ctx: Ctx) -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    async def raises(ctx: Ctx) -> None:
        raise TimeoutError("of a socket")

    assert (await Bench(impatient, timeout=60).run()).error.kind == "TimeoutError"  # type: ignore[union-attr]
    assert str((await Bench(raises, timeout=60).run()).error) == "TimeoutError: of a socket"


async def test_what_a_node_makes_of_its_timeout_counts() -> None:
    async def rescued(ctx: Ctx) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half of it"
        return "all of it"

    async def broken(ctx: Ctx) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("while cleaning up")

    assert (await Bench(rescued, timeout=0.005).run()).output == b'"half of it"'
    assert str((await Bench(broken, timeout=0.005).run()).error) == "ValueError: while cleaning up"


async def test_a_cancellation_from_outside_passes() -> None:
    attempts: list[int] = []
    started = asyncio.Event()

    async def slow(ctx: Ctx) -> None:
        attempts.append(ctx.attempt)
        started.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(Bench(slow, timeout=60, retry=Retry(attempts=3, delay=0.0)).run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert attempts == [1]


async def test_a_cancellation_between_attempts_passes() -> None:
    async def work(ctx: Ctx) -> None:
        raise ValueError

    bench = Bench(work, retry=Retry(attempts=3, delay=0.4))
    running = asyncio.ensure_future(bench.run())
    await bench.clock.advance(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_cancelled_visit_is_not_tried_again_whatever_it_raises() -> None:
    attempts: list[int] = []
    started = asyncio.Event()

    async def stubborn(ctx: Ctx) -> None:
        attempts.append(ctx.attempt)
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("instead") from None

    running = asyncio.ensure_future(Bench(stubborn, retry=Retry(attempts=3, delay=0.0)).run())
    await started.wait()
    running.cancel()
    assert str((await running).error) == "ValueError: instead"
    assert attempts == [1]


# Blocking functions.


async def test_plain_functions_run_in_threads_side_by_side() -> None:
    barrier = threading.Barrier(3, timeout=20)

    def meet(ctx: Ctx) -> bool:
        barrier.wait()
        return threading.current_thread() is threading.main_thread()

    nodes = tuple(Node(name, "meet") for name in "abc")
    result = await FlowRuntime(registry={"meet": meet}).run(Blueprint("b", nodes))
    assert result.raise_for_failure().outputs == dict.fromkeys("abc", False)


async def test_the_output_of_an_async_generator_is_the_list_of_what_it_yields() -> None:
    async def stream(ctx: Ctx) -> Any:
        for number in range(3):
            yield number + ctx.input

    assert (await Bench(stream).run(10)).output == b"[10,11,12]"


async def test_the_loop_goes_on_while_a_thread_works() -> None:
    gate = threading.Event()

    def wait(ctx: Ctx) -> bool:
        return gate.wait(20)

    async def release(ctx: Ctx) -> None:
        gate.set()

    result = await FlowRuntime(registry={"gate": wait, "release": release}).run(
        Blueprint("b", (Node("wait", "gate"), Node("release", "release")))
    )
    assert result.output("wait") is True


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(2), KeyError("x"), StopIteration("x"), FatalError("x")])
async def test_errors_of_a_thread_are_the_nodes_errors(error: BaseException) -> None:
    def work(ctx: Ctx) -> None:
        raise error

    outcome = await Bench(work).run()
    assert outcome.error is not None
    if isinstance(error, StopIteration):
        assert str(outcome.error) == "RuntimeError: the node's function raised StopIteration"
    else:
        assert outcome.error.kind == type(error).__name__
    assert outcome.fatal == isinstance(error, FatalError)


async def test_a_thread_is_not_waited_for_after_a_timeout() -> None:
    gate, ended = threading.Event(), threading.Event()

    def slow(ctx: Ctx) -> str:
        gate.wait(20)
        ctx.progress(1.0)
        ended.set()
        return "too late"

    bench = Bench(slow, timeout=0.005)
    assert (await bench.run()).error.kind == "NodeTimedOut"  # type: ignore[union-attr]
    gate.set()
    await asyncio.to_thread(ended.wait, 20)


async def test_a_plain_function_around_an_async_one_is_awaited_on_the_loop() -> None:
    async def inner(ctx: Ctx) -> bool:
        return threading.current_thread() is threading.main_thread()

    assert (await Bench(lambda ctx: inner(ctx)).run()).output == b"true"  # noqa: PLW0108 - a plain one, that is the point


async def test_progress_of_a_thread_is_told_on_the_loop() -> None:
    told: list[tuple[str, bool]] = []

    def listener(event: Event) -> None:
        told.append((event.type, threading.current_thread() is threading.main_thread()))

    def work(ctx: Ctx) -> None:
        ctx.progress(0.5)

    runtime = FlowRuntime(registry={"work": work}, listeners=[listener])
    await runtime.run(Blueprint("b", (Node("a", "work"),)))
    assert [kind for kind, _ in told][1:4] == ["node:started", "node:progress", "node:completed"]
    assert all(on_the_loop for _, on_the_loop in told)


# The log.


async def test_the_log_of_a_node_knows_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def work(ctx: Ctx) -> None:
        ctx.log.warning("look at %s", "this", extra={"mine": 1})

    await Bench(work).run(attempt=3)
    record = caplog.records[0]
    assert (record.name, record.getMessage()) == ("flowcraft.node", "look at this")
    found = {key: record.__dict__[key] for key in ("run_id", "node_id", "visit", "attempt", "mine")}
    assert found == {"run_id": "r", "node_id": "n", "visit": 2, "attempt": 3, "mine": 1}


async def test_errors_of_adapters_in_user_code_follow_the_retry_policy() -> None:
    calls: list[int] = []

    async def starts_another_run(ctx: Ctx) -> str:
        calls.append(ctx.attempt)
        if ctx.attempt < 3:
            raise LeaseLost("of something else")
        return "done"

    runtime = FlowRuntime(registry={"f": starts_another_run})
    result = await runtime.run(Blueprint("b", (Node("a", "f", retry=Retry(attempts=3, delay=0.0)),)))
    assert (result.output(), calls) == ("done", [1, 2, 3])
