"""The ports on one Redis, over one connection for commands."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from flowcraft.errors import Misconfigured
from flowcraft_redis.clients import AnyClient, link_of, link_to, split_options
from flowcraft_redis.coordination import RedisCoordinationStore
from flowcraft_redis.events import RedisEventBus
from flowcraft_redis.link import Link
from flowcraft_redis.meta import Meta
from flowcraft_redis.queue import RedisJobQueue
from flowcraft_redis.store import RedisRunStore

__all__ = ["DEFAULT_PREFIX", "RedisBackend"]

DEFAULT_PREFIX = "flowcraft"


class RedisBackend:
    """The ports of one prefix. They belong to the event loop that uses them first. Opens nothing before that.

    Args:
        target: an address, or a client of redis-py's asyncio part, which stays the caller's.
        prefix: how the names of all keys begin; ``flowcraft`` by default.
        partitions: into how many parts, which a cluster can spread, the keys are divided; see the README.
        history: whether the events of runs are stored.
        visibility: seconds until a delivery that nobody ended comes again.

    Raises:
        Misconfigured: the address, the client or an option cannot be used.
    """

    __slots__ = ("_link", "coordination", "events", "queue", "store")

    def __init__(
        self,
        target: str | AnyClient,
        *,
        prefix: str | None = None,
        partitions: int | None = None,
        history: bool = True,
        visibility: float = 30.0,
    ) -> None:
        if visibility <= 0:
            raise Misconfigured(f"visibility must be positive, not {visibility}")
        prefix, partitions = _from_address(target, prefix, partitions)
        self._link: Link = link_to(target) if isinstance(target, str) else link_of(target)
        meta = Meta(self._link, prefix, partitions)
        self.store = RedisRunStore(self._link, meta, history=history)
        self.queue = RedisJobQueue(self._link, meta, visibility=visibility)
        self.coordination = RedisCoordinationStore(self._link, prefix=prefix)
        self.events = RedisEventBus(self._link, prefix)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        target: str | AnyClient,
        *,
        prefix: str | None = None,
        partitions: int | None = None,
        history: bool = True,
        visibility: float = 30.0,
    ) -> AsyncGenerator[RedisBackend, None]:
        """Agree with other processes on what is where, and close in the end what was opened.

        Raises:
            Misconfigured: see the class, and `RedisRunStore.setup`. Unavailable: Redis does not answer.
        """
        backend = cls(target, prefix=prefix, partitions=partitions, history=history, visibility=visibility)
        try:
            await backend.store.setup()
            yield backend
        finally:
            await backend.aclose()

    async def aclose(self) -> None:
        """End receivers and subscriptions, and close the connections. May be repeated."""
        await self.queue.aclose()
        await self.events.aclose()
        await self._link.aclose()


def _from_address(target: str | AnyClient, prefix: str | None, partitions: int | None) -> tuple[str, int | None]:
    """What is given by name goes before what the address says."""
    named = split_options(target)[1] if isinstance(target, str) else {}
    if partitions is None and "partitions" in named:
        try:
            partitions = int(named["partitions"])
        except ValueError as error:
            raise Misconfigured(f"partitions in the address must be a number, not {named['partitions']!r}") from error
    return prefix or named.get("prefix") or DEFAULT_PREFIX, partitions
