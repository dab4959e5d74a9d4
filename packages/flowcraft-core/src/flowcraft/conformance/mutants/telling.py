"""Event buses and value stores that do one thing wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from flowcraft.conformance.mutants.breaking import mutant, opened_otherwise, places_shared
from flowcraft.conformance.mutants.mutant import Mutant
from flowcraft.conformance.target import Target
from flowcraft.errors import PayloadTooLarge, Unavailable
from flowcraft.memory import MemoryEventBus, MemoryValueStore
from flowcraft.model import Event, run_address
from flowcraft.subscriptions import Subscription

__all__ = ["mutants"]

Events = AbstractAsyncContextManager[AsyncIterator[Event]]


class _Bus(MemoryEventBus):
    def __init__(self, clock: object) -> None:
        super().__init__()


class _OlderAreSeen(_Bus):
    """A subscriber gets what was published before, first."""

    def __init__(self, clock: object) -> None:
        super().__init__(clock)
        self._older: list[Event] = []

    def tell(self, events: Sequence[Event]) -> None:
        self._older += events
        super().tell(events)

    def subscribe(self, *, run_id: str | None = None, ends: bool = False) -> Events:
        def opened(subscription: Subscription) -> None:
            self._opened(subscription)
            subscription.offer(self._older)

        return Subscription(run_id, self._buffer, opened, self._closed, ends=ends)


class _LoseData(_Bus):
    """The data of hints is not told."""

    def tell(self, events: Sequence[Event]) -> None:
        super().tell([event if event.seq else replace(event, data={}) for event in events])


class _FilterIgnored(_Bus):
    """Who subscribes to one run gets the events of all."""

    def subscribe(self, *, run_id: str | None = None, ends: bool = False) -> Events:
        return super().subscribe(ends=ends)


class _EndsIgnored(_Bus):
    """Who subscribes to the ends of runs hears of every step."""

    def subscribe(self, *, run_id: str | None = None, ends: bool = False) -> Events:
        return super().subscribe(run_id=run_id)


class _OnlyRunsEnds(_Bus):
    """Who subscribes to the ends of all runs hears nothing."""

    def subscribe(self, *, run_id: str | None = None, ends: bool = False) -> Events:
        return super().subscribe(run_id="" if ends and run_id is None else run_id, ends=ends)


class _OneSubscriberWins(_Bus):
    """Only one subscriber gets an event, as from a queue."""

    def tell(self, events: Sequence[Event]) -> None:
        subscriptions = [*self._subscriptions]
        for event in events:
            if subscriptions:
                subscriptions[event.seq % len(subscriptions)].offer([event])


class _LeavingEndsAll(_Bus):
    """When one subscriber leaves, the subscriptions of all end."""

    def subscribe(self, *, run_id: str | None = None, ends: bool = False) -> Events:
        def closed(_: Subscription) -> None:
            for other in tuple(self._subscriptions):
                other.end()
            self._subscriptions.clear()

        return Subscription(run_id, self._buffer, self._opened, closed, ends=ends)


class _OthersSuffer(_Bus):
    """While one subscriber has not read for long, the others get nothing."""

    def tell(self, events: Sequence[Event]) -> None:
        full = [each for each in self._subscriptions if len(each._waiting) >= self._buffer]
        for subscription in full or self._subscriptions:
            subscription.offer(events)


class _EndsWhenQuiet(Subscription):
    async def __anext__(self) -> Event:
        if not self._waiting:
            raise StopAsyncIteration
        return await super().__anext__()


class _EndWhenQuiet(_Bus):
    """A reader for whom there is nothing is told that there will be nothing."""

    def subscribe(self, *, run_id: str | None = None, ends: bool = False) -> Events:
        return _EndsWhenQuiet(run_id, self._buffer, self._opened, self._closed, ends=ends)


class _PublisherSuffers(_Bus):
    """Publishing raises an error when a subscriber has not read for long."""

    async def publish(self, events: Sequence[Event]) -> None:
        if any(len(subscription._waiting) >= self._buffer for subscription in self._subscriptions):
            raise Unavailable("a subscriber does not read")
        await super().publish(events)


class _DropsNewest(Subscription):
    def offer(self, events: Sequence[Event]) -> None:
        for event in events:
            if len(self._waiting) < (self._waiting.maxlen or 0):
                super().offer([event])


class _DropTheNewest(_Bus):
    """Who reads too slowly misses the newest events."""

    def subscribe(self, *, run_id: str | None = None, ends: bool = False) -> Events:
        return _DropsNewest(run_id, self._buffer, self._opened, self._closed, ends=ends)


class _CancelledReaderLoses(_Bus):
    """A reader that was cancelled while it waited is told that there is no more."""

    def subscribe(self, *, run_id: str | None = None, ends: bool = False) -> Events:
        return self._subscribed(super().subscribe(run_id=run_id, ends=ends))

    @asynccontextmanager
    async def _subscribed(self, inner: Events) -> AsyncGenerator[AsyncIterator[Event]]:
        async with inner as events:

            async def generate() -> AsyncGenerator[Event]:
                async for event in events:
                    yield event

            yield generate()


class _CloseHangs(_Bus):
    """Closing does not end the subscriptions."""

    async def aclose(self) -> None:
        """Nothing."""


class _Values(MemoryValueStore):
    def __init__(self, clock: object) -> None:
        super().__init__()


class _EmptyIsAbsent(_Values):
    """A value without bytes is not found."""

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return {key: data for key, data in (await super().get_many(keys)).items() if data}


class _PutTwiceFails(_Values):
    """Putting what has been put three times raises an error."""

    def __init__(self, clock: object) -> None:
        super().__init__(clock)
        self._puts: dict[str, int] = {}

    async def put(self, key: str, data: bytes) -> None:
        self._puts[key] = self._puts.get(key, 0) + 1
        if self._puts[key] > 3:
            raise Unavailable("it exists")
        await super().put(key, data)

    async def delete_run(self, run_id: str) -> None:
        self._puts.clear()
        await super().delete_run(run_id)


class _Cut(_Values):
    """A value is cut at 1 MB."""

    async def put(self, key: str, data: bytes) -> None:
        await super().put(key, data[: 1 << 20])


class _EndInZeros(_Values):
    """What is beyond the first megabyte of a value is zeros."""

    async def put(self, key: str, data: bytes) -> None:
        await super().put(key, bytes(data[: 1 << 20]) + bytes(max(0, len(data) - (1 << 20))))


class _FirstHundred(_Values):
    """A hundred values at most are found at once."""

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return await super().get_many(keys[:100])


class _DeletionIncomplete(_Values):
    """A deletion removes a hundred values at most."""

    async def delete_run(self, run_id: str) -> None:
        values = self._runs.get(run_address(run_id), {})
        for key in [*values][:100]:
            del values[key]


class _DeletionTakesOthers(_Values):
    """A deletion removes values with the same content of other runs, too."""

    async def delete_run(self, run_id: str) -> None:
        contents = {key.partition("/")[2] for key in self._runs.get(run_address(run_id), {})}
        for values in self._runs.values():
            for key in [key for key in values if key.partition("/")[2] in contents]:
                del values[key]


class _StayDeleted(_Values):
    """What was deleted once is never found again."""

    def __init__(self, clock: object) -> None:
        super().__init__(clock)
        self._deleted: set[str] = set()

    async def delete_run(self, run_id: str) -> None:
        self._deleted |= {*self._runs.get(run_address(run_id), {})}
        await super().delete_run(run_id)

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        return await super().get_many([key for key in keys if key not in self._deleted])


class _SeenInPart(_Values):
    """A value is written in two parts."""

    async def put(self, key: str, data: bytes) -> None:
        values = self._runs.setdefault(run_address("") if "/" not in key else key.partition("/")[0], {})
        if key not in values:
            values[key] = bytes(data[: len(data) // 2])
            await asyncio.sleep(0)
            values[key] = bytes(data)


class _KeepBuffers(_Values):
    """A value is kept as the object that the caller handed over."""

    async def put(self, key: str, data: bytes) -> None:
        self._runs.setdefault(key.partition("/")[0], {}).setdefault(key, data)


class _LimitUndeclared(_Values):
    """Values of more than 3.5 MB are refused, and no limit is declared."""

    async def put(self, key: str, data: bytes) -> None:
        if len(data) > 3_500_000:
            raise PayloadTooLarge("too large")
        await super().put(key, data)


def _of_one_handle(name: str, port: str, make: Callable[[], Any]) -> Callable[[], Target]:
    return lambda: opened_otherwise(name, lambda ports, _: replace(ports, **{port: make()}))


mutants = (
    mutant("events-older-are-seen", "events.bus.from-then-on", events=_OlderAreSeen),
    mutant("events-lose-data", "events.bus.as-it-was", events=_LoseData),
    mutant("events-filter-ignored", "events.bus.of-one-run", events=_FilterIgnored),
    mutant("events-ends-ignored", "events.bus.only-ends", events=_EndsIgnored),
    mutant("events-ends-of-one-run-only", "events.bus.only-ends", events=_OnlyRunsEnds),
    mutant("events-one-subscriber-wins", "events.bus.everyone-gets-all", events=_OneSubscriberWins),
    mutant("events-leaving-ends-all", "events.bus.everyone-gets-all", events=_LeavingEndsAll),
    mutant("events-others-suffer", "events.bus.never-blocks", events=_OthersSuffer),
    mutant("events-end-when-quiet", "events.bus.wakes", events=_EndWhenQuiet),
    mutant("events-publisher-suffers", "events.bus.never-blocks", events=_PublisherSuffers),
    mutant("events-drop-the-newest", "events.bus.drops-the-oldest", events=_DropTheNewest),
    mutant("events-cancelled-reader-loses", "events.bus.cancelled-reader-loses-nothing", events=_CancelledReaderLoses),
    mutant("events-close-hangs", "events.bus.closing-ends", events=_CloseHangs),
    Mutant(
        "events-of-one-handle", "Events reach only the subscribers of the handle by which they were published.",
        "events.bus.reaches-other-handles", _of_one_handle("events-of-one-handle", "events", MemoryEventBus),
    ),
    Mutant(
        "events-places-shared", "All places have the same events.", "events.bus.places-are-apart",
        lambda: places_shared("events-places-shared", "events"),
    ),
    mutant("values-empty-is-absent", "values.store.what-was-put", values=_EmptyIsAbsent),
    mutant("values-put-twice-fails", "values.store.put-again", values=_PutTwiceFails),
    mutant("values-cut", "values.store.whole", values=_Cut),
    mutant("values-end-in-zeros", "values.store.whole", values=_EndInZeros),
    mutant("values-first-hundred", "values.store.many", values=_FirstHundred),
    mutant("values-deletion-incomplete", "values.store.goes-with-its-run", values=_DeletionIncomplete),
    mutant("values-deletion-takes-others", "values.store.other-runs-stay", values=_DeletionTakesOthers),
    mutant("values-stay-deleted", "values.store.deletion-repeated", values=_StayDeleted),
    mutant("values-seen-in-part", "values.store.whole-or-absent", values=_SeenInPart),
    mutant("values-keep-buffers", "values.store.callers-buffers", values=_KeepBuffers),
    mutant("values-limit-undeclared", "values.store.limit", values=_LimitUndeclared),
    Mutant(
        "values-of-one-handle", "Every handle has values of its own.", "values.store.shared",
        _of_one_handle("values-of-one-handle", "values", MemoryValueStore),
    ),
    Mutant(
        "values-places-shared", "All places have the same values.", "values.store.places-are-apart",
        lambda: places_shared("values-places-shared", "values"),
    ),
)  # fmt: skip
