"""flowcraft-redis as it is published: built, and installed beside the core's wheel and redis-py."""

import email
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE, REDIS = ROOT / "packages" / "flowcraft-core", ROOT / "packages" / "flowcraft-redis"

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
    """The sdist, and the wheel that is built from this sdist; and the core's wheel."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, REDIS, cwd=out)
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, CORE, cwd=out)
    return out


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the two wheels; redis-py comes from this environment, as there may be no network."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=True, symlinks=os.name != "nt")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", *dist.glob("*.whl"), cwd=home)
    (site,) = home.glob("lib/python*/site-packages")
    (driver,) = [path for path in driver_folders() if (path / "redis").is_dir()][:1]
    (site / "redis").symlink_to(driver / "redis")
    return python


def driver_folders() -> list[Path]:
    return [Path(sysconfig.get_path("purelib")), *(Path(entry) for entry in sys.path if entry)]


def sources() -> set[str]:
    package = REDIS / "src" / "flowcraft_redis"
    files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(package).as_posix() for path in files}


def test_the_scripts_are_in_both_distributions(dist: Path) -> None:
    assert "lua/commit.lua" in sources()
    (wheel,) = dist.glob("flowcraft_redis-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        code = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert code == {f"flowcraft_redis/{name}" for name in sources()}
    (sdist,) = dist.glob("flowcraft_redis-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md"} | {f"src/flowcraft_redis/{name}" for name in sources()}
    wanted |= {path.relative_to(REDIS).as_posix() for path in REDIS.glob("tests/**/*.py")}
    assert wanted - names == set()


def test_what_it_requires(dist: Path) -> None:
    (wheel,) = dist.glob("flowcraft_redis-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    always = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(always) == ["flowcraft-core<0.2,>=0.1", "redis<9,>=5"]


def test_addresses_find_the_adapter(python: Path) -> None:
    code = (
        "from importlib.metadata import entry_points\n"
        "from flowcraft import FlowRuntime\n"
        "for point in entry_points(group='flowcraft.adapters'):\n"
        "    if point.value.startswith('flowcraft_redis'):\n"
        "        print(point.name, type(point.load()(point.name + '://localhost:1/0', FlowRuntime())).__name__)\n"
    )
    said = run(python, "-W", "error", "-c", code, cwd=python.parent)
    assert sorted(said.split("\n")[:-1]) == [
        f"{name} RedisAdapter" for name in ("redis", "rediss", "valkey", "valkeys")
    ]
