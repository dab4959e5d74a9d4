"""The simulator's own proof: faults planted in a copy of the library, and in a copy of the simulator's checks.

python -m tests-integration.simulator.planted                all of them, half an hour on a core
python -m tests-integration.simulator.planted lease token    those whose names contain one of the words

Each fault of the library must be found in at most `MOST` seeds; each fault of a check by `test_simulator_checks.py`.
Ends with 1 if one was not found, or something was found where nothing is planted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LIBRARY", "MOST", "OWN", "QUICK", "Planted", "find"]

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "packages/flowcraft-core/src/flowcraft"
NEEDED = (SOURCE, "tests-integration/oracle", "tests-integration/property", "tests-integration/simulator")
#: So many seeds at most until a fault of the library is found.
MOST = 1000


@dataclass(frozen=True)
class Planted:
    """In ``file`` one text is replaced by another."""

    name: str
    file: str
    old: str
    new: str


def _lib(name: str, file: str, old: str, new: str) -> Planted:
    return Planted(name, f"{SOURCE}/{file}", old, new)


def _own(name: str, file: str, old: str, new: str) -> Planted:
    return Planted(name, f"tests-integration/simulator/{file}", old, new)


LIBRARY = (
    _lib(
        "a commit does not look at the version",
        "memory/store.py",
        "        if document.token != change.version:\n            return Committed(applied=False",
        "        if False:\n            return Committed(applied=False",
    ),
    _lib(
        "an outcome counts whatever its activation",
        "engine/transition.py",
        "        and activation.nonce == visit.nonce\n        and activation.visit == visit.visit\n"
        "        and activation.attempt == visit.attempt\n",
        "",
    ),
    _lib(
        "a lease that was not won is no hindrance",
        "intake.py",
        "            if not mine:\n",
        "            if not mine and False:\n",
    ),
    _lib(
        "the heartbeat renews nothing", "worker.py", "        if not slots:\n            return\n", "        return\n"
    ),
    _lib("the ticker sends nothing again", "ticker.py", "        if resend:\n", "        if resend and not resend:\n"),
    _lib(
        "what is not known counts as committed",
        "writing.py",
        "                    return Committed(False, stored=stored)\n",
        "                    return Committed(True, version=change.token)\n",
    ),
    _lib(
        "an outcome is found stale by a remembered head",
        "committer.py",
        "        if planned is None and not state.fresh:\n",
        "        if False:\n",
    ),
    _lib(
        "the lease of a finished visit is given up at once", "claims.py", "LINGER: Final = 3.0", "LINGER: Final = -1.0"
    ),
    _lib("remembered heads are trusted for long", "claims.py", "return min(TRUST, self.ttl / 6)", "return 60.0"),
    _lib(
        "what happens to an ended run puts off the end of its retention",
        "ticker.py",
        "        if head.terminal:  #",
        "        if False:  #",
    ),
    _lib(
        "values that others used up are no conflict",
        "folding.py",
        "        if cell is MISSING:\n",
        "        if cell is MISSING and False:\n",
    ),
    _lib(
        "the run of a subflow does not tell of its end, and is not asked",
        "children.py",
        "            elif found.committed().terminal:\n                await self._report(child)\n",
        "            elif found.committed().terminal:\n                pass\n",
    ),
    _lib(
        "a worker's conflict is taken for its success",
        "committer.py",
        "            if change.token == result.stored.token or change.token in head.tokens:\n",
        "            if True:\n",
    ),
    _lib(
        "what was handed back is gone",
        "visits.py",
        "            await end_delivery(delivery.retry(delay=delay))\n            return\n",
        "            await end_delivery(delivery.ack())\n            return\n",
    ),
    _lib(
        "the index keeps the latest of the times that a run wants",
        "engine/draft.py",
        "at < self.head.wake_at",
        "at > self.head.wake_at",
    ),
    _lib(
        "a worker that is told to end gives its visits no time",
        "worker.py",
        "        await self._settled(self.options.grace)\n        for slot",
        "        for slot",
    ),
    _lib(
        "a run that was made already is made anew",
        "memory/store.py",
        "        if existing is not None:\n",
        "        if existing is not None and False:\n",
    ),
)

OWN = (
    _own("what is executed twice needs no cause", "checks.py", "    assert not unexplained, ", "    assert True, "),
    _own(
        "everything is a cause",
        "causes.py",
        "            return kind\n    return None\n",
        "            return kind\n    return 'nothing'\n",
    ),
    _own("open runs are not looked for", "checks.py", "    assert not open_ones, ", "    assert True, "),
    _own("messages that are left are not looked for", "checks.py", "    assert not messages, ", "    assert True, "),
    _own(
        "leases that are left are not looked for",
        "checks.py",
        "    assert not coordination.leases(), ",
        "    assert True, ",
    ),
    _own(
        "a client may get any result",
        "checks.py",
        "        assert_same_result(person.result, oracle)\n",
        "        pass\n",
    ),
    _own(
        "a visit may complete twice",
        "checks.py",
        "    for run_id, account in simulation.accounts.items():\n        undo",
        "    for run_id, account in ():\n        undo",
    ),
    _own(
        "the numbers of events are not looked at",
        "shared.py",
        "        if numbers != expected or not numbers:\n",
        "        if False:\n",
    ),
    _own(
        "an ended run may change",
        "shared.py",
        "        if before in TERMINAL and not _REOPENS.intersection(kinds):\n",
        "        if False:\n",
    ),
    _own(
        "a message may come before its commit",
        "shared.py",
        "        if job.nonce not in self.tokens[job.run_id] and",
        "        if False and",
    ),
    _own(
        "a run may be looked at too late",
        "shared.py",
        "        if wanted is not None and (wake_at",
        "        if False and (wake_at",
    ),
    _own("nobody hears of errors that nobody caught", "checks.py", "    assert not told, ", "    assert True, "),
    _own("a seed that does nothing is fine", "checks.py", "    assert simulation.store.runs, ", "    assert True, "),
    _own(
        "two executions of a seed may differ",
        "run.py",
        "        if again.digest != outcome.digest:",
        "        if False:",
    ),
    _own(
        "what a check finds is not told",
        "simulation.py",
        "            except AssertionError as error:\n                self.blame(",
        "            except AssertionError as error:\n                str(",
    ),
)

#: Quick to find: CI plants these.
QUICK = (
    "a commit does not look at the version",
    "a lease that was not won is no hindrance",
    "what is not known counts as committed",
    "what is executed twice needs no cause",
    "a client may get any result",
)


def _plant(planted: Planted | None, into: Path) -> None:
    for folder in NEEDED:
        shutil.copytree(ROOT / folder, into / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pytest.ini", "tests-integration/__init__.py", "tests-integration/engine_driver.py"):
        shutil.copy(ROOT / file, into / file)
    if planted is None:
        return
    path = into / planted.file
    text = path.read_text(encoding="utf-8")
    if text.count(planted.old) != 1:
        raise SystemExit(
            f"{planted.name}: its place in {planted.file} is there {text.count(planted.old)} times; mend this list"
        )
    path.write_text(text.replace(planted.old, planted.new), encoding="utf-8")


def find(planted: Planted | None, *, most: int = MOST) -> str:
    """What finds it: the check's words; empty if nothing does."""
    with tempfile.TemporaryDirectory(prefix="flowcraft-planted-") as folder:
        copy = Path(folder)
        _plant(planted, copy)
        environment = {
            **os.environ,
            "PYTHONPATH": str(copy / SOURCE).removesuffix("/flowcraft"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if planted is not None and planted in OWN:
            file = "tests-integration/simulator/test_simulator_checks.py"
            words = ["pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", file]
        else:
            words = ["tests-integration.simulator.run", "--seeds", f"0-{most - 1}", "--jobs", "1", "--stop-after", "1"]
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{planted}: ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return _told(done.stdout) if done.returncode else ""


def _told(text: str) -> str:
    seed = re.search(r"^seed (\d+): .*\n(.*)$", text, re.MULTILINE)
    if seed is not None:
        return f"seed {seed[1]}: {seed[2][:100]}"
    failed = re.search(r"^FAILED \S+::(.*)$", text, re.MULTILINE)
    return failed[1][:100] if failed is not None else text[-200:]


def main(words: Sequence[str]) -> int:
    """Plant all of them, or those named."""
    missed = 0
    chosen = [planted for planted in (*LIBRARY, *OWN) if not words or any(word in planted.name for word in words)]
    for planted in chosen:
        found = find(planted)
        missed += not found
        print(f"{'found ' if found else 'MISSED'}  {planted.name}\n        {found}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} found")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
