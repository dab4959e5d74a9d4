"""What event buses have in common: the buffer of one subscriber, and events as the body of one message."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, cast

from flowcraft.compact import quoted
from flowcraft.model import Event
from flowcraft.ports import ENDS

__all__ = ["Subscription", "decode_events", "encode_events"]


class Subscription:
    """One block of `EventBus.subscribe`: a buffer that forgets the oldest, and an iterator over it.

    Args:
        run_id: whose events are wanted; None: of all that are offered.
        buffer: events that wait for a slow reader before the oldest are dropped.
        opened: called when the block is entered, before anything can be offered.
        closed: called when it is left.
        ends: whether only the ends of runs are wanted.
    """

    def __init__(
        self,
        run_id: str | None,
        buffer: int,
        opened: Callable[[Subscription], object],
        closed: Callable[[Subscription], object],
        *,
        ends: bool = False,
    ) -> None:
        self._run_id = run_id
        self._ends = ends
        self._waiting: deque[Event] = deque(maxlen=buffer)
        self._changed = asyncio.Event()
        self._over = False
        self._opened = opened
        self._closed = closed

    async def __aenter__(self) -> AsyncIterator[Event]:
        self._opened(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed(self)
        self.end()

    def offer(self, events: Sequence[Event]) -> None:
        """Buffer those of the events that the subscriber wants; never waits."""
        wanted = events if self._run_id is None else [event for event in events if event.run_id == self._run_id]
        if self._ends:
            wanted = [event for event in wanted if event.type in ENDS]
        if wanted:
            self._waiting.extend(wanted)
            self._changed.set()

    def end(self) -> None:
        """Let the iterator stop after what is buffered."""
        self._over = True
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._over:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()


def encode_events(run_id: str, events: Iterable[Event]) -> bytes:
    """The body of one message for events of a run: a JSON list of its id, and number and fields of each event."""
    rows = ",".join(f"{event.seq},{event.to_json()}" for event in events)
    return f"[{quoted(run_id)},{rows}]".encode()


def decode_events(data: bytes) -> list[Event]:
    """The inverse of `encode_events`; none, if the message is a foreign one."""
    try:
        run_id, *flat = cast("list[Any]", json.loads(data))
        return [
            Event(run_id, seq, row["type"], row["at"], row["node"], row["visit"], row["attempt"], row["data"])
            for seq, row in zip(flat[::2], flat[1::2], strict=True)
        ]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return []
