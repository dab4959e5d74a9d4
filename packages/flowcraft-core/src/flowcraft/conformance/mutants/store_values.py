"""Run stores that do one thing wrong with values and names."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from flowcraft.conformance.mutants.breaking import mutant
from flowcraft.conformance.mutants.store_creating import turns
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Change, Committed, Created, NewRun, Space, StoredHead, ValueKey

__all__ = ["Values", "mutants"]


Values = Mapping[ValueKey, bytes]


class _ValuesOtherwise(MemoryRunStore):
    """Writes other values than it is given."""

    def written(self, values: Values, kind: str) -> Values:
        """What is written."""
        raise NotImplementedError

    async def create(self, new: NewRun) -> Created:
        return await super().create(replace(new, values=self.written(new.values, new.kind)))

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        return await super().commit(
            [replace(change, values=self.written(change.values, change.kind)) for change in changes]
        )


class _EmptyIsNone(_ValuesOtherwise):
    """Values without bytes are not stored."""

    def written(self, values: Values, kind: str) -> Values:
        return {key: data for key, data in values.items() if data}


class _IsText(_ValuesOtherwise):
    """Values are stored as text."""

    def written(self, values: Values, kind: str) -> Values:
        return {key: data.decode("utf-8", "replace").encode() for key, data in values.items()}


class _IsJson(_ValuesOtherwise):
    """What looks like an object in JSON is stored as one."""

    def written(self, values: Values, kind: str) -> Values:
        def packed(data: bytes) -> bytes:
            return bytes(data).replace(b'": ', b'":') if bytes(data[:1]) == b"{" else data

        return {key: packed(data) for key, data in values.items()}


class _NamesCollide(_ValuesOtherwise):
    """Upper and lower case of names of values is not told apart."""

    def written(self, values: Values, kind: str) -> Values:
        return {key._replace(name=key.name.lower()): data for key, data in values.items()}

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        stored = await super().load(run_id, want=[key._replace(name=key.name.lower()) for key in want], kind=kind)
        if stored is None:
            return None
        lower = {key: key._replace(name=key.name.lower()) for key in want}
        return replace(stored, values={key: stored.values[low] for key, low in lower.items() if low in stored.values})


class _KindWithoutValues(_ValuesOtherwise):
    """Documents of the kinds ``dead`` and ``meta`` have no values."""

    def written(self, values: Values, kind: str) -> Values:
        return {} if kind in ("dead", "meta") else values


class _Truncates(_ValuesOtherwise):
    """Values beyond the limit are cut."""

    def written(self, values: Values, kind: str) -> Values:
        return {key: data[: self.capabilities.max_value_bytes] for key, data in values.items()}


class _SpacesMixed(MemoryRunStore):
    """Reading the space of inputs brings those of errors, too."""

    async def read_values(
        self, run_id: str, keys: Collection[ValueKey] = (), *, space: Space | None = None
    ) -> Mapping[ValueKey, bytes]:
        found = dict(await super().read_values(run_id, keys, space=space))
        if space == "input":
            found.update(await super().read_values(run_id, space="error"))
        return found


class _FirstPage(MemoryRunStore):
    """Reading a space brings 300 values at most."""

    async def read_values(
        self, run_id: str, keys: Collection[ValueKey] = (), *, space: Space | None = None
    ) -> Mapping[ValueKey, bytes]:
        found = await super().read_values(run_id, keys, space=space)
        return dict(itertools.islice(found.items(), 300)) if space is not None else found


class _NoKeysIsAllKeys(MemoryRunStore):
    """Who asks for the values of no keys gets all."""

    async def read_values(
        self, run_id: str, keys: Collection[ValueKey] = (), *, space: Space | None = None
    ) -> Mapping[ValueKey, bytes]:
        document = self._find("run", run_id)
        if document is not None and not keys and space is None:
            return dict(document.values)
        return await super().read_values(run_id, keys, space=space)


class _BringsAll(MemoryRunStore):
    """Loading brings all values that there are."""

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        document = self._find(kind, run_id)
        return None if document is None else document.stored(list(document.values))


class _Torn(MemoryRunStore):
    """Loading reads the head first, and the values a moment later."""

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        stored = await super().load(run_id, kind=kind)
        if stored is None or not want:
            return stored
        await turns(1)
        later = await super().load(run_id, want=want, kind=kind)
        return stored if later is None else replace(stored, values=later.values)


class _LeaksAcrossRuns(MemoryRunStore):
    """A change of a value changes it in all runs whose id begins alike."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        results = await super().commit(changes)
        for change, result in zip(changes, results, strict=True):
            for run_id, document in self._kinds.get(change.kind, self._kinds["run"]).documents.items():
                if result.applied and run_id.startswith(change.run_id):
                    document.values.update({k: bytes(v) for k, v in change.values.items() if k in document.values})
        return results


class _KindsShareValues(MemoryRunStore):
    """A change of a value changes it in the documents of all kinds with the id."""

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        results = await super().commit(changes)
        for change, result in zip(changes, results, strict=True):
            for kind in self._kinds:
                if result.applied and (document := self._find(kind, change.run_id)) is not None:
                    document.values.update({key: bytes(data) for key, data in change.values.items()})
        return results


class _IdsCollide(MemoryRunStore):
    """Ids are normalised, so that two of them are one."""

    async def create(self, new: NewRun) -> Created:
        return await super().create(replace(new, run_id=unicodedata.normalize("NFC", new.run_id)))

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        return await super().load(unicodedata.normalize("NFC", run_id), want=want, kind=kind)


mutants = (
    mutant("store-value-empty-is-none", "store.values.sizes", store=_EmptyIsNone),
    mutant("store-value-is-text", "store.values.bytes", store=_IsText),
    mutant("store-value-is-json", "store.values.bytes", store=_IsJson),
    mutant("store-no-keys-is-all-keys", "store.values.only-what-is-asked", store=_NoKeysIsAllKeys),
    mutant("store-names-collide", "store.values.names", store=_NamesCollide),
    mutant("store-spaces-mixed", "store.values.spaces", store=_SpacesMixed),
    mutant("store-space-first-page", "store.values.many", store=_FirstPage),
    mutant("store-load-brings-all", "store.values.only-what-is-asked", store=_BringsAll),
    mutant("store-load-torn", "store.values.one-moment", store=_Torn),
    mutant("store-values-leak-across-runs", "store.values.of-their-run", store=_LeaksAcrossRuns),
    mutant("store-ids-collide", "store.values.of-their-run", store=_IdsCollide),
    mutant("store-kind-without-values", "store.kinds.all-are-documents", store=_KindWithoutValues),
    mutant("store-kinds-share-values", "store.kinds.are-apart", store=_KindsShareValues),
    mutant("store-limit-truncates", "store.limits.value-beyond-the-limit", store=_Truncates),
)
