"""Random workflows on three workers and one memory backend: what they committed is what the oracle says."""

from __future__ import annotations

from collections import Counter

import pytest

from .fleets import Fleet, check_together
from .seeds import replayable, seeds

_TOGETHER = 25


async def _check_all(fleet: Fleet, default: int) -> None:
    ends: Counter[str] = Counter()
    chosen = list(seeds(default))
    for start in range(0, len(chosen), _TOGETHER):
        together = chosen[start : start + _TOGETHER]
        with replayable(__file__, ",".join(map(str, together))):
            ends += await check_together(together, fleet)
    print(f"three workers, {fleet}: {sum(ends.values())} workflows, {dict(ends)}")


@pytest.mark.timeout(3600)
async def test_plainly() -> None:
    await _check_all(Fleet(), 400)


@pytest.mark.timeout(3600)
async def test_every_message_twice_and_out_of_order() -> None:
    await _check_all(Fleet(copies=2), 400)


@pytest.mark.timeout(3600)
async def test_workers_die() -> None:
    await _check_all(Fleet(kills=4), 300)
