"""Who waits for which limit in one worker: lines, in which groups of visits with the same demands take turns.

Only memory and the clock; what is done with it is in `flowcraft.turns`.
"""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from flowcraft.limits import Demand, Demands, Refusal
from flowcraft.ports import Clock

__all__ = ["LONGEST", "Line", "Lines", "Waiter"]

#: The longest time after which a ticker looks at a parked visit, in seconds.
LONGEST: Final = 60.0
_PACE: Final = 1.0  # seconds from one look at a full key to the next, at most
_SHORTEST: Final = 0.01
_DUE_OF_GROUP: Final = 20  # visits each second, so that the tickers have little to do with those that wait for long …
_DUE_OF_ALL: Final = 200  # … and of all groups; the first of a group are soon known to all workers
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Waiter:
    """A parked visit, or one that was: whoever wakes it may be too late."""

    run_id: str
    node: int
    node_id: str
    visit: int


class Line:
    """Those that wait for one key. It is asked again at ``due``; until ``closed`` it is known to refuse."""

    __slots__ = ("closed", "due", "groups", "served")

    def __init__(self, due: float, served: int) -> None:
        self.groups: OrderedDict[Demands, deque[Waiter]] = OrderedDict()
        self.due = self.closed = due
        self.served = served  # the number of this line's last turn


class Lines:
    """All lines of a worker. ``poke`` is called when one is due earlier than whoever looks at them may know."""

    def __init__(self, clock: Clock, poke: Callable[[], object], spread: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._poke = poke
        self._spread = spread
        self._numbers = itertools.count()
        self._lines: dict[str, Line] = {}
        self._known: set[Waiter] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def knows(self, waiter: Waiter) -> bool:
        """Whether it is in a line."""
        return waiter in self._known

    @property
    def full(self) -> bool:
        """Whether no more can be remembered; the tickers find those that are not."""
        return len(self._known) >= _REMEMBERED

    def pace(self) -> float:
        """Half a second to one: from one look at a full key to the next."""
        return _PACE * (0.5 + 0.5 * self._spread())

    def patience(self, refusal: Refusal, demands: Demands) -> float:
        """After how many seconds the tickers are to look at a visit that is parked now: the more wait, the later."""
        line = self._lines.get(refusal.demand.key)
        group = len(line.groups.get(demands, ())) if line is not None else 0
        return min(refusal.wait + self.pace() * (1 + group / _DUE_OF_GROUP + len(self._known) / _DUE_OF_ALL), LONGEST)

    def first_due(self) -> float | None:
        """When the first line is to be asked again."""
        return min((line.due for line in self._lines.values()), default=None)

    def due(self) -> list[str]:
        """The keys that are to be asked now."""
        now = self._clock.monotonic()
        return [key for key, line in self._lines.items() if line.due <= now]

    def look(self, key: str) -> Line | None:
        """The line of a key if it is due; its next look is put off."""
        line = self._lines.get(key)
        now = self._clock.monotonic()
        if line is None or line.due > now:
            return None
        line.due = now + self.pace()
        return line

    def closed(self, demands: Demands) -> Refusal | None:
        """What is known to be refused, because others wait for it already."""
        now = self._clock.monotonic()
        for demand in demands:
            line = self._lines.get(demand.key)
            if line is not None and line.groups and line.closed > now:
                return Refusal(demand, line.closed - now)
        return None

    def freed(self, slots: Iterable[Demand]) -> None:
        """These have just been given back: their lines are due at once."""
        for slot in slots:
            line = self._lines.get(slot.key)
            if line is not None:
                line.due = line.closed = 0.0
                self._poke()

    def add(
        self, refusal: Refusal, demands: Demands, waiters: Sequence[Waiter], *, first: bool = False, ask: bool = False
    ) -> None:
        """Into the line of what refused them; ``ask``: nothing did, so it is due at once."""
        room = max(0, _REMEMBERED - len(self._known))
        new = [waiter for waiter in waiters if waiter not in self._known][:room]
        now = self._clock.monotonic()
        again = now if ask else now + (max(refusal.wait, _SHORTEST) if refusal.wait else self.pace())
        line = self._lines.get(refusal.demand.key)
        if line is None:
            line = self._lines[refusal.demand.key] = Line(again, next(self._numbers))
            self._poke()
        elif not ask and line.closed <= now:
            if again < line.due:
                self._poke()
            line.due = line.closed = again
        if new:
            group = line.groups.setdefault(demands, deque())
            group.extendleft(reversed(new)) if first else group.extend(new)
            self._known.update(new)

    def move(self, key: str, refusal: Refusal, demands: Demands, waiter: Waiter) -> None:
        """The whole group of one that was popped and refused goes where it was refused, that one first.

        If that is where it was, it has had no turn: its group stays the next.
        """
        line = self._lines.get(key)
        others = () if line is None else line.groups.pop(demands, ())
        self._known.difference_update(others)
        self.add(refusal, demands, [waiter, *others], first=True)
        if refusal.demand.key == key and demands in self._lines[key].groups:
            self._lines[key].groups.move_to_end(demands, last=False)

    def pop(self, keys: Iterable[str]) -> tuple[str, Demands, Waiter] | None:
        """The next who waits for one of these keys: from the line that had no turn for longest."""
        for key in sorted((key for key in keys if key in self._lines), key=lambda key: self._lines[key].served):
            line = self._lines[key]
            line.served = next(self._numbers)
            while line.groups:
                demands, waiters = next(iter(line.groups.items()))
                waiter = waiters.popleft()
                if waiters:
                    line.groups.move_to_end(demands)
                else:
                    del line.groups[demands]
                if waiter in self._known:
                    self._known.discard(waiter)
                    return key, demands, waiter
            del self._lines[key]
        return None

    def forget(self, waiter: Waiter) -> None:
        """It runs: somebody else woke it."""
        self._known.discard(waiter)
