"""The transition, exhaustively: all graphs of up to three nodes with a cycle, all joins, all interleavings."""

from __future__ import annotations

import os

import pytest

from .exploring import Explored, explore
from .small import cycles

FULL = os.environ.get("FLOWCRAFT_EXHAUSTIVE") == "full"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_cycles(count: int) -> None:
    """In CI without cancelling where there are three nodes."""
    told = Explored()
    for blueprint in cycles(count):
        try:
            explore(blueprint, told, stops=count < 3 or FULL)
        except Exception as error:
            error.add_note(f"{blueprint.edges} {blueprint.nodes}")
            raise
    print(f"cycles of {count} nodes: {told}")
