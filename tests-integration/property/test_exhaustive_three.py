"""The transition, exhaustively: everything that `small` knows of up to three nodes without a cycle, all interleavings.

All joins, also with losers that run; nodes that fail, or fail once; both failure policies; any edges not chosen; the
run cancelled in every state; draining visits also abandoned; each event twice, and all stale ones.
"""

from __future__ import annotations

import pytest

from .exploring import Explored, explore
from .small import RUN, Size, shapes

_EVERYTHING = Size(RUN, choosing=3, does=("ok", "fail", "retry"), policies=("continue", "fail-fast"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_everything_of_up_to_three_nodes(count: int) -> None:
    told = Explored()
    for shape in shapes(count, _EVERYTHING):
        try:
            explore(shape.blueprint(), told, stops=True)
        except Exception as error:
            error.add_note(str(shape))
            raise
    print(f"{count} nodes: {told}")
