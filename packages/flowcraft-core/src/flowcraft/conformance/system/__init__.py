"""Whole systems on the ports of a target: processes that can be killed, what they execute, and what must come of it."""

from flowcraft.conformance.system.fleet import Fleet, fleet
from flowcraft.conformance.system.process import Process, Setting
from flowcraft.conformance.system.story import Story, blueprint

__all__ = ["Fleet", "Process", "Setting", "Story", "blueprint", "fleet"]
