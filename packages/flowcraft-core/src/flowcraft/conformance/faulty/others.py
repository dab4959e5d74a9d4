"""The event bus and the value store as one process sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from flowcraft.conformance.faulty.line import Line
from flowcraft.conformance.faulty.plans import Call
from flowcraft.model import Event
from flowcraft.ports import EventBus, ValueStore

__all__ = ["FaultyEvents", "FaultyValues"]


class FaultyEvents:
    """See `EventBus`; ``inner`` is the real one."""

    def __init__(self, inner: EventBus, line: Line) -> None:
        self.inner = inner
        self._line = line

    async def publish(self, events: Sequence[Event]) -> None:
        """See the protocol."""
        async with self._line.calling(Call("events", "publish")) as fault:
            if fault != "dropped":
                await self.inner.publish(events)

    def subscribe(
        self, *, run_id: str | None = None, ends: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """See the protocol. Whoever listens is not killed."""
        return self.inner.subscribe(run_id=run_id, ends=ends)

    async def aclose(self) -> None:
        """See the protocol. The real port belongs to whoever opened it."""


class FaultyValues:
    """See `ValueStore`; ``inner`` is the real one."""

    def __init__(self, inner: ValueStore, line: Line) -> None:
        self.inner = inner
        self._line = line
        self.max_value_bytes: int | None = inner.max_value_bytes

    async def put(self, key: str, data: bytes) -> None:
        """See the protocol."""
        async with self._line.calling(Call("values", "put")):
            await self.inner.put(key, data)

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """See the protocol."""
        async with self._line.calling(Call("values", "get_many")):
            return await self.inner.get_many(keys)

    async def delete_run(self, run_id: str) -> None:
        """See the protocol."""
        async with self._line.calling(Call("values", "delete_run")):
            await self.inner.delete_run(run_id)
