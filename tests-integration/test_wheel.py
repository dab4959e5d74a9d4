"""The core as it is published: built, alone in a clean environment, without network."""

import email
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "packages" / "flowcraft-core"
READMES = [path for path in (ROOT / "README.md", CORE / "README.md") if path.exists()]

SUITE = "flowcraft.conformance.suite"  # the classes for pytest; they say what to install

pytestmark = pytest.mark.timeout(300)  # building and installing take a few seconds, once for all of these tests


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without anything in its environment that could let other code or other packages in."""
    foreign = ("PIP_", "PYTHON", "UV_", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from this sdist."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, CORE, cwd=out)
    return out


@pytest.fixture(scope="module")
def sdist_names(dist: Path) -> set[str]:
    (sdist,) = dist.glob("flowcraft_core-*.tar.gz")
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (wheel,) = dist.glob("flowcraft_core-*-py3-none-any.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path, wheel_names: set[str]) -> Message:
    (name,) = (name for name in wheel_names if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel, installed with no index to fetch anything else from."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=True, symlinks=os.name != "nt")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(python, "-m", "pip", "install", "--no-index", wheel, cwd=home)
    return python


def sources() -> set[str]:
    package = CORE / "src" / "flowcraft"
    files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(package).as_posix() for path in files}


def test_sdist_has_license_marker_sources_and_tests(sdist_names: set[str]) -> None:
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO"}
    wanted |= {f"src/flowcraft/{name}" for name in sources()}
    wanted |= {path.relative_to(CORE).as_posix() for path in CORE.glob("tests/**/*.py")}
    assert wanted - sdist_names == set()
    assert [name for name in sdist_names if "__pycache__" in name or name.startswith(".h")] == []


def test_wheel_has_the_sources_and_nothing_else(wheel_names: set[str]) -> None:
    code = {name for name in wheel_names if ".dist-info/" not in name}
    assert code == {f"flowcraft/{name}" for name in sources()} | {"_flowcraft_pytest.py"}
    assert "flowcraft/py.typed" in code
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_names)


def test_metadata_requires_nothing_without_an_extra(metadata: Message) -> None:
    requirements = metadata.get_all("Requires-Dist", [])
    assert [line for line in requirements if not re.search(r";.*\bextra\s*==", line)] == []
    assert metadata["License-Expression"] == "MIT"


def test_installing_pulls_in_nothing(bare_python: Path) -> None:
    listed = run(bare_python, "-m", "pip", "list", "--format=freeze", cwd=bare_python.parent)
    names = {line.partition("==")[0] for line in listed.split()}
    assert names - {"pip", "setuptools"} == {"flowcraft-core"}  # the first two come with a new environment


def test_entry_points_and_command_work(bare_python: Path) -> None:
    load = (
        "from importlib.metadata import entry_points\n"
        "for point in entry_points(group='flowcraft.adapters'): print(point.name, callable(point.load()))\n"
    )
    assert sorted(run(bare_python, "-c", load, cwd=bare_python.parent).splitlines()) == ["memory True", "sqlite True"]
    assert "usage" in run(bare_python.with_name("flowcraft"), "--help", cwd=bare_python.parent).lower()


def test_conformance_runs_without_pytest_and_is_then_not_certified(bare_python: Path) -> None:
    load = "from importlib.metadata import entry_points as e; print([p.value for p in e(group='pytest11')])"
    assert run(bare_python, "-c", load, cwd=bare_python.parent) == "['_flowcraft_pytest']\n"
    target = "flowcraft.conformance.targets:memory"
    command = ("conformance", "run", target, "-k", "store.create.one-winner")
    assert "1 pass" in run(bare_python.with_name("flowcraft"), *command, cwd=bare_python.parent)
    why = "import flowcraft.conformance.suite as s"
    load = f"try:\n    {why}\nexcept ImportError as error:\n    print(error)"
    assert "pip install 'flowcraft-core[conformance]'" in run(bare_python, "-c", load, cwd=bare_python.parent)


def needs_extra(path: str) -> bool:
    """A part of the conformance suite that is loaded only where pytest, or Hypothesis, is there."""
    text = (CORE / "src" / "flowcraft" / f"{path}.py").read_text(encoding="utf-8")
    third_party = re.search(r"^(?:    )?(?:import|from) (?:pytest|hypothesis)\b", text, re.MULTILINE)
    return path.startswith("conformance/") and third_party is not None


def test_every_module_imports(bare_python: Path) -> None:
    paths = sorted(name.removesuffix(".py") for name in sources() if name.endswith(".py"))
    names = [f"flowcraft/{path}".removesuffix("/__init__").replace("/", ".") for path in paths]
    with_extra = {name for name, path in zip(names, paths, strict=True) if needs_extra(path)} | {SUITE}
    code = "\n".join(f"import {name}" for name in names if name not in with_extra and "__main__" not in name)
    run(bare_python, "-W", "error", "-c", code, cwd=bare_python.parent)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_example_of_the_readme_runs(readme: Path, bare_python: Path, tmp_path: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    found = re.search(r"^## Example\n.*?^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found, f"{readme} has no python block under the heading '## Example'"
    example = tmp_path / "example.py"
    example.write_text(found[1], encoding="utf-8")
    run(bare_python, "-W", "error", example, cwd=tmp_path)
