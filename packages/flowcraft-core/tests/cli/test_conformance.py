"""`flowcraft conformance`, read as whoever types it reads it."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.mutants import MUTANTS
from flowcraft.conformance.recorded import from_json

from .conftest import Application

TARGETS = """
from flowcraft.conformance import Place, Ports, target
from flowcraft.conformance.mutants.ports import mutants
from flowcraft.conformance.targets import memory

(mutant,) = (mutant for mutant in mutants if mutant.name == "store-create-races")
broken = mutant.target()

@target("shut", offers=["store"])
async def shut(place: Place):
    raise ConnectionRefusedError("nobody there")
    yield Ports()
"""
CREATE = ("-k", "store.create.one-winner")
MEMORY = "flowcraft.conformance.targets:memory"


@pytest.fixture(autouse=True)
def targets(app: Application) -> str:
    (app.folder / f"targets_{app.name}.py").write_text(TARGETS, encoding="utf-8")
    return f"targets_{app.name}"


def test_a_run_prints_the_card(app: Application) -> None:
    code, out, err = app.call("conformance", "run", MEMORY, *CREATE)
    assert (code, err) == (0, "")
    assert out.startswith("Conformance of memory, profile 2026.1\nflowcraft-core ")
    assert "1 pass, " in out
    assert out.endswith("Nothing is certified: not all checks of the profile were asked for.\n")
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_failure_shows_contract_evidence_and_where_to_read_on(app: Application, targets: str) -> None:
    code, out, err = app.call("conformance", "run", f"{targets}:broken", *CREATE)
    assert (code, err) == (1, "")
    assert "FAIL  store.create.one-winner\n  contract  Of any number of concurrent creations" in out
    assert "  seen      creations that were made: expected 1, got 100\n  at        store_creating.py:" in out
    assert "  more      flowcraft conformance explain store.create.one-winner\n" in out
    assert "Traceback" not in out


def test_a_backend_that_is_not_there_is_trouble(app: Application, targets: str) -> None:
    code, out, err = app.call("conformance", "run", f"{targets}:shut", *CREATE)
    assert (code, err) == (3, "")
    assert "BLOCKED  store.create.one-winner" in out
    assert "nobody there" in out


def test_a_run_writes_reports(app: Application) -> None:
    files = {name: str(app.folder / f"out.{name}") for name in ("json", "junit", "markdown")}
    options = [word for name, file in files.items() for word in (f"--{name}", file)]
    assert app.call("conformance", "run", MEMORY, *CREATE, *options)[0] == 0
    assert from_json(Path(files["json"]).read_bytes()).outcomes["store.create.one-winner"] == "pass"
    assert ET.parse(files["junit"]).getroot().tag == "testsuite"  # noqa: S314 - our own
    assert Path(files["markdown"]).read_text(encoding="utf-8").startswith("### Conformance of memory")
    code, out, _ = app.call("conformance", "run", MEMORY, *CREATE, "--json", "-")
    assert (code, json.loads(out)["target"]) == (0, "memory")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("run", "nowhere:x"), 2, "cannot import nowhere"),
        (("run", "memory"), 2, "names nothing"),
        (("run", MEMORY, "-k", "no-such-check"), 2, "no check matches 'no-such-check'"),
        (("run", MEMORY, "--profile", "1.0"), 2, "no profile '1.0'"),
        (("run", MEMORY, *CREATE, "--json", "no/such/folder/file"), 3, "cannot write no/such/folder/file"),
        (("list", "-k", "no-such-check"), 2, "no check matches"),
        (("explain", "store.create.one"), 2, "did you mean store.create.one-winner?"),
        (("explain", "x"), 2, "there is no check 'x'"),
        (("diff", "a.json", "b.json"), 2, "cannot read a.json"),
        (("mutants", "-k", "no-such-mutant"), 2, "no mutant matches"),
        (("init", "/dev/null/x"), 3, "cannot write to /dev/null/x"),
        ((), 2, "see: flowcraft conformance --help"),
    ],
)
def test_mistakes_are_one_line(app: Application, arguments: tuple[str, ...], code: int, told: str) -> None:
    found, out, err = app.call("conformance", *arguments)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert told in err


def test_list(app: Application) -> None:
    code, out, _ = app.call("conformance", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == [c.id for c in CATALOGUE]
    code, out, _ = app.call("conformance", "list", "-k", "store.cre*.one-winner", "--json")
    (row,) = json.loads(out)["checks"]
    assert row == {
        "id": "store.create.one-winner", "port": "store", "level": 1, "since": "2026.1", "requires": [],
        "kills": row["kills"], "contract": row["contract"],
    }  # fmt: skip
    assert row["contract"].startswith("Of any number of concurrent creations")


def test_explain(app: Application) -> None:
    code, out, _ = app.call("conformance", "explain", "store.create.one-winner")
    assert code == 0
    assert "Two clients that start the same run" in out
    assert "level     1 embedded" in out
    assert "mutants   store-create-races" in out


def test_diff(app: Application, targets: str) -> None:
    good, bad = str(app.folder / "good.json"), str(app.folder / "bad.json")
    app.call("conformance", "run", MEMORY, *CREATE, "--json", good)
    app.call("conformance", "run", f"{targets}:broken", *CREATE, "--json", bad)
    assert app.call("conformance", "diff", good, good) == (0, "no differences\n", "")
    code, out, _ = app.call("conformance", "diff", good, bad)
    assert code == 1
    assert out == (
        "different targets: 'memory' and 'store-create-races'\n"
        "worse   store.create.one-winner: pass → fail\n"
        "1 difference, 1 for the worse\n"
    )
    code, out, _ = app.call("conformance", "diff", bad, good, "--json")
    assert code == 0
    assert json.loads(out)["differences"] == [
        {"what": "store.create.one-winner", "old": "fail", "new": "pass", "verdict": "better"}
    ]


@pytest.mark.parametrize(("options", "target"), [((), "my-backend"), (("--port", "store"), "my-store")])
def test_what_init_writes_works_as_it_is(
    app: Application, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], target: str
) -> None:
    code, out, _ = app.call("conformance", "init", "mine", *options)
    folder = app.folder / "mine"
    names = ["conformance_target.py", "test_conformance.py", "conftest.py", ".github/workflows/conformance.yml"]
    assert code == 0
    assert out.splitlines()[:4] == [f"wrote {Path('mine', name)}" for name in names]
    assert all((folder / name).is_file() for name in names)
    monkeypatch.syspath_prepend(str(folder))
    runpy.run_path(str(folder / "test_conformance.py"))  # it can be imported, with the target beside it
    command = out.splitlines()[-1].rpartition(": ")[2].split()[1:]
    monkeypatch.chdir(folder)
    code, out, err = app.call(*command, *CREATE)
    assert (code, err) == (0, "")
    assert f"Conformance of {target}" in out
    assert "1 pass, " in out


def test_init_overwrites_nothing(app: Application) -> None:
    (app.folder / "conftest.py").write_text("# mine\n", encoding="utf-8")
    code, _, err = app.call("conformance", "init")
    assert (code, err.count("\n")) == (2, 1)
    assert "conftest.py exists; nothing was written" in err
    assert not (app.folder / "conformance_target.py").exists()


@pytest.mark.timeout(300)  # every check is run on it, whole systems as well
def test_mutants(app: Application) -> None:
    code, out, _ = app.call("conformance", "mutants", "-k", "store-create-races", "--every-check")
    assert code == 0
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == "store-create-races")
    assert out.startswith(f"caught  store-create-races: {mutant.describes}\n")
    assert "        by store.create.one-winner\n" in out
    assert "        all that fail: store.create.one-winner" in out
    assert out.endswith("mutants: 1, all caught\n")
    code, out, _ = app.call("conformance", "mutants", "-k", "store-create-races", "--json")
    assert (code, json.loads(out)["missed"]) == (0, 0)


def test_other_commands_do_not_load_the_checks() -> None:
    program = "import sys, flowcraft.cli; print([n for n in sys.modules if n.startswith('flowcraft.conformance')])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert done.stdout == "[]\n"


def test_mutants_and_checks_name_each_other() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    by_check = {mutant.name: mutant.check_id for mutant in MUTANTS}
    claimed = {name: check.id for check in CATALOGUE for name in check.kills}
    assert {name: check for name, check in by_check.items() if claimed.get(name) != check} == {}
    assert {name: check for name, check in claimed.items() if name not in by_check} == {}
