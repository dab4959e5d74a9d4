"""What must be the same in several places of the repository is the same."""

import configparser
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))


def lines(value: object) -> list[str]:
    """A setting's lines, whether it is written as text or as a list."""
    return [str(item) for item in value] if isinstance(value, list) else str(value).split("\n")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_package_repeats_the_pytest_settings_of_the_root(package: Path) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "pytest.ini", encoding="utf-8")
    root = {name: lines(value.strip()) for name, value in parser["pytest"].items()}
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))
    settings = project["tool"]["pytest"]["ini_options"]
    own = {name: lines(str(value).lower() if isinstance(value, bool) else value) for name, value in settings.items()}
    del root["testpaths"], own["testpaths"]
    assert own == root


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_package_has_what_every_package_has(package: Path) -> None:
    wanted = ["CHANGELOG.md", "LICENSE", "README.md", f"src/{import_name(package)}/py.typed", "tests"]
    assert [name for name in wanted if not (package / name).exists()] == []
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    version = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## {version}" in (package / "CHANGELOG.md").read_text(encoding="utf-8"), "the changelog lacks this version"


def import_name(package: Path) -> str:
    return "flowcraft" if package.name == "flowcraft-core" else package.name.replace("-", "_")
