"""Run stores that do one thing wrong with their limits, or with what each who opens them has for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from flowcraft.conformance.mutants.breaking import broken, mutant, opened_otherwise, places_shared
from flowcraft.conformance.mutants.mutant import Mutant
from flowcraft.conformance.mutants.store_creating import check, turns
from flowcraft.conformance.target import Place, Ports, Target
from flowcraft.errors import PayloadTooLarge
from flowcraft.memory import MemoryRunStore, MemoryValueStore
from flowcraft.model import Change, Committed, Created, NewRun, StoredHead, ValueKey
from flowcraft.ports import RunStore
from flowcraft.values import OffloadingStore

__all__ = ["Limited", "limited", "mutants"]


class Limited(MemoryRunStore):
    """A store in which one change has at most 40 items and 100,000 bytes; no mutant."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.capabilities = replace(self.capabilities, max_commit_items=40, max_commit_bytes=100_000)

    async def create(self, new: NewRun) -> Created:
        self.check(new)
        return await super().create(new)

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        for change in changes:
            self.check(change)
        return await super().commit(changes)

    def check(self, what: NewRun | Change) -> None:
        """Raises: PayloadTooLarge, if it is beyond a limit."""
        size = len(what.head) + sum(map(len, what.values.values()))
        if size > 100_000 or 1 + len(what.values) + len(what.events) + len(what.jobs) > 40:
            raise PayloadTooLarge(f"a change of {what.run_id!r} is too large")


class _BytesCut(Limited):
    """The values of a change that are beyond the limit of bytes are left out."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        def fitting(change: Change) -> Mapping[ValueKey, bytes]:
            size, kept = len(change.head), dict[ValueKey, bytes]()
            for key, data in change.values.items():
                size += len(data)
                if size <= 100_000:
                    kept[key] = data
            return kept

        for change in changes:
            check(change)
        return await super().commit([replace(change, values=fitting(change)) for change in changes])


class _ItemsCut(Limited):
    """The values of a change that are beyond the limit of items are left out."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        return await super().commit([replace(change, values=dict([*change.values.items()][:39])) for change in changes])


class _Unlimited(OffloadingStore):
    """A store without a limit of values; no mutant."""

    def __init__(self, clock: Any) -> None:
        super().__init__(MemoryRunStore(clock), MemoryValueStore())


class _LimitUndeclared(_Unlimited):
    """Values of more than 2 MB are refused, and no limit is declared."""

    async def create(self, new: NewRun) -> Created:
        if any(len(data) > 2 << 20 for data in new.values.values()):
            raise PayloadTooLarge("too large")
        return await super().create(new)


class _Cached:
    """A handle that keeps what it has loaded until it changes it itself."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._loaded: dict[tuple[str, str], StoredHead] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        if want:
            return await self._store.load(run_id, want=want, kind=kind)
        if (kind, run_id) not in self._loaded:
            stored = await self._store.load(run_id, kind=kind)
            if stored is None:
                return None
            self._loaded[kind, run_id] = stored
        return self._loaded[kind, run_id]

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        for change in changes:
            self._loaded.pop((change.kind, change.run_id), None)
        return await self._store.commit(changes)

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        self._loaded.pop((kind, run_id), None)
        return await self._store.delete(run_id, token, kind=kind)

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        self._loaded.pop((kind, run_id), None)
        return await self._store.defer(run_id, token, wake_at, kind=kind)


class _LockOfOneHandle:
    """A handle with a lock of its own around comparing and setting, which two steps are."""

    def __init__(self, store: MemoryRunStore, method: str) -> None:
        self._store, self._method, self._lock = store, method, asyncio.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        if self._method != "commit" or any(change.events for change in changes):
            return await self._store.commit(changes)
        async with self._lock:
            seen = [await self._store.load(change.run_id, kind=change.kind) for change in changes]
            await turns(2)
            now = [await self._store.load(change.run_id, kind=change.kind) for change in changes]
            return await self._store.commit(
                [
                    replace(change, version=there.version)
                    if there is not None and was is not None and was.version == change.version
                    else change
                    for change, was, there in zip(changes, seen, now, strict=True)
                ]
            )

    async def create(self, new: NewRun) -> Created:
        if self._method != "create":
            return await self._store.create(new)
        async with self._lock:
            seen = await self._store.load(new.run_id, kind=new.kind)
            await turns(2)
            made = await self._store.create(new)
            return made if seen is not None else replace(made, made=True)


def _with_store(name: str, wrap: Any) -> Target:
    def change(ports: Ports, _: Place) -> Ports:
        return replace(ports, store=cast("RunStore", wrap(ports.store)))

    return opened_otherwise(name, change)


def _forgetting(store: MemoryRunStore) -> MemoryRunStore:
    store._kinds.clear()
    return store


def _resetting(store: MemoryRunStore) -> MemoryRunStore:
    for documents in store._kinds.values():
        for document in documents.documents.values():
            document.index = replace(document.index, wake_at=None)
    return store


def limited() -> Target:
    """A sound target with narrow limits."""
    return broken("memory with limits", store=Limited)


mutants = (
    replace(mutant("store-commit-bytes-cut", "store.limits.commit-bytes", store=_BytesCut), base=limited),
    replace(mutant("store-commit-items-cut", "store.limits.commit-items", store=_ItemsCut), base=limited),
    Mutant(
        "store-limit-undeclared",
        "Values of more than 2 MB are refused, and no limit is declared.",
        "store.limits.no-limit",
        lambda: replace(broken("store-limit-undeclared", store=_LimitUndeclared), leftovers=None),
        lambda: replace(broken("memory without a limit", store=_Unlimited), leftovers=None),
    ),
    Mutant(
        "store-reads-cached",
        "Every handle keeps what it has loaded, until it changes it itself.",
        "store.commit.is-read-by-anyone",
        lambda: _with_store("store-reads-cached", _Cached),
    ),
    Mutant(
        "store-lock-of-one-handle",
        "Comparing and setting are two steps under a lock of each handle, where there are no events.",
        "store.concurrency.counts-exactly",
        lambda: _with_store("store-lock-of-one-handle", partial(_LockOfOneHandle, method="commit")),
    ),
    Mutant(
        "store-create-lock-of-one-handle",
        "Looking and creating are two steps under a lock that every handle has.",
        "store.concurrency.one-creator",
        lambda: _with_store("store-create-lock-of-one-handle", partial(_LockOfOneHandle, method="create")),
    ),
    Mutant(
        "store-forgets-on-opening",
        "Opening a place begins with an empty store.",
        "store.opening.reopened",
        lambda: _with_store("store-forgets-on-opening", _forgetting),
    ),
    Mutant(
        "store-opening-resets-times",
        "Opening a place takes the due times of all documents away.",
        "store.opening.reopened",
        lambda: _with_store("store-opening-resets-times", _resetting),
    ),
    Mutant(
        "store-places-shared",
        "All places have the same documents.",
        "store.places.are-apart",
        lambda: places_shared("store-places-shared", "store"),
    ),
)
