"""The worker beside a ticker, as the ticker sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flowcraft.blueprint import Node
from flowcraft.folding import Kept
from flowcraft.model import Job
from flowcraft.runstate import RunState

__all__ = ["ForHost", "Host"]


class Host(Protocol):
    """The worker beside a ticker."""

    def adopts(self, job: Job, node: Node) -> bool:
        """Whether it has room for a visit that could be executed by it."""
        ...

    def adopt(self, kept: Kept) -> None:
        """Execute it."""
        ...

    async def claim(self, keys: Sequence[str]) -> Sequence[bool]:
        """See `Keeper`."""
        ...

    def forget(self, keys: Sequence[str]) -> None:
        """See `Keeper`."""
        ...

    async def meet(self, state: RunState) -> None:
        """Take care of those visits of a due run that are parked by a limit."""
        ...


class ForHost:
    """Keeps what a tick made READY for the worker beside it: sent out, it might come to one that cannot execute it."""

    def __init__(self, host: Host) -> None:
        self.wants = host.adopts
        self.claim = host.claim
        self.forget = host.forget
