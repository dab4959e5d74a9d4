"""A check's result in the words of pytest."""

from __future__ import annotations

import asyncio

from flowcraft.conformance.checks import Check
from flowcraft.conformance.expecting import Violated
from flowcraft.conformance.facts import Facts
from flowcraft.conformance.results import Finding
from flowcraft.conformance.runner import examine
from flowcraft.conformance.target import Target

try:
    import pytest
except ImportError as error:  # pragma: no cover - the text is all there is
    raise ImportError("pytest is not installed: pip install 'flowcraft-core[conformance]'") from error

__all__ = ["NotHeld", "pronounce"]


class NotHeld(Violated):
    """A check failed, or could not be run; the text is all that pytest shows of it."""


def pronounce(target: Target, found: Facts | Finding, check: Check) -> None:
    """Run one check, and pass, skip, fail, or fail as expected.

    Raises:
        NotHeld: it fails, is blocked, or is declared as a deviation and passes all the same.
    """
    __tracebackhide__ = True
    result = asyncio.run(examine(target, found, check))
    if result.outcome == "not applicable":
        pytest.skip(result.evidence)
    if result.outcome == "deviation":
        pytest.xfail(result.evidence)
    if result.outcome == "pass" and check.id in target.deviations:
        reason = f"declared as a deviation ({target.deviations[check.id]}), but it passes: remove the deviation"
        raise NotHeld(f"{check.id}\n{reason}")
    if result.outcome != "pass":
        more = f"flowcraft conformance explain {check.id}"
        said = (f"{check.id}: {result.outcome}", check.contract, result.evidence, result.trace, more)
        raise NotHeld("\n".join(filter(None, said)))
