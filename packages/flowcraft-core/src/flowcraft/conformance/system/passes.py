"""A story told again and again, each time with the next of its port calls going wrong."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Violated, expect
from flowcraft.conformance.faulty import At, Call, Fault, Plan, writes
from flowcraft.conformance.openings import Openings
from flowcraft.conformance.system.fleet import Fleet, fleet
from flowcraft.conformance.system.process import Setting
from flowcraft.conformance.system.story import Story
from flowcraft.conformance.target import Place
from flowcraft.results import RunResult
from flowcraft.testing import VirtualClock

__all__ = ["doubled_and_lost", "killed", "told", "unanswered", "wiped"]

#: So many points of a story at most: each of a small one where time is virtual and nothing is written to a disk,
#: else a selection.
_EVERY: Final = 60
_MANY: Final = 30
_SOME: Final = 3
#: On real time that many tellings wait together.
_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class _Told:
    """What one telling came to: calls of the first process, those of them that were writes; what was struck."""

    calls: int
    writes: int
    struck: Call | None
    repeated: int
    bound: bool


async def told(
    env: Env,
    story: Story,
    *,
    plan: Plan | None = None,
    workers: int = 1,
    bound: bool = True,
    concurrency: int = 10,
    before: Callable[[Fleet], None] = lambda _: None,
) -> Fleet:
    """Tell a story once, in this place. ``plan`` is for the first worker; if it dies, another one comes.

    Raises:
        Violated: something else came of it.
    """
    blueprints = story.make(env.unit / 5 if env.target.virtual_time else env.unit)
    async with fleet(env, *blueprints, **story.options) as crew:
        before(crew)
        setting = Setting(bound=bound, concurrency=concurrency)
        client = await crew.client()
        first = await crew.process("first", setting, plan=plan)
        for number in range(1, workers):
            await crew.process(f"other {number}", setting)
        run = await crew.start(client, blueprints[0], story.input, run_id="the run", context=dict(story.context))

        async def live() -> RunResult:
            if story.steer is not None:
                await story.steer(crew, client, run)
            return await crew.ended(run)

        living = asyncio.ensure_future(live())
        try:
            await crew.until(lambda: living.done() or first.line.dead, "P1: the run ends")
            if not living.done():
                await crew.process("rescue", setting)
                await crew.until(living.done, "P1: the run ends")
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
        story.check(crew, living.result())
        await crew.check(client)
        return crew


async def killed(env: Env, story: Story) -> None:
    """The worker is killed after each of its calls in turn: claims, loads, executions, commits, messages, acks."""
    await _everywhere(env, story, lambda n: At(n, "die after"), lambda told: told.calls, most=_EVERY)


async def unanswered(env: Env, story: Story) -> None:
    """The answer to each write in turn is lost: it was not applied, it was, or it is applied only later."""
    faults: tuple[Fault, ...] = ("lost after", "lost before", "late")

    def plan(number: int) -> Plan:
        return At((number - 1) // len(faults) + 1, faults[(number - 1) % len(faults)], writes)

    await _everywhere(env, story, plan, lambda told: len(faults) * told.writes)


async def wiped(env: Env, story: Story) -> None:
    """Coordination forgets everything at each call in turn."""

    def before(number: int) -> Callable[[Fleet], None]:
        def arm(crew: Fleet) -> None:
            at = At(number, "dropped")

            def plan(call: Call) -> Fault | None:
                if at(call) is not None:
                    crew.weather.flush()
                return None

            crew.weather.plan = plan

        return arm

    await _everywhere(env, story, lambda _: None, lambda told: told.calls, before=before, workers=2)


async def doubled_and_lost(env: Env, story: Story) -> None:
    """Every message comes three times, late and in any order; and again, every first message is lost."""

    def double(crew: Fleet) -> None:
        messages = crew.weather.messages
        messages.copies, messages.shuffle, messages.delay = 3, True, crew.unit / 2

    def lose(crew: Fleet) -> None:
        crew.weather.messages.lose_first = True

    ways = ((double, True), (lose, False)) if _on_disk(env) else product((double, lose), (True, False))
    for number, (before, bound) in enumerate(ways):
        async with _place(env, number) as inner:
            # With room for one visit only, copies of one message go to different workers.
            crew = await told(inner, story, workers=3, bound=bound, concurrency=1, before=before)
        sent, lost = len(crew.weather.messages.sent), crew.weather.messages.lost
        expect(lost > 0 if before is lose else sent > 0, "the messages met what was planned for them")


async def _everywhere(
    env: Env,
    story: Story,
    plan: Callable[[int], Plan | None],
    count: Callable[[_Told], int],
    *,
    before: Callable[[int], Callable[[Fleet], None]] = lambda _: lambda _: None,
    workers: int = 1,
    most: int = _MANY,
) -> None:
    points = await _points(env, story, count, most)
    struck = 0

    async def one(number: int, bound: bool) -> None:
        nonlocal struck
        chosen = plan(number)
        try:
            found = await _tell(env, story, plan=chosen, bound=bound, before=before(number), workers=workers)
        except Violated as error:
            at = f", {chosen.struck}" if isinstance(chosen, At) and chosen.struck is not None else ""
            raise Violated(f"with trouble at call {number}{at}{'' if bound else ' (unbound)'}: {error}") from error
        struck += found.struck is not None or chosen is None

    await _each(env, points, one)
    expect(struck, "the trouble that was planned happened at least once")


async def _points(env: Env, story: Story, count: Callable[[_Told], int], most: int) -> Sequence[tuple[int, bool]]:
    """Where to strike, and whether the store is bound: everywhere, if that is cheap."""
    first = await _tell(env, story, bound=True)
    expect(count(first) > 0, "the worker did something")
    if _on_disk(env):
        chosen = env.rng.sample(range(1, count(first) + 1), min(_SOME, count(first)))
        return [(number, not (first.bound and at % 2)) for at, number in enumerate(sorted(chosen))]
    totals = [(count(first), True)]
    if first.bound:  # else it is the same
        totals.append((count(await _tell(env, story, bound=False)), False))
    everywhere = [(number, bound) for total, bound in totals for number in range(1, total + 1)]
    return everywhere if len(everywhere) <= most else env.rng.sample(everywhere, most)


def _on_disk(env: Env) -> bool:
    return env.store.capabilities.durable


async def _each(
    env: Env, points: Sequence[tuple[int, bool]], one: Callable[[int, bool], Awaitable[None]]
) -> None:  # fmt: skip
    if env.target.virtual_time:
        for number, bound in points:
            await one(number, bound)
        return
    room = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(number: int, bound: bool) -> None:
        async with room:
            await one(number, bound)

    async with asyncio.TaskGroup() as group:
        for number, bound in points:
            group.create_task(in_turn(number, bound))


async def _tell(
    env: Env,
    story: Story,
    *,
    plan: Plan | None = None,
    bound: bool = True,
    before: Callable[[Fleet], None] = lambda _: None,
    workers: int = 1,
) -> _Told:
    counted = 0

    def count(call: Call) -> Fault | None:
        nonlocal counted
        counted += writes(call)
        return None if plan is None else plan(call)

    async with _place(env, 0) as inner:
        crew = await told(inner, story, plan=count, bound=bound, before=before, workers=workers)
    first = crew.processes[1]
    struck = plan.struck if isinstance(plan, At) else None
    return _Told(first.line.calls, counted, struck, crew.effects.repeated(), first.bound)


@asynccontextmanager
async def _place(env: Env, number: int) -> AsyncGenerator[Env]:
    """A place of its own beside that of the check, dropped at the end."""
    clock = VirtualClock() if env.target.virtual_time else env.clock
    place, openings = Place(f"s{number}-{env.place.namespace[-24:]}-{secrets.token_hex(4)}", clock), Openings()
    target = openings.counted(env.target)
    try:
        async with target.open(place) as ports:
            yield replace(env, target=target, place=place, ports=ports)
    finally:
        if env.target.drop is not None:
            await env.target.drop(place)
        if env.target.leftovers is not None:
            left = await env.target.leftovers(place)
            expect(not left, openings.told(left))
