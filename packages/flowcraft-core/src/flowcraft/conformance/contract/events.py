"""Event bus: hints reach who listens, and nobody has to wait for a listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from flowcraft.conformance.asking import apart, handles
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Violated, equal, fail
from flowcraft.conformance.making import event
from flowcraft.model import Event
from flowcraft.ports import ENDS

__all__ = ["checks"]

checks = Collection("events", "bus")

#: Real seconds in which an event must come: a bus is not part of virtual time.
_PATIENCE: Final = 5.0


async def following(env: Env, events: AsyncIterator[Event], what: str) -> Event:
    """The next event; virtual time passes until it comes. Raises: Violated, if none does."""
    reader = asyncio.ensure_future(anext(events))
    try:
        async with asyncio.timeout(_PATIENCE):
            while not (await asyncio.wait({reader}, timeout=0.02))[0]:
                if env.target.virtual_time:  # a bus may look around now and then, by the clock that it was given
                    await env.lapse(0.1)
        return await reader
    except TimeoutError as error:
        raise Violated(f"{what} did not come within {_PATIENCE:g} s") from error
    except StopAsyncIteration as error:
        raise Violated(f"{what} did not come: the subscription has ended") from error
    finally:
        reader.cancel()


async def numbers(env: Env, events: AsyncIterator[Event], last: int, what: str) -> list[int]:
    """The numbers of the events up to the one with the number ``last``."""
    found: list[int] = []
    while not found or found[-1] != last:
        found.append((await following(env, events, f"{what}: event {last}, after {found[-3:]},")).seq)
    return found


@checks.check("from-then-on", kills=("events-older-are-seen",))
async def from_then_on(env: Env) -> None:
    """A subscriber gets, in order, what is published after it has entered its block, and nothing older.

    A view that begins with old events would show a run going backwards.
    """
    await env.events.publish([event("run", 1), event("run", 2)])
    async with env.events.subscribe() as events:
        await env.events.publish([event("run", 3), event("other", 1)])
        await env.events.publish([event("run", 4)])
        seen = [await following(env, events, "an event") for _ in range(3)]
        equal([(each.run_id, each.seq) for each in seen], [("run", 3), ("other", 1), ("run", 4)], "the events")


@checks.check("as-it-was", kills=("events-lose-data",))
async def as_it_was(env: Env) -> None:
    """An event arrives as it was published, hints and hostile ids too.

    Live views show the same as the history, and progress is told only here.
    """
    data: dict[str, object] = {"text": "é\n'\"\x1f", "nested": {"a": [1, None, 1e22, True]}, "none": None}
    sent = [
        Event("run", 0, "progress", 1_700_000_000.123456, "node'é", 2, 3, data),
        Event("r/'\"\n日本😀", 7, "x", 0.0, None, 0, 0, {}),
        Event(" ", 2**40, "run:updated", 7.5, "", 1, 0, {"seq": 1}),
    ]  # fmt: skip
    async with env.events.subscribe() as events:
        await env.events.publish(sent)
        for expected in sent:
            equal(await following(env, events, "an event"), expected, "an event")


@checks.check("of-one-run", kills=("events-filter-ignored",))
async def of_one_run(env: Env) -> None:
    """Who subscribes to one run gets all of its events, and no other's.

    One customer's page must not show another's run.
    """
    async with env.events.subscribe(run_id="run") as events, env.events.subscribe(run_id="run*") as pattern:
        await env.events.publish([event("run1", 1), event("ru", 1), event("run", 1), event("run/1", 1)])
        await env.events.publish([event("RUN", 2), event("run*", 2), event("run", 2)])
        seen = [await following(env, events, "an event") for _ in range(2)]
        equal([(each.run_id, each.seq) for each in seen], [("run", 1), ("run", 2)], "the events of the run")
        only = await following(env, pattern, "the event of the run with a pattern for its id")
        equal((only.run_id, only.seq), ("run*", 2), "the event of the run with a pattern for its id")


@checks.check("only-ends", kills=("events-ends-ignored", "events-ends-of-one-run-only"))
async def only_ends(env: Env) -> None:
    """Who subscribes to ends, of one run or of all, gets the events that end a run, whichever it is, and no other.

    Each end is told once, beside steps or alone; somebody waits for a result meanwhile.
    """
    ends = [replace(event("run", 10 + n), type=kind) for n, kind in enumerate(sorted(ENDS))]
    async with env.events.subscribe(run_id="run", ends=True) as ours, env.events.subscribe(ends=True) as every:
        await env.events.publish([event("run", 1), event("other", 1)])
        await env.events.publish([event("run", 2), ends[0], event("run", 11)])
        await env.events.publish([replace(event("other", 2), type="run:failed"), *ends[1:], event("run", 3)])
        seen = [await following(env, ours, "an end") for _ in ends]
        equal(seen, ends, "the ends of the run")
        told = [await following(env, every, "an end of any run") for _ in range(len(ends) + 1)]
        equal(sorted((each.run_id, each.type) for each in told),
              sorted([("other", "run:failed"), *(("run", kind) for kind in ENDS)]), "the ends of all runs")  # fmt: skip


@checks.check("everyone-gets-all", kills=("events-leaving-ends-all", "events-one-subscriber-wins"))
async def everyone_gets_all(env: Env) -> None:
    """Every subscriber gets every event; that one leaves does not matter to the others.

    Ten open pages show the same run; a bus is no queue.
    """
    async with env.events.subscribe() as one, env.events.subscribe() as two:
        async with env.events.subscribe() as leaves:
            await env.events.publish([event("run", 1)])
            equal((await following(env, leaves, "an event")).seq, 1, "the event of the one that leaves")
        await env.events.publish([event("run", 2), event("run", 3)])
        for who, events in (("one", one), ("two", two)):
            equal(await numbers(env, events, 3, who), [1, 2, 3], f"the events of subscriber {who}")
    await env.events.publish([event("run", 4)])


@checks.check("wakes", kills=("events-end-when-quiet",))
async def wakes(env: Env) -> None:
    """A reader that waits is woken by the next event.

    A live view that must be asked is none. The check of cancelled readers finds its mutant, too; it is here because
    most readers are not cancelled.
    """
    async with env.events.subscribe() as events:
        for number in range(1, 4):
            reader = asyncio.ensure_future(following(env, events, "the event for which a reader waits"))
            try:
                await asyncio.sleep(0.01)  # the reader waits by now; if not, the check only proves less
                await env.events.publish([event("run", number)])
                equal((await reader).seq, number, "the event")
            finally:
                reader.cancel()


@checks.check("never-blocks", kills=("events-others-suffer", "events-publisher-suffers"), timeout=30.0)
async def never_blocks(env: Env) -> None:
    """A subscriber that does not read holds up no publisher, and no other subscriber.

    A page that somebody left open must not stop the workers.
    """
    async with env.events.subscribe(), env.events.subscribe() as reads:
        for start in range(1, 6001, 100):
            await env.events.publish([event("run", number) for number in range(start, start + 100)])
            if start % 1000 == 1:
                await numbers(env, reads, start + 99, "the one that reads")


@checks.check("drops-the-oldest", kills=("events-drop-the-newest",), timeout=30.0)
async def drops_the_oldest(env: Env) -> None:
    """Who reads too slowly misses the oldest events, gets the newest, and gets what it gets in order, each once.

    Whoever comes back to a view wants to see how things are, not how they were.
    """
    async with env.events.subscribe() as events:
        for start in range(1, 6001, 100):
            await env.events.publish([event("run", number) for number in range(start, start + 100)])
        found = await numbers(env, events, 6000, "a slow reader")
        equal(found, sorted(set(found)), "the order of the events")
        await env.events.publish([event("run", 6001)])
        equal((await following(env, events, "an event")).seq, 6001, "the event after a slow time")


@checks.check("cancelled-reader-loses-nothing", kills=("events-cancelled-reader-loses",))
async def cancelled_reader_loses_nothing(env: Env) -> None:
    """A reader that is cancelled while it waits can read on, and loses nothing by it.

    "The next event, but for ten seconds at most" is how a server waits for one.
    """
    async with env.events.subscribe() as events:
        for number in range(1, 4):
            reader = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if number == 2:
                await env.events.publish([event("run", 20)])
                equal(
                    (await asyncio.wait_for(reader, _PATIENCE)).seq, 20, "the event of a reader that was not cancelled"
                )
            reader.cancel()
            await asyncio.wait([reader])
            await env.events.publish([event("run", number)])
            equal((await following(env, events, "the event after a reader was cancelled")).seq, number, "the event")


@checks.check("closing-ends", kills=("events-close-hangs",))
async def closing_ends(env: Env) -> None:
    """After `aclose`, which may be repeated, subscriptions of that object end; those of others go on.

    Who shuts down must not wait for events that nobody sends any more.
    """
    async with env.events.subscribe() as others, handles(env, 1, lambda ports: ports.events) as (bus,):
        async with bus.subscribe() as events:
            await bus.publish([event("run", 1)])
            equal((await following(env, events, "an event")).seq, 1, "the event")
            await bus.aclose()
            await bus.aclose()
            try:
                async with asyncio.timeout(_PATIENCE):
                    left = [each.seq async for each in events]
            except TimeoutError as error:
                raise Violated("a subscription goes on after `aclose`") from error
            equal(left, [], "events after the last")
        if bus is not env.events:  # where one object is all there is, it was closed for all
            await env.events.publish([event("run", 2)])
            equal((await numbers(env, others, 2, "another's"))[-1], 2, "the last event of another's subscription")


@checks.check("reaches-other-handles", level=3, kills=("events-of-one-handle",))
async def reaches_other_handles(env: Env) -> None:
    """Events reach the subscribers of all who have opened the place.

    Who waits for a run is seldom the process that executes it.
    """
    async with handles(env, 2, lambda ports: ports.events) as (one, two), two.subscribe() as events:
        await one.publish([event("run", 1)])
        await env.events.publish([event("run", 2)])
        seen = sorted([(await following(env, events, "an event of another handle")).seq for _ in range(2)])
        equal(seen, [1, 2], "the events")


@checks.check("places-are-apart", kills=("events-places-shared",))
async def places_are_apart(env: Env) -> None:
    """Who subscribes in one namespace hears nothing of another one.

    Staging would show the runs of production.
    """
    async with apart(env) as ports, env.events.subscribe() as ours:
        bus = ports.events or fail("another place has no event bus")
        async with bus.subscribe() as theirs:
            await bus.publish([event("theirs", 1)])
            await env.events.publish([event("ours", 2)])
            heard = [(await following(env, events, "an event")).run_id for events in (ours, theirs)]
            equal(heard, ["ours", "theirs"], "what each hears first")
