"""One connection that is subscribed to channels, and comes back when it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from redis.exceptions import ResponseError

from flowcraft.errors import Unavailable
from flowcraft_redis.errors import translate
from flowcraft_redis.link import Link
from flowcraft_redis.wire import Connected, pack

__all__ = ["Listener"]

_LOG = logging.getLogger("flowcraft.redis")
_FIRST_PAUSE: Final = 0.05  # seconds until a broken connection is opened again, doubled each time …
_LONGEST_PAUSE: Final = 5.0  # … up to this
_PATIENCE: Final = 5.0  # seconds for Redis to confirm a subscription
_QUIET: Final = 20.0  # seconds without a word until the connection is asked whether it lives
_CLOSED: Final = "the event bus was closed"


class Listener:
    """Belongs to the event loop of its first subscription. ``heard`` gets the channel, or pattern, and the message."""

    def __init__(self, link: Link, key: bytes, heard: Callable[[bytes, bytes], None]) -> None:
        self._link = link
        self._key = key
        self._heard = heard
        self._wanted: dict[bytes, bool] = {}  # and whether it is a pattern
        self._confirmed: dict[bytes, asyncio.Future[None]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()  # one writes at a time
        self._connection: Connected | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def listen(self, channel: bytes, *, pattern: bool) -> None:
        """Subscribe, unless that has been done; what is told from now on is heard.

        Raises:
            Unavailable, Misconfigured: Redis does not confirm it. It is tried again as long as nobody leaves.
        """
        if self._closed:
            raise Unavailable(_CLOSED)
        confirmed = self._confirmed.get(channel)
        if confirmed is None:
            confirmed = self._confirmed[channel] = asyncio.get_running_loop().create_future()
            self._wanted[channel] = pattern
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name="flowcraft redis events")
            elif self._connection is not None:
                self._send(b"PSUBSCRIBE" if pattern else b"SUBSCRIBE", channel)
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.shield(confirmed)
        except TimeoutError as error:
            raise Unavailable(f"the Redis at {self._link.place} does not confirm a subscription") from error

    def leave(self, channel: bytes, *, pattern: bool) -> None:
        """Nobody wants it any more."""
        self._confirmed.pop(channel, None)
        if self._wanted.pop(channel, None) is not None and self._connection is not None:
            self._send(b"PUNSUBSCRIBE" if pattern else b"UNSUBSCRIBE", channel)

    async def aclose(self) -> None:
        """Close the connection. May be repeated."""
        self._closed = True
        tasks = [*self._sending, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refuse(Unavailable(_CLOSED))

    def _send(self, *command: bytes) -> None:
        task = asyncio.create_task(self._write(command), name="flowcraft redis subscribing")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _write(self, command: Sequence[bytes]) -> None:
        async with self._lock:
            connection = self._connection
            if connection is None:
                return  # a new connection subscribes to everything
            try:
                async with asyncio.timeout(_PATIENCE):
                    await connection.send_packed_command(pack(command), check_health=False)
            except Exception:  # noqa: BLE001 - whoever reads notices it as well, and opens another one
                with suppress(Exception):
                    await connection.disconnect(nowait=True)

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._session()
            except Exception as error:  # noqa: BLE001 - the bus is only a hint, and may come back
                trouble = translate(error, self._link.place, sent=False)
                _LOG.warning("no events at the moment: %s", trouble)
                self._refuse(trouble)
            if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE  # it had worked
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _session(self) -> None:
        """One connection, until it breaks. Raises what broke it."""
        source = await self._link.source(self._key)
        connection = await source.take()
        try:
            async with self._lock:
                for pattern, command in ((False, b"SUBSCRIBE"), (True, b"PSUBSCRIBE")):
                    channels = [name for name, is_pattern in self._wanted.items() if is_pattern == pattern]
                    if channels:
                        await connection.send_packed_command(pack((command, *channels)), check_health=False)
                self._connection = connection
            await self._read(connection)
        finally:
            self._connection = None
            with suppress(Exception):
                await connection.disconnect(nowait=True)
            await source.give(connection)

    async def _read(self, connection: Connected) -> None:
        asked = False
        while True:
            try:
                reply = await connection.read_response(disable_decoding=True, timeout=_QUIET, push_request=True)
            except ResponseError as error:
                self._refuse(translate(error, self._link.place, sent=False))
                continue
            if reply is not None:
                asked = False
                self._take(cast("Sequence[Any]", reply))
            elif asked or not connection.is_connected:
                raise ConnectionError("nothing was heard, and no answer came")
            else:
                asked = True
                self._send(b"PING")

    def _take(self, reply: Sequence[Any]) -> None:
        if not isinstance(reply, list) or not reply:
            return  # the answer to a PING, where RESP3 is spoken
        kind = reply[0]
        if kind == b"message":
            self._heard(reply[1], reply[2])
        elif kind == b"pmessage":
            self._heard(reply[1], reply[3])
        elif kind in (b"subscribe", b"psubscribe"):
            confirmed = self._confirmed.get(reply[1])
            if confirmed is not None and not confirmed.done():
                confirmed.set_result(None)

    def _refuse(self, trouble: BaseException) -> None:
        """Who waits for a confirmation is told; who has one waits for a better time."""
        for channel, confirmed in list(self._confirmed.items()):
            if not confirmed.done():
                del self._confirmed[channel]
                confirmed.set_exception(trouble)
                confirmed.exception()  # if nobody waits any more, nobody has to know
