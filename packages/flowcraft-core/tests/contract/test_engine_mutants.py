"""Every broken engine is caught by the scenario that is there for it."""

from __future__ import annotations

import pytest

from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.mutants import Mutant
from flowcraft.conformance.mutants.engine import mutants
from flowcraft.conformance.mutating import try_mutant

pytestmark = pytest.mark.timeout(240)

BY_ID = {check.id: check for check in CATALOGUE}


@pytest.mark.parametrize("mutant", mutants, ids=[mutant.name for mutant in mutants])
async def test_a_broken_engine_is_caught_by_its_scenario(mutant: Mutant) -> None:
    verdict = await try_mutant(mutant)
    assert verdict.sound.outcome == "pass", verdict.sound
    assert verdict.broken.outcome == "fail", verdict.broken
    for wrong in ("AttributeError", "TypeError", "NameError"):
        assert wrong not in verdict.broken.evidence, "the mutant itself is wrong"


@pytest.mark.parametrize("mutant", mutants, ids=[mutant.name for mutant in mutants])
def test_a_mutant_and_its_scenario_name_each_other(mutant: Mutant) -> None:
    assert mutant.name in BY_ID[mutant.check_id].kills
    assert mutant.describes.endswith(".")


def test_each_scenario_and_each_check_of_queues_says_what_it_proves_and_why() -> None:
    for check in CATALOGUE:
        if check.port in ("queue", "system"):
            assert check.contract.endswith("."), check.id
            assert check.why.strip(), check.id


def test_there_are_as_many_of_them_as_a_system_deserves() -> None:
    counted = {port: sum(check.port == port for check in CATALOGUE) for port in ("queue", "system")}
    assert counted["queue"] >= 30
    assert counted["system"] >= 60
    assert len(mutants) >= 12
