"""Faults planted into a copy of the library, one at a time: the checker must notice each.

``python tests-integration/chaos/planted.py [NAME…]`` takes some minutes. Ends with 1 if a fault went unnoticed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_LIBRARY = _HERE.parent.parent / "packages" / "flowcraft-core" / "src"


@dataclass(frozen=True)
class Fault:
    """In ``module``, ``old`` becomes ``new``; ``options`` of `run.py` are those under which it shows."""

    name: str
    module: str
    old: str
    new: str
    options: str


_KILL = "--runs 100 --kills 12"
_CALM = "--runs 80 --kills 0 --echoes 300"
_SHORT = "--lease-ttl 2 --visibility 3"

FAULTS = (
    Fault(
        "the message is acked before the commit", "visits.py",
        "        try:\n            event = await self._execute(slot, work)\n",
        "        try:\n            await end_delivery(slot.delivery.ack())\n            event = await self._execute(slot, work)\n",
        f"{_KILL} --resend 30",
    ),
    Fault(
        "a visit is begun whoever has its lease", "claims.py",
        "            return await self._coordination.claim(keys, self.owner, self.ttl)\n",
        "            await self._coordination.claim(keys, self.owner, self.ttl)\n            return [True] * len(keys)\n",
        _CALM,
    ),
    Fault(
        "the ticker sends again what is being worked on", "ticker.py",
        "if holder is None}", "}",
        f"{_CALM} --resend 2",
    ),
    Fault(
        "SIGTERM without handing back", "worker.py",
        "        await self._intake.return_arriving()\n", "        return\n        await self._intake.return_arriving()\n",
        "--signal TERM --runs 60 --kills 8",
    ),
    Fault(
        "SIGTERM without a grace period", "worker.py",
        "await self._settled(self.options.grace)", "await self._settled(0.0)",
        "--signal TERM --runs 60 --kills 8",
    ),
    Fault(
        "a commit does not look at the version", "sqlite/writing.py",
        "AND id = ? AND token = ? RETURNING doc", "AND id = ? AND ? IS NOT NULL RETURNING doc",
        _CALM,
    ),
    Fault(
        "an outcome is accepted whatever its activation", "engine/transition.py",
        "        and activation.nonce == visit.nonce\n        and activation.visit == visit.visit\n"
        "        and activation.attempt == visit.attempt\n", "",
        "--signal STOP --runs 200 --kills 25 --echoes 300",
    ),
    Fault(
        "the heartbeat renews nothing", "worker.py",
        "        slots = dict(self._intake.slots)\n", "        return\n        slots = dict(self._intake.slots)\n",
        f"--runs 60 --kills 0 {_SHORT}",
    ),
    Fault(
        "the ticker sends nothing again", "ticker.py",
        "        if resend:\n", "        if resend and not resend:\n",
        f"{_KILL} --patience 45",
    ),
    Fault(
        "old heads are trusted longer than a finished visit keeps its lease", "claims.py",
        "return min(TRUST, self.ttl / 6)", "return TRUST",
        f"{_CALM} --lease-ttl 0.8 --visibility 3",
    ),
    Fault(
        "a repeated start makes the run anew", "sqlite/writing.py",
        "ON CONFLICT (kind, id) DO NOTHING",
        "ON CONFLICT (kind, id) DO UPDATE SET head = excluded.head, token = excluded.token",
        _KILL,
    ),
)  # fmt: skip


def _plant(fault: Fault, folder: Path) -> None:
    shutil.copytree(_LIBRARY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "flowcraft" / fault.module
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise SystemExit(
            f"{fault.name}: the place in {fault.module} is there {text.count(fault.old)} times; mend this list"
        )
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def _noticed(fault: Fault) -> str:
    """Which promises were broken, by the checker's own words; empty if none."""
    with tempfile.TemporaryDirectory(prefix="flowcraft-planted-") as folder:
        source = Path(folder) / "src"
        _plant(fault, source)
        command = [sys.executable, str(_HERE / "run.py"), "sqlite", "--source", str(source), *fault.options.split()]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    promises = Counter(line.split(":")[0] for line in told.stdout.splitlines() if line.startswith("BROKEN "))
    if told.returncode == 1 and promises:
        return "; ".join(promise.removeprefix("BROKEN ") for promise in promises)
    if told.returncode != 0:
        raise SystemExit(
            f"{fault.name}: the program ended with {told.returncode}:\n{told.stdout[-2000:]}\n{told.stderr[-2000:]}"
        )
    return ""


def main() -> int:
    """Plant all of them, or those named."""
    wanted = sys.argv[1:]
    missed = 0
    for fault in FAULTS:
        if wanted and not any(word in fault.name for word in wanted):
            continue
        noticed = _noticed(fault)
        missed += not noticed
        print(f"{'noticed' if noticed else 'MISSED '}  {fault.name}\n         {noticed}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
