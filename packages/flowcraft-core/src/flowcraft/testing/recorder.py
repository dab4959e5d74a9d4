"""What happened: the events of runs, to be asked for in assertions and shown when one fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import overload

from flowcraft.model import Event
from flowcraft.ports import EventBus

__all__ = ["Recorder", "RecordingBus"]


class Recorder(Sequence[Event]):
    """A list of events, the oldest first; call it with an event to add one.

    So it is a listener of a runtime: ``FlowRuntime([flow], listeners=[recorder])``. The selections are recorders, too,
    of what is there now: ``recorder.node("charge").types()``. Hints, such as ``node:started``, have the number 0.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._events = list(events)

    def __call__(self, event: Event) -> None:
        """Add an event."""
        self._events.append(event)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Recorder: ...
    def __getitem__(self, index: int | slice) -> Event | Recorder:
        return Recorder(self._events[index]) if isinstance(index, slice) else self._events[index]

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def of(self, *types: str) -> Recorder:
        """The events of these types, such as ``"node:completed"``."""
        return Recorder(event for event in self._events if event.type in types)

    def node(self, node_id: str) -> Recorder:
        """The events of one node."""
        return Recorder(event for event in self._events if event.node == node_id)

    def run(self, run_id: str) -> Recorder:
        """The events of one run."""
        return Recorder(event for event in self._events if event.run_id == run_id)

    def types(self) -> list[str]:
        """The types of the events."""
        return [event.type for event in self._events]

    def nodes(self) -> list[str]:
        """The nodes of the events that are about one."""
        return [event.node for event in self._events if event.node is not None]

    def timeline(self) -> str:
        """The events as text, a line each: seconds since the first, run if there are several, type, node, data."""
        if not self._events:
            return "(nothing happened)"
        began = min(event.at for event in self._events)
        several = len({event.run_id for event in self._events}) > 1
        return "\n".join(_line(event, began, several=several) for event in self._events)

    def __str__(self) -> str:
        return self.timeline()

    def __repr__(self) -> str:
        return f"<Recorder of {len(self._events)} events>\n{self.timeline()}"


def _line(event: Event, began: float, *, several: bool) -> str:
    parts = [f"{event.at - began:10.3f}"]
    if several:
        parts.append(f"{event.run_id:24}")
    parts.append(f"{event.type:16}")
    if event.node is not None:
        which = f" ({event.visit}.{event.attempt})" if event.visit > 1 or event.attempt > 1 else ""
        parts.append(event.node + which)
    parts += [f"{key}={value}" for key, value in event.data.items() if value is not None]
    return " ".join(parts).rstrip()


class RecordingBus:
    """An event bus around another one, which tells a listener everything before anybody else hears of it."""

    def __init__(self, bus: EventBus, heard: Callable[[Event], None]) -> None:
        self._bus = bus
        self._heard = heard

    async def publish(self, events: Sequence[Event]) -> None:
        """See the protocol."""
        for event in events:
            self._heard(event)
        await self._bus.publish(events)

    def subscribe(
        self, *, run_id: str | None = None, ends: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """See the protocol."""
        return self._bus.subscribe(run_id=run_id, ends=ends)

    async def aclose(self) -> None:
        """See the protocol."""
        await self._bus.aclose()
