"""Longer questions to ports, for checks: whole listings, answers that may lag, other places and handles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeVar

from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Violated, equal, expect, fail
from flowcraft.conformance.target import Place, Ports
from flowcraft.errors import AdapterError
from flowcraft.model import Index, Page, RunSummary
from flowcraft.ports import RunStore

__all__ = [
    "apart",
    "becomes",
    "cut_off",
    "due_ids",
    "everything",
    "handles",
    "ids",
    "listed",
    "lists",
    "near",
    "same_index",
]

T = TypeVar("T")
#: A time may be stored in whole milliseconds.
PRECISION: Final = 0.001
_MOST_PAGES: Final = 2000


def ids(rows: Sequence[RunSummary]) -> list[str]:
    """The ids of rows, in their order."""
    return [row.run_id for row in rows]


async def everything(ask: Callable[[str | None], Awaitable[Page[RunSummary]]], limit: int) -> list[RunSummary]:
    """All rows of a listing, page by page; the last one may be empty.

    Raises:
        Violated: a page has more than ``limit`` rows, or there is no end.
    """
    rows: list[RunSummary] = []
    after: str | None = None
    for _ in range(_MOST_PAGES):
        page = await ask(after)
        expect(len(page.items) <= limit, f"a page of at most {limit} rows has {len(page.items)}")
        rows += page.items
        after = page.after
        if after is None:
            return rows
    fail(f"a listing has no end: {len(rows)} rows on {_MOST_PAGES} pages")


async def listed(
    store: RunStore, *, kind: str = "run", status: str | None = None, blueprint_id: str | None = None, limit: int = 100
) -> list[RunSummary]:
    """All rows of `list`."""
    return await everything(
        lambda after: store.list(kind=kind, status=status, blueprint_id=blueprint_id, limit=limit, after=after), limit
    )


async def due_ids(store: RunStore, now: float, *, kind: str = "run", limit: int = 100) -> list[str]:
    """The ids of all rows of `due`, in their order."""
    return ids(await everything(lambda after: store.due(now, kind=kind, limit=limit, after=after), limit))


async def lists(
    env: Env,
    expected: list[str],
    what: str,
    *,
    kind: str = "run",
    status: str | None = None,
    blueprint_id: str | None = None,
    limit: int = 100,
    ordered: bool = True,
) -> None:
    """Wait until `list` has these ids, as long as an index of the target may lag. Raises: Violated."""

    async def ask() -> list[str]:
        found = ids(await listed(env.store, kind=kind, status=status, blueprint_id=blueprint_id, limit=limit))
        return found if ordered else sorted(found)

    await becomes(env, ask, expected, what)


async def finds_due(
    env: Env,
    now: float,
    expected: list[str],
    what: str,
    *,
    kind: str = "run",
    limit: int = 100,
    ordered: bool = True,
    store: RunStore | None = None,
) -> None:
    """Wait until `due` has these ids, as long as an index of the target may lag. Raises: Violated."""

    async def ask() -> list[str]:
        found = await due_ids(store or env.store, now, kind=kind, limit=limit)
        return found if ordered else sorted(found)

    await becomes(env, ask, expected, what)


async def becomes(env: Env, ask: Callable[[], Awaitable[object]], expected: object, what: str) -> None:
    """Wait for this answer as long as an index of the target may lag.

    Raises:
        Violated: it did not come.
    """
    seen: object = None

    async def same() -> bool:
        nonlocal seen
        seen = await ask()
        return seen == expected

    try:
        await env.eventually(same, env.target.settle, what)
    except Violated:
        equal(seen, expected, what)


def near(actual: float | None, expected: float | None, what: str) -> None:
    """Raises: Violated, unless both are None, or times of the same millisecond."""
    good = actual is None if expected is None else actual is not None and abs(actual - expected) <= PRECISION
    expect(good, f"{what}: expected {expected}, got {actual}")


def same_index(actual: Index, expected: Index, what: str) -> None:
    """Raises: Violated, unless all columns are the same; a due time may be early by a millisecond, never late."""
    equal(actual.status, expected.status, f"the status of {what}")
    near(actual.updated_at, expected.updated_at, f"when {what} was updated")
    near(actual.wake_at, expected.wake_at, f"when {what} is due")
    if actual.wake_at is not None and expected.wake_at is not None:
        expect(actual.wake_at <= expected.wake_at, f"{what} is due late: {actual.wake_at} for {expected.wake_at}")


async def cut_off(env: Env, call: Coroutine[object, object, object], turns: int) -> None:
    """Begin a call, and cancel it after so many turns of the event loop and, every other time, up to 4 ms.

    Raises:
        Violated: it ended with an error that is not of `flowcraft.errors`.
    """
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    if turns % 2:
        await asyncio.sleep(env.rng.random() * 0.004)
    task.cancel()
    await asyncio.wait([task])
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, AdapterError):
        raise Violated(f"a cancelled call raised {type(error).__name__}: {error}") from error


@asynccontextmanager
async def handles(env: Env, count: int, port: Callable[[Ports], T | None]) -> AsyncGenerator[list[T]]:
    """The same port of the check's place, opened ``count`` times, as by so many processes."""
    async with AsyncExitStack() as stack:
        opened = [port(await stack.enter_async_context(env.again())) for _ in range(count)]
        there = [each for each in opened if each is not None]
        equal(len(there), count, "ports that were opened again")
        yield there


@asynccontextmanager
async def apart(env: Env) -> AsyncGenerator[Ports]:
    """Another place, whose namespace begins like that of the check."""
    place = Place(f"{env.place.namespace[:37]}-b2", env.clock)
    try:
        async with env.target.open(place) as ports:
            yield ports
    finally:
        if env.target.drop is not None:
            await env.target.drop(place)
