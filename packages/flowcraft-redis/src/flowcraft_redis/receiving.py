"""The tasks of one reception: a reader for each partition, and one that tends what is delayed or was abandoned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from redis.exceptions import ResponseError

from flowcraft.errors import AdapterError
from flowcraft_redis import scripts
from flowcraft_redis.keys import Partition
from flowcraft_redis.link import Link
from flowcraft_redis.wire import Argument, Wire

__all__ = ["GROUP", "Message", "Reader", "Tender"]

GROUP: Final = b"flowcraft"
_CONSUMER: Final = b"worker"  # of everybody: whose a delivery is says its entry, which nobody else knows
_BLOCK: Final = 1.0  # seconds that a read waits at most
_TEND: Final = 1.0  # seconds between looks at what is delayed or was abandoned
_MOST: Final = 500  # messages that one look moves

#: Queue, level, id and fields of an entry.
Message = tuple[bytes, int, bytes, dict[bytes, bytes]]


class Room(Protocol):
    """What readers need of their reception."""

    queues: list[bytes]
    levels: dict[tuple[Partition, bytes], tuple[int, ...]]

    @property
    def over(self) -> bool: ...
    @property
    def shared(self) -> bool: ...
    @property
    def patience(self) -> float: ...
    async def reserve(self) -> int: ...
    def give_back(self, reserved: int) -> None: ...
    async def arrived(self, part: Partition, messages: Sequence[Message], reserved: int) -> None: ...
    def failed(self, error: Exception) -> None: ...


class Reader:
    """Reads the streams of one partition for as long as there is room."""

    def __init__(self, link: Link, part: Partition, room: Room) -> None:
        self._link = link
        self._part = part
        self._room = room
        self._client: int | None = None
        self._reserved = 0
        self._grouped: set[bytes] = set()
        self._task = asyncio.create_task(self._run(), name="flowcraft redis receiver")

    async def stop(self) -> None:
        """End; a read that is under way returns at once, and what it brings counts as received."""
        try:
            while not self._task.done():
                # It may have asked to wait just after it was told not to, so it is told again.
                with suppress(AdapterError):
                    if self._client is not None:
                        await self._link.unblock(self._client)
                await asyncio.wait({self._task}, timeout=0.02 if self._client is not None else _BLOCK)
                if self._client is None:
                    break
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        wire: Wire | None = None
        try:
            wire = await self._link.wire(self._part.stream(self._room.queues[0], 0))
            self._client = int(await wire.call((b"CLIENT", b"ID"), writing=False))
            while not self._room.over:
                self._reserved = await self._room.reserve()
                messages: list[Message] = []
                try:
                    if self._reserved > 0:
                        messages = await self._read(wire)
                finally:
                    await self._room.arrived(self._part, messages, self._reserved)
        except Exception as error:  # noqa: BLE001 - whoever iterates gets it
            self._room.failed(error)
        finally:
            self._client = None
            if wire is not None:
                await wire.aclose()

    async def _read(self, wire: Wire) -> list[Message]:
        streams = dict(self._streams())
        if not streams.keys() <= self._grouped:
            await self._make_groups(wire, streams)
        count = self._reserved
        if len(streams) > 1 or self._room.shared:  # in order, and no more than there is room for
            reply = await self._link.run(scripts.RECEIVE, list(streams), (count,))
            if isinstance(reply, bytes):
                self._grouped.clear()
                return []
            if reply:
                return list(_messages(reply, streams))
            count = 1  # of each stream
            if self._room.shared:
                self._leave(len(streams))
        wait = min(_BLOCK, self._room.patience)
        command: tuple[Argument, ...] = (
            b"XREADGROUP", b"GROUP", GROUP, _CONSUMER, b"COUNT", count, b"BLOCK", int(wait * 1000), b"STREAMS",
            *streams, *[b">"] * len(streams),
        )  # fmt: skip
        try:
            reply = await wire.call(command, writing=True)
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            self._grouped.clear()  # somebody removed the streams: they are made again
            return []
        return list(_messages(reply, streams))

    def _leave(self, needed: int) -> None:
        """Leave the room that is not needed to another partition, which may have a backlog, while this one waits."""
        more = max(0, self._reserved - needed)
        self._reserved -= more
        self._room.give_back(more)

    def _streams(self) -> Iterator[tuple[bytes, tuple[bytes, int]]]:
        for queue in self._room.queues:
            for level in self._room.levels.get((self._part, queue), (0,)):
                yield self._part.stream(queue, level), (queue, level)

    async def _make_groups(self, wire: Wire, streams: Iterable[bytes]) -> None:
        for stream in streams:
            try:
                await wire.call((b"XGROUP", b"CREATE", stream, GROUP, b"0", b"MKSTREAM"), writing=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
        self._grouped.update(streams)


class Tender:
    """Looks at the queues of a reception once a second, or when something is due: see ``tend.lua``."""

    def __init__(self, link: Link, parts: Sequence[Partition], room: Room, visibility: float) -> None:
        self._link = link
        self._parts = parts
        self._room = room
        self._visibility = visibility
        self._look = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(self._run(), name="flowcraft redis tender")

    async def look(self) -> None:
        """Look now; what there is to know is known when this returns."""
        calls = (self._tend(part, queue) for part in self._parts for queue in tuple(self._room.queues))
        self.look_in(min(_TEND, min(await asyncio.gather(*calls)) + 0.001))

    def look_in(self, seconds: float) -> None:
        """Look again in so many seconds, or sooner."""
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._alarm is None or at < self._alarm.when():
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = loop.call_at(at, self._look.set)

    async def stop(self) -> None:
        """End."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                self._look.clear()
                if self._alarm is not None:
                    self._alarm.cancel()
                    self._alarm = None
                await self.look()
                await self._look.wait()
        except Exception as error:  # noqa: BLE001 - whoever iterates gets it
            self._room.failed(error)

    async def _tend(self, part: Partition, queue: bytes) -> float:
        """Seconds until something is due."""
        keys = (part.stream(queue, 0), part.levels(queue), part.delayed(queue), part.kept(queue))
        arguments = (*part.around(queue), int(self._visibility * 1000), _MOST)
        due, found = await self._link.run(scripts.TEND, keys, arguments)
        levels = sorted({0, *(int(level) for level in found)}, reverse=True)
        self._room.levels[part, queue] = tuple(levels)
        return float(due) if float(due) >= 0 else _TEND


def _messages(reply: Any, streams: dict[bytes, tuple[bytes, int]]) -> Iterator[Message]:
    """The entries of a reply, however the protocol tells them."""
    rows = reply.items() if isinstance(reply, dict) else reply or ()
    for stream, entries in cast("Sequence[tuple[bytes, Any]]", rows):
        for id, flat in entries:
            fields = dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}
            yield *streams[stream], id, fields
