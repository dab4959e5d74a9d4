"""Fault injection through the ports, around any target.

A *process* is whatever reaches its ports through one `Line`. Cutting the line kills it: what it awaits from then on
never returns, so that no clean-up of it has any effect, as after SIGKILL. `Weather` is what all processes share: what
becomes of messages, which answers are lost, whether coordination still knows anything.
"""

from flowcraft.conformance.faulty.clock import SkewedClock
from flowcraft.conformance.faulty.coordination import FaultyCoordination
from flowcraft.conformance.faulty.failover import Restorable
from flowcraft.conformance.faulty.line import Line
from flowcraft.conformance.faulty.others import FaultyEvents, FaultyValues
from flowcraft.conformance.faulty.plans import At, Call, Fault, Plan, Rates, either, writes
from flowcraft.conformance.faulty.ports import faulty
from flowcraft.conformance.faulty.queue import FaultyDelivery, FaultyQueue
from flowcraft.conformance.faulty.store import FaultyStore
from flowcraft.conformance.faulty.weather import Messages, Weather

__all__ = [
    "At",
    "Call",
    "Fault",
    "FaultyCoordination",
    "FaultyDelivery",
    "FaultyEvents",
    "FaultyQueue",
    "FaultyStore",
    "FaultyValues",
    "Line",
    "Messages",
    "Plan",
    "Rates",
    "Restorable",
    "SkewedClock",
    "Weather",
    "either",
    "faulty",
    "writes",
]
