"""Which level a port reaches. Nothing that was not shown counts.

A level of a port is reached if every check of it and of the levels below passed, or is not applicable because a
capability is honestly not declared, and if at least one check of this very level passed. Where a port has no checks of
a level, the next level is looked at. A port that is not durable is embedded at best: what is more than that is about
processes that come and go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Final

from flowcraft.conformance.facts import Facts
from flowcraft.conformance.results import CERTIFYING, Result
from flowcraft.conformance.target import PortName

__all__ = ["LEVEL_NAMES", "hindrance", "levels", "overall"]

LEVEL_NAMES: Final[Mapping[int, str]] = {
    0: "none", 1: "embedded", 2: "durable", 3: "distributed", 4: "complete",
}  # fmt: skip
_EMBEDDED: Final = 1


def levels(results: Sequence[Result], facts: Facts) -> dict[PortName, int]:
    """The level of every offered port; 0: not even the first. ``results``: of all checks of the profile."""
    return {port: min(_level(_of(results, port)), _most(facts, port)) for port in sorted(facts.offers)}


def overall(results: Sequence[Result], facts: Facts) -> int:
    """The level of the target: that of its whole-system scenarios, as far as no port of it falls short of it."""
    if "system" not in facts.offers:
        return 0
    cap = min(min(_cap(_of(results, port)), _most(facts, port)) for port in facts.offers)
    return int(min(_level(_of(results, "system")), cap))


def hindrance(results: Sequence[Result], facts: Facts, port: PortName) -> str:
    """What keeps a port from its next level, in a few words; empty: nothing that can be named."""
    shown = _of(results, port)
    for result in sorted(shown, key=lambda result: result.level):
        if result.outcome not in CERTIFYING:
            return f"{result.check_id} ({result.outcome})"
    if not any(result.outcome == "pass" for result in shown):
        return "nothing that was shown"
    return "" if facts.durable(port) else "what it is: not durable"


def _most(facts: Facts, port: PortName) -> int:
    return max(LEVEL_NAMES) if facts.durable(port) else _EMBEDDED


def _of(results: Sequence[Result], port: PortName) -> list[Result]:
    return [result for result in results if result.port == port]


def _cap(results: Sequence[Result]) -> float:
    """The last level below the first one that something keeps from being reached."""
    return min((result.level - 1 for result in results if result.outcome not in CERTIFYING), default=inf)


def _level(results: Sequence[Result]) -> int:
    cap, reached = _cap(results), 0
    for level in sorted({result.level for result in results}):
        passed = any(result.outcome == "pass" for result in results if result.level == level)
        if level > cap or not passed:
            break
        reached = level
    return reached
