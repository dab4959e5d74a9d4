"""Every broken port is caught by the check that is there for it, and every check is there for one or says why."""

from __future__ import annotations

import pytest

from flowcraft.conformance import Check
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.mutants import Mutant
from flowcraft.conformance.mutants.ports import mutants
from flowcraft.conformance.mutating import killers, try_mutant

pytestmark = pytest.mark.timeout(120)

PORTS = {"store", "coordination", "events", "values"}
ELSEWHERE = {"loss", "remains"}  # topics that say themselves what they are for
OURS = [check for check in CATALOGUE if check.port in PORTS and check.id.split(".")[1] not in ELSEWHERE]
BY_ID = {check.id: check for check in CATALOGUE}


@pytest.mark.parametrize("mutant", mutants, ids=[mutant.name for mutant in mutants])
async def test_a_broken_port_is_caught_by_its_check(mutant: Mutant) -> None:
    verdict = await try_mutant(mutant)
    assert verdict.sound.outcome == "pass", verdict.sound
    assert verdict.broken.outcome == "fail", verdict.broken
    assert "AttributeError" not in verdict.broken.evidence, "the mutant itself is wrong"
    assert "TypeError" not in verdict.broken.evidence, "the mutant itself is wrong"


@pytest.mark.parametrize("mutant", mutants, ids=[mutant.name for mutant in mutants])
def test_a_mutant_and_its_check_name_each_other(mutant: Mutant) -> None:
    assert mutant.name in BY_ID[mutant.check_id].kills
    assert mutant.describes.endswith(".")


@pytest.mark.parametrize("check", OURS, ids=[check.id for check in OURS])
def test_a_check_has_a_mutant_or_says_why_it_is_there(check: Check) -> None:
    assert check.contract.endswith("."), "a sentence"
    assert check.why
    named = {mutant.name for mutant in mutants if mutant.check_id == check.id}
    assert set(check.kills) == named
    assert check.kills or "No mutant of its own" in check.why


def test_there_are_as_many_checks_as_a_port_deserves() -> None:
    counted = {port: sum(check.port == port for check in CATALOGUE) for port in PORTS}
    assert counted["store"] >= 45
    assert counted["coordination"] >= 20
    assert counted["events"] >= 10
    assert counted["values"] >= 10


async def test_most_others_say_nothing_of_a_fault() -> None:
    """One fault, one finding: what a report shows leads to what is wrong."""
    by_name = {mutant.name: mutant for mutant in mutants}
    found = {
        name: await killers(by_name[name], [check for check in OURS if "model" not in check.id])
        for name in ("store-delete-leaves-outputs", "coordination-lease-of-the-late", "values-end-in-zeros")
    }
    assert found == {name: (by_name[name].check_id,) for name in found}
