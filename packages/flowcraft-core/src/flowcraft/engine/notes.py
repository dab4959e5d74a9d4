"""What nodes said while they ran, beside the head: the latest of a run, bounded without reading any of it.

Each outcome brings at most one cell; cells are numbered through the run. The head knows the oldest one that is kept and
how much each holds, so that what is too old is erased by a later outcome.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from flowcraft.engine.draft import Cell, Draft
from flowcraft.model import ValueKey

__all__ = ["KEPT_CELLS", "KEPT_RECORDS", "Notes", "keep_notes"]

#: A cell, and how many records it holds.
Notes: TypeAlias = tuple[Cell, int]
#: So many records of a run are kept …
KEPT_RECORDS: Final = 2_000
#: … of so many outcomes at most: each costs a few bytes of the head.
KEPT_CELLS: Final = 1_000
#: One outcome erases so many cells at most, so that it never grows beyond what a store can commit in one step.
_ERASED: Final = 16


def keep_notes(draft: Draft, notes: Notes) -> None:
    """Keep the notes of an outcome, and erase the oldest of the run where there are too many."""
    cell, count = notes
    logged = draft.head.logged or [1]
    draft.write(_key(logged[0] + len(logged) - 1), cell)
    logged = [*logged, count]
    records, gone = sum(logged) - logged[0], 0
    while gone < _ERASED and (records > KEPT_RECORDS or len(logged) - 1 - gone > KEPT_CELLS):
        draft.erase(_key(logged[0] + gone))
        gone += 1
        records -= logged[gone]
    draft.head.logged = [logged[0] + gone, *logged[1 + gone :]] if gone else logged


def _key(number: int) -> ValueKey:
    return ValueKey("log", "", number)
