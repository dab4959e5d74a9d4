"""How often a place was opened and closed in this process, to be told where something is left of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from types import TracebackType

from flowcraft.conformance.loading import source_of
from flowcraft.conformance.target import Place, Ports, Target

__all__ = ["Openings"]


@dataclass(slots=True)
class Openings:
    """Counts what goes through `counted`. Other processes are not counted."""

    opened: int = 0
    closed: int = 0

    def counted(self, target: Target) -> Target:
        """The same target, which counts; other processes find the original under its name."""

        def opened(place: Place) -> _Counted:
            return _Counted(self, target.open(place))

        return replace(target, open=opened, source=source_of(target) or "")

    def told(self, left: Sequence[str]) -> str:
        """What is left of a place that was dropped, in a sentence."""
        shown = ", ".join(sorted(left)[:5])
        return (
            f"{len(left)} things are left of a place after it was dropped, for instance {shown} (in this process it was"
            f" opened {self.opened} times and closed {self.closed} times: a worker that is killed closes nothing)"
        )


class _Counted(AbstractAsyncContextManager[Ports]):
    """Passes on all that happens at the edges of a block. No generator: that would be one more frame to be cleaned up
    where a worker is killed, which never comes to its end.
    """

    def __init__(self, openings: Openings, block: AbstractAsyncContextManager[Ports]) -> None:
        self._openings, self._block = openings, block

    async def __aenter__(self) -> Ports:
        ports = await self._block.__aenter__()
        self._openings.opened += 1
        return ports

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._openings.closed += 1
        return await self._block.__aexit__(kind, error, trace)
