"""A store that can lose its latest commits."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["Restorable"]


@runtime_checkable
class Restorable(Protocol):
    """What a run store offers beside its protocol so that a failover to an older state can be played."""

    def snapshot(self) -> object:
        """All documents as they are now."""
        ...

    def restore(self, state: object) -> None:
        """Go back to a snapshot."""
        ...
