"""What a backend's author writes: how the ports are opened, and what they promise."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from flowcraft.ports import Clock, CoordinationStore, EventBus, JobQueue, RunStore, ValueStore

__all__ = ["Place", "PortName", "Ports", "Target", "target"]

#: What a check is about; ``system``: workers, tickers and clients on all ports of a target together.
PortName = Literal["store", "queue", "coordination", "events", "values", "system"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a check works: nothing outside of the namespace may be touched, nothing inside it was there before.

    ``namespace``: lower-case letters, digits and hyphens, at most 40, unique · ``clock``: the time that the ports use,
    if the target says ``virtual_time``.
    """

    namespace: str
    clock: Clock


@dataclass(frozen=True, slots=True)
class Ports:
    """The opened ports; None: not offered. A store is already bound to the queue if it ever is."""

    store: RunStore | None = None
    queue: JobQueue | None = None
    coordination: CoordinationStore | None = None
    events: EventBus | None = None
    values: ValueStore | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A backend under test.

    ``open``: opens the ports of a place, set up; any number of times at once, in this process and in others, always on
    the same data · ``offers``: the ports that are there · ``virtual_time``: every port takes its time from
    ``Place.clock``, so nothing waits · ``unit``: the shortest time to live that makes sense, in real seconds; checks
    use multiples of it (ignored with ``virtual_time``) · ``settle``: how long an index or a count may lag behind,
    seconds · ``deviations``: check id → why it is known not to hold · ``leftovers``: names of all that is stored in a
    place · ``drop``: removes a place with all that is in it; called after each check · ``source``: the name under which
    other processes find the target, if not as the attribute of the module where ``open`` is written.
    """

    name: str
    open: Callable[[Place], AbstractAsyncContextManager[Ports]]
    offers: frozenset[PortName]
    virtual_time: bool = False
    unit: float = 0.5
    settle: float = 0.0
    deviations: Mapping[str, str] = field(default_factory=dict[str, str])
    leftovers: Callable[[Place], Awaitable[Sequence[str]]] | None = None
    drop: Callable[[Place], Awaitable[None]] | None = None
    source: str = ""


def target(
    name: str,
    *,
    offers: Sequence[PortName],
    virtual_time: bool = False,
    unit: float = 0.5,
    settle: float = 0.0,
    deviations: Mapping[str, str] | None = None,
    leftovers: Callable[[Place], Awaitable[Sequence[str]]] | None = None,
    drop: Callable[[Place], Awaitable[None]] | None = None,
) -> Callable[[Callable[[Place], AsyncGenerator[Ports]]], Target]:
    """Make a `Target` of an async generator function that takes a `Place`, yields its `Ports` and closes them."""

    def make(opening: Callable[[Place], AsyncGenerator[Ports]]) -> Target:
        return Target(
            name, asynccontextmanager(opening), frozenset(offers), virtual_time, unit, settle, dict(deviations or {}),
            leftovers, drop,
        )  # fmt: skip

    return make
