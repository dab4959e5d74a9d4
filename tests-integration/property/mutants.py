"""Plants faults in a copy of the library, one at a time, and tells which tests notice.

python -m tests-integration.property.mutants              all faults at CI's size, half an hour on two cores
python -m tests-integration.property.mutants nonce join   those whose names contain one of the words
python -m tests-integration.property.mutants --quick      400 random graphs, and of acyclic ones up to three nodes
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .faults_of_runs import FAULTS_OF_RUNS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "packages/flowcraft-core/src/flowcraft"
#: All that the tests need, copied once: whatever is edited meanwhile, every fault is planted in the same library.
NEEDED = (SOURCE, "packages/flowcraft-core/tests/distributed", "tests-integration/oracle", "tests-integration/property")
TESTS = {
    "cases": "test_cases.py",
    "constructs": "test_constructs.py",
    "lock step": "test_engine_oracle.py",
    "three": "test_exhaustive_three.py",
    "four": "test_exhaustive_four.py",
    "cycles": "test_exhaustive_cycles.py",
    "in process": "test_in_process.py",
    "distributed": "test_distributed.py",
    "constructs in process": "test_constructs_in_process.py",
    "constructs distributed": "test_constructs_distributed.py",
}


@dataclass(frozen=True)
class Mutant:
    """A fault: in each file, one text is replaced by another."""

    name: str
    edits: tuple[tuple[str, str, str], ...]


def _one(name: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, ((file, old, new),))


MUTANTS = [
    _one(
        "a join counts edges, not predecessors",
        "engine/joins.py",
        "_by_predecessor(graph, head, node) if graph.parallel[node] else head.marks[low:high]",
        "head.marks[low:high]",
    ),
    _one(
        "at least n: only failures count", "engine/joins.py", "failed and live + failed >= needed", "failed >= needed"
    ),
    _one("all: DEAD beats LIVE", "engine/joins.py", "elif LIVE in marks:", "elif LIVE in marks and DEAD not in marks:"),
    _one("any: the last winner", "engine/joins.py", "winners[:1] if", "winners[-1:] if"),
    _one("FAILED is sent as DEAD", "engine/outcomes.py", "DEAD if drained else MARK_FAILED)", "DEAD)"),
    Mutant(
        "losers of a join that lets them run",
        (
            (
                "engine/joins.py",
                "    if not draft.graph.keep_losers[node]:\n        draft.fired",
                "    if True:\n        draft.fired",
            ),
            ("engine/joins.py", " and not graph.keep_losers[target]:", ":"),
        ),
    ),
    _one(
        "a fallback whose own fallback takes over has failed",
        "engine/outcomes.py",
        "    if going_on and not fatal and fallback >= 0:\n",
        "    _count(draft, done, succeeded=False)\n    if going_on and not fatal and fallback >= 0:\n",
    ),
    _one(
        "a fallback node is what its last visit came to, once the run is stopped",
        "engine/ending.py",
        "return fallback_state(draft, node) if node in draft.head.fallbacks else state",
        "return state",
    ),
    _one(
        "a fallback's edges do not see whom it stood in for",
        "engine/outcomes.py",
        "    head.states[node] = COMPLETED  # now:",
        "    # now:",
    ),
    _one(
        "of parallel edges only the first may have a transform for inputs",
        "engine/inputs.py",
        "transformed = [e for e in live if",
        "transformed = [e for e in _first_of_each(graph, head, live) if",
    ),
    _one(
        "a loser with another way out",
        "engine/joins.py",
        "or any(map(leads_away, graph.out[n]))",
        "or all(map(leads_away, graph.out[n]))",
    ),
    _one("losers are not judged again in later rounds", "engine/rounds.py", "draft.fired.extend(plan.members)", "pass"),
    _one(
        "absolution along back edges",
        "engine/joins.py",
        "            if e >= graph.in_mid[target]:\n                return False\n            if target in seen",
        "            if target in seen",
    ),
    _one(
        "absolution by any node that is skipped",
        "engine/joins.py",
        "if target in head.last or head.states",
        "if head.states",
    ),
    _one(
        "failing fast in spite of absolution",
        "engine/stopping.py",
        "if not all(absolved(graph, head, failure.node) for failure in new):",
        "if new:",
    ),
    _one("the nonce is not checked", "engine/transition.py", "        and activation.nonce == visit.nonce\n", ""),
    _one("the visit is not checked", "engine/transition.py", "        and activation.visit == visit.visit\n", ""),
    _one("the attempt is not checked", "engine/transition.py", "        and activation.attempt == visit.attempt\n", ""),
    _one(
        "a visit's number is used again",
        "engine/draft.py",
        "head.visits.get(function, 0) + 1\n",
        "max(1, head.visits.get(function, 0))\n",
    ),
    Mutant(
        "a scope goes round one node early",
        (
            ("engine/draft.py", "if not self.left[scope]:", "if self.left[scope] <= 1:"),
            ("engine/rounds.py", "    if draft.left[scope]:\n        return\n", ""),
        ),
    ),
    _one(
        "the counter of a scope's nodes is not restored",
        "engine/rounds.py",
        "draft.left[around] += len(plan.members)",
        "pass",
    ),
    _one("exits are marked before the scope ends", "engine/draft.py", "if not exits[edge] and head", "if head"),
    _one(
        "exits of a failed node are DEAD",
        "engine/rounds.py",
        "MARK_FAILED if head.states[graph.src[e]] in UPSET else DEAD",
        "DEAD",
    ),
    _one(
        "edges that enter count in later visits", "engine/rounds.py", "        head.marks[e] = VOID\n", "        pass\n"
    ),
    _one(
        "one visit too many",
        "engine/rounds.py",
        "head.rounds.get(scope, 0) < graph",
        "head.rounds.get(scope, 0) <= graph",
    ),
    _one("rounds of nested scopes go on counting", "engine/rounds.py", "head.rounds.pop(nested, None)", "pass"),
    _one("the last visit that ran is forgotten", "engine/rounds.py", "head.last[node] = head.states[node]", "pass"),
    _one(
        "a second LIVE changes the value of an exit",
        "engine/routes.py",
        "first, chosen = head.mark_of(e) == UNMARKED,",
        "first, chosen = head.mark_of(e) in (UNMARKED, LIVE),",
    ),
    _one(
        "values that an exit speaks of are deleted",
        "engine/routes.py",
        "    if (node, visit) in spoken_of(graph, head, graph.out[node]):",
        "    if False:",
    ),
    _one(
        "a fallback's visits are not forgotten in the next round",
        "engine/rounds.py",
        "    head.fallbacks.pop(node, None)\n",
        "",
    ),
    _one(
        "a fallback is settled before all that name it",
        "engine/outcomes.py",
        "or any(head.states[n] not in SETTLED for n in graph.namers[node])",
        "",
    ),
    _one(
        "a fallback takes over from a fatal error",
        "engine/outcomes.py",
        "going_on and not fatal and fallback",
        "going_on and fallback",
    ),
    _one(
        "a fallback's outcome is not its own",
        "engine/outcomes.py",
        "_count(draft, [pair for pair in done if pair[0] not in unroutable], node, succeeded=True)",
        "_count(draft, [pair for pair in done[:1] if pair[0] not in unroutable], node, succeeded=True)",
    ),
    _one(
        "a draining visit is tried again",
        "engine/outcomes.py",
        'head.phase == "running" and head.states[node] != DRAINING\n    if going_on',
        'head.phase == "running"\n    if going_on',
    ),
    _one(
        "a drained outcome routes", "engine/outcomes.py", "if drained and other == node:", "if drained and other < 0:"
    ),
    _one(
        "unheard visits drain",
        "engine/draft.py",
        "if activation.nonce == self.nonce and node in self.ready:",
        "if False:",
    ),
    _one(
        "heard visits vanish",
        "engine/draft.py",
        "if activation.nonce == self.nonce and node in self.ready:",
        "if node in self.ready or not self.ready:",
    ),
    _one(
        "a condition that fails leaves its node completed",
        "engine/outcomes.py",
        "_close(draft, node, FAILED if node in unroutable else COMPLETED)",
        "_close(draft, node, COMPLETED)",
    ),
    _one(
        "values of others are not read ahead", "engine/needs.py", "keys.update(keys_of(graph, head, reference))", "pass"
    ),
    _one("wake_at is late", "engine/draft.py", "at < self.head.wake_at", "at > self.head.wake_at"),
    _one("a parked visit stays parked", "engine/timers.py", "(state == PARKED and event.can(", "(False and event.can("),
    _one(
        "who cannot execute a parked visit wakes it",
        "engine/timers.py",
        "(state == PARKED and event.can(node_of(slot) if old.runs < 0 else old.runs)):",
        "state == PARKED:",
    ),
    _one("a head forgets which joins fired", "engine/headbytes.py", '("g", sorted(head.fired))', '("g", [])'),
    _one("a head forgets which visit a mark speaks of", "engine/headbytes.py", '("m", head.mark_visits)', '("m", {})'),
    _one(
        "a header that starts again begins to count anew",
        "engine/reset.py",
        "if node not in plan.first or not plan.again.isdisjoint(around):",
        "if True:",
    ),
    _one(
        "edges into a cycle inside one that has gone round count again",
        "engine/reset.py",
        "== VOID and e not in heeded_by_none:",
        "== VOID:",
    ),
    _one(
        "a fallback forgets what it did for others when one of them is reset",
        "engine/reset.py",
        "        if ran:\n            head.fallbacks[fallback] = ran\n",
        "",
    ),
    _one(
        "of a fallback, everything LIVE stays when one it stood in for is reset",
        "engine/reset.py",
        "!= LIVE or all(owner in again for owner, _ in head.choosers.get(e, ())):",
        "!= LIVE:",
    ),
    _one(
        "a fallback that ran for others only starts again by itself",
        "engine/reset.py",
        "(head.ordinary.get(node) if graph.namers[node] else head.states[node])",
        "head.states[node]",
    ),
    _one("a visit that was given up has no number", "engine/reset.py", "in (BEGUN, GIVEN_UP)):", "== BEGUN):"),
    _one(
        "a header that starts again gets what its edges carry now",
        "engine/routes.py",
        "(head.brought if back else head.mark_visits)",
        "head.mark_visits",
    ),
    _one(
        "cycles that a stop kept from going round never do",
        "engine/reset.py",
        "touched | open_still | going_round if",
        "touched | open_still if",
    ),
    _one(
        "what was undone has completed again",
        "engine/commands.py",
        "    head.states[node] = head.was\n    head.done",
        "    head.states[node] = 7\n    head.done",
    ),
    _one("what a fallback did is not undone", "engine/commands.py", "if done[2] in undone]", "if done[0] in undone]"),
    _one(
        "a cancel ends a rollback",
        "engine/transition.py",
        'phase in ("cancelling", "undoing"):',
        'phase == "cancelling":',
    ),
    _one(
        "outputs of earlier rounds are kept",
        "engine/rounds.py",
        "        erase_unread(draft, node, visit)\n",
        "        pass\n",
    ),
    _one(
        "old failures stop a run that goes on",
        "engine/stopping.py",
        "for failure in new):",
        "for failure in head.failures):",
    ),
    _one(
        "waits go on before joins are decided",
        "engine/propagate.py",
        "        if work:",
        "        if work and not special:",
    ),
    _one(
        "in process: what is READY stays in the list of what is new",
        "local.py",
        "            draft.ready.clear()\n        if draft.facts:",
        "        if draft.facts:",
    ),
    _one(
        "distributed: a message of an activation that is over is executed",
        "intake.py",
        "if activation is None or (activation.nonce, activation.visit, activation.attempt) != (",
        "if activation is None or not (job.nonce, job.visit, job.attempt) and (activation.nonce, 0, 0) != (",
    ),
    _one(
        "distributed: a lease that was not won is no hindrance",
        "intake.py",
        "            if not mine:\n",
        "            if not mine and False:\n",
    ),
    _one("distributed: what a worker keeps is published, too", "folding.py", "                del ready[node]\n", ""),
    Mutant("(no fault at all)", ()),
    *(_one(*fault) for fault in FAULTS_OF_RUNS),
]


def _copy(into: Path) -> None:
    for folder in NEEDED:
        shutil.copytree(ROOT / folder, into / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pytest.ini", "tests-integration/__init__.py", "tests-integration/engine_driver.py"):
        shutil.copy(ROOT / file, into / file)


def _plant(mutant: Mutant, copy: Path, into: Path) -> bool:
    """False: the text to be replaced is not there any more."""
    shutil.copytree(copy / SOURCE, into / "flowcraft")
    for file, old, new in mutant.edits:
        path = into / "flowcraft" / file
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            return False
        path.write_text(text.replace(old, new), encoding="utf-8")
    return True


def _caught(mutant: Mutant, copy: Path, tests: Sequence[str], size: Mapping[str, str]) -> dict[str, str]:
    """What each test says: ``caught``, ``-`` (it passed), or ``hangs``; nothing if the fault cannot be planted."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        if not _plant(mutant, copy, Path(folder)):
            return found
        environment = {**os.environ, **size, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        for name in tests:
            file = f"tests-integration/property/{TESTS[name]}"
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", file]
            try:
                done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=900, check=False)
            except subprocess.TimeoutExpired:
                found[name] = "hangs"
                continue
            if done.returncode not in (0, 1):
                raise SystemExit(f"{mutant.name}: {done.stdout.decode()[-2000:]}{done.stderr.decode()[-2000:]}")
            found[name] = "caught" if done.returncode else "-"
    return found


def main(words: list[str]) -> int:
    """Print the table; 1 if a fault was not noticed, or something was noticed where there is no fault."""
    quick = "--quick" in words
    words = [word for word in words if word != "--quick"]
    tests = [name for name in TESTS if not (quick and name == "four")]
    size = {"FLOWCRAFT_GRAPHS": "400"} if quick else {}
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    width = max(len(mutant.name) for mutant in chosen)
    print("  ".join(["".ljust(width), *tests]), flush=True)
    missed = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        _copy(Path(folder))
        results = pool.map(lambda mutant: _caught(mutant, Path(folder), tests, size), chosen)
        for mutant, found in zip(chosen, results, strict=True):
            cells = [found[name].ljust(len(name)) for name in tests] if found else ["its place is gone"]
            print("  ".join([mutant.name.ljust(width), *cells]), flush=True)
            noticed = bool(set(found.values()) - {"-"})
            missed += noticed if not mutant.edits else not noticed
    print(f"{len(chosen) - missed} of {len(chosen)} as it should be")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
