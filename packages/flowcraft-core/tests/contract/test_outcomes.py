"""Every outcome of a check, and what it takes to get it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from dataclasses import replace

import pytest

from flowcraft.conformance import Env, Place, Ports, Target, Violated, equal, target
from flowcraft.conformance.attempt import limit
from flowcraft.conformance.contract.processes import write_on
from flowcraft.conformance.expecting import Blocked
from flowcraft.conformance.facts import Facts
from flowcraft.conformance.results import Result
from flowcraft.conformance.runner import _modest, _unoffered, look_at, run
from flowcraft.conformance.target import PortName
from flowcraft.conformance.targets import memory, sqlite
from flowcraft.errors import InvalidRequest, Unavailable
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Capabilities
from flowcraft.testing import VirtualClock

from .making import Step, changed, check, holds
from .steps import never_done

NUMBER: ContextVar[int] = ContextVar("number", default=0)


async def one(run_check: Step = holds, on: Target = memory, **more: object) -> Result:
    report = await run(on, [check(run_check, **more)])
    assert len(report.results) == 1
    return report.results[0]


async def test_pass() -> None:
    found = await one()
    assert (found.outcome, found.evidence, found.trace) == ("pass", "", "")


async def test_a_violation_fails_with_what_was_seen_and_where() -> None:
    async def wrong(env: Env) -> None:
        equal(1, 2, "the number")

    found = await one(wrong)
    assert (found.outcome, found.evidence) == ("fail", "the number: expected 2, got 1")
    assert found.trace.startswith("test_outcomes.py:")
    assert "wrong" in found.trace
    assert "attempt.py" not in found.trace


@pytest.mark.parametrize("error", [NotImplementedError("later"), NotImplementedError(), Unavailable("gone"), OSError()])
async def test_any_exception_fails(error: Exception) -> None:
    async def broken(env: Env) -> None:
        raise error

    found = await one(broken)
    assert found.outcome == "fail"
    assert found.evidence == (f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


async def test_the_first_of_a_group_is_the_evidence() -> None:
    async def broken(env: Env) -> None:
        raise ExceptionGroup("several", [ExceptionGroup("inner", [Violated("the first")]), ValueError("the second")])

    assert (await one(broken)).evidence == "the first"


async def test_a_check_that_hangs_fails_when_its_time_is_over() -> None:
    async def hangs(env: Env) -> None:
        await asyncio.Event().wait()

    found = await one(hangs, timeout=0.05)
    assert found.outcome == "fail"
    assert found.evidence.startswith("not within 0.05 s")


async def test_a_check_that_waits_for_another_process_in_vain_says_so() -> None:
    async def waits(env: Env) -> None:
        await env.elsewhere(never_done)

    found = await one(waits, sqlite, timeout=0.5)
    told = "not within 0.5 s; the process of never_done had not said that it was done; TimeoutError"
    assert (found.outcome, found.evidence) == ("fail", told)


async def test_a_store_that_keeps_the_event_loop_to_itself_is_told_so() -> None:
    found = await one(
        write_on, memory
    )  # whose methods never yield; it is not durable, so the check itself leaves it out
    assert found.outcome == "fail"
    assert found.evidence.startswith("40")
    assert found.evidence.endswith("a method that never waits must yield to the event loop")


async def test_a_cancellation_that_nobody_asked_for_fails() -> None:
    async def cancels(env: Env) -> None:
        raise asyncio.CancelledError

    found = await one(cancels)
    assert found.outcome == "fail"
    assert "nobody cancelled anything" in found.evidence


async def test_cancelling_the_run_ends_it_and_drops_the_place() -> None:
    began, dropped = asyncio.Event(), []

    async def hangs(env: Env) -> None:
        began.set()
        await asyncio.Event().wait()

    async def drop(place: Place) -> None:
        dropped.append(place.namespace)

    async def later(env: Env) -> None:
        dropped.append("a check was run after the end")

    some = [check(hangs), check(later, "store.t.two")]
    running = asyncio.create_task(run(replace(memory, drop=drop, leftovers=None), some))
    await began.wait()
    seen = len(dropped)  # the place in which the target was looked at
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(dropped) == seen + 1


async def test_a_target_that_swallows_exceptions_hides_no_failure() -> None:
    @target("swallows", offers=["store"], virtual_time=True)
    async def swallows(place: Place) -> AsyncGenerator[Ports]:
        try:
            yield Ports(MemoryRunStore(place.clock))
        except BaseException:  # noqa: BLE001 - that is the point
            return

    async def wrong(env: Env) -> None:
        raise Violated("wrong")

    assert (await one(wrong, swallows)).outcome == "fail"


async def test_a_port_that_is_not_offered_is_not_applicable() -> None:
    found = await one(on=replace(memory, offers=frozenset({"queue"})))
    assert (found.outcome, found.evidence) == ("not applicable", "the target does not offer 'store'")


async def test_a_port_that_is_offered_and_not_opened_fails() -> None:
    async def uses(env: Env) -> None:
        await env.values.delete_run("run")

    found = await one(uses, changed(lambda ports: replace(ports, values=None)), name="values.t.one", port="values")
    assert found.outcome == "fail"
    assert "opened none" in found.evidence


@pytest.mark.parametrize(
    ("needs", "port", "outcome"),
    [
        ({"durable"}, "store", "not applicable"),
        ({"durable"}, "events", "not applicable"),
        ({"history"}, "store", "pass"),
        ({"history"}, "system", "pass"),
        ({"history"}, "queue", "not applicable"),  # each port's own capabilities count
        ({"!history"}, "store", "not applicable"),
        ({"!durable"}, "queue", "pass"),
        ({"visibility"}, "queue", "pass"),
        ({"visibility"}, "system", "pass"),
        ({"visibility"}, "store", "not applicable"),
        ({"!max_delay"}, "queue", "pass"),
        ({"max_value_bytes", "history"}, "store", "pass"),
        ({"bound"}, "store", "pass"),
        ({"bound"}, "coordination", "pass"),
        ({"!bound"}, "queue", "not applicable"),
        ({"leftovers"}, "store", "pass"),
    ],
)
async def test_requirements(needs: set[str], port: str, outcome: str) -> None:
    assert (await one(requires=frozenset(needs), port=port)).outcome == outcome


async def test_a_port_without_any_capabilities_must_hold_what_is_declared_by_default() -> None:
    alone = changed(lambda ports: Ports(coordination=ports.coordination), offers=frozenset({"coordination"}))
    assert (await one(on=alone, port="coordination", requires=frozenset({"durable"}))).outcome == "pass"


async def test_a_store_that_declares_nothing_does_not_hide_behind_its_queue() -> None:
    def undeclared(ports: Ports) -> Ports:
        ports.store.capabilities = None  # type: ignore[union-attr, assignment]
        return ports

    silent = changed(undeclared)
    assert (await one(on=silent, requires=frozenset({"durable"}))).outcome == "pass"
    assert (await one(on=silent, requires=frozenset({"durable"}), port="events")).outcome == "not applicable"


async def test_a_limit_of_nothing_is_a_limit() -> None:
    def never_later(ports: Ports) -> Ports:
        ports.queue.capabilities = replace(ports.queue.capabilities, max_delay=0.0)  # type: ignore[union-attr]
        return ports

    limited = changed(never_later)
    assert (await one(on=limited, requires=frozenset({"max_delay"}), port="queue")).outcome == "pass"
    assert (await one(on=limited, requires=frozenset({"!max_delay"}), port="queue")).outcome == "not applicable"


async def test_context_variables_of_a_check_are_its_own() -> None:
    seen: list[int] = []

    async def sets(env: Env) -> None:
        seen.append(NUMBER.get())
        NUMBER.set(7)

    await run(memory, [check(sets), check(sets, "store.t.two")])
    assert seen == [0, 0]


async def test_an_unbound_store_is_not_bound() -> None:
    class Unbound(MemoryRunStore):
        def bind(self, queue: object) -> bool:
            return False

    unbound = changed(lambda ports: replace(ports, store=Unbound(VirtualClock())))
    assert (await one(on=unbound, requires=frozenset({"bound"}))).outcome == "not applicable"


async def test_a_requirement_that_does_not_exist_is_a_mistake_of_the_check() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await one(requires=frozenset({"speed"}))
    assert "'speed'" in str(caught.value.exceptions[0])


async def test_a_missing_tool_blocks_and_tells_what_to_do() -> None:
    found = await one(on=replace(memory, leftovers=None), requires=frozenset({"leftovers"}))
    assert found.outcome == "blocked"
    assert "`leftovers`" in found.evidence
    hidden = replace(memory, open=changed(lambda ports: ports).open)  # made in a function: nobody else finds it
    assert (await one(on=hidden, requires=frozenset({"elsewhere"}))).outcome == "blocked"


async def test_a_check_may_say_that_it_is_blocked() -> None:
    async def cannot(env: Env) -> None:
        raise Blocked("install this")

    found = await one(cannot)
    assert (found.outcome, found.evidence) == ("blocked", "Blocked: install this")


def failing_to_open(error: Exception, after: int = 0) -> Target:
    opened = 0

    @target("shut", offers=["store", "queue"], virtual_time=True)
    async def shut(place: Place) -> AsyncGenerator[Ports]:
        nonlocal opened
        opened += 1
        if opened > after:
            raise error
        yield Ports(MemoryRunStore(place.clock))

    return shut


async def test_a_backend_that_is_not_there_blocks_everything() -> None:
    report = await run(failing_to_open(ConnectionRefusedError("no answer")), [check(), check(name="queue.t.two")])
    assert [found.outcome for found in report.results] == ["blocked", "blocked"]
    assert "no answer" in report.results[0].evidence
    assert (report.levels, report.overall) == ({"queue": 0, "store": 0}, 0)


async def test_a_backend_that_goes_away_blocks_what_comes_later() -> None:
    report = await run(failing_to_open(Unavailable("gone"), after=2), [check(), check(name="store.t.two")])
    assert [found.outcome for found in report.results] == ["pass", "blocked"]


async def test_an_opening_that_is_broken_fails() -> None:
    report = await run(failing_to_open(TypeError("a mistake"), after=1), [check()])
    assert [found.outcome for found in report.results] == ["fail"]


async def test_a_deviation_that_fails_keeps_its_reason_and_its_evidence() -> None:
    async def wrong(env: Env) -> None:
        raise Violated("seen")

    found = await one(wrong, replace(memory, deviations={"store.t.one": "ticket 7"}))
    assert (found.outcome, found.evidence) == ("deviation", "ticket 7 (seen)")


async def test_a_deviation_that_passes_is_a_warning() -> None:
    report = await run(replace(memory, deviations={"store.t.one": "ticket 7", "store.t.no": "gone"}), [check()])
    assert report.results[0].outcome == "pass"
    assert report.warnings == (
        "the deviation 'store.t.one' is declared, but the check passes: remove it",
        "the deviation 'store.t.no' names no check of this profile",
    )


async def test_a_deviation_needs_a_reason() -> None:
    with pytest.raises(InvalidRequest, match=r"store\.t\.one.*without a reason"):
        await run(replace(memory, deviations={"store.t.one": " "}), [check()])


async def test_what_is_left_after_the_place_was_dropped_fails_a_check_that_passed() -> None:
    async def keeps(place: Place) -> list[str]:
        return [f"{place.namespace}/key"]

    found = await one(on=replace(memory, leftovers=keeps))
    assert found.outcome == "fail"
    assert "left of a place" in found.evidence
    assert "/key" in found.evidence
    assert "opened 1 times and closed 1 times" in found.evidence


async def test_what_is_left_is_told_with_how_often_the_place_was_opened_and_closed() -> None:
    async def keeps(place: Place) -> list[str]:
        return ["key"]

    async def opens(env: Env) -> None:
        async with env.again():
            await env.again().__aenter__()  # as a worker that is killed does

    assert "opened 3 times and closed 2 times" in (await one(opens, replace(memory, leftovers=keeps))).evidence


async def test_a_place_that_cannot_be_dropped_fails_a_check_that_passed() -> None:
    async def broken(place: Place) -> None:
        raise ValueError("no such table")

    found = await one(on=replace(memory, drop=broken))
    assert (found.outcome, found.evidence) == (
        "fail", "its place cannot be dropped: ValueError: no such table",
    )  # fmt: skip


async def test_closing_that_raises_fails_a_check_that_passed() -> None:
    @target("leaks", offers=["store"], virtual_time=True)
    async def leaks(place: Place) -> AsyncGenerator[Ports]:
        yield Ports(MemoryRunStore(place.clock))
        raise RuntimeError("still in use")

    assert (await one(on=leaks)).evidence == "closing the ports raised RuntimeError: still in use"


async def test_each_check_has_a_place_a_clock_and_numbers_of_its_own() -> None:
    seen: list[tuple[str, float, float]] = []

    async def looks(env: Env) -> None:
        assert isinstance(env.clock, VirtualClock)
        await env.lapse(100.0)
        seen.append((env.place.namespace, env.clock.now, env.rng.random()))

    twins = [check(looks, "store.T.a-very-long-name/with Ünusual'characters"), check(looks, "store.t.two")]
    await run(memory, twins)
    await run(memory, twins[:1])
    assert len({namespace for namespace, _, _ in seen}) == 3
    assert all(len(name) <= 40 and name.replace("-", "").isalnum() and name.islower() for name, _, _ in seen)
    assert {now for _, now, _ in seen} == {1_000_100.0}
    assert seen[0][2] == seen[2][2] != seen[1][2]


@pytest.mark.parametrize(
    ("virtual", "port", "alone", "width"),
    [
        (False, "store", False, 4), (True, "store", False, 1), (False, "store", True, 1),
        (False, "system", False, 1), (True, "system", False, 1),
    ],
)  # fmt: skip
async def test_only_checks_of_ports_on_real_time_wait_side_by_side(
    virtual: bool, port: PortName, alone: bool, width: int
) -> None:
    running, most = 0, 0

    async def waits(env: Env) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(20):
            await asyncio.sleep(0)
        running -= 1

    some = [check(waits, f"{port}.t.{number}", alone=alone) for number in range(6)]
    report = await run(replace(memory, virtual_time=virtual), some)
    assert (report.count("pass"), most) == (6, width)


def test_real_time_gets_more_time() -> None:
    assert limit(memory, check(timeout=3.0)) == 3.0
    assert limit(replace(memory, virtual_time=False, unit=0.1, settle=1.0), check(timeout=3.0)) == 33.0


async def test_results_are_heard_at_once_and_told_in_the_order_of_the_catalogue() -> None:
    heard: list[str] = []
    checks = [check(name="system.t.last", port="system"), check(name="store.t.one"), check(name="queue.t.two")]
    report = await run(memory, checks, heard=lambda found: heard.append(found.check_id))
    assert heard == ["store.t.one", "queue.t.two", "system.t.last"]
    assert [found.check_id for found in report.results] == ["system.t.last", "store.t.one", "queue.t.two"]


async def test_what_works_and_is_not_declared_is_a_warning() -> None:
    async def fails(env: Env) -> None:
        raise Violated("no")

    def declare_less(ports: Ports) -> Ports:
        assert isinstance(ports.store, MemoryRunStore)
        ports.store.capabilities = Capabilities(durable=False, history=False)
        return ports

    modest = changed(declare_less)
    found = await look_at(modest)
    assert isinstance(found, Facts)
    some = [check(requires=frozenset({"history"})), check(name="queue.t.one", requires=frozenset({"durable"}))]
    assert await _modest(modest, found, some) == [
        "'durable' is not declared, but all that needs it holds: declare it",
        "'history' is not declared, but all that needs it holds: declare it",
    ]
    some += [check(fails, f"{port}.t.two", requires=some[n].requires) for n, port in enumerate(("store", "queue"))]
    assert await _modest(modest, found, some) == []
    assert await _modest(modest, found, [check(requires=frozenset({"history", "bound", "durable"}))]) == []


async def test_what_is_opened_and_not_offered_is_a_warning() -> None:
    found = await look_at(replace(memory, offers=frozenset({"store", "system"})))
    assert isinstance(found, Facts)
    assert _unoffered(found)[0] == "the target opens 'coordination', but does not offer it"
    assert len(_unoffered(found)) == 4


async def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"no profile '1999\.1' \(there are: 2026\.1"):
        await run(memory, [check()], profile="1999.1")


async def test_sqlite_leaves_nothing_behind() -> None:
    async def stores(env: Env) -> None:
        await env.coordination.increment("key", 5.0)

    assert (await one(stores, sqlite, port="coordination")).outcome == "pass"
