"""Random workflows of all constructs on three workers and one memory backend, while people meddle with them."""

from __future__ import annotations

from collections import Counter

import pytest

from .construct_fleets import Crew, check_crew
from .seeds import replayable, seeds

_TOGETHER = 12


async def _check_all(crew: Crew, default: int, happened: tuple[str, ...]) -> None:
    ends: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    chosen = list(seeds(default))
    for start in range(0, len(chosen), _TOGETHER):
        together = chosen[start : start + _TOGETHER]
        with replayable(__file__, ",".join(map(str, together))):
            ended, counted = await check_crew(together, crew)
        ends += ended
        counts += counted
    print(f"all constructs, {crew}: {sum(ends.values())} workflows, {dict(ends)}, {dict(counts)}")
    if len(chosen) >= default:
        assert [name for name in happened if not counts[name]] == []


#: What must have happened at least once, or a test proves less than it seems to.
_ALWAYS = (
    "executed", "slept", "timed out", "accepted", "kept", "signal repeated", "drained", "children", "child completed",
    "child failed", "item:completed", "item:failed", "controller decided", "items decided", "answers that were true",
    "pause", "resume", "patch", "mark", "cancel", "TooLate", "SignalConflict", "refused",
)  # fmt: skip


@pytest.mark.timeout(7200)
async def test_every_message_twice_and_out_of_order() -> None:
    await _check_all(Crew(copies=2, lacking=True), 100, (*_ALWAYS, "parked"))


@pytest.mark.timeout(7200)
async def test_workers_die() -> None:
    await _check_all(Crew(kills=4), 100, (*_ALWAYS, "killed at work", "executed twice"))


@pytest.mark.timeout(7200)
async def test_runs_are_tried_again_and_rolled_back() -> None:
    await _check_all(Crew(copies=2, kills=2, retries=2), 100, (*_ALWAYS, "retried", "rolled back", "node:undone"))
