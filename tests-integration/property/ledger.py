"""What a run store was really told, run by run: how each run was made, and every commit that was applied, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from flowcraft.engine.head import Head
from flowcraft.model import Change, Committed, Created, NewRun
from flowcraft.runstate import unpack_head

__all__ = ["Ledger", "Written"]


@dataclass
class Written:
    """One run. ``numbers`` are those of its commits among all commits."""

    made: NewRun
    number: int
    commits: list[Change] = field(default_factory=list[Change])
    numbers: list[int] = field(default_factory=list[int])

    @property
    def head(self) -> Head:
        """As it is stored now."""
        return unpack_head((self.commits[-1] if self.commits else self.made).head)[1]

    @property
    def status(self) -> str:
        """As it is stored now."""
        return (self.commits[-1] if self.commits else self.made).index.status


class Ledger:
    """Stands between a world's processes and its run store."""

    def __init__(self, world: Any) -> None:
        self.runs: dict[str, Written] = {}
        self._numbers = 0
        self._create = world.store.create
        self._commit = world.store.commit
        world.store.create = self.create
        world.store.commit = self.commit

    async def create(self, new: NewRun) -> Created:
        """Note a run that was made."""
        created: Created = await self._create(new)
        if created.made and new.kind == "run":
            self._numbers += 1
            self.runs[new.run_id] = Written(new, self._numbers)
        return created

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        """Note the changes that were applied."""
        results: Sequence[Committed] = await self._commit(changes)
        for change, result in zip(changes, results, strict=True):
            if result.applied and change.kind == "run":
                self._numbers += 1
                self.runs[change.run_id].commits.append(change)
                self.runs[change.run_id].numbers.append(self._numbers)
        return results
