"""Run stores that do one thing wrong when they commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flowcraft.conformance.mutants.breaking import mutant
from flowcraft.conformance.mutants.store_creating import check, turns
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Change, Committed, Event, Index, NewRun, ValueKey

__all__ = ["mutants"]


class _CommitRaces(MemoryRunStore):
    """Where more than 70 commit at once, a commit compares and sets in two steps."""

    committers = 0

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        found = [self._find(change.kind, change.run_id) for change in changes]
        fits = [d is not None and d.token == change.version for d, change in zip(found, changes, strict=True)]
        self.committers += 1
        await turns(1)
        crowd = self.committers > 70
        results = await super().commit(
            [
                replace(change, version=document.token) if fit and crowd and document is not None else change
                for change, document, fit in zip(changes, found, fits, strict=True)
            ]
        )
        await turns(1)
        self.committers -= 1
        return results


class _KeepsDeleted(MemoryRunStore):
    """A commit does not remove the values that it should."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        return await super().commit([replace(change, deleted=()) for change in changes])


class _OnRefusal(MemoryRunStore):
    """Does something wrong after a refusal."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        results = await super().commit(changes)
        for change, result in zip(changes, results, strict=True):
            if not result.applied and self._find(change.kind, change.run_id) is not None:
                self.refused(change)
        return results

    def refused(self, change: Change) -> None:
        """What is wrong."""


class _RefusedMovesIndex(_OnRefusal):
    """A change that is refused moves the index all the same."""

    def refused(self, change: Change) -> None:
        document = self._find(change.kind, change.run_id)
        if document is not None:
            document.index = replace(document.index, wake_at=change.index.wake_at)
            self._kinds[change.kind].wakes(change.run_id, change.index.wake_at)


class _RefusedKeepsValues(_OnRefusal):
    """The values of a change that is refused stay."""

    def refused(self, change: Change) -> None:
        document = self._find(change.kind, change.run_id)
        if document is not None:
            document.values.update(change.values)


class _ConflictLosesValues(_OnRefusal):
    """A change that is refused removes the values that it names all the same."""

    def refused(self, change: Change) -> None:
        document = self._find(change.kind, change.run_id)
        for key in change.deleted:
            if document is not None:
                document.values.pop(key, None)


class _ForgetsDefer(MemoryRunStore):
    """A conflict tells the due time of the last commit, whatever it was deferred to."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._committed: dict[tuple[str, str], Index] = {}

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        results: list[Committed] = []
        for change, result in zip(changes, await super().commit(changes), strict=True):
            key, told = (change.kind, change.run_id), result.stored
            if result.applied:
                self._committed[key] = change.index
            elif told is not None and self._committed.get(key) not in (None, told.index):
                result = replace(result, stored=replace(told, index=self._committed[key]))  # noqa: PLW2901
            results.append(result)
        return results


class _RefusedKeepsEvents(_OnRefusal):
    """The events of a change that is refused stay, unless there is one with their number."""

    def refused(self, change: Change) -> None:
        document = self._find(change.kind, change.run_id)
        for event in change.events:
            if document is not None and event.seq:
                document.events.setdefault(event.seq, event)


class _RollsBack(MemoryRunStore):
    """One conflict rolls back all changes of the call."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        found = [self._find(change.kind, change.run_id) for change in changes]
        if all(d is not None and d.token == c.version for d, c in zip(found, changes, strict=True)):
            return await super().commit(changes)
        return [Committed(applied=False, stored=None if d is None else d.stored()) for d in found]


class _Disordered(MemoryRunStore):
    """The results of a call are told with those that were applied first."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        return sorted(await super().commit(changes), key=lambda result: not result.applied)


class _ForgetsTheRest(MemoryRunStore):
    """Of a call with many changes only the first 25 are done, and all are said to be."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        rest = [Committed(applied=True, version=change.token) for change in changes[25:]]
        return [*await super().commit(changes[:25]), *rest]


class _TellsNothing(MemoryRunStore):
    """A conflict does not tell what is stored."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        return [replace(result, stored=None) for result in await super().commit(changes)]


class _CommitCreates(MemoryRunStore):
    """A change of a document that is not there creates it."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        for change in changes:
            check(change)
        results: list[Committed] = []
        for change in changes:
            if self._find(change.kind, change.run_id) is None:
                await self.create(
                    NewRun(change.run_id, "", change.version, change.head, change.index, 0.0, kind=change.kind)
                )
            results += await super().commit([change])
        return results


class _TellsOldVersion(MemoryRunStore):
    """A commit returns the version that the document had before."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        results = await super().commit(changes)
        return [
            replace(result, version=change.version) if result.applied else result
            for change, result in zip(changes, results, strict=True)
        ]


class _DropsToken(MemoryRunStore):
    """The token of a change is not stored, but one of the store's own."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        return await super().commit([replace(change, token=f"own of {change.token}") for change in changes])


class _CommitCancelledInParts(MemoryRunStore):
    """A commit that is cancelled leaves the new head beside the old values."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        try:
            await turns(4)
        except asyncio.CancelledError:
            await super().commit([replace(change, values={}) for change in changes])
            raise
        return await super().commit(changes)


class _MoveIgnored(MemoryRunStore):
    """A change does not move its document to another blueprint."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        return await super().commit([replace(change, blueprint=None) for change in changes])


class _SameSizeIsSame(MemoryRunStore):
    """A value that is as long as the one before is taken for the same, and not written."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        def differs(change: Change, key: ValueKey, data: bytes) -> bool:
            document = self._find(change.kind, change.run_id)
            return document is None or len(document.values.get(key, b"")) != len(data) or len(data) < 100

        return await super().commit(
            [
                replace(change, values={key: data for key, data in change.values.items() if differs(change, key, data)})
                for change in changes
            ]
        )


class _EventsLate(MemoryRunStore):
    """The events of a commit are written a moment after it."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        for change in changes:
            check(change)
        events: list[Sequence[Event]] = [change.events for change in changes]
        results = await super().commit([replace(change, events=()) for change in changes])
        try:
            await turns(2)
        finally:
            for change, result, rows in zip(changes, results, events, strict=True):
                document = self._find(change.kind, change.run_id)
                if result.applied and document is not None:
                    document.events.update({row.seq: row for row in rows if row.seq})
        return results


class _HeadCut(MemoryRunStore):
    """A head is cut at 150,000 bytes."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        return await super().commit([replace(change, head=change.head[:150_000]) for change in changes])


mutants = (
    mutant("store-commit-races", "store.commit.one-winner", store=_CommitRaces),
    mutant("store-commit-keeps-deleted", "store.commit.replaces-what-it-names", store=_KeepsDeleted),
    mutant("store-refused-moves-index", "store.commit.refused-changes-nothing", store=_RefusedMovesIndex),
    mutant("store-refused-keeps-values", "store.commit.refused-changes-nothing", store=_RefusedKeepsValues),
    mutant("store-conflict-loses-values", "store.commit.refused-deletes-nothing", store=_ConflictLosesValues),
    mutant("store-refused-keeps-events", "store.history.refused-is-not-history", store=_RefusedKeepsEvents),
    mutant("store-conflict-forgets-defer", "store.model.same-answers", store=_ForgetsDefer),
    mutant("store-conflict-rolls-back", "store.commit.others-stand", store=_RollsBack),
    mutant("store-commit-answers-disordered", "store.commit.answers-in-order", store=_Disordered),
    mutant("store-commit-forgets-the-rest", "store.commit.answers-in-order", store=_ForgetsTheRest),
    mutant("store-conflict-tells-nothing", "store.commit.conflict-tells-what-is-stored", store=_TellsNothing),
    mutant("store-commit-creates", "store.commit.missing-is-a-conflict", store=_CommitCreates),
    mutant("store-commit-tells-old-version", "store.commit.tells-the-new-version", store=_TellsOldVersion),
    mutant("store-commit-drops-token", "store.commit.token-is-the-callers", store=_DropsToken),
    mutant("store-commit-cancelled-in-parts", "store.commit.cancelled-is-whole", store=_CommitCancelledInParts),
    mutant("store-move-ignored", "store.commit.moves-the-blueprint", store=_MoveIgnored),
    mutant("store-value-same-size", "store.values.digest", store=_SameSizeIsSame),
    mutant("store-events-late", "store.history.one-step-with-the-head", store=_EventsLate),
    mutant("store-head-cut", "store.limits.large-head", store=_HeadCut),
)
