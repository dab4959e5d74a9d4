"""Runs that a ticker leaves alone because looking at them failed."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final

from flowcraft.codec import Codec
from flowcraft.errors import AdapterError
from flowcraft.ports import Clock
from flowcraft.sealing import traceback_of

__all__ = ["Quarantine"]

_LOG = logging.getLogger("flowcraft.ticker")
_FIRST: Final = 5.0
_LONGEST: Final = 900.0
_REMEMBERED: Final = 10_000


class Quarantine:
    """Of one ticker. A run is left alone for a while after each failure in a row, longer each time."""

    def __init__(self, clock: Clock, codec: Codec) -> None:
        self._clock = clock
        self._codec = codec
        self._runs: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def holds(self, run_id: str) -> bool:
        """Whether the run is to be left alone now."""
        return self._runs.get(run_id, (0, 0.0))[1] > self._clock.monotonic()

    def add(self, run_id: str, error: Exception) -> None:
        """Its tick failed; the log tells why."""
        failures = self._runs.pop(run_id, (0, 0.0))[0] + 1
        wait = min(_FIRST * 2.0 ** min(failures - 1, 10), _LONGEST)
        self._runs[run_id] = (failures, self._clock.monotonic() + wait)
        if len(self._runs) > _REMEMBERED:
            self._runs.popitem(last=False)
        known = isinstance(error, AdapterError)
        shown = None if known else traceback_of(self._codec, error)
        _LOG.error("a run's tick failed, next try in %.0f s: %s", wait, error if known else type(error).__name__,
                   exc_info=shown, extra={"run_id": run_id})  # fmt: skip

    def lift(self, run_id: str) -> None:
        """Its tick did not fail."""
        self._runs.pop(run_id, None)
