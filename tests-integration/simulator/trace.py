"""What happened, in order: for people who look at one seed, and for telling two executions of it apart."""

from __future__ import annotations

import hashlib

from .loop import SimLoop

__all__ = ["Trace"]


class Trace:
    """Appended to by everything; kept as rows until somebody wants to read or to compare it."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.rows: list[tuple[object, ...]] = []

    def add(self, *row: object) -> None:
        """Something happened now."""
        self.rows.append((self._loop.steps, self._loop.time(), *row))

    def digest(self) -> str:
        """The same for the same rows."""
        made = hashlib.sha256()
        for row in self.rows:
            made.update(repr(row).encode())
        return made.hexdigest()[:16]

    def lines(self) -> list[str]:
        """To read."""
        return [f"{step:>7} {time:>9.3f}  {' '.join(map(str, row))}" for step, time, *row in self.rows]
