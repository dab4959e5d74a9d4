"""A start that was checked and encoded: all that a run is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from flowcraft.graph import Graph

__all__ = ["Start"]


@dataclass(frozen=True, slots=True)
class Start:
    """``input`` and the values of ``context`` are stored as they are: the codec was at work already. ``parent``: the
    run, node and item that waits for this run, if it is a subflow, and ``depth`` how deep it is nested."""

    graph: Graph
    run_id: str
    input: bytes
    context: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    parent: tuple[str, str, int] | None = None
    depth: int = 0

    @property
    def fingerprint(self) -> str:
        """Tells a repeated start from another one."""
        digest = hashlib.sha256(self.graph.content_hash.encode())
        for key, data in (("", self.input), *sorted(self.context.items())):
            for part in (key.encode(), data):
                digest.update(len(part).to_bytes(8, "big"))
                digest.update(part)
        return digest.hexdigest()
