"""A start that was checked and encoded: all that a run is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flowcraft.graph import Graph

__all__ = ["Start"]


@dataclass(frozen=True, slots=True)
class Start:
    """``input`` and the values of ``context`` are stored as they are: the codec was at work already.

    ``fingerprint`` tells a repeated start from another one; ``told`` is what it was made of, where that is at hand.
    ``parent``: the run, node and item that waits for this run, if it is a subflow, and ``depth`` how deep it is nested.
    """

    graph: Graph
    run_id: str
    fingerprint: str
    input: bytes
    context: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    parent: tuple[str, str, int] | None = None
    depth: int = 0
    told: Sequence[object] | None = None
