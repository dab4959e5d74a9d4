"""The memory ports over one clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from flowcraft.memory.coordination import MemoryCoordination
from flowcraft.memory.events import MemoryEventBus
from flowcraft.memory.queue import MemoryJobQueue
from flowcraft.memory.store import MemoryRunStore
from flowcraft.memory.values import MemoryValueStore
from flowcraft.ports import Clock

__all__ = ["MemoryBackend"]


@dataclass(frozen=True, slots=True)
class MemoryBackend:
    """The ports over one clock. ``visibility``: seconds until a delivery that nobody ended comes again."""

    clock: Clock
    visibility: float = 30.0
    store: MemoryRunStore = field(init=False)
    queue: MemoryJobQueue = field(init=False)
    coordination: MemoryCoordination = field(init=False)
    events: MemoryEventBus = field(init=False)
    values: MemoryValueStore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", MemoryRunStore(self.clock))
        object.__setattr__(self, "queue", MemoryJobQueue(self.clock, visibility=self.visibility))
        object.__setattr__(self, "coordination", MemoryCoordination(self.clock))
        object.__setattr__(self, "events", MemoryEventBus())
        object.__setattr__(self, "values", MemoryValueStore())

    async def aclose(self) -> None:
        """Close all of them: receivers and subscriptions end."""
        await self.queue.aclose()
        await self.events.aclose()
        await self.coordination.aclose()
        await self.store.aclose()
