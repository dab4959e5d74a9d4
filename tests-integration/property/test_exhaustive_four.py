"""The transition, exhaustively: all graphs of four nodes without a cycle, all joins and failures, all interleavings.

In CI: the three joins at every node with several predecessors, every set of nodes that fails, at most one node that
leaves some of its edges, each event twice, and all stale ones. ``FLOWCRAFT_EXHAUSTIVE=full`` adds losers that run, any
edges not chosen, the run cancelled in every state and draining visits abandoned; and, apart, retries and failing fast.
"""

from __future__ import annotations

import os

import pytest

from .exploring import Explored, explore
from .small import RUN, Size, shapes

FULL = os.environ.get("FLOWCRAFT_EXHAUSTIVE") == "full"


def _explore_all(size: Size, *, stops: bool) -> Explored:
    told = Explored()
    for shape in shapes(4, size):
        try:
            explore(shape.blueprint(), told, stops=stops)
        except Exception as error:
            error.add_note(str(shape))
            raise
    return told


@pytest.mark.timeout(7200)
def test_all_joins_and_failures_of_four_nodes() -> None:
    told = _explore_all(Size(RUN, choosing=4) if FULL else Size(), stops=FULL)
    print(f"4 nodes: {told}")


@pytest.mark.timeout(7200)
@pytest.mark.skipif(not FULL, reason="FLOWCRAFT_EXHAUSTIVE=full")
def test_retries_and_failing_fast_of_four_nodes() -> None:
    told = _explore_all(Size(does=("ok", "fail", "retry"), policies=("continue", "fail-fast")), stops=False)
    print(f"4 nodes, retries and failing fast: {told}")
