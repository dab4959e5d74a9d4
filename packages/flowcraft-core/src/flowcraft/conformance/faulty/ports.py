"""All ports of one process, on one line."""

from __future__ import annotations

from flowcraft.conformance.faulty.coordination import FaultyCoordination
from flowcraft.conformance.faulty.line import Line
from flowcraft.conformance.faulty.others import FaultyEvents, FaultyValues
from flowcraft.conformance.faulty.queue import FaultyQueue
from flowcraft.conformance.faulty.store import FaultyStore
from flowcraft.conformance.target import Ports

__all__ = ["faulty"]


def faulty(ports: Ports, line: Line, *, bound: bool = True) -> Ports:
    """The opened ports as a process on this line has them. ``bound``: let the store bind to the queue if it can."""
    return Ports(
        None if ports.store is None else FaultyStore(ports.store, line, bound=bound),
        None if ports.queue is None else FaultyQueue(ports.queue, line),
        None if ports.coordination is None else FaultyCoordination(ports.coordination, line),
        None if ports.events is None else FaultyEvents(ports.events, line),
        None if ports.values is None else FaultyValues(ports.values, line),
    )
