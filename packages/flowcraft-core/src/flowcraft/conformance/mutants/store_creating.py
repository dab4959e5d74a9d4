"""Run stores that do one thing wrong when they create."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flowcraft.conformance.mutants.breaking import mutant
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Change, Committed, Created, Index, NewRun, StoredHead
from flowcraft.storing import check_values, event_rows  # what is broken here is something else

__all__ = ["check", "mutants", "turns"]


async def turns(count: int) -> None:
    """Let others run."""
    for _ in range(count):
        await asyncio.sleep(0)


def check(what: NewRun | Change) -> None:
    """Refuse what any store must, before anything is written."""
    check_values(what.run_id, what.values)
    event_rows(what.events)


class _CreateRaces(MemoryRunStore):
    """Where more than 40 create at once, creating looks and writes in two steps."""

    creators = 0

    async def create(self, new: NewRun) -> Created:
        there = self._find(new.kind, new.run_id)
        self.creators += 1
        await turns(1)
        crowd = self.creators > 40
        if there is None and crowd and (made := self._find(new.kind, new.run_id)) is not None:
            self._kinds[new.kind].remove(made)
        created = await super().create(new)
        await turns(1)
        self.creators -= 1
        return created


class _DropsFingerprint(MemoryRunStore):
    """The fingerprint of a creation is not stored."""

    async def load(self, run_id: str, **asked: Any) -> StoredHead | None:
        stored = await super().load(run_id, **asked)
        return None if stored is None else replace(stored, fingerprint="")


class _LoserWrites(MemoryRunStore):
    """A creation whose id is taken adds the values that are not there yet."""

    async def create(self, new: NewRun) -> Created:
        made = await super().create(new)
        if not made.made and (document := self._find(new.kind, new.run_id)) is not None:
            document.values = {**new.values, **document.values}
        return made


class _TellsTheCallers(MemoryRunStore):
    """A creation whose id is taken is told its own fingerprint."""

    async def create(self, new: NewRun) -> Created:
        return replace(await super().create(new), fingerprint=new.fingerprint)


class _TellsTheFirstToken(MemoryRunStore):
    """A creation whose id is taken is told the token of the creation, whatever has been committed since."""

    async def create(self, new: NewRun) -> Created:
        document = self._find(new.kind, new.run_id)
        created = await super().create(new)
        return created if document is None else replace(created, token=document.new.token)


class _TellsOldUpdate(MemoryRunStore):
    """A document is loaded with the time at which it was created for that of its last update."""

    async def load(self, run_id: str, **asked: Any) -> StoredHead | None:
        stored, document = await super().load(run_id, **asked), self._find(asked.get("kind", "run"), run_id)
        if stored is None or document is None:
            return stored
        return replace(stored, index=replace(stored.index, updated_at=document.new.index.updated_at))


class _MadeTwice(MemoryRunStore):
    """A creation that is repeated with the same token is made once more."""

    async def create(self, new: NewRun) -> Created:
        document = self._find(new.kind, new.run_id)
        if document is not None and document.new.token == new.token:
            self._kinds[new.kind].remove(document)
        return await super().create(new)


class _InParts(MemoryRunStore):
    """A creation writes the document first, and its values and events a moment later."""

    async def create(self, new: NewRun) -> Created:
        check(new)
        values = {key: bytes(data) for key, data in new.values.items()}
        made = await super().create(replace(new, values={}, events=()))
        document = self._find(new.kind, new.run_id)
        if made.made and document is not None:
            try:
                await turns(3)
            finally:
                document.values.update(values)
                document.events.update({event.seq: event for event in new.events if event.seq})
        return made


class _CreateCancelledInParts(MemoryRunStore):
    """A creation that is cancelled leaves the document without its values."""

    async def create(self, new: NewRun) -> Created:
        try:
            await turns(4)
        except asyncio.CancelledError:
            await super().create(replace(new, values={}))
            raise
        return await super().create(new)


class _KeepsBuffers(MemoryRunStore):
    """Values and heads are kept as the objects that the caller handed over."""

    async def create(self, new: NewRun) -> Created:
        made = await super().create(new)
        if made.made and (document := self._find(new.kind, new.run_id)) is not None:
            document.values, document.head = dict(new.values), new.head
        return made

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        results = await super().commit(changes)
        for change, result in zip(changes, results, strict=True):
            if result.applied and (document := self._find(change.kind, change.run_id)) is not None:
                document.values |= change.values
                document.head = change.head
        return results


class _ZeroIsNever(MemoryRunStore):
    """The due time 0 is taken for none."""

    async def create(self, new: NewRun) -> Created:
        return await super().create(replace(new, index=_index(new.index, new.index.wake_at or None)))

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        return await super().commit(
            [replace(change, index=_index(change.index, change.index.wake_at or None)) for change in changes]
        )


class _NoneIsNow(MemoryRunStore):
    """No due time is taken for the time 0."""

    async def create(self, new: NewRun) -> Created:
        return await super().create(replace(new, index=_index(new.index, new.index.wake_at or 0.0)))


def _index(index: Index, wake_at: float | None) -> Index:
    return Index(index.status, wake_at, index.updated_at)


mutants = (
    mutant("store-create-races", "store.create.one-winner", store=_CreateRaces),
    mutant("store-create-drops-fingerprint", "store.create.loads-what-was-made", store=_DropsFingerprint),
    mutant("store-create-loser-writes", "store.create.loser-writes-nothing", store=_LoserWrites),
    mutant("store-create-tells-the-callers", "store.create.tells-the-stored-fingerprint", store=_TellsTheCallers),
    mutant(
        "store-create-tells-the-first-token", "store.create.tells-the-stored-fingerprint", store=_TellsTheFirstToken
    ),
    mutant("store-load-tells-old-update", "store.commit.replaces-what-it-names", store=_TellsOldUpdate),
    mutant("store-create-made-twice", "store.create.again-after-unknown", store=_MadeTwice),
    mutant("store-create-in-parts", "store.create.is-one-step", store=_InParts),
    mutant("store-create-cancelled-in-parts", "store.create.cancelled-is-whole", store=_CreateCancelledInParts),
    mutant("store-keeps-buffers", "store.values.callers-buffers", store=_KeepsBuffers),
    mutant("store-wake-zero-is-never", "store.due.zero-is-a-time", store=_ZeroIsNever),
    mutant("store-wake-none-is-now", "store.due.zero-is-a-time", store=_NoneIsNow),
)
