"""Runs checks on a target and says what came of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from flowcraft.conformance.attempt import attempt
from flowcraft.conformance.checks import Check
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.env import Env
from flowcraft.conformance.facts import FLAGS, Facts, facts_of
from flowcraft.conformance.levels import levels, overall
from flowcraft.conformance.loading import source_of
from flowcraft.conformance.profiles import LATEST, in_profile
from flowcraft.conformance.report import Report
from flowcraft.conformance.results import Finding, Result
from flowcraft.conformance.target import Target
from flowcraft.conformance.tools import TOOLS
from flowcraft.errors import InvalidRequest

__all__ = ["examine", "look_at", "run"]

#: Checks on real time mostly wait, so a few of them wait together. Whole systems get the machine for themselves; with
#: virtual time nothing waits, and nothing is won.
_SIDE_BY_SIDE: Final = 4


async def run(
    target: Target,
    checks: Sequence[Check] = CATALOGUE,
    *,
    profile: str = LATEST,
    only: Callable[[Check], bool] | None = None,
    side_by_side: int | None = None,
    heard: Callable[[Result], object] | None = None,
) -> Report:
    """Run the checks of a profile, each in a place of its own that is dropped afterwards.

    Args:
        target: what is checked.
        checks: all of them; fewer certify nothing.
        profile: whose checks; see `flowcraft.conformance.profiles`.
        only: which of them; a selection certifies nothing.
        side_by_side: how many checks at once (default: 4 where time is real, else 1).
        heard: gets each result at once, in the order in which checks end.

    Raises:
        InvalidRequest: an unknown profile, or a deviation of the target that gives no reason.
    """
    chosen, begun, started = in_profile(checks, profile), time.monotonic(), time.time()
    _check_deviations(target)
    everything = {check.id for check in in_profile(CATALOGUE, profile)}
    complete = only is None and everything <= {check.id for check in chosen}
    width = side_by_side or (1 if target.virtual_time else _SIDE_BY_SIDE)
    found = await look_at(target)
    work = _Work(target, found, heard or (lambda _: None))
    selected = [check for check in chosen if only is None or only(check)]
    await work.all([check for check in selected if not _alone(check)], width)
    await work.all([check for check in selected if _alone(check)], 1)
    asleep = Finding("deselected")
    results = tuple(work.results.get(check.id) or Result.of(check, asleep) for check in chosen)
    warnings = [*_doubts(target, chosen, results)]
    facts = found if isinstance(found, Facts) else Facts(target.offers)
    if isinstance(found, Facts) and complete:
        warnings += _unoffered(found)
        warnings += await _modest(target, found, chosen)
    reached = levels(results, facts) if complete else dict.fromkeys(sorted(target.offers), 0)
    return Report(
        target.name, profile, complete, facts, results, reached, overall(results, facts) if complete else 0,
        tuple(warnings), started, time.monotonic() - begun,
    )  # fmt: skip


async def look_at(target: Target) -> Facts | Finding:
    """Open the target once, to see what it declares; a finding: why that was not possible."""
    found: list[Facts] = []

    async def look(env: Env) -> None:
        found.append(facts_of(target, env.ports, findable=source_of(target) is not None))

    looking = Check("target", "store", 1, "The target can be opened.", "", look)
    finding = await attempt(target, looking)
    return found[0] if found else finding


async def examine(target: Target, found: Facts | Finding, check: Check) -> Result:
    """What comes of one check. ``found``: what `look_at` said."""
    begun = time.monotonic()
    finding = await asyncio.create_task(_examined(target, found, check))  # context variables do not leak
    return Result.of(check, finding, time.monotonic() - begun)


async def _examined(target: Target, found: Facts | Finding, check: Check) -> Finding:
    if check.port not in target.offers:
        return Finding("not applicable", f"the target does not offer {check.port!r}")
    if isinstance(found, Finding):
        return Finding("blocked", f"the target: {found.evidence}", found.trace)
    if undeclared := found.undeclared(check):
        return Finding("not applicable", f"not declared: {', '.join(undeclared)}")
    if lacking := found.lacking(check):
        return Finding("blocked", "; ".join(TOOLS[tool] for tool in lacking))
    finding = await attempt(target, check)
    if finding.outcome == "fail" and check.id in target.deviations:
        return Finding("deviation", f"{target.deviations[check.id]} ({finding.evidence})", finding.trace)
    return finding


@dataclass
class _Work:
    target: Target
    found: Facts | Finding
    heard: Callable[[Result], object]
    results: dict[str, Result] = field(default_factory=dict[str, Result])

    async def all(self, checks: Iterable[Check], width: int) -> None:
        waiting = iter(checks)

        async def lane() -> None:
            for check in waiting:
                result = await examine(self.target, self.found, check)
                self.results[check.id] = result
                self.heard(result)

        async with asyncio.TaskGroup() as lanes:
            for _ in range(width):
                lanes.create_task(lane())


def _alone(check: Check) -> bool:
    return check.alone or check.port == "system"


def _check_deviations(target: Target) -> None:
    for check_id, reason in target.deviations.items():
        if not reason.strip():
            raise InvalidRequest(f"the target {target.name!r} deviates from {check_id!r} without a reason: give one")


def _doubts(target: Target, checks: Sequence[Check], results: Sequence[Result]) -> Iterator[str]:
    """Deviations that are none."""
    by_id = {result.check_id: result for result in results}
    for check_id in target.deviations:
        if check_id not in {check.id for check in checks}:
            yield f"the deviation {check_id!r} names no check of this profile"
        elif by_id[check_id].outcome == "pass":
            yield f"the deviation {check_id!r} is declared, but the check passes: remove it"


def _unoffered(found: Facts) -> list[str]:
    return [f"the target opens {port!r}, but does not offer it" for port in sorted(found.opened - found.offers)]


async def _modest(target: Target, found: Facts, checks: Sequence[Check]) -> list[str]:
    """Warnings of capabilities that are not declared, although all that needs them holds.

    The checks that need nothing else are tried until one does not hold.
    """
    warnings: list[str] = []
    for flag in sorted(FLAGS):
        needing = [
            check
            for check in checks
            if check.port in found.offers and found.undeclared(check) == (flag,) and not found.lacking(check)
        ]
        if needing and await _all_hold(target, needing):
            warnings.append(f"{flag!r} is not declared, but all that needs it holds: declare it")
    return warnings


async def _all_hold(target: Target, checks: Sequence[Check]) -> bool:
    for check in checks:
        if (await attempt(target, check)).outcome != "pass":
            return False
    return True
