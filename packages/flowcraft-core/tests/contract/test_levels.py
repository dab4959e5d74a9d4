"""Levels are reached by what was shown, and by nothing else; also by backends that would rather not be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

from flowcraft.conformance import Check, Env, Place, Ports, Target, Violated
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.facts import Facts
from flowcraft.conformance.levels import hindrance, levels, overall
from flowcraft.conformance.profiles import in_profile
from flowcraft.conformance.results import OUTCOMES, Outcome, Result
from flowcraft.conformance.runner import examine, look_at, run
from flowcraft.conformance.target import PortName
from flowcraft.conformance.targets import memory, sqlite
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Capabilities, NewRun

from .making import DURABLE, changed, check, result

EMBEDDED = replace(DURABLE, store=Capabilities(durable=False), queue=Capabilities(durable=False))
STORE: frozenset[PortName] = frozenset({"store"})


def level(*results: Result, facts: Facts = DURABLE) -> int:
    return levels(results, replace(facts, offers=STORE))["store"]


def test_nothing_shown_is_no_level() -> None:
    assert level() == 0
    assert levels([], DURABLE) == dict.fromkeys(
        ["coordination", "events", "queue", "store", "system", "values"], 0
    )  # fmt: skip


def test_a_level_needs_all_below() -> None:
    assert level(*(result("pass", number) for number in (1, 2, 3, 4))) == 4
    assert level(result("pass", 1), result("pass", 2)) == 2
    assert level(result("fail", 1), result("pass", 2), result("pass", 3)) == 0


@pytest.mark.parametrize("outcome", [outcome for outcome in OUTCOMES if outcome not in {"pass", "not applicable"}])
def test_one_check_that_does_not_certify_caps_the_level(outcome: Outcome) -> None:
    shown = [result("pass", number) for number in (1, 2, 3, 4)]
    for number in (1, 2, 3, 4):
        assert level(*shown, result(outcome, number, name="two")) == number - 1


def test_not_applicable_alone_reaches_nothing() -> None:
    assert level(result("not applicable", 1)) == 0
    assert level(result("pass", 1), result("not applicable", 2), result("pass", 3)) == 1
    assert level(result("pass", 1), result("not applicable", 1, name="two")) == 1
    assert level(result("pass", 1), result("pass", 2), result("not applicable", 2, name="two")) == 2


def test_a_level_without_checks_is_passed_over_and_never_the_end() -> None:
    assert level(result("pass", 1), result("pass", 3)) == 3
    assert level(result("pass", 1), result("fail", 3)) == 1


def test_what_is_not_durable_is_embedded_at_best() -> None:
    assert level(*(result("pass", number) for number in (1, 2, 3, 4)), facts=EMBEDDED) == 1


def test_the_whole_falls_no_port_short() -> None:
    shown = [result("pass", number, port) for number in (1, 2, 3) for port in DURABLE.offers]
    assert overall(shown, DURABLE) == 3
    assert overall([*shown, result("fail", 3, "values", "two")], DURABLE) == 2
    assert overall([*shown, result("deviation", 1, "system", "two")], DURABLE) == 0
    assert overall([r for r in shown if r.port != "system"], DURABLE) == 0
    assert overall(shown, EMBEDDED) == 1
    assert overall(shown, replace(DURABLE, offers=STORE)) == 0
    assert overall([result("pass", 4, "system"), result("pass", 1, "system")], DURABLE) == 4


def test_what_holds_a_port_back_is_told() -> None:
    rows = [result("pass", 1), result("blocked", 3), result("fail", 2, name="two")]
    assert hindrance(rows, DURABLE, "store") == "store.t2.two (fail)"
    assert hindrance(rows, DURABLE, "queue") == "nothing that was shown"
    assert hindrance(rows[:1], DURABLE, "store") == ""
    assert hindrance(rows[:1], EMBEDDED, "store") == "what it is: not durable"


def test_a_profile_has_no_later_checks() -> None:
    dated = [check(name=f"store.t.{since}", since=since) for since in ("2026.1", "2025.12", "2026.2", "2026.10")]
    assert [each.since for each in in_profile(dated, "2026.1")] == ["2026.1", "2025.12"]


# ---- backends that skip


@pytest.mark.parametrize("only", [lambda _: True, lambda check: check.port == "values", lambda _: False])
async def test_a_selection_certifies_nothing(only: object) -> None:
    few = [check for check in CATALOGUE if check.id.startswith(("store.create", "values.remains"))]
    report = await run(memory, few, only=only)  # type: ignore[arg-type]
    assert not report.complete
    assert (set(report.levels.values()), report.overall) == ({0}, 0)


async def test_fewer_checks_than_the_catalogue_certify_nothing() -> None:
    report = await run(memory, [check for check in CATALOGUE if check.id.startswith("store.create")])
    assert report.count("pass") == len(report.results) > 0
    assert not report.complete
    assert set(report.levels.values()) == {0}


class _NotYet(MemoryRunStore):
    """A store of which one method is still to be written."""

    async def create(self, new: NewRun) -> object:  # type: ignore[override]
        raise NotImplementedError


def lazy() -> Target:
    from flowcraft.testing import VirtualClock  # noqa: PLC0415 - only here

    return changed(lambda ports: replace(ports, store=_NotYet(VirtualClock())))


async def shown(target: Target, checks: Sequence[Check]) -> dict[PortName, int]:
    """The levels that these checks alone would give, had they been all that there are."""
    found = await look_at(target)
    assert isinstance(found, Facts)
    results = [await examine(target, found, each) for each in checks]
    return levels(results, found)


def of_store() -> list[Check]:
    wanted = ("store.create.", "store.loss.", "store.remains.", "values.")
    return [each for each in in_profile(CATALOGUE, "2026.1") if each.id.startswith(wanted)]


async def test_a_method_that_is_not_implemented_costs_the_level() -> None:
    assert (await shown(memory, of_store()))["store"] == 1
    assert (await shown(lazy(), of_store()))["store"] == 0


@pytest.mark.timeout(180)
async def test_a_whole_run_on_a_store_with_a_method_that_is_not_implemented() -> None:
    report = await run(lazy())
    assert report.complete
    assert (report.levels["store"], report.overall) == (0, 0)
    by_id = {found.check_id: found for found in report.results}
    assert by_id["store.create.one-winner"].evidence == "NotImplementedError"
    assert {found.outcome for found in report.results} == {"pass", "fail", "not applicable"}
    assert report.levels["values"] == 1


async def test_a_deviation_costs_the_level() -> None:
    excused = replace(lazy(), deviations={each.id: "we know" for each in CATALOGUE})
    assert (await shown(excused, of_store()))["store"] == 0


async def test_offering_less_gives_no_level_for_what_is_not_offered() -> None:
    less = replace(memory, offers=frozenset[PortName]({"store", "system"}))
    assert set(await shown(less, of_store())) == {"store", "system"}
    none = replace(memory, offers=frozenset[PortName]())
    assert await shown(none, of_store()) == {}
    assert overall([], Facts(frozenset())) == 0


async def test_declaring_less_gives_less() -> None:
    """SQLite that says it were not durable is embedded, though everything holds."""
    assert (await shown(sqlite, of_store()))["store"] == 2

    def humble(ports: Ports) -> Ports:
        ports.store.capabilities = Capabilities(durable=False)  # type: ignore[union-attr]
        return ports

    assert (await shown(changed(humble), of_store()))["store"] == 1


async def test_declaring_more_than_holds_fails() -> None:
    """Memory that says it were durable: what another process stored is not there."""

    def boast(ports: Ports) -> Ports:
        ports.store.capabilities = Capabilities(durable=True)  # type: ignore[union-attr]
        return ports

    boastful = replace(changed(boast), source="flowcraft.conformance.targets:memory")
    loss = next(each for each in CATALOGUE if each.id == "store.loss.survives-kill")
    found = await examine(boastful, await look_at(boastful), loss)
    assert (found.outcome, found.evidence) == ("fail", "the document is not there")


async def test_a_target_that_nobody_else_finds_is_not_durable_for_it() -> None:
    def nameless(place: Place) -> AbstractAsyncContextManager[Ports]:
        return sqlite.open(place)

    hidden = replace(sqlite, open=nameless)
    loss = [each for each in CATALOGUE if each.id == "store.loss.survives-kill"]
    some = [check(name="store.t.one"), *loss]
    assert (await shown(hidden, some))["store"] == 1


async def test_hanging_costs_the_level() -> None:
    async def hangs(env: Env) -> None:
        await env.eventually(_never, 3600.0, "the end")

    assert (await shown(memory, [check(), check(hangs, "store.t.two", timeout=0.1)]))["store"] == 0


async def _never() -> bool:
    return False


async def test_violations_of_one_port_do_not_touch_another() -> None:
    async def wrong(env: Env) -> None:
        raise Violated("wrong")

    found = await shown(memory, [check(wrong, "store.t.one"), check(name="values.t.one")])
    assert (found["store"], found["values"]) == (0, 1)
