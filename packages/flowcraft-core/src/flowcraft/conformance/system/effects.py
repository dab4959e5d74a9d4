"""What was executed, recorded outside of the system; and whether each second execution has a cause."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Effect", "Effects", "Key"]


class Key(NamedTuple):
    """One execution that is owed: an attempt of a visit."""

    run_id: str
    node: str
    visit: int
    item: int | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Effect:
    """One execution of user code. ``generation``: of coordination, when it began."""

    key: Key
    process: str
    generation: int


class Effects:
    """All executions of one scenario, in order. ``deaths``: processes that may have died or hung in the middle."""

    def __init__(self) -> None:
        self.all: list[Effect] = []
        self.deaths: set[str] = set()

    def add(self, key: Key, process: str, generation: int) -> None:
        """User code begins."""
        self.all.append(Effect(key, process, generation))

    def of(self, node: str | None = None, *, run_id: str | None = None, process: str | None = None) -> int:
        """How many executions there were."""
        return sum(
            node in (None, e.key.node) and run_id in (None, e.key.run_id) and process in (None, e.process)
            for e in self.all
        )

    def repeated(self) -> int:
        """How many executions were second ones, or third …"""
        return len(self.all) - len({effect.key for effect in self.all})

    def unexplained(self) -> list[str]:
        """Second executions without a cause: the one before was by a process that lived, and no lease was forgotten."""
        by_key: dict[Key, list[Effect]] = defaultdict(list)
        for effect in self.all:
            by_key[effect.key].append(effect)
        return [
            f"{key} by {first.process!r}, which lived, and again by {second.process!r}"
            for key, found in by_key.items()
            for first, second in pairwise(found)
            if first.process not in self.deaths and not second.generation
        ]
