"""What is done to the backend and to the ways to it during a campaign, and when."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from .backends import Site
from .evidence import Outage

__all__ = ["PAUSE", "Weather"]

#: The fault that concerns a worker, whatever the backend.
PAUSE = "pause"


class Weather:
    """``faults``: how often each; they are spread over the campaign. ``pause`` does what the fault of that name is."""

    def __init__(self, site: Site, faults: Mapping[str, int], seed: int, pause: Callable[[], bool]) -> None:
        self._site = site
        self._random = source = random.Random(f"weather of {seed}")
        self._plan = sorted(
            (0.03 + 0.94 * (number + source.random()) / count, name)
            for name, count in faults.items()
            for number in range(count)
        )
        self._pause = pause
        self._going_on: list[tuple[float, Outage]] = []
        self.planned = len(self._plan)
        self.outages: list[Outage] = []

    def look(self, share: float, processes: Sequence[str]) -> bool:
        """Begin what is due when this share of the campaign is over, end what is over; whether anything was begun."""
        for until, outage in list(self._going_on):
            if until <= time.monotonic():
                self._end(until, outage)
        begun = False
        for at, name in list(self._plan):
            if at > share:
                break
            if self._begin(name, processes):
                self._plan.remove((at, name))
                begun = True
        return begun

    @property
    def done(self) -> int:
        """How many faults have been made."""
        return self.planned - len(self._plan)

    def clear(self) -> None:
        """End everything."""
        for until, outage in list(self._going_on):
            self._end(until, outage)

    def _begin(self, name: str, processes: Sequence[str]) -> bool:
        if name == PAUSE:
            return self._pause()
        busy = {process for _, outage in self._going_on for process in outage.processes}
        begun = self._site.begin(name, self._random, [process for process in processes if process not in busy])
        if begun is None:
            return False  # with the next look
        outage, seconds = begun
        outage.until = time.monotonic()
        self.outages.append(outage)
        if seconds:
            self._going_on.append((outage.at + seconds, outage))
        return True

    def _end(self, until: float, outage: Outage) -> None:
        self._going_on.remove((until, outage))
        self._site.end(outage)
        outage.until = time.monotonic()
