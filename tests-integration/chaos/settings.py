"""What a campaign is made of, as data that its processes share through a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["LONG_SECONDS", "SIGNALS", "Settings", "Signal"]

Signal = Literal["KILL", "TERM", "STOP"]
SIGNALS: tuple[Signal, ...] = ("KILL", "TERM", "STOP")
#: The longest node takes so long: longer than the short leases, so that only their renewal keeps it single.
LONG_SECONDS = 3.5


@dataclass(frozen=True)
class Settings:
    """Durations are seconds. ``strikes``: signals that must hit a worker with executions in flight; 0: nobody is hurt ·
    ``faults``: by name, how often what is done to the backend or the way to it (see its module); ``pause`` (SIGSTOP
    beyond a lease) goes with every backend.

    ``resend``: until a message that nobody works on is sent again (30 in production; doubled each time) · ``echoes``:
    messages that the client sends once more, of visits that are READY or being executed · ``patience``: within which
    all runs must have ended after the last strike.
    """

    folder: str
    backend: str = "sqlite"
    runs: int = 300
    processes: int = 3
    concurrency: int = 20
    strikes: int = 30
    signal: Signal = "KILL"
    every: float = 1.2
    seed: int = 1
    lease_ttl: float = 2.0
    visibility: float = 3.0
    resend: float = 8.0
    tick: float = 0.5
    grace: float = 15.0
    drain_grace: float = 2.0
    echoes: int = 0
    patience: float = 120.0
    long_nodes: bool = True
    faults: dict[str, int] = field(default_factory=dict[str, int])
    source: str = ""  # a folder with another `flowcraft` to test

    @property
    def calm(self) -> bool:
        """Whether no worker dies or pauses, and nothing else happens, so that nothing at all may be executed twice."""
        return (self.strikes == 0 or self.signal == "TERM") and not any(self.faults.values())

    @property
    def place(self) -> Path:
        """Where the processes leave their files."""
        return Path(self.folder)

    def save(self) -> Path:
        """Write the file that the processes read."""
        path = self.place / "settings.json"
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    @staticmethod
    def load(path: str) -> Settings:
        """The inverse of `save`."""
        return Settings(**json.loads(Path(path).read_text(encoding="utf-8")))
