"""The way to Redis that all ports of a process share: commands and scripts over one connection, whatever the client."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from flowcraft.errors import Misconfigured
from flowcraft_redis.errors import translate
from flowcraft_redis.scripts import Script
from flowcraft_redis.wire import Argument, Connected, Source, Wire

__all__ = ["PATIENCE", "Call", "Link", "SingleLink"]

#: Seconds until a reply that does not come means that a connection is dead.
PATIENCE: Final = 10.0
#: One for commands, one for a receiver, one for events.
_CONNECTIONS: Final = 3


#: The keys and arguments of a script.
Call = tuple[Sequence[bytes], Sequence[Argument]]


class Link(Protocol):
    """What the ports need of a client. Errors are those of Flowcraft."""

    place: str
    """What to call the server in messages, without secrets."""

    async def call(self, *arguments: Argument, writing: bool = False) -> Any:
        """One command; its second argument is a key."""
        ...

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument] = ()) -> Any:
        """One script, which Redis has or gets."""
        ...

    async def run_each(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        """A script several times, independently of each other; an error stands in the place of its reply."""
        ...

    async def call_each(self, commands: Sequence[Sequence[Argument]], *, writing: bool = False) -> list[Any]:
        """Commands, independently of each other. Raises the first error."""
        ...

    async def wire(self, key: bytes) -> Wire:
        """A connection of its own to where a key lies, for commands that block; the caller closes it."""
        ...

    async def unblock(self, client: int) -> None:
        """Let the command that a connection (by its ``CLIENT ID``) blocks on end without a result, if possible."""
        ...

    async def source(self, key: bytes) -> Source:
        """Connections to where a key lies, for messages; each is one of its own."""
        ...

    async def aclose(self) -> None:
        """Close what this object opened. May be repeated."""
        ...


class SingleLink:
    """One server, or whichever one Sentinel says is the master.

    Args:
        client: as redis-py makes it. Its connections are used as they are configured.
        owned: the clients that are closed with this object: none of the caller's; those of Sentinel are clients too.
        patience: seconds until a reply that does not come means that a connection is dead.
    """

    def __init__(self, client: Redis, *, owned: Sequence[Redis], place: str, patience: float = PATIENCE) -> None:
        self.place = place
        self._pool = client.connection_pool
        self._owned = owned
        self._patience = patience
        self._main: Wire | None = None
        self._source = Source(_taker(self._pool.get_connection), self._give)
        most = getattr(self._pool, "max_connections", _CONNECTIONS)
        if most < _CONNECTIONS:
            raise Misconfigured(
                f"the connection pool of this Redis client allows {most} connections, Flowcraft needs {_CONNECTIONS}: "
                "one for commands, one that waits for jobs, one for events; raise max_connections"
            )

    async def call(self, *arguments: Argument, writing: bool = False) -> Any:
        """See `Link`."""
        try:
            return await self._wire().call(arguments, writing=writing)
        except Exception as error:
            raise self._told(error) from error

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument] = ()) -> Any:
        """See `Link`."""
        (reply,) = await self.run_each(script, [(keys, arguments)])
        if isinstance(reply, BaseException):
            raise reply
        return reply

    async def run_each(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        """See `Link`. All of them leave in one write."""
        wire = self._wire()
        futures = [
            wire.call((b"EVALSHA", script.digest, len(keys), *keys, *arguments), writing=script.writing)
            for keys, arguments in calls
        ]
        replies: list[Any] = []
        for future, (keys, arguments) in zip(futures, calls, strict=True):
            try:
                try:
                    replies.append(await future)
                except NoScriptError:  # Redis was restarted or flushed: nothing happened
                    whole = (b"EVAL", script.text, len(keys), *keys, *arguments)
                    replies.append(await wire.call(whole, writing=script.writing))
            except Exception as error:  # noqa: BLE001 - it stands in the place of the reply
                replies.append(self._told(error))
        return replies

    async def call_each(self, commands: Sequence[Sequence[Argument]], *, writing: bool = False) -> list[Any]:
        """See `Link`. All of them leave in one write."""
        wire = self._wire()
        futures = [wire.call(command, writing=writing) for command in commands]
        try:
            return [await future for future in futures]
        except Exception as error:
            await asyncio.wait(futures)
            for future in futures:
                future.exception()  # one is told; nobody asks for the others
            raise self._told(error) from error

    async def wire(self, key: bytes) -> Wire:  # noqa: ARG002 - all keys are in one place
        """See `Link`."""
        return self._new()

    async def unblock(self, client: int) -> None:
        """See `Link`."""
        await self.call(b"CLIENT", b"UNBLOCK", client, writing=True)

    async def source(self, key: bytes) -> Source:  # noqa: ARG002 - all keys are in one place
        """See `Link`."""
        return self._source

    async def aclose(self) -> None:
        """See `Link`."""
        wire, self._main = self._main, None
        if wire is not None:
            await wire.aclose()
        for client in self._owned:
            await client.aclose()

    def _wire(self) -> Wire:
        if self._main is None:
            self._main = self._new()
        return self._main

    def _new(self) -> Wire:
        return Wire(self._source, place=self.place, patience=self._patience)

    async def _give(self, connection: Connected) -> None:
        await self._pool.release(cast("Any", connection))

    def _told(self, error: Exception) -> BaseException:
        told = translate(error, self.place, sent=False)
        if told is not error:
            told.__cause__ = error
        return told


def _taker(get: Callable[..., Awaitable[Any]]) -> Callable[[], Awaitable[Connected]]:
    """`ConnectionPool.get_connection`, which wants the name of a command before redis-py 5.3."""
    parameters = list(inspect.signature(get).parameters.values())
    if parameters and parameters[0].default is inspect.Parameter.empty and parameters[0].kind is not _VARIABLE:
        return lambda: get("_")
    return get


_VARIABLE: Final = inspect.Parameter.VAR_POSITIONAL
