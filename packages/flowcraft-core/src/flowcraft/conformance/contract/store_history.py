"""Run store: what happened is told in order, without gaps, and only what was committed."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.store_committing import outdated, version_of
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect, raises
from flowcraft.conformance.hostile import IDS
from flowcraft.conformance.making import change, event, existing, new
from flowcraft.errors import SerializationError
from flowcraft.model import Event

__all__ = ["checks"]

checks = Collection("store", "history")


async def numbers(env: Env, run_id: str = "run", after: int = 0) -> list[int]:
    """The numbers of all events of a run."""
    return [row.seq for row in (await env.store.read_events(run_id, after)).items]


@checks.check(
    "in-order",
    level=4,
    requires=["history"],
    kills=("store-history-tells-the-last-again", "store-history-newest-first"),
)
async def in_order(env: Env) -> None:
    """The events of a creation and of applied changes are read in the order of their numbers, without gaps.

    From them the state at any earlier time is rebuilt.
    """
    store = env.store
    await store.create(new("run", events=[event("run", 1), event("run", 2)]))
    for start in (3, 6, 9):
        version = await version_of(store, "run")
        await store.commit([change("run", version, f"t{start}", events=[event("run", start + n) for n in range(3)])])
    equal(await numbers(env), list(range(1, 12)), "the numbers")
    equal(await numbers(env, after=4), list(range(5, 12)), "the numbers after 4")
    equal(await numbers(env, after=11), [], "the numbers after the last")
    equal(await numbers(env, "missing"), [], "the numbers of a run that is not there")


@checks.check(
    "as-it-was", level=4, requires=["history"], kills=("store-history-floats-cut", "store-history-drops-head")
)
async def as_it_was(env: Env) -> None:
    """An event is read as it was written: type, time, node, visit, attempt, data and what the core keeps with it.

    What is sealed, compressed or counted in it cannot be guessed again.
    """
    data = {"text": "é\n\x01'\"", "nested": {"a": [1, None, 1e22, True, -0.5, 2**53, ""]}, "none": None, "": {}}
    rows = [
        Event("run", 1, "node:completed", 1_700_000_000.123456, "node'é", 2, 3, data),
        Event("run", 2, "run:updated", 0.0, None, 0, 0, {}, bytes(range(256))),
        Event("run", 3, "x", 7.5, "", 1, 0, {"head": "no head"}),
    ]
    await env.store.create(new("run", events=rows[:1]))
    await env.store.commit([change("run", await version_of(env.store, "run"), "t1", events=rows[1:])])
    read = (await env.store.read_events("run")).items
    equal(len(read), 3, "events")
    for row, expected in zip(read, rows, strict=True):
        equal(row, expected, f"event {expected.seq}")
        equal(bytes(row.head), expected.head, f"what event {expected.seq} carries")


@checks.check("pages", level=4, requires=["history"], kills=("store-history-gap",))
async def pages(env: Env) -> None:
    """`read_events` returns at most ``limit`` events, and a cursor while there are more.

    A history that ends at the first page shows a run that never ended.
    """
    await env.store.create(new("run", events=[event("run", n) for n in range(1, 24)]))
    for limit in (1, 5, 22, 23, 24):
        found: list[int] = []
        for _ in range(40):
            page = await env.store.read_events("run", found[-1] if found else 0, limit=limit)
            expect(len(page.items) <= limit, f"a page of at most {limit} events has {len(page.items)}")
            found += [row.seq for row in page.items]
            if page.after is None:
                break
        equal(found, list(range(1, 24)), f"the events in pages of {limit}")


@checks.check("refused-is-not-history", level=4, requires=["history"], kills=("store-refused-keeps-events",))
async def refused_is_not_history(env: Env) -> None:
    """Events of a refused change, and of a creation whose id was taken, are never read.

    The history would tell of an outcome that did not count, under a number that another fact needs.
    """
    store = env.store
    await store.create(new("run", events=[event("run", 1)]))
    version = await outdated(store, "run")
    await store.commit([change("run", version, "t2", events=[event("run", 2, refused=True)])])
    await store.create(new("run", "t3", events=[event("run", 2, refused=True)]))
    equal(await numbers(env), [1], "the numbers")
    await store.commit([change("run", await version_of(store, "run"), "t4", events=[event("run", 2, mine=True)])])
    page = await store.read_events("run")
    equal([(row.seq, dict(row.data)) for row in page.items], [(1, {}), (2, {"mine": True})], "the events")


@checks.check("hints-are-not-stored", level=4, requires=["history"], kills=("store-keeps-hints",))
async def hints_are_not_stored(env: Env) -> None:
    """An event with the number 0 is a hint, and never part of the history.

    Progress of a node comes a thousand times and means nothing tomorrow.
    """
    hint = Event("run", 0, "progress", 1.0)
    await env.store.create(new("run", events=[hint, event("run", 1)]))
    step = change("run", await version_of(env.store, "run"), "t1", events=[event("run", 2), hint, event("run", 3)])
    await env.store.commit([step])
    equal(await numbers(env), [1, 2, 3], "the numbers")


@checks.check("one-step-with-the-head", level=4, requires=["history"], kills=("store-events-late",))
async def one_step_with_the_head(env: Env) -> None:
    """Events are there from the moment on at which the head of their change is.

    Who sees a run that has ended, and then reads its history, must find its end there.
    """
    await env.store.create(new("run"))
    ended = False

    async def write() -> None:
        nonlocal ended
        version = await version_of(env.store, "run")
        for number in range(1, 40):
            step = change("run", version, f"t{number}", events=[event("run", number)])
            (result,) = await env.store.commit([step])
            version = result.version
        ended = True

    async def read() -> None:
        while not ended:
            seen = int(existing(await env.store.load("run")).token[1:])
            told = await numbers(env)
            expect(len(told) >= seen, f"the head of step {seen} is there, its event is not: {told[-3:]}")
            equal(told, list(range(1, len(told) + 1)), "the numbers")
            await asyncio.sleep(0)

    await asyncio.gather(write(), read(), read())


@checks.check("no-json-is-refused", level=4, requires=["history"], kills=("store-bad-event-half-applied",))
async def no_json_is_refused(env: Env) -> None:
    """A call with an event that is no JSON is refused as a whole with `SerializationError`.

    Found out half-way, a run would be changed whose history does not tell why.
    """
    store = env.store
    await store.create(new("a"))
    await store.create(new("b"))
    steps = [
        change("a", await version_of(store, "a"), "t1", events=[event("a", 1)]),
        change("b", await version_of(store, "b"), "t1", events=[event("b", 1), event("b", 2, bad=object())]),
    ]
    with raises(SerializationError, "a change with an event that is no JSON"):
        await store.commit(steps)
    with raises(SerializationError, "a creation with an event that is no JSON"):
        await store.create(new("c", events=[event("c", 1, bad={1, 2})]))
    equal([existing(await store.load(run_id)).token for run_id in ("a", "b")], ["t0", "t0"], "the tokens")
    equal(await numbers(env, "a") + await numbers(env, "b"), [], "the events")
    equal(await store.load("c"), None, "the document with the bad event")


@checks.check("long", level=4, requires=["history"], kills=("store-history-first-500",), timeout=30.0)
async def long(env: Env) -> None:
    """A history of any length is read whole, by default a thousand events at a time.

    A run that goes round for a month has tens of thousands.
    """
    most = env.store.capabilities.max_commit_items
    step = 60 if most is None else max(1, min(60, most - 2))
    await env.store.create(new("run"))
    version = await version_of(env.store, "run")
    for start in range(1, 1141, step):
        rows = [event("run", number, n=number) for number in range(start, min(start + step, 1141))]
        (result,) = await env.store.commit([change("run", version, f"t{start}", events=rows)])
        version = result.version
    first = await env.store.read_events("run")
    equal([row.seq for row in first.items], list(range(1, 1001)), "the first page")
    expect(first.after is not None, "there is more after the first page")
    second = await env.store.read_events("run", 1000)
    equal([row.seq for row in second.items], list(range(1001, 1141)), "the second page")
    equal(second.after, None, "the cursor after the last event")
    equal([dict(row.data) for row in second.items[-2:]], [{"n": 1139}, {"n": 1140}], "the data of the last two")


@checks.check("of-their-run", level=4, requires=["history"], kills=("store-history-leaks-across-runs",))
async def of_their_run(env: Env) -> None:
    """A run's history is its own, whatever its id.

    Events hold what went wrong, and are shown to whoever may see the run.
    """
    tried = IDS[::2]
    await asyncio.gather(*(env.store.create(new(name, events=[event(name, 1, of=name)])) for name in tried))
    for name in tried:
        rows = (await env.store.read_events(name)).items
        equal([(row.run_id, row.seq, dict(row.data)) for row in rows], [(name, 1, {"of": name})], f"events of {name!r}")


@checks.check("none-without", requires=["!history"], kills=("store-history-undeclared",))
async def none_without(env: Env) -> None:
    """A store that does not declare history takes events and has none.

    The core decides by the declaration what it tells people; half a history would be taken for a whole one.
    """
    await env.store.create(new("run", events=[event("run", 1)]))
    await env.store.commit([change("run", await version_of(env.store, "run"), "t1", events=[event("run", 2)])])
    page = await env.store.read_events("run")
    equal((len(page.items), page.after), (0, None), "events")
