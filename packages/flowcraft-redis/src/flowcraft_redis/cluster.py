"""The way to a Redis Cluster: a connection to each node; redis-py knows which node has which slot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, cast

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError

from flowcraft.errors import Unavailable
from flowcraft_redis.errors import is_moved, translate
from flowcraft_redis.link import PATIENCE, Call
from flowcraft_redis.scripts import Script
from flowcraft_redis.wire import Argument, Connected, Source, Wire

__all__ = ["ClusterLink"]

#: What any node does. For messages it is always the same one, which passes them on to all others in their order.
_ANYWHERE: Final = frozenset({b"TIME", b"INFO", b"PUBLISH"})
_TRIES: Final = 5
_PAUSE: Final = 0.05  # seconds until the first new try, doubled each time


class ClusterLink:
    """See `Link`. Scripts and commands go to the node that has their first key, many of them over one connection.

    A slot that moves is followed; while it is on its way, and during a failover, what is asked is tried again for about
    a second.
    """

    def __init__(self, client: RedisCluster, *, owned: bool, place: str) -> None:
        self.place = place
        self._client = client
        self._owned = owned
        self._wires: dict[str, Wire] = {}
        self._stale = False

    async def call(self, *arguments: Argument, writing: bool = False) -> Any:
        """See `Link`."""
        key = None if arguments[0] in _ANYWHERE else cast("bytes", arguments[1])
        try:
            return await self._ask(key, arguments, writing=writing)
        except Exception as error:
            raise self._told(error) from error

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument] = ()) -> Any:
        """See `Link`."""
        rest = (len(keys), *keys, *arguments)
        key = keys[0] if keys else None
        try:
            try:
                return await self._ask(key, (b"EVALSHA", script.digest, *rest), writing=script.writing)
            except NoScriptError:  # each node learns it when it is asked for the first time
                return await self._ask(key, (b"EVAL", script.text, *rest), writing=script.writing)
        except Exception as error:
            raise self._told(error) from error

    async def run_each(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        """See `Link`."""
        return await asyncio.gather(*(self.run(script, *call) for call in calls), return_exceptions=True)

    async def call_each(self, commands: Sequence[Sequence[Argument]], *, writing: bool = False) -> list[Any]:
        """See `Link`."""
        return await asyncio.gather(*(self.call(*command, writing=writing) for command in commands))

    async def wire(self, key: bytes) -> Wire:
        """See `Link`. When the key moves to another node, reading fails, and the next block finds the new one."""
        return Wire(await self.source(key), place=self.place, patience=PATIENCE)

    async def source(self, key: bytes) -> Source:
        """See `Link`. Messages reach every node, so any will do for them."""
        try:
            return _source(await self._node(key))
        except Exception as error:
            self._stale = True
            raise self._told(error) from error

    async def unblock(self, client: int) -> None:
        """Nothing: a read ends by itself, after at most a second."""

    async def aclose(self) -> None:
        """See `Link`."""
        wires, self._wires = self._wires, {}
        for wire in wires.values():
            await wire.aclose()
        if self._owned:
            await self._client.aclose()

    async def _ask(self, key: bytes | None, command: Sequence[Argument], *, writing: bool) -> Any:
        pause = _PAUSE
        for _ in range(_TRIES):
            node = await self._node(key)
            try:
                return await self._wire(node).call(command, writing=writing)
            except AskError as error:  # also of a slot that has moved for good
                self._stale = isinstance(error, MovedError)
                other = self._client.get_node(str(error.host), int(error.port))
                if other is not None and not self._stale:
                    wire = self._wire(other)
                    _ = wire.call((b"ASKING",), writing=False)
                    return await wire.call(command, writing=writing)
            except Unavailable:
                self._stale = True  # perhaps another node has taken over
            except Exception as error:
                if not is_moved(error):
                    raise
                self._stale = True
            await asyncio.sleep(pause)
            pause *= 2
        return await self._wire(await self._node(key)).call(command, writing=writing)

    async def _node(self, key: bytes | None) -> ClusterNode:
        _ = await self._client.initialize()
        if self._stale:
            self._stale = False
            await self._client.nodes_manager.initialize()
        node = self._client.get_default_node() if key is None else self._client.get_node_from_key(cast("str", key))
        if node is None:
            raise ClusterDownError("no node has this slot")
        return node

    def _wire(self, node: ClusterNode) -> Wire:
        wire = self._wires.get(node.name)
        if wire is None:
            wire = self._wires[node.name] = Wire(_source(node), place=self.place, patience=PATIENCE)
        return wire

    def _told(self, error: Exception) -> BaseException:
        return translate(error, self.place, sent=False)


def _source(node: ClusterNode) -> Source:
    async def take() -> Connected:
        made = node.connection_class(**node.connection_kwargs)
        await cast("Any", made).connect()
        return cast("Connected", made)

    return Source(take, _nothing)


async def _nothing(_: Connected) -> None:
    """It has been closed."""
