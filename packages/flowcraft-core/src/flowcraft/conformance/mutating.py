"""Tries mutants: each must fail the check that is there for it, and the backend as it is must pass that check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowcraft.conformance.checks import Check
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.mutants.mutant import Mutant
from flowcraft.conformance.results import Result
from flowcraft.conformance.runner import examine, look_at
from flowcraft.conformance.target import Target
from flowcraft.errors import InvalidRequest

__all__ = ["Verdict", "killers", "try_mutant"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``sound``: what the check says of the unbroken target · ``broken``: what it says of the mutant."""

    mutant: Mutant
    sound: Result
    broken: Result

    @property
    def caught(self) -> bool:
        """The check tells the two apart."""
        return self.sound.outcome == "pass" and self.broken.outcome == "fail"


async def try_mutant(mutant: Mutant, checks: Sequence[Check] = CATALOGUE) -> Verdict:
    """Run a mutant's check with and without the fault.

    Raises:
        InvalidRequest: there is no such check.
    """
    check = {check.id: check for check in checks}.get(mutant.check_id)
    if check is None:
        raise InvalidRequest(f"the mutant {mutant.name!r} names the check {mutant.check_id!r}, which does not exist")
    sound = await _one(mutant.base(), check)
    with mutant.planted():
        return Verdict(mutant, sound, await _one(mutant.target(), check))


async def killers(mutant: Mutant, checks: Sequence[Check] = CATALOGUE) -> tuple[str, ...]:
    """The ids of all checks that fail on a mutant."""
    with mutant.planted():
        target = mutant.target()
        found = await look_at(target)
        results = [await examine(target, found, check) for check in checks]
    return tuple(result.check_id for result in results if result.outcome == "fail")


async def _one(target: Target, check: Check) -> Result:
    return await examine(target, await look_at(target), check)
