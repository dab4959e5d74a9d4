"""Schedules: what is kept, what fires when, what is made up for, and who fires it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint, Node
from flowcraft.codec import JsonCodec
from flowcraft.codecs import EncryptingCodec
from flowcraft.errors import (
    CronError,
    DefinitionError,
    InvalidRequest,
    RunNotFound,
    ScheduleConflict,
    ScheduleNotFound,
    SerializationError,
)
from flowcraft.model import RUN_INPUT, Change
from flowcraft.recurrence import Cron, Every
from flowcraft.schedules import run_id_at

from .places import Place, faults, killed, report

HOUR = 3600.0
DAY = 24 * HOUR


def at(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def move(place: Place, text: str) -> None:
    place.clock.now = at(text)


async def tick(adapter: Adapter, times: int = 1) -> None:
    ticker = adapter.ticker()
    for _ in range(times):
        await ticker.run_once()


@pytest.fixture(autouse=True)
def today(place: Place) -> None:
    move(place, "2026-01-10T08:30:10")


# ---- what is kept


async def test_create_and_look(place: Place) -> None:
    schedules = place.adapter.schedules
    made = await schedules.create(
        "nightly", "report", cron="0 2 * * *", timezone="Europe/Berlin", input={"n": 1}, catch_up="latest"
    )
    assert (made.id, made.flow, made.pinned, made.catch_up) == ("nightly", "report", None, "latest")
    assert made.recurrence == Cron("0 2 * * *", "Europe/Berlin")
    assert made.next_time == at("2026-01-11T02:00:00+01:00")
    assert (made.paused, made.last_time, made.last_run_id, made.created_at) == (False, None, None, place.clock.now)
    other = (await place.process()).schedules
    assert await other.get("nightly") == made
    assert await other.read_input("nightly") == {"n": 1}
    [row] = await place.documents("schedule")
    assert (row.blueprint_id, row.wake_at, row.status) == ("report", made.next_time, "active")
    stored = await place.store.load("nightly", kind="schedule")
    assert stored is not None
    assert json.loads(stored.head)["cron"] == ["0 2 * * *", "Europe/Berlin"]


async def test_repeating_create_changes_nothing_and_another_is_refused(place: Place) -> None:
    schedules = place.adapter.schedules
    made = await schedules.create("s", "report", every=60, input=1)
    place.clock.now += 90
    assert await schedules.create("s", "report", every=60.0, input=1) == made
    many = await asyncio.gather(*(schedules.create("t", report, cron="@daily") for _ in range(20)))
    assert len(set(many)) == 1
    for options in (
        {"every": 61, "input": 1}, {"every": 60, "input": 2}, {"every": 60, "input": 1, "start": 5.0},
        {"cron": "* * * * *", "input": 1}, {"every": 60, "input": 1, "catch_up": "all"},
        {"every": 60, "input": 1, "pin": True},
    ):  # fmt: skip
        with pytest.raises(ScheduleConflict, match="there is a schedule 's' already"):
            await schedules.create("s", "report", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, InvalidRequest),
        ({"cron": "@daily", "every": 5}, InvalidRequest),
        ({"cron": "@daily", "start": 5}, InvalidRequest),
        ({"every": 5, "timezone": "UTC"}, InvalidRequest),
        ({"cron": "@daily", "catch_up": "some"}, InvalidRequest),
        ({"cron": "61 * * * *"}, CronError),
        ({"cron": "@daily", "timezone": "Mars/Olympus"}, DefinitionError),
        ({"every": 0.5}, DefinitionError),
        ({"every": "5"}, DefinitionError),
        ({"cron": "@daily", "input": object()}, SerializationError),
        ({"cron": "@daily", "flow": "unknown"}, DefinitionError),
        ({"cron": "@daily", "id": ""}, InvalidRequest),
        ({"cron": "@daily", "id": "x" * 171}, InvalidRequest),
    ],
)  # fmt: skip
async def test_what_cannot_be(place: Place, options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await place.adapter.schedules.create(**{"id": "s", "flow": "report", **options})
    assert await place.documents("schedule") == []


async def test_what_is_not_there(place: Place) -> None:
    schedules = place.adapter.schedules
    for call in (schedules.get, schedules.read_input, schedules.pause, schedules.resume, schedules.delete,
                 schedules.trigger):  # fmt: skip
        with pytest.raises(ScheduleNotFound, match="there is no schedule 'none'"):
            await call("none")


async def test_list_pages(place: Place) -> None:
    schedules = place.adapter.schedules
    for number in range(5):
        place.clock.now += 1
        await schedules.create(f"s{number}", "report", every=60)
    first = await schedules.list(limit=3)
    rest = await schedules.list(limit=3, after=first.after)
    assert [one.id for one in (*first.items, *rest.items)] == ["s4", "s3", "s2", "s1", "s0"]
    assert rest.after is None
    with pytest.raises(InvalidRequest):
        await schedules.list(limit=0)


# ---- what fires


async def test_each_time_fires_once_with_its_input(place: Place) -> None:
    await place.adapter.schedules.create("s'; --", "report", cron="*/30 * * * *", input=[1, None])
    expected = []
    for text in ("09:00", "09:30", "10:00"):
        move(place, f"2026-01-10T{text}:00")
        place.clock.now -= 0.5
        await tick(place.adapter, 2)
        assert await place.run_ids() == expected, "not early"
        place.clock.now += 1.0
        await tick(place.adapter, 2)
        expected.append(f"s'; --@2026-01-10T{text}:00Z")
        assert await place.run_ids() == expected
    [data] = (await place.store.read_values(expected[0], [RUN_INPUT])).values()
    assert place.adapter.runtime.codec.decode(data) == [1, None]
    now = await place.adapter.schedules.get("s'; --")
    assert (now.last_time, now.last_run_id) == (at("2026-01-10T10:00"), expected[-1])
    assert now.next_time == at("2026-01-10T10:30")


async def test_intervals_have_an_anchor(place: Place) -> None:
    schedules, now = place.adapter.schedules, place.clock.now
    assert (await schedules.create("now", "report", every=90)).next_time == now + 90
    assert (await schedules.create("past", "report", every=HOUR, start=at("2020-01-01T00:05"))).next_time == at(
        "2026-01-10T09:05"
    )
    later = await schedules.create("later", "report", every=HOUR, start=now + 10_000.25)
    assert later.recurrence == Every(HOUR, now + 10_000.25)
    place.clock.now += 10_001
    await tick(place.adapter)
    assert run_id_at("later", now + 10_000.25) == "later@2026-01-10T11:16:50.250000Z"
    assert "later@2026-01-10T11:16:50.250000Z" in await place.run_ids()


async def test_the_longest_ids(place: Place) -> None:
    long = "ж" * 85
    await place.adapter.schedules.create(long, "report", every=1.5, start=at("2026-01-10T08:30:10.123456"))
    place.clock.now += 10
    await tick(place.adapter)
    handle = await place.adapter.schedules.trigger(long)
    ids = await place.run_ids()
    assert handle.run_id in ids
    assert max(len(one.encode()) for one in ids) <= 200
    assert len(ids) == 8


async def test_pause_resume_delete(place: Place) -> None:
    schedules = place.adapter.schedules
    await schedules.create("s", "report", cron="0 * * * *", catch_up="all")
    assert (await schedules.pause("s")).next_time is None
    assert (await schedules.pause("s")).paused, "again"
    move(place, "2026-01-10T12:10")
    await tick(place.adapter)
    assert await place.run_ids() == []
    resumed = await schedules.resume("s")
    assert (resumed.paused, resumed.next_time) == (False, at("2026-01-10T13:00"))
    move(place, "2026-01-10T13:00")
    assert (await schedules.resume("s")).next_time == place.clock.now, "it was not paused: nothing is skipped"
    await tick(place.adapter)
    assert await place.run_ids() == ["s@2026-01-10T13:00:00Z"], "the pause is not made up for"
    await schedules.delete("s")
    move(place, "2026-01-10T14:00")
    await tick(place.adapter)
    assert len(await place.run_ids()) == 1
    await schedules.create("s", "report", cron="30 * * * *")


async def test_trigger_is_beside_the_times(place: Place) -> None:
    schedules = place.adapter.schedules
    made = await schedules.create("s", "report", cron="@yearly", input=7)
    handles = [await schedules.trigger("s") for _ in range(2)]
    await schedules.pause("s")
    handles.append(await schedules.trigger("s"))
    assert sorted(handle.run_id for handle in handles) == await place.run_ids()
    assert len({handle.run_id for handle in handles}) == 3
    assert await schedules.resume("s") == replace(made, through=place.clock.now)
    stranger = await place.process()
    with pytest.raises(DefinitionError, match="no blueprint 'report' here"):
        await stranger.schedules.trigger("s")
    assert (await stranger.schedules.get("s")).flow == "report"


async def test_runs_are_executed(place: Place) -> None:
    await place.adapter.schedules.create("s", "report", every=60, input="hello")
    place.clock.now += 60
    time = place.clock.now
    await tick(place.adapter)
    async with place.adapter.worker(ticker=False):
        await place.until(lambda: bool(place.executed))
    assert place.executed == [(run_id_at("s", time), "hello")]


async def test_the_ticker_of_a_worker_does_it(place: Place) -> None:
    await place.adapter.schedules.create("s", "report", every=60)
    async with place.adapter.worker():
        await place.until(lambda: len(place.executed) >= 3, step=0.05)
    assert len(set(place.executed)) == len(place.executed)


# ---- what was missed


@pytest.mark.parametrize(("policy", "hours"), [("skip", []), ("latest", [13]), ("all", [9, 10, 11, 12, 13])])
async def test_catching_up_after_downtime(place: Place, policy: Any, hours: list[int]) -> None:
    await place.adapter.schedules.create("s", "report", cron="0 * * * *", catch_up=policy)
    move(place, "2026-01-10T13:30")
    await tick(place.adapter, 2)
    assert await place.run_ids() == [f"s@2026-01-10T{hour:02}:00:00Z" for hour in hours]
    now = await place.adapter.schedules.get("s")
    assert now.next_time == at("2026-01-10T14:00"), "what was skipped is done with"
    assert now.last_time == (at("2026-01-10T13:00") if hours else None)
    move(place, "2026-01-10T14:00")
    await tick(place.adapter)
    assert (await place.run_ids())[-1] == "s@2026-01-10T14:00:00Z"


@pytest.mark.parametrize(("policy", "hours"), [("skip", [13]), ("latest", [13]), ("all", [9, 10, 11, 12, 13])])
async def test_the_last_one_may_be_in_time(place: Place, policy: Any, hours: list[int]) -> None:
    await place.adapter.schedules.create("s", "report", cron="0 * * * *", catch_up=policy)
    move(place, "2026-01-10T13:00:59")
    await tick(place.adapter)
    assert await place.run_ids() == [f"s@2026-01-10T{hour:02}:00:00Z" for hour in hours]


async def test_a_minute_is_late(place: Place) -> None:
    schedules = place.adapter.schedules
    await schedules.create("s", "report", cron="0 * * * *")
    move(place, "2026-01-10T09:00:59.9")
    await tick(place.adapter)
    assert len(await place.run_ids()) == 1
    move(place, "2026-01-10T10:01:00")
    await tick(place.adapter)
    assert len(await place.run_ids()) == 1
    slow = await place.process(report, tick=300.0)
    move(place, "2026-01-10T11:14:59")
    await tick(slow)
    assert len(await place.run_ids()) == 2, "with slow tickers more is in time: three of their rounds"


@pytest.mark.parametrize(("cron", "start"), [("* * * * *", "2026-01-10T13:21"), ("0 * * * *", "2026-01-10T09:00")])
async def test_making_up_has_a_bound(place: Place, cron: str, start: str) -> None:
    await place.adapter.schedules.create("s", "report", cron=cron, catch_up="all")
    move(place, "2026-01-10T15:01:30" if cron.startswith("*") else "2026-01-14T12:30")
    await tick(place.adapter)
    ids = await place.run_ids()
    first = {"* * * * *": "2026-01-10T13:21:00Z", "0 * * * *": "2026-01-10T09:00:00Z"}[cron]
    expected = 101 if cron.startswith("*") else 100
    assert len(ids) == expected, "a hundred that were missed, and what is in time"
    assert ids[0] == f"s@{first}"


async def test_short_intervals_all_fire_in_time(place: Place) -> None:
    await place.adapter.schedules.create("s", "report", every=1.0)
    for _ in range(4):
        place.clock.now += 30.0
        await tick(place.adapter)
    assert len(await place.run_ids()) == 120


async def test_years_of_downtime_cost_little(place: Place) -> None:
    for policy in ("skip", "latest", "all"):
        await place.adapter.schedules.create(policy, "report", cron="* * * * *", catch_up=policy)  # type: ignore[arg-type]
    move(place, "2036-01-10T13:30:30")
    await tick(place.adapter)
    assert len(await place.run_ids()) == 1 + 1 + 101


# ---- who fires it


async def test_a_flow_that_is_not_known_here_is_left_for_others(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    await place.adapter.schedules.create("s", "report", cron="0 * * * *")
    before = await place.documents("schedule")
    stranger = (await place.process()).ticker()
    move(place, "2026-01-10T09:00:01")
    for _ in range(5):
        place.clock.now += 2.0
        await stranger.run_once()
    assert await place.documents("schedule") == before
    assert await place.run_ids() == []
    assert caplog.text == "", "it is no failure"
    await tick(place.adapter)
    assert await place.run_ids() == ["s@2026-01-10T09:00:00Z"]


async def test_a_flow_that_becomes_known_later(place: Place) -> None:
    await place.adapter.schedules.create("s", "report", cron="0 * * * *")
    process = await place.process()
    ticker = process.ticker()
    move(place, "2026-01-10T09:00:01")
    await ticker.run_once()
    await process.start_run(Blueprint("other", report.nodes))
    process.runtime._ids["report"] = process.runtime.resolve(report)  # type: ignore[attr-defined]
    await ticker.run_once()
    assert len(await place.run_ids()) == 1, "looked at again after five seconds"
    place.clock.now += 5.0
    await ticker.run_once()
    assert "s@2026-01-10T09:00:00Z" in await place.run_ids()


async def test_the_latest_or_the_pinned_version(place: Place) -> None:
    schedules = place.adapter.schedules
    await schedules.create("latest", "report", cron="0 * * * *")
    pinned = await schedules.create("pinned", "report", cron="0 * * * *", pin=True)
    assert pinned.pinned == report.content_hash
    changed = Blueprint("report", (Node("only", "record"), Node("more", "record")))
    newer = await place.process(changed)
    move(place, "2026-01-10T09:00:01")
    await tick(newer)
    hashes = {row.run_id.partition("@")[0]: row.blueprint_hash for row in await place.documents("run")}
    assert hashes == {"latest": changed.content_hash, "pinned": report.content_hash}
    stranger = await place.process()
    move(place, "2026-01-10T10:00:01")
    await tick(stranger)
    assert "pinned@2026-01-10T10:00:00Z" in await place.run_ids(), "to start it, its functions are not needed"
    assert (await stranger.schedules.trigger("pinned")).run_id in await place.run_ids()


async def test_two_versions_of_a_flow_fire_a_time_once(place: Place) -> None:
    """One dies between the start and the schedule's move; the other has another blueprint under the same id."""
    await place.adapter.schedules.create("s", "report", cron="0 * * * *")
    dying = await place.process(report, faulty=True)
    newer = await place.process(Blueprint("report", (Node("only", "record"), Node("more", "record"))))
    move(place, "2026-01-10T09:00:01")
    faults(dying.store, "commit", "schedule", "before")
    await killed(dying.store, dying.ticker().run_once())
    await tick(newer)
    [row] = await place.documents("run")
    assert (row.run_id, row.blueprint_hash) == ("s@2026-01-10T09:00:00Z", report.content_hash)
    assert (await place.adapter.schedules.get("s")).next_time == at("2026-01-10T10:00")


async def test_one_that_fails_does_not_stop_the_others(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    schedules = place.adapter.schedules
    for name in ("a", "b"):
        await schedules.create(name, "report", cron="0 * * * *")
    await schedules.create("broken", Blueprint("lost", report.nodes), cron="0 * * * *", pin=True)
    await place.store.delete_blueprint(Blueprint("lost", report.nodes).content_hash)
    ticker = (await place.process(report)).ticker()
    move(place, "2026-01-10T09:00:01")
    for _ in range(8):
        await ticker.run_once()
        place.clock.now += 1.0
    assert await place.run_ids() == ["a@2026-01-10T09:00:00Z", "b@2026-01-10T09:00:00Z"]
    assert caplog.text.count("schedule 'broken' failed") == 2, "after five seconds again, then after ten"
    assert "Traceback" not in caplog.text


async def test_paused_or_deleted_while_it_fires(place: Place) -> None:
    """A ticker has started the run and is about to move the schedule on."""
    for name in ("paused", "deleted"):
        await place.adapter.schedules.create(name, "report", cron="0 * * * *")
    slow = await place.process(report, faulty=True)
    gate, waiting = asyncio.Event(), asyncio.Semaphore(0)
    commit = slow.store.store.commit  # type: ignore[attr-defined]

    async def hesitate(changes: Any) -> Any:
        if changes[0].kind == "schedule":
            waiting.release()
            await gate.wait()
        return await commit(changes)

    slow.store.commit = hesitate  # type: ignore[method-assign]
    move(place, "2026-01-10T09:00:01")
    pass_ = asyncio.create_task(slow.ticker().run_once())
    for _ in range(2):
        await waiting.acquire()
    await place.adapter.schedules.pause("paused")
    await place.adapter.schedules.delete("deleted")
    gate.set()
    await pass_
    [left] = (await place.adapter.schedules.list()).items
    assert (left.id, left.paused, left.last_time) == ("paused", True, at("2026-01-10T09:00"))
    assert len(await place.run_ids()) == 2


@pytest.mark.parametrize("what", ["lost before", "lost after"])
@pytest.mark.parametrize(("name", "kind"), [("create", "run"), ("commit", "schedule"), ("create", "schedule")])
async def test_unanswered_writes_are_found_out(place: Place, name: str, kind: str, what: str) -> None:
    process = await place.process(report, faulty=True)
    faults(process.store, name, kind, what, times=2)

    async def scenario() -> None:
        await process.schedules.create("s", "report", cron="0 * * * *")
        move(place, "2026-01-10T09:00:01")
        await process.ticker().run_once()
        await process.schedules.pause("s")

    task = asyncio.create_task(scenario())
    await place.until(task.done)
    await task
    left = await place.adapter.schedules.get("s")
    assert (left.paused, left.last_time) == (True, at("2026-01-10T09:00"))
    assert await place.run_ids() == ["s@2026-01-10T09:00:00Z"]


async def test_a_document_of_a_newer_version_is_not_guessed_at(place: Place) -> None:
    await place.adapter.schedules.create("s", "report", cron="0 * * * *")
    stored = await place.store.load("s", kind="schedule")
    assert stored is not None
    head = stored.head.replace(b'"v":1', b'"v":2')
    await place.store.commit([Change("s", stored.version, "t", head, stored.index, kind="schedule")])
    with pytest.raises(SerializationError, match="another version"):
        await place.adapter.schedules.get("s")
    move(place, "2026-01-10T09:00:01")
    await tick(place.adapter)
    with pytest.raises(RunNotFound):
        await place.adapter.status("s@2026-01-10T09:00:00Z")


async def test_with_an_encrypting_codec(place: Place) -> None:
    """The same asked again is the same, although it is encrypted differently, and after a rotation of keys."""
    old, new = {"old": b"o" * 32}, {"new": b"n" * 32}
    first = await place.process(report, codec=EncryptingCodec(JsonCodec(), keys=old))
    rotated = await place.process(report, codec=EncryptingCodec(JsonCodec(), keys=new | old))
    made = await first.schedules.create("s", "report", cron="0 * * * *", input="the planted secret")
    for process in (first, rotated):
        assert await process.schedules.create("s", "report", cron="0 * * * *", input="the planted secret") == made
        assert await process.schedules.read_input("s") == "the planted secret"
        with pytest.raises(ScheduleConflict):
            await process.schedules.create("s", "report", cron="0 * * * *", input="another")
    run = await first.start_run("report", "the planted secret", dedup_key="k", dedup_window=DAY)
    assert (await rotated.start_run("report", "x", dedup_key="k", dedup_window=DAY)).run_id == run.run_id
    move(place, "2026-01-10T09:00:01")
    await tick(rotated)
    async with rotated.worker(ticker=False):
        await place.until(lambda: len(place.executed) == 2)
    assert place.executed == [
        (run.run_id, "the planted secret"), ("s@2026-01-10T09:00:00Z", "the planted secret"),
    ]  # fmt: skip
    for key, kind in (("s", "schedule"), ("k", "dedup")):
        document = await place.store.load(key, want=[RUN_INPUT], kind=kind)
        assert document is not None
        assert b"secret" not in b"".join((document.head, *document.values.values()))
