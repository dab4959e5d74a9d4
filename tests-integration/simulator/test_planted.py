"""Some of the planted faults are found; `planted` has all of them. The same seed is the same in another process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .planted import LIBRARY, OWN, QUICK, ROOT, Planted, find


@pytest.mark.timeout(600)
@pytest.mark.parametrize("planted", [p for p in (*LIBRARY, *OWN) if p.name in QUICK], ids=lambda planted: planted.name)
def test_a_planted_fault_is_found(planted: Planted) -> None:
    assert find(planted, most=200)


@pytest.mark.parametrize("planted", [*LIBRARY, *OWN], ids=lambda planted: planted.name)
def test_the_place_of_a_planted_fault_is_there(planted: Planted) -> None:
    text = (ROOT / planted.file).read_text(encoding="utf-8")
    assert text.count(planted.old) == 1


_DIGESTS = """
import importlib
simulate = importlib.import_module("tests-integration.simulator.simulation").simulate
print(*(simulate(seed).digest for seed in range(0, 24)))
"""


@pytest.mark.timeout(600)
def test_a_seed_is_the_same_in_every_process() -> None:
    """Whatever the order of sets is there."""
    told = [
        subprocess.run(
            [sys.executable, "-c", _DIGESTS], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]  # fmt: skip
    assert len(told[0].split()) == 24
    assert told[0] == told[1]
