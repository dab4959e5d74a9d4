"""The adapter on the memory backend: for tests and for programs whose runs need not survive them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flowcraft.adapter import Adapter, AdapterOptions
from flowcraft.errors import Misconfigured
from flowcraft.memory.backend import MemoryBackend
from flowcraft.ports import ValueStore
from flowcraft.runtime import FlowRuntime
from flowcraft.values.offloading import offloading

__all__ = ["MemoryAdapter", "open_adapter"]


class MemoryAdapter(Adapter):
    """`Adapter` on a `MemoryBackend`, its own or one that is shared. Takes the fields of `AdapterOptions` by name.

    ``values`` and ``offload_above`` (bytes): where larger values go, by default the backend's own value store, see
    `flowcraft.values.OffloadingStore`. With neither, nowhere.
    """

    def __init__(
        self,
        runtime: FlowRuntime,
        *,
        backend: MemoryBackend | None = None,
        values: ValueStore | None = None,
        offload_above: int | None = None,
        options: AdapterOptions | None = None,
        **named: Any,
    ) -> None:
        parts = backend or MemoryBackend(runtime.clock)
        super().__init__(
            runtime,
            queue=parts.queue,
            store=offloading(parts.store, values, offload_above, parts.values),
            coordination=parts.coordination,
            events=parts.events,
            options=options,
            owned=() if backend is not None else (parts,),
            **named,
        )


def open_adapter(url: str, runtime: FlowRuntime) -> MemoryAdapter:
    """The adapter of a ``memory://`` address.

    Raises:
        Misconfigured: the address holds more than that.
    """
    parts = urlsplit(url)
    if parts.netloc or parts.path.strip("/") or parts.query:
        raise Misconfigured(f"the address of the memory backend is memory://, not {url!r}")
    return MemoryAdapter(runtime)
