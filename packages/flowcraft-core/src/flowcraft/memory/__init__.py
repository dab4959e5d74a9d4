"""The memory backend: every port as dictionaries under one event loop.

Nothing survives the process (``capabilities.durable`` is False); in all other respects it keeps the contract of the
ports. Any number of workers in one event loop can share one `MemoryBackend`.
"""

from flowcraft.memory.adapter import MemoryAdapter, open_adapter
from flowcraft.memory.backend import MemoryBackend
from flowcraft.memory.coordination import MemoryCoordination
from flowcraft.memory.events import MemoryEventBus
from flowcraft.memory.queue import MemoryJobQueue
from flowcraft.memory.store import MemoryRunStore
from flowcraft.memory.values import MemoryValueStore

__all__ = [
    "MemoryAdapter",
    "MemoryBackend",
    "MemoryCoordination",
    "MemoryEventBus",
    "MemoryJobQueue",
    "MemoryRunStore",
    "MemoryValueStore",
    "open_adapter",
]
