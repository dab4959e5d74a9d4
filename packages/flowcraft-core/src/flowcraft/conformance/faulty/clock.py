"""A process whose clock is wrong."""

from __future__ import annotations

from flowcraft.ports import Clock

__all__ = ["SkewedClock"]


class SkewedClock:
    """Another clock, its time of day wrong by ``skew`` seconds, which may change; durations are right."""

    def __init__(self, clock: Clock, skew: float) -> None:
        self.skew = skew
        self._clock = clock

    def time(self) -> float:
        """See `Clock`."""
        return self._clock.time() + self.skew

    def monotonic(self) -> float:
        """See `Clock`."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await self._clock.sleep(seconds)
