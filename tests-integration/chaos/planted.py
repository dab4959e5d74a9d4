"""Faults planted into a copy of the library, one at a time: the checker must notice each.

``python tests-integration/chaos/planted.py [BACKEND] [WORD OF A NAME…]`` takes some minutes. Ends with 1 if a fault went
unnoticed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

BACKENDS = ("sqlite", "redis")
_HERE = Path(__file__).resolve().parent
_PACKAGES = _HERE.parent.parent / "packages"


@dataclass(frozen=True)
class Fault:
    """In ``module``, ``old`` becomes ``new``; ``options`` of `run.py` are those under which it shows on ``backend``."""

    name: str
    module: str
    old: str
    new: str
    options: str
    backend: str = "sqlite"


_KILL = "--runs 100 --kills 12"
_CALM = "--runs 80 --kills 0 --echoes 300"
_SHORT = "--lease-ttl 2 --visibility 3"
_REDIS = (
    "--runs 100 --kills 10 --every 2 --echoes 0 --patience 60 --faults restart=2,cut=5,stall=2,kick=5,scripts=4,wipe=6"
)

FAULTS = (
    Fault(
        "the message is acked before the commit", "flowcraft/visits.py",
        "        try:\n            event = await self._execute(slot, work)\n",
        "        try:\n            await end_delivery(slot.delivery.ack())\n            event = await self._execute(slot, work)\n",
        f"{_KILL} --resend 30",
    ),
    Fault(
        "a visit is begun whoever has its lease", "flowcraft/claims.py",
        "            return await self._coordination.claim(keys, self.owner, self.ttl)\n",
        "            await self._coordination.claim(keys, self.owner, self.ttl)\n            return [True] * len(keys)\n",
        _CALM,
    ),
    Fault(
        "the ticker sends again what is being worked on", "flowcraft/ticker.py",
        "if holder is None}", "}",
        f"{_CALM} --resend 2",
    ),
    Fault(
        "SIGTERM without handing back", "flowcraft/worker.py",
        "        await self._intake.return_arriving()\n", "        return\n        await self._intake.return_arriving()\n",
        "--signal TERM --runs 60 --kills 8",
    ),
    Fault(
        "SIGTERM without a grace period", "flowcraft/worker.py",
        "await self._settled(self.options.grace)", "await self._settled(0.0)",
        "--signal TERM --runs 60 --kills 8",
    ),
    Fault(
        "a commit does not look at the version", "flowcraft/sqlite/writing.py",
        "AND id = ? AND token = ? RETURNING doc", "AND id = ? AND ? IS NOT NULL RETURNING doc",
        _CALM,
    ),
    Fault(
        "an outcome is accepted whatever its activation", "flowcraft/engine/transition.py",
        "        and activation.nonce == visit.nonce\n        and activation.visit == visit.visit\n"
        "        and activation.attempt == visit.attempt\n", "",
        "--signal STOP --runs 200 --kills 25 --echoes 300",
    ),
    Fault(
        "the heartbeat renews nothing", "flowcraft/worker.py",
        "        slots = dict(self._intake.slots)\n", "        return\n        slots = dict(self._intake.slots)\n",
        f"--runs 60 --kills 0 {_SHORT}",
    ),
    Fault(
        "the ticker sends nothing again", "flowcraft/ticker.py",
        "        if resend:\n", "        if resend and not resend:\n",
        f"{_KILL} --patience 45",
    ),
    Fault(
        "old heads are trusted longer than a finished visit keeps its lease", "flowcraft/claims.py",
        "return min(TRUST, self.ttl / 6)", "return TRUST",
        f"{_CALM} --lease-ttl 0.8 --visibility 3",
    ),
    Fault(
        "a repeated start makes the run anew", "flowcraft/sqlite/writing.py",
        "ON CONFLICT (kind, id) DO NOTHING",
        "ON CONFLICT (kind, id) DO UPDATE SET head = excluded.head, token = excluded.token",
        _KILL,
    ),
    Fault(
        "the message is acked before the commit", "flowcraft/visits.py",
        "        try:\n            event = await self._execute(slot, work)\n",
        "        try:\n            await end_delivery(slot.delivery.ack())\n            event = await self._execute(slot, work)\n",
        f"{_REDIS} --resend 30", "redis",
    ),
    Fault(
        "a commit does not compare the token", "flowcraft_redis/lua/commit.lua",
        "if old[1] ~= take() then", "if take() == '' then",
        _REDIS, "redis",
    ),
    Fault(
        "a script that Redis forgot is not sent again", "flowcraft_redis/link.py",
        "                except NoScriptError:", "                except ZeroDivisionError:",
        _REDIS, "redis",
    ),
    Fault(
        "a visit is begun whoever has its lease", "flowcraft_redis/lua/claim.lua",
        "    answers[n] = 0\n", "    answers[n] = 1\n",
        f"{_REDIS} --echoes 300", "redis",
    ),
)  # fmt: skip


def _plant(fault: Fault, folder: Path) -> None:
    for library in _PACKAGES.glob("*/src"):
        shutil.copytree(library, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    path = folder / fault.module
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
        command = [
            sys.executable,
            str(_HERE / "run.py"),
            fault.backend,
            "--source",
            str(source),
            *fault.options.split(),
        ]
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
    wanted = [word for word in sys.argv[1:] if word not in BACKENDS]
    backends = [word for word in sys.argv[1:] if word in BACKENDS] or BACKENDS
    missed = 0
    for fault in FAULTS:
        if fault.backend not in backends or (wanted and not any(word in fault.name for word in wanted)):
            continue
        noticed = _noticed(fault)
        missed += not noticed
        print(f"{'noticed' if noticed else 'MISSED '}  {fault.backend}: {fault.name}\n         {noticed}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
