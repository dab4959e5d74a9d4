"""The conformance suite: what every backend must do, as checks that anyone can run against theirs.

A backend's author writes one `Target`; `flowcraft conformance run package.module:target` tells what it holds to.
"""

from flowcraft.conformance.checks import Check, Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Violated, equal, expect, raises
from flowcraft.conformance.target import Place, PortName, Ports, Target, target

__all__ = [
    "Check",
    "Collection",
    "Env",
    "Place",
    "PortName",
    "Ports",
    "Target",
    "Violated",
    "equal",
    "expect",
    "raises",
    "target",
]
