"""The demo job on a small library: a fresh run, an interrupted one that is resumed, and what the report says."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import EXAMPLES

Load = Callable[[str], ModuleType]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A few folders with big portions that must fight for the permit, a file that does not parse, a giant one."""
    root = tmp_path / "library"
    for number in range(12):
        folder = root / f"part{number}"
        folder.mkdir(parents=True)
        lines = [f"def f{n}(): return [{n}, {n} + 1, 'text']  # {n}" for n in range(3500 if number < 8 else 100)]
        (folder / "module.py").write_text("import os, sys\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (root / "broken.py").write_text("def (:\n", encoding="utf-8")
    (root / "doc.py").write_text('"""one\ntwo\n"""\n\n# comment\nclass A:\n    pass\n', encoding="utf-8")
    return root


def census(home: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(EXAMPLES / "census.py"), "--home", str(home), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_fresh_run(library: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with census(home, "--library", str(library)) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    path = Path(out.splitlines()[-1].removeprefix("report: "))
    assert path.is_absolute()
    text = path.read_text(encoding="utf-8")
    data = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    figures = data["figures"]
    assert figures["files"] == 14
    assert figures["functions"] == 8 * 3500 + 4 * 100
    assert (figures["classes"], figures["comment"], figures["text"]) == (1, 1, 3)
    assert figures["imports"] == {"os": 12, "sys": 12}
    assert figures["unparsable"][0][0] == "broken.py"
    assert data["retries"], "portions fought for the permit"
    assert "PermitTaken" in err
    assert set(data["nodes"].values()) == {"completed"}
    assert "```mermaid\nflowchart TD" in text
    assert f"tried again later, {len(data['retries'])} times" in text


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX's")
def test_killed_and_resumed(library: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with census(home, "--library", str(library)) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("count ") and "completed" in line:
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
    (folder,) = home.iterdir()
    assert not (folder / "report.md").exists()
    with census(home, "--resume") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert list(home.iterdir()) == [folder], "no other run was begun"
    assert out.splitlines()[-1] == f"report: {folder / 'report.md'}"
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert set(data["nodes"].values()) == {"completed"}
    assert data["figures"]["files"] == 14


def test_nothing_to_resume(example: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = example("census")
    assert module.main(["--resume", "--home", str(tmp_path)]) == 2
    assert "nothing to resume" in capsys.readouterr().err


def test_no_such_library(example: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = example("census")
    assert module.main(["--home", str(tmp_path / "home"), "--library", str(tmp_path / "nowhere")]) == 1
    assert "NotADirectoryError" in capsys.readouterr().err


def test_branches_that_are_not_taken(example: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "a.py").write_text("x = 1\n", encoding="utf-8")
    assert example("census").main(["--home", str(tmp_path / "home"), "--library", str(tmp_path / "library")]) == 0
    (folder,) = (tmp_path / "home").iterdir()
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "All files parse: this branch was not taken." in text
    assert "giants<br/>skipped" in text
