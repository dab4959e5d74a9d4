"""The adapter on one SQLite file: durable runs without a server, shared by the processes of a machine."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from flowcraft.adapter import Adapter, AdapterOptions
from flowcraft.errors import Misconfigured
from flowcraft.ports import ValueStore
from flowcraft.runtime import FlowRuntime
from flowcraft.sqlite.backend import SqliteBackend
from flowcraft.sqlite.database import Database
from flowcraft.values.offloading import offloading

__all__ = ["SqliteAdapter", "open_adapter"]


class SqliteAdapter(Adapter):
    """`Adapter` on a `SqliteBackend` of its own: opened with the adapter's block, closed with it.

    Args:
        runtime: the blueprints and functions of this process.
        path: of the file; it is made when the block is entered for the first time.
        queue_visibility: seconds until a delivery that nobody ended comes again.
        busy_limit: seconds to wait for another process's lock before `Unavailable`.
        values: where large values go, see `flowcraft.values.OffloadingStore`; by default, if ``offload_above`` is
            given, a table of their own in the same file. It belongs to the caller.
        offload_above: the size in bytes from which on they do; with ``values`` 64 KiB by default.
        options: see `AdapterOptions`; its fields can be given by name here, too.
    """

    def __init__(
        self,
        runtime: FlowRuntime,
        path: str | os.PathLike[str],
        *,
        queue_visibility: float = 30.0,
        busy_limit: float = 10.0,
        values: ValueStore | None = None,
        offload_above: int | None = None,
        options: AdapterOptions | None = None,
        **named: Any,
    ) -> None:
        self.path = os.fspath(path)
        database = Database(self.path, runtime.clock, busy_limit=busy_limit)
        backend = SqliteBackend(database, queue_visibility=queue_visibility)
        super().__init__(
            runtime,
            queue=backend.queue,
            store=offloading(backend.store, values, offload_above, backend.values),
            coordination=backend.coordination,
            events=backend.events,
            options=options,
            owned=(backend,),
            **named,
        )


def open_adapter(url: str, runtime: FlowRuntime) -> SqliteAdapter:
    """The adapter of an address such as ``sqlite:///runs.db`` (relative) or ``sqlite:////var/lib/runs.db``.

    Raises:
        Misconfigured: the address names no file.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if parts.netloc or not path or parts.query:
        raise Misconfigured(f"{url!r} names no file: write sqlite:///relative.db or sqlite:////absolute/path.db")
    return SqliteAdapter(runtime, path)
