"""The worker and client processes of a campaign, and what they have written so far."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .evidence import Line, Strike, read_executions, read_lines
from .settings import Settings

__all__ = ["Process", "spawn"]

_ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Process:
    """One process. ``looks``: while it is paused, whether others could write."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    journal: Path
    struck: Strike | None = None
    resume_at: float = 0.0
    looks: list[bool] = field(default_factory=list[bool])

    @property
    def able(self) -> bool:
        """Whether it is there and can be struck."""
        return self.struck is None and self.popen.poll() is None

    @property
    def going_on(self) -> bool:
        """Whether it is executing something."""
        return any(execution.end is None for execution in read_executions(self.journal))

    @property
    def ready(self) -> bool:
        """Whether it has begun to work."""
        return self.count('"what":"ready"') > 0

    def count(self, text: str) -> int:
        """How often its journal has a text."""
        return self.journal.read_text(encoding="utf-8").count(text) if self.journal.exists() else 0

    def lines(self) -> list[Line]:
        """Of its journal."""
        return list(read_lines(self.journal))

    def tell(self, line: str) -> None:
        """Write to its standard input."""
        if self.popen.stdin is not None:
            with contextlib.suppress(OSError):  # it died: whoever looks after it will notice
                self.popen.stdin.write(f"{line}\n".encode())
                self.popen.stdin.flush()

    def close(self) -> None:
        """It will be told nothing more."""
        if self.popen.stdin is not None:
            with contextlib.suppress(OSError):  # what was not written yet goes nowhere
                self.popen.stdin.close()

    def ended_with(self, code: object, wanted: str = "") -> str:
        """A trouble, with the end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return f"{self.name} ended with {code}{wanted}: {' | '.join(lines[-6:])}"


def spawn(settings: Settings, module: str, name: str, address: str) -> Process:
    """Start one. Its modules are those of this process, or of the folder to be tested."""
    log = settings.place / f"{name}.log"
    path = [settings.source, str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    command = [sys.executable, "-m", f"chaos.{module}", str(settings.place / "settings.json"), name, address]
    stdin = subprocess.PIPE if module == "client" else subprocess.DEVNULL
    with log.open("wb") as out:
        popen = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=subprocess.STDOUT, env=environment)
    return Process(name, popen, log, settings.place / f"{name}.journal")
