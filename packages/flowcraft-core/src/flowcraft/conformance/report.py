"""What a run of the suite found, with all that is needed to compare it with another one."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

from flowcraft.conformance.facts import Facts
from flowcraft.conformance.results import Outcome, Result
from flowcraft.conformance.target import PortName

__all__ = ["Environment", "Report", "environment"]


@dataclass(frozen=True, slots=True)
class Environment:
    """Where it was run. ``core``: the version of ``flowcraft-core``, whose suite it is."""

    core: str
    python: str
    platform: str


def environment() -> Environment:
    """That of this process."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return Environment(importlib.metadata.version("flowcraft-core"), python, platform.platform())


@dataclass(frozen=True, slots=True)
class Report:
    """The results in the order of the catalogue. ``complete``: every check of the profile was asked for; only then are
    there ``levels`` (of the offered ports) and an ``overall`` one above 0 · ``started_at``: epoch seconds ·
    ``seconds``: how long it took · ``warnings``: what to look at that fails nothing.
    """

    target: str
    profile: str
    complete: bool
    facts: Facts
    results: tuple[Result, ...]
    levels: Mapping[PortName, int]
    overall: int
    warnings: tuple[str, ...] = ()
    started_at: float = 0.0
    seconds: float = 0.0
    environment: Environment = field(default_factory=environment)

    def count(self, outcome: Outcome) -> int:
        """How many checks came to this."""
        return sum(result.outcome == outcome for result in self.results)
