"""The dead letters of the queue in memory."""

from __future__ import annotations

import itertools
from operator import attrgetter

from flowcraft.model import DeadLetter, Page
from flowcraft.paging import decode_letters, letter_number, page_of
from flowcraft.ports import Clock

__all__ = ["DeadBox"]


class DeadBox:
    """Letters by number, oldest first; a number is never used again. ``at`` is of the clock's ``time``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._letters: dict[int, DeadLetter] = {}

    def add(self, queue: str, reason: str, body: bytes) -> None:
        """Keep one more."""
        number = next(self._numbers)
        self._letters[number] = DeadLetter(str(number), queue, reason, body, self._clock.time())

    def page(self, limit: int, after: str | None) -> Page[DeadLetter]:
        """Up to ``limit`` letters after a cursor."""
        last = decode_letters(after)
        return page_of([letter for number, letter in self._letters.items() if number > last], limit, attrgetter("id"))

    def get(self, letter_id: str) -> DeadLetter | None:
        """The letter, or None."""
        return self._letters.get(letter_number(letter_id) or 0)

    def discard(self, letter_id: str) -> bool:
        """Remove it; False if it is not there."""
        return self._letters.pop(letter_number(letter_id) or 0, None) is not None
