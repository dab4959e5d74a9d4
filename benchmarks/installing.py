"""Peers that are installed on first use, each into a place of its own below `.hatch`, so that none limits another."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import CACHE, PEERS, UnavailableError, say

INSTALLING = 300.0  # seconds that an installation may take


def from_npm(peer: str, *shared: str) -> list[str]:
    """The start of the command line of `peers/<peer>/run.mjs`, installed by its lock file; no package's script runs.

    `shared` are files of `peers/` that it imports from beside itself.
    """
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        raise UnavailableError("node and npm are not installed")
    files = [*sorted((PEERS / peer).iterdir()), *(PEERS / name for name in shared)]
    digest = _digest(*(file.read_bytes() for file in files))
    folder = CACHE / f"bench-npm-{peer}-{digest}"
    if not (folder / "installed").exists():
        say(f"installing the npm packages of {peer} (once)")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder)
        _install([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
        (folder / "installed").touch()
    return [node, str(folder / "run.mjs")]


def from_pypi(peer: str, *requirements: str) -> list[str]:
    """The start of the command line of `peers/<peer>_peer.py`, with an environment that has these packages."""
    folder = CACHE / f"bench-pypi-{peer}-{_digest(*(each.encode() for each in requirements))}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (folder / "installed").exists():
        say(f"installing {', '.join(requirements)} (once)")
        shutil.rmtree(folder, ignore_errors=True)
        _install([sys.executable, "-m", "venv", str(folder)], CACHE)
        _install([str(python), "-m", "pip", "install", "--quiet", *requirements], CACHE)
        (folder / "installed").touch()
    return [str(python), str(PEERS / f"{peer}_peer.py")]


def _digest(*contents: bytes) -> str:
    return hashlib.sha256(b"\0".join(contents)).hexdigest()[:16]


def _install(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALLING, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{Path(command[0]).name} took more than {INSTALLING:.0f} s") from None
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
        raise UnavailableError(f"{Path(command[0]).name} failed: {words[0] if words else done.returncode}")
