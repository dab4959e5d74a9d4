"""The adapter on Redis: queue, runs, leases and events in one place."""

from __future__ import annotations

from typing import Any

from flowcraft.adapter import Adapter, AdapterOptions
from flowcraft.errors import Misconfigured
from flowcraft.ports import CoordinationStore, ValueStore
from flowcraft.reconciler import Reconciler
from flowcraft.runtime import FlowRuntime
from flowcraft.values.offloading import offloading
from flowcraft_redis.backend import RedisBackend
from flowcraft_redis.clients import AnyClient

__all__ = ["RedisAdapter", "create_redis_reconciler", "open_adapter"]


class RedisAdapter(Adapter):
    """`Adapter` on a `RedisBackend` of its own: opened with the adapter's block, closed with it.

    Args:
        runtime: the blueprints and functions of this process.
        url: ``redis://user:password@host:6379/0``; the README has the others.
        client: instead of it, a client of redis-py's asyncio part, which stays the caller's. It needs a pool of three
            connections, and one more for each worker and partition.
        prefix, partitions, history: see `RedisBackend`.
        queue_visibility: seconds until a delivery that nobody ended comes again.
        coordination: another store for leases and limits; it belongs to the caller.
        values: where large values go, see `flowcraft.values.OffloadingStore`; it belongs to the caller.
        offload_above: the size in bytes from which on they do, 64 KiB by default.
        options: see `AdapterOptions`; its fields (``queue_name``, ``retention``, …) can be given by name here, too.

    Raises:
        Misconfigured: not exactly one of url and client, or one that cannot be used.
    """

    def __init__(
        self,
        runtime: FlowRuntime,
        *,
        url: str | None = None,
        client: AnyClient | None = None,
        prefix: str | None = None,
        partitions: int | None = None,
        history: bool = True,
        queue_visibility: float = 30.0,
        coordination: CoordinationStore | None = None,
        values: ValueStore | None = None,
        offload_above: int | None = None,
        options: AdapterOptions | None = None,
        **named: Any,
    ) -> None:
        target = url if client is None else client
        if target is None or (url is not None and client is not None):
            raise Misconfigured("give RedisAdapter a url or a client, and not both")
        self.backend = backend = RedisBackend(
            target, prefix=prefix, partitions=partitions, history=history, visibility=queue_visibility
        )
        super().__init__(
            runtime,
            queue=backend.queue,
            store=offloading(backend.store, values, offload_above),
            coordination=coordination or backend.coordination,
            events=backend.events,
            options=options,
            owned=(backend,),
            **named,
        )


def open_adapter(url: str, runtime: FlowRuntime) -> RedisAdapter:
    """The adapter of an address such as ``redis://localhost:6379/0?prefix=shop``.

    Raises:
        Misconfigured: it cannot be one.
    """
    return RedisAdapter(runtime, url=url)


def create_redis_reconciler(adapter: RedisAdapter, *, stalled_threshold_seconds: float | None = None) -> Reconciler:
    """A repair by hand, with figures, of an adapter that is open: call its ``run`` from a cron job or the like.

    Every worker's ticker does the same by itself. Runs are found by an index: nothing is scanned.
    """
    return adapter.reconciler(stalled_threshold_seconds=stalled_threshold_seconds)
