"""Random workflows of all constructs by `FlowRuntime.run` and `resume`: each step, told to the oracle, is allowed."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from .families import Terms, draw_family
from .inprocess import InProcess
from .seeds import replayable, seeds

#: What must have happened at least once, or the test proves less than it seems to.
HAPPENED = (
    "executed", "slept", "timed out", "accepted", "kept", "again", "late", "conflict", "drained", "children",
    "child completed", "child failed", "item:completed", "item:failed", "controller decided", "items decided",
    "wait decided", "BatchFailed", "ConditionError", "VisitLimitReached",
)  # fmt: skip


async def _check(seed: int, counts: Counter[str]) -> str:
    source = random.Random(seed)
    family = draw_family(source, f"graph {seed}", Terms())
    run = InProcess(family, source)
    try:
        result = await run.check()
    except Exception as error:
        error.add_note("\n".join(json.dumps(blueprint.to_dict()) for blueprint in family.blueprints))
        raise
    counts += run.counts
    return result.status


@pytest.mark.timeout(7200)
async def test_random_workflows_of_all_constructs_in_process() -> None:
    ends: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    chosen = seeds(300)
    for seed in chosen:
        with replayable(__file__, seed):
            ends[await _check(seed, counts)] += 1
    print(f"all constructs in process: {sum(ends.values())} workflows, {dict(ends)}, {dict(counts)}")
    if len(chosen) >= 300:
        assert [name for name in HAPPENED if not counts[name]] == []
