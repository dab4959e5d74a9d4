"""Deduplicated starts: races, windows, and a process that dies between the key and the run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowcraft.blueprint import Blueprint
from flowcraft.errors import InvalidRequest, PayloadTooLarge, RunConflict, RunNotFound
from flowcraft.model import RUN_INPUT, Index, NewRun, ValueKey
from flowcraft.runs import RunHandle

from .places import Place, faults, killed, report

DAY = 86_400.0


async def remove(place: Place, handle: RunHandle) -> None:
    """As retention does."""
    stored = await place.store.load(handle.run_id)
    assert stored is not None
    assert await place.store.delete(handle.run_id, stored.token)


async def stored_input(place: Place, run_id: str) -> object:
    return place.adapter.runtime.codec.decode((await place.store.read_values(run_id, [RUN_INPUT]))[RUN_INPUT])


async def key_document(place: Place, key: str = "k") -> Any:
    return await place.store.load(key, want=[RUN_INPUT, ValueKey("context", "who")], kind="dedup")


async def test_fifty_starters_make_one_run(place: Place) -> None:
    processes = [await place.process(report) for _ in range(5)]

    async def start(number: int) -> str:
        handle = await processes[number % 5].start_run(
            "report", number, run_id=f"run-{number}", context={"who": number}, dedup_key="order-7", dedup_window=60.0
        )
        return handle.run_id

    ids = await asyncio.gather(*map(start, range(50)))
    assert len(set(ids)) == 1
    assert await place.run_ids() == [ids[0]]
    number = int(ids[0].removeprefix("run-"))
    assert await stored_input(place, ids[0]) == number, "it is wholly of the one that took the key"
    [who] = (await place.store.read_values(ids[0], space="context")).values()
    assert place.adapter.runtime.codec.decode(who) == number
    assert (await key_document(place, "order-7")).values == {}, "the key forgets what the run is made of"


async def test_other_keys_and_no_key_are_other_runs(place: Place) -> None:
    for options in ({"dedup_key": "a"}, {"dedup_key": "b"}, {"dedup_key": "a"}, {}, {}):
        await place.adapter.start_run("report", **options)  # type: ignore[arg-type]
    assert len(await place.run_ids()) == 4


@pytest.mark.parametrize("key", ["order 'seven'; --", "ключ/7", "k" * 200])
async def test_keys_are_data(place: Place, key: str) -> None:
    first, second = [await place.adapter.start_run("report", dedup_key=key) for _ in range(2)]
    assert first.run_id == second.run_id


async def test_the_window_is_that_of_the_first_start(place: Place) -> None:
    async def start() -> str:
        return (await place.adapter.start_run("report", dedup_key="k", dedup_window=window)).run_id

    window = 100.0
    first = await start()
    window = 10_000.0
    place.clock.now += 99.9
    assert await start() == first
    place.clock.now += 0.2
    second = await start()
    assert second != first
    place.clock.now += 9_999.0
    assert await start() == second
    assert sorted([first, second]) == await place.run_ids()


async def test_without_a_window_it_holds_while_the_run_exists(place: Place) -> None:
    first = await place.adapter.start_run("report", run_id="one", dedup_key="k")
    place.clock.now += 1000 * DAY
    assert (await place.adapter.start_run("report", run_id="two", dedup_key="k")).run_id == "one"
    await remove(place, first)
    assert (await place.adapter.start_run("report", run_id="two", dedup_key="k")).run_id == "two"
    assert await place.run_ids() == ["two"]


async def test_within_the_window_a_removed_run_is_not_made_again(place: Place) -> None:
    first = await place.adapter.start_run("report", run_id="one", dedup_key="k", dedup_window=100.0)
    await remove(place, first)
    again = await place.adapter.start_run("report", dedup_key="k", dedup_window=100.0)
    assert again.run_id == "one"
    assert await place.run_ids() == []
    with pytest.raises(RunNotFound):
        await again.status()


@pytest.mark.parametrize("window", [60.0, None])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_process_dies_between_the_key_and_the_run(place: Place, when: str, window: float | None) -> None:
    dying = await place.process(report, faulty=True)
    faults(dying.store, *(("create", "run", "before") if when == "before" else ("create", "dedup", "after")))
    first = dying.start_run(
        "report", {"n": 1}, run_id="first", context={"who": "x"}, dedup_key="k", dedup_window=window
    )
    await killed(dying.store, first)
    assert await place.run_ids() == []
    processes = [await place.process() for _ in range(3)]  # which do not even know the flow of the first
    other = Blueprint("other", report.nodes)
    handles = await asyncio.gather(
        *(
            process.start_run(other, number, run_id=f"other-{number}", dedup_key="k", dedup_window=5.0)
            for number, process in enumerate(processes * 3)
        )
    )
    assert {handle.run_id for handle in handles} == {"first"}
    assert await place.run_ids() == ["first"]
    assert await stored_input(place, "first") == {"n": 1}
    document = await key_document(place)
    assert (document.index.status, document.values) == ("made", {})


async def test_the_first_process_was_only_slow(place: Place) -> None:
    """Its run is made by another while it hesitates; then it finds it."""
    slow = await place.process(report, faulty=True)
    gate = asyncio.Event()
    create, reached = slow.store.store.create, asyncio.Event()  # type: ignore[attr-defined]

    async def hesitate(new: Any) -> Any:
        if new.kind == "run":
            reached.set()
            await gate.wait()
        return await create(new)

    slow.store.create = hesitate  # type: ignore[method-assign]
    first = asyncio.create_task(slow.start_run("report", 1, run_id="first", dedup_key="k", dedup_window=60.0))
    await reached.wait()
    second = await place.adapter.start_run("report", 2, run_id="second", dedup_key="k", dedup_window=60.0)
    gate.set()
    assert second.run_id == (await first).run_id == "first"
    assert await place.run_ids() == ["first"]
    assert await stored_input(place, "first") == 1


async def test_a_death_before_the_key_says_that_the_run_is_made(place: Place) -> None:
    dying = await place.process(report, faulty=True)
    faults(dying.store, "commit", "dedup", "before")
    await killed(dying.store, dying.start_run("report", run_id="first", dedup_key="k", dedup_window=600.0))
    assert await place.run_ids() == ["first"]
    assert (await place.adapter.start_run("report", dedup_key="k", dedup_window=600.0)).run_id == "first"
    assert (await key_document(place)).index.status == "taken"
    ticker = place.adapter.ticker()
    await ticker.run_once()
    assert (await key_document(place)).index.status == "taken", "not yet due"
    place.clock.now += 60.0
    await ticker.run_once()
    document = await key_document(place)
    assert (document.index.status, document.values) == ("made", {})
    await remove(place, place.adapter.run("first"))
    await place.adapter.start_run("report", dedup_key="k", dedup_window=600.0)
    assert await place.run_ids() == []


@pytest.mark.parametrize("what", ["lost before", "lost after"])
@pytest.mark.parametrize(("name", "kind"), [("create", "dedup"), ("create", "run"), ("commit", "dedup")])
async def test_unanswered_writes_are_found_out(place: Place, name: str, kind: str, what: str) -> None:
    process = await place.process(report, faulty=True)
    store: Any = process.store
    await place.adapter.start_run("report", run_id="old", dedup_key="k", dedup_window=1.0)
    place.clock.now += 2.0  # so that the key is taken by a change, and that is unanswered as well
    faults(store, name, kind, what, times=3)
    starts = [
        asyncio.create_task(process.start_run("report", run_id=f"new-{n}", dedup_key=key, dedup_window=DAY))
        for n, key in enumerate("kkxx")
    ]
    await place.until(lambda: all(task.done() for task in starts))
    ids = [(await task).run_id for task in starts]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert sorted({"old", ids[0], ids[2]}) == await place.run_ids()


async def test_an_id_that_is_taken_frees_the_key(place: Place) -> None:
    await place.adapter.start_run("report", 1, run_id="taken")
    with pytest.raises(RunConflict):
        await place.adapter.start_run("report", 2, run_id="taken", dedup_key="k")
    assert await place.documents("dedup") == []
    handle = await place.adapter.start_run("report", 1, run_id="taken", dedup_key="k")
    assert handle.run_id == "taken", "the same start again, now with a key"
    assert (await place.adapter.start_run("report", 3, dedup_key="k")).run_id == "taken"


async def test_too_large_an_input_takes_no_key(place: Place) -> None:
    with pytest.raises(PayloadTooLarge):
        await place.adapter.start_run("report", "x" * (1 << 21), dedup_key="k")
    assert await place.documents("dedup") == []


@pytest.mark.parametrize(
    ("key", "window"),
    [("", 1.0), ("k" * 201, 1.0), ("a\0b", 1.0), (7, 1.0), ("k", 0.0), ("k", -1.0), ("k", float("nan")), ("k", "1"),
     ("k", True), (None, 5.0)],
)  # fmt: skip
async def test_what_cannot_be(place: Place, key: Any, window: Any) -> None:
    with pytest.raises(InvalidRequest):
        await place.adapter.start_run("report", dedup_key=key, dedup_window=window)
    assert await place.run_ids() == []


# ---- the ticker


async def test_expired_keys_are_removed(place: Place) -> None:
    for number in range(250):
        await place.adapter.start_run("report", dedup_key=f"k{number}", dedup_window=10.0 + number % 2 * 100)
    tickers = [(await place.process(report)).ticker() for _ in range(3)]
    await asyncio.gather(*(ticker.run_once() for ticker in tickers))
    assert len(await place.documents("dedup")) == 250
    place.clock.now += 10.0
    await asyncio.gather(*(ticker.run_once() for ticker in tickers))
    assert len(await place.documents("dedup")) == 125
    place.clock.now += 100.0
    await asyncio.gather(*(ticker.run_once() for ticker in tickers))
    assert await place.documents("dedup") == []
    assert len(await place.run_ids()) == 250


async def test_a_key_without_window_goes_some_time_after_its_run(place: Place) -> None:
    ticker = place.adapter.ticker()
    run = await place.adapter.start_run("report", dedup_key="k")
    looks = []
    for _ in range(40):
        place.clock.now += DAY
        before = (await key_document(place)).index.wake_at
        await ticker.run_once()
        if (await key_document(place)).index.wake_at != before:
            looks.append(round((place.clock.now - 1_000_000.0) / DAY))
    assert looks == [1, 2, 4, 8, 16, 32], "seldom: there may be millions"
    await remove(place, run)
    place.clock.now += 40 * DAY
    await ticker.run_once()
    assert await key_document(place) is None


@pytest.mark.parametrize("window", [30 * DAY, None])
async def test_a_key_whose_run_was_never_made_goes_in_the_end(place: Place, window: float | None) -> None:
    dying = await place.process(report, faulty=True)
    faults(dying.store, "create", "run", "before")
    await killed(dying.store, dying.start_run("report", dedup_key="k", dedup_window=window))
    ticker = place.adapter.ticker()
    for _ in range(10):
        place.clock.now += 0.09 * DAY
        await ticker.run_once()
        assert await key_document(place) is not None
    for _ in range(30):
        place.clock.now += DAY
        await ticker.run_once()
    assert await key_document(place) is None
    assert await place.run_ids() == [], "its caller was never told of a run: the ticker makes none"


async def test_a_key_that_cannot_be_read_does_not_stop_the_ticker(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.adapter.start_run("report", dedup_key="good", dedup_window=10.0)
    await place.store.create(NewRun("bad", "", "t", b"[2]", Index("made", 1.0, 1.0), 1.0, kind="dedup"))
    place.clock.now += 10.0
    await place.adapter.ticker().run_once()
    assert [row.run_id for row in await place.documents("dedup")] == ["bad"]
    assert "could not be looked at" in caplog.text
