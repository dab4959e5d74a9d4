"""What is due, in small portions, so that any number of tickers share it instead of each looking at all of it.

The tickers of one process know of each other what they have in hand (`Taken`). Those of other processes are noticed by
what they have done already: where much is due each ticker begins somewhere else, and reads again what is still due when
too much of what it finds is not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Final

from flowcraft.model import RunSummary
from flowcraft.ports import Clock, RunStore

__all__ = ["PORTION", "DueRows", "Taken"]

#: So many runs are handled at the same time. Against `_PAGE` it decides how often two processes meet at one.
PORTION: Final = 25
_PAGE: Final = 400
#: A page is read again when one in so many of its rows was out of date.
_OUT_OF_DATE: Final = 5
#: Rows that were dealt with are out of date. They are remembered for as long as a neighbour may have them on its page.
_REMEMBERED: Final = 10_000
_SECONDS: Final = 5.0

_Row = tuple[str, str, float | None]


def _row(summary: RunSummary) -> _Row:
    """It never comes back once the run, or when to look at it, has changed."""
    return summary.run_id, summary.token, summary.wake_at


class Taken:
    """Due runs that some ticker of this process has in hand, or has just dealt with."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: OrderedDict[_Row, float] = OrderedDict()

    def take(self, row: RunSummary) -> bool:
        """Whether this due run is the caller's now; False if a neighbour has, or had, it."""
        now, key = self._clock.monotonic(), _row(row)
        if self._rows.get(key, now - _SECONDS) > now - _SECONDS:
            return False
        self._rows.pop(key, None)
        self._rows[key] = now
        while len(self._rows) > _REMEMBERED or next(iter(self._rows.values())) <= now - _SECONDS:
            self._rows.popitem(last=False)
        return True

    def give_back(self, rows: Iterable[RunSummary]) -> None:
        """Nothing was done about these: others may look at them."""
        for row in rows:
            self._rows.pop(_row(row), None)


class DueRows:
    """One pass over what is due at ``now``. ``spread`` gives numbers in [0, 1)."""

    def __init__(self, store: RunStore, taken: Taken, now: float, spread: Callable[[], float]) -> None:
        self._store = store
        self._taken = taken
        self._now = now
        self._spread = spread
        self._left: list[RunSummary] = []
        self._seen: set[_Row] = set()
        self._begin: str | None = None
        self._next: str | None = None
        self._over = False
        self._doubtful = False

    async def take(self, most: int) -> list[RunSummary]:
        """Up to ``most`` runs that nobody else in this process has; none: the pass is over."""
        while True:
            if self._doubtful and self._left:
                await self._read(self._begin)
            elif not self._left:
                if self._over:
                    return []
                await self._read(self._next)
            portion: list[RunSummary] = []
            while self._left and len(portion) < most:
                row = self._left.pop()
                self._seen.add(_row(row))
                if self._taken.take(row):
                    portion.append(row)
            if portion:
                return portion

    def give_back(self, portion: Collection[RunSummary], *, untouched: Iterable[RunSummary], late: int) -> None:
        """What became of a portion: nothing was done about some of it, and ``late`` runs had been dealt with before."""
        self._taken.give_back(untouched)
        self._doubtful = late * _OUT_OF_DATE >= len(portion)

    async def _read(self, after: str | None) -> None:
        """Read a page, or the same once more: what is not due any more has made room for what was on the next."""
        page = await self._store.due(self._now, limit=_PAGE, after=after)
        self._begin, self._next, self._over = after, page.after, page.after is None
        self._doubtful = False
        self._seen.intersection_update(map(_row, page.items))
        self._left = [row for row in reversed(page.items) if _row(row) not in self._seen]
        if len(self._left) > PORTION:  # much is due, so other processes are probably at it, too
            self._left.sort(key=lambda _: self._spread())
