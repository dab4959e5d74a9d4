"""The clock of these tests."""

from flowcraft.testing import VirtualClock

__all__ = ["VirtualClock"]
