"""The checks under pytest, in processes of their own: as the option, as classes, and without either."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytestmark = pytest.mark.timeout(180)

TARGETS = """
from dataclasses import replace
from flowcraft.conformance import Place, Ports, target
from flowcraft.conformance.targets import memory
from flowcraft.conformance.mutants.ports import mutants

(mutant,) = (mutant for mutant in mutants if mutant.name == "store-create-races")
broken = mutant.target()
excused = replace(broken, deviations={"store.create.one-winner": "ticket 7"})
shy = replace(memory, offers=memory.offers - {"values"})
wrong = replace(memory, deviations={"store.create.one-winner": "ticket 7"})

@target("shut", offers=["store"])
async def shut(place: Place):
    raise ConnectionRefusedError("nobody there")
    yield Ports()
"""
SELECTED = "store.create.one-winner or store.remains.nothing or values.remains.nothing"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "targets_here.py").write_text(TARGETS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n", encoding="utf-8")
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(  # noqa: S603 - ours
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    # -p: also where the entry point is installed, it is loaded once; it has the name of its module.
    done = python(folder, "-m", "pytest", "-p", "_flowcraft_pytest", "-p", "no:cacheprovider", "-rA", *arguments)
    return done.returncode, done.stdout + done.stderr


def suite(folder: Path, target: str, *arguments: str) -> tuple[int, str]:
    return run(folder, "--pyargs", "flowcraft.conformance", "--flowcraft-target", target, "-k", SELECTED, *arguments)


def test_each_check_is_a_test_with_its_id(folder: Path) -> None:
    code, out = suite(folder, "targets_here:memory", "--junitxml", "out.xml", "-W", "error")
    assert code == 0, out
    assert "3 passed" in out
    assert "deselected" in out
    names = {case.get("name") for case in ET.parse(folder / "out.xml").iter("testcase")}  # noqa: S314 - our own
    assert names == {"store.create.one-winner", "store.remains.nothing", "values.remains.nothing"}


def test_a_failure_shows_the_contract_and_the_evidence_alone(folder: Path) -> None:
    code, out = suite(folder, "targets_here:broken")
    assert code == 1
    assert "1 failed, 2 passed" in out
    assert "Of any number of concurrent creations of one id exactly one is made" in out
    assert "creations that were made: expected 1, got 100" in out
    assert "flowcraft conformance explain store.create.one-winner" in out
    assert "def pronounce" not in out


def test_a_deviation_is_an_expected_failure_with_its_reason(folder: Path) -> None:
    code, out = suite(folder, "targets_here:excused")
    assert code == 0, out
    assert "2 passed" in out
    assert "1 xfailed" in out
    assert "ticket 7 (creations that were made" in out


def test_a_deviation_that_passes_is_a_failure(folder: Path) -> None:
    code, out = suite(folder, "targets_here:wrong")
    assert code == 1
    assert "1 failed, 2 passed" in out
    assert "remove the deviation" in out


def test_what_is_not_applicable_is_skipped_with_its_reason(folder: Path) -> None:
    code, out = suite(folder, "targets_here:shy")
    assert code == 0, out
    assert "2 passed, 1 skipped" in out
    assert "does not offer 'values'" in out


def test_what_is_blocked_is_a_failure(folder: Path) -> None:
    code, out = suite(folder, "targets_here:shut")
    assert code == 1
    assert "nobody there" in out
    assert "passed" not in out.splitlines()[-1]


def test_xdist_shares_the_checks(folder: Path) -> None:
    code, out = suite(folder, "targets_here:memory", "-n", "2")
    assert code == 0, out
    assert "3 passed" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Give --flowcraft-target"),
        (("--flowcraft-target", "targets_here:memry"), "did you mean 'memory'"),
        (("--flowcraft-target", "targets_here:memory", "--flowcraft-profile", "1.0"), "no profile '1.0'"),
    ],
)
def test_a_mistake_is_told_in_a_line(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    code, out = run(folder, "--pyargs", "flowcraft.conformance", *arguments)
    assert code not in {0, 1}
    assert told in out
    assert "Traceback" not in out
    assert "raise " not in out


CLASSES = """
from flowcraft.conformance.suite import StoreConformance, ValuesConformance
from targets_here import memory, excused

class TestStore(StoreConformance):
    target = excused

class TestValues(ValuesConformance):
    target = memory

    def test_of_my_own(self):
        assert True
"""


def test_classes_run_the_checks_of_their_port(folder: Path) -> None:
    (folder / "test_mine.py").write_text(CLASSES, encoding="utf-8")
    code, out = run(
        folder, "test_mine.py", "-k", f"{SELECTED} or test_of_my_own", "-W", "error", "--asyncio-mode", "auto"
    )
    assert code == 0, out
    assert "3 passed" in out
    assert "1 xfailed" in out
    assert "TestStore::test_contract[store.remains.nothing]" in out
    assert "TestValues::test_contract[values.remains.nothing]" in out


@pytest.mark.parametrize(
    "override", ["def test_contract(self, check): ...", "test_contract = None", "_ports = frozenset()"]
)
def test_a_check_cannot_be_overridden(folder: Path, override: str) -> None:
    (folder / "test_mine.py").write_text(CLASSES + f"\n    {override}\n", encoding="utf-8")
    code, out = run(folder, "test_mine.py")
    assert code == 2
    assert "belongs into the target's `deviations`" in out


def test_a_class_without_a_target_fails(folder: Path) -> None:
    (folder / "test_mine.py").write_text(CLASSES.replace("target = memory", ""), encoding="utf-8")
    code, out = run(folder, "test_mine.py", "-k", "TestValues and remains")
    assert code == 1
    assert "TestValues has no target" in out


def test_whoever_does_not_ask_for_it_does_not_even_import_it(folder: Path) -> None:
    program = (
        "import sys\n"
        "def test_nothing_of_flowcraft():\n"
        "    assert '_flowcraft_pytest' in sys.modules\n"
        "    assert [name for name in sys.modules if name.split('.')[0] == 'flowcraft'] == []\n"
    )
    (folder / "test_other.py").write_text(program, encoding="utf-8")
    code, out = run(folder, "test_other.py", "-W", "error")
    assert code == 0, out


WITHOUT = "import sys; sys.modules.update(pytest=None, _pytest=None, hypothesis=None)"


def test_without_pytest_the_command_runs_and_the_classes_say_what_to_install(folder: Path) -> None:
    command = (
        f"{WITHOUT}\nfrom flowcraft.cli import main\n"
        "sys.exit(main(['conformance', 'run', 'targets_here:memory', '-k', 'store.create.one-winner']))"
    )
    done = python(folder, "-c", command)
    assert (done.returncode, "1 pass" in done.stdout) == (0, True), done.stderr
    done = python(folder, "-c", f"{WITHOUT}\nimport flowcraft.conformance.suite")
    assert done.returncode == 1
    assert "pip install 'flowcraft-core[conformance]'" in done.stderr


def test_without_hypothesis_what_needs_it_is_blocked(folder: Path) -> None:
    program = f"""{WITHOUT}
import asyncio
from dataclasses import replace
from flowcraft.conformance.checks import Check
from flowcraft.conformance.runner import run
from flowcraft.conformance.targets import memory

async def holds(env): ...

check = Check("store.t.one", "store", 1, "It holds.", "", holds, requires=frozenset({{"hypothesis"}}))
print(asyncio.run(run(memory, [check])).results[0])
"""
    done = python(folder, "-c", program)
    assert "outcome='blocked'" in done.stdout, done.stderr
    assert "pip install 'flowcraft-core[conformance]'" in done.stdout


def test_the_tests_that_init_writes_run(tmp_path: Path) -> None:
    assert python(tmp_path, "-m", "flowcraft", "conformance", "init").returncode == 0
    code, out = run(tmp_path, "-k", "store.create.one-winner", "-W", "ignore::pytest.PytestDeprecationWarning")
    assert code == 0, out
    assert "1 passed" in out
