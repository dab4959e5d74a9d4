"""One connection, shared by everything that is asked at the same time: commands are sent without waiting for replies.

What is asked in one turn of the event loop leaves in one write. Replies come in order, so a reader that never rests is
all that is needed; it also notices at once when an idle connection dies, so that nothing is lost with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

from redis.exceptions import ResponseError

from flowcraft.errors import Unavailable
from flowcraft_redis.errors import is_refusal, translate

__all__ = ["Argument", "Connected", "Source", "Wire", "pack"]

#: What a command is made of. Text must be encoded by who knows what to say if it cannot be.
Argument = bytes | int

_FOREVER: Final = 86_400.0  # for a driver that would take None for its own, shorter limit
_GRACE: Final = 2  # times that a question is asked again when the connection breaks


class Connected(Protocol):
    """A connection of redis-py, as far as it is used here."""

    socket_timeout: float | None

    @property
    def is_connected(self) -> bool: ...
    async def send_packed_command(self, command: bytes, check_health: bool = True) -> None: ...
    async def read_response(
        self, disable_decoding: bool = False, timeout: float | None = None, *, push_request: bool | None = False
    ) -> Any: ...
    async def disconnect(self, nowait: bool = False) -> None: ...


class Source(NamedTuple):
    """Where connections come from: ``take`` brings one that is ready, ``give`` takes it back, however it is then."""

    take: Callable[[], Awaitable[Connected]]
    give: Callable[[Connected], Awaitable[None]]


class _Request:
    __slots__ = ("data", "deadline", "future", "patience", "tries", "writing")

    def __init__(self, data: bytes, future: asyncio.Future[Any], patience: float, *, writing: bool) -> None:
        self.data = data
        self.future = future
        self.patience = patience
        self.writing = writing
        self.tries = 0
        self.deadline = 0.0


def pack(arguments: Sequence[Argument]) -> bytes:
    """A command as it goes over the wire."""
    parts = [b"*%d" % len(arguments)]
    add = parts.append
    for argument in arguments:
        if isinstance(argument, bytes):
            size = len(argument)
            add(_SIZES[size] if size < _KNOWN else b"$%d" % size)
            add(argument)
        elif 0 <= argument < _KNOWN:
            add(_NUMBERS[argument])
        else:
            data = b"%d" % argument
            add(b"$%d\r\n%b" % (len(data), data))
    add(b"")
    return b"\r\n".join(parts)


# Formatting bytes is slow, and most sizes and numbers are small.
_KNOWN: Final = 1024
_SIZES: Final = tuple(b"$%d" % size for size in range(_KNOWN))
_NUMBERS: Final = tuple(b"$%d\r\n%d" % (len(str(number)), number) for number in range(_KNOWN))


class Wire:
    """A connection that is opened when it is needed, and again after it broke. Belongs to one event loop.

    Args:
        place: what to call the server in messages.
        patience: seconds until a reply that does not come means that the connection is dead.
    """

    def __init__(self, source: Source, *, place: str, patience: float) -> None:
        self._source = source
        self._place = place
        self._patience = patience
        self._waiting: deque[_Request] = deque()
        self._sent: deque[_Request] = deque()
        self._asked = asyncio.Event()
        self._connection: Connected | None = None
        self._writer: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def call(
        self, arguments: Sequence[Argument], *, writing: bool, patience: float | None = None
    ) -> asyncio.Future[Any]:
        """Ask; the reply has bytes, ints, None, lists, and dicts where RESP3 is spoken.

        The future raises what redis-py makes of an error reply, and errors of Flowcraft for everything else.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._closed:
            future.set_exception(Unavailable("the connection was closed"))
            return future
        self._waiting.append(_Request(pack(arguments), future, patience or self._patience, writing=writing))
        self._asked.set()
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write(), name="flowcraft redis writer")
        return future

    async def aclose(self) -> None:
        """Close the connection; whoever still waits gets `Unavailable` or `UnknownOutcome`. May be repeated."""
        self._closed = True
        tasks = [task for task in (self._writer, self._reader) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._writer = self._reader = None
        self._drop(Unavailable("the connection was closed"))
        self._refuse(Unavailable("the connection was closed"))
        await asyncio.gather(*self._closing, return_exceptions=True)

    # ---- writing

    async def _write(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            if not self._waiting:
                continue
            try:
                connection = self._connection
                if connection is None or not connection.is_connected:
                    connection = await self._connect()
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait get it
                self._refuse(error)
                continue
            await self._send(connection)

    async def _send(self, connection: Connected) -> None:
        now = asyncio.get_running_loop().time()
        parts: list[bytes] = []
        while self._waiting:
            request = self._waiting.popleft()
            if request.future.cancelled():
                continue
            request.deadline = now + request.patience
            self._sent.append(request)
            parts.append(request.data)
        if not parts:
            return
        self._watch()
        try:
            async with asyncio.timeout(self._patience):
                await connection.send_packed_command(b"".join(parts), check_health=False)
        except Exception as error:  # noqa: BLE001 - the connection is of no use any more, for whatever reason
            self._broken(connection, error)

    async def _connect(self) -> Connected:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._drop(ConnectionError("the connection broke"))
        await asyncio.gather(*self._closing, return_exceptions=True)  # a small pool may have no other one
        async with asyncio.timeout(self._patience):
            connection = await self._source.take()
        self._connection = connection
        self._reader = asyncio.create_task(self._read(connection), name="flowcraft redis reader")
        return connection

    # ---- reading

    async def _read(self, connection: Connected) -> None:
        limit = None if connection.socket_timeout is None else _FOREVER
        error: Exception
        try:
            while True:
                try:
                    reply = await connection.read_response(disable_decoding=True, timeout=limit)
                except ResponseError as refusal:
                    reply = refusal
                if not self._sent:
                    if reply is None:
                        continue  # nothing was said for a day
                    error = ConnectionError("a reply came that nobody asked for")
                    break
                self._answer(self._sent.popleft(), reply)
        except Exception as trouble:  # noqa: BLE001 - the connection is of no use any more, for whatever reason
            error = trouble
        self._broken(connection, error)

    def _answer(self, request: _Request, reply: object) -> None:
        if request.future.done():
            return
        if isinstance(reply, Exception):
            request.future.set_exception(reply)
        else:
            request.future.set_result(reply)

    # ---- trouble

    def _watch(self) -> None:
        """Look again when the oldest question has waited for too long."""
        if self._alarm is None and self._sent:
            self._alarm = asyncio.get_running_loop().call_at(self._sent[0].deadline, self._look)

    def _look(self) -> None:
        self._alarm = None
        if not self._sent:
            return
        if self._sent[0].deadline > asyncio.get_running_loop().time():
            self._watch()
        elif self._connection is not None:
            if self._reader is not None:
                self._reader.cancel()  # or it would take a late reply for the next question's
            self._broken(self._connection, TimeoutError("no reply in time"))

    def _broken(self, connection: Connected, error: Exception) -> None:
        if self._connection is connection:
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        """Give the connection back, closed; what was sent is asked again, or of unknown outcome."""
        connection, self._connection = self._connection, None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        sent, self._sent = self._sent, deque()
        for request in reversed(sent):
            request.tries += 1
            if not request.writing and request.tries < _GRACE and not self._closed and not is_refusal(error):
                self._waiting.appendleft(request)
            else:
                self._fail(request, error, sent=request.writing)
        if self._waiting:
            self._asked.set()
        if connection is not None:
            closing = asyncio.get_running_loop().create_task(self._close(connection), name="flowcraft redis closing")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close(self, connection: Connected) -> None:
        with suppress(Exception):
            await connection.disconnect(nowait=True)
        with suppress(Exception):
            await self._source.give(connection)

    def _refuse(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            self._fail(request, error, sent=False)

    def _fail(self, request: _Request, error: Exception, *, sent: bool) -> None:
        if request.future.done():
            return
        told = translate(error, self._place, sent=sent)
        told.__cause__ = error if told is not error else None
        request.future.set_exception(told)
