"""The run store in Redis: a hash for each head, one script for each commit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import cast

from flowcraft.errors import AdapterError
from flowcraft.model import (
    Capabilities,
    Change,
    Committed,
    Created,
    Event,
    NewRun,
    Page,
    RunSummary,
    Space,
    StoredHead,
    ValueKey,
)
from flowcraft.ports import JobQueue
from flowcraft.storing import MAX_VALUE_BYTES, check_values, raise_for_any
from flowcraft_redis import listing, reading, scripts, writing
from flowcraft_redis.keys import Keyspace, encode
from flowcraft_redis.link import Link
from flowcraft_redis.meta import Meta
from flowcraft_redis.queue import RedisJobQueue

__all__ = ["RedisRunStore"]


class RedisRunStore:
    """See the protocol. The version of a document is its token; `due` does not lag.

    A commit is as durable as Redis is configured to be: with ``appendfsync always`` when it returns, with ``everysec``
    a second later. ``history``: whether events are stored.
    """

    def __init__(self, link: Link, meta: Meta, *, history: bool = True) -> None:
        self.capabilities = Capabilities(history=history, priorities=True, max_value_bytes=MAX_VALUE_BYTES)
        self._link = link
        self._meta = meta
        self._bound = False

    @property
    def _keys(self) -> Keyspace:
        return self._meta.keys

    async def setup(self) -> None:
        """See the protocol. Agrees with other processes on the number of partitions.

        Raises:
            Misconfigured: the prefix is used with another number, or by a later version.
        """
        await self._meta.agree()

    async def ping(self) -> None:
        """See the protocol."""
        await self._link.call(b"EXISTS", self._keys.meta)

    async def aclose(self) -> None:
        """Nothing: the connection belongs to the backend."""

    async def clock(self) -> float:
        """See the protocol. With several servers, of any of them."""
        seconds, micros = await self._link.call(b"TIME")
        return int(seconds) + int(micros) / 1e6

    def bind(self, queue: JobQueue) -> bool:
        """True for the queue under the same prefix of the same backend."""
        if isinstance(queue, RedisJobQueue) and queue.meta is self._meta:
            self._bound = True
            return True
        return False

    async def create(self, new: NewRun) -> Created:
        """See the protocol."""
        check_values(new.run_id, new.values)
        keys, arguments = writing.creation(self._keys, new, self._bound, history=self.capabilities.history)
        found = await self._link.run(scripts.CREATE, keys, arguments)
        if found is None:
            return Created(made=True, fingerprint=new.fingerprint, token=new.token)
        return Created(made=False, fingerprint=found[0].decode(), token=found[1].decode())

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        """See the protocol."""
        return await reading.load(self._link, self._keys, kind, run_id, want)

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        """See the protocol. All changes leave in one write, each as a script of its own."""
        for change in changes:
            check_values(change.run_id, change.values)
        history = self.capabilities.history
        plans = [writing.change(self._keys, change, self._bound, history=history) for change in changes]
        replies = await self._link.run_each(scripts.COMMIT, plans)
        raise_for_any(replies)
        results = [_committed(change, reply) for change, reply in zip(changes, replies, strict=True)]
        if self._bound:
            await self._settle([change for change, result in zip(changes, results, strict=True) if result.applied])
        return results

    async def _settle(self, applied: Sequence[Change]) -> None:
        for change in applied:
            if change.deliveries:
                settled, others = writing.acked(self._keys.of(encode(change.run_id)), change.deliveries)
                for delivery in settled:
                    delivery.settled()
                for delivery in others:
                    with suppress(AdapterError):  # it comes again, and is found stale
                        await delivery.ack()

    async def read_values(
        self, run_id: str, keys: Collection[ValueKey] = (), *, space: Space | None = None
    ) -> Mapping[ValueKey, bytes]:
        """See the protocol."""
        if space is not None:
            return await reading.space(self._link, self._keys, run_id, space)
        return await reading.values(self._link, self._keys, run_id, keys)

    async def due(
        self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None
    ) -> Page[RunSummary]:
        """See the protocol. Does not lag."""
        return await listing.due(self._link, self._keys, kind, now, limit, after)

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        """See the protocol."""
        id = encode(run_id)
        part = self._keys.of(id)
        names = (part.head(kind, id), part.due(kind))
        return bool(await self._link.run(scripts.DEFER, names, (encode(token), writing.real(wake_at), id)))

    async def list(
        self,
        *,
        kind: str = "run",
        status: str | None = None,
        blueprint_id: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[RunSummary]:
        """See the protocol. With both conditions, the status finds and the blueprint filters."""
        return await listing.newest(self._link, self._keys, listing.Wanted(kind, status, blueprint_id), limit, after)

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Event]:
        """See the protocol."""
        return await reading.events(self._link, self._keys, run_id, after_seq, limit)

    async def save_blueprint(self, content_hash: str, data: bytes) -> None:
        """See the protocol."""
        await self._link.call(b"SET", self._keys.blueprint(content_hash), bytes(data), b"NX", writing=True)

    async def load_blueprint(self, content_hash: str) -> bytes | None:
        """See the protocol."""
        return cast("bytes | None", await self._link.call(b"GET", self._keys.blueprint(content_hash)))

    async def delete_blueprint(self, content_hash: str) -> None:
        """See the protocol."""
        await self._link.call(b"DEL", self._keys.blueprint(content_hash), writing=True)

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        """See the protocol. In one step, so it is never interrupted."""
        id = encode(run_id)
        names = [*writing.places(self._keys, kind, id), *self._keys.of(id).everything(kind, id)]
        return bool(await self._link.run(scripts.DELETE, names, (encode(token), id)))


def _committed(change: Change, reply: object) -> Committed:
    if reply == 1:
        return Committed(applied=True, version=change.token)
    if reply == 0:
        return Committed(applied=False)
    return Committed(applied=False, stored=reading.head(change.run_id, cast("list[bytes | None]", reply)))
