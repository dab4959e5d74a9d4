"""For tests of your own flows: virtual time, a record of what happened, one step at a time. Nothing here sleeps."""

from flowcraft.testing.clock import VirtualClock
from flowcraft.testing.flowtest import FlowTest
from flowcraft.testing.recorder import Recorder
from flowcraft.testing.stepper import Step, Stepper
from flowcraft.testing.tracing import run_with_trace

__all__ = ["FlowTest", "Recorder", "Step", "Stepper", "VirtualClock", "run_with_trace"]
