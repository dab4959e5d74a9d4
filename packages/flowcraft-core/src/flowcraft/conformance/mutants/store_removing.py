"""Run stores that do one thing wrong when they remove, keep blueprints, or are set up."""

from __future__ import annotations

import asyncio
from typing import Any

from flowcraft.conformance.mutants.breaking import mutant
from flowcraft.conformance.mutants.store_creating import turns
from flowcraft.errors import Misconfigured, Unavailable
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Created, Event, NewRun, ValueKey

__all__ = ["mutants"]


class _Leaves(MemoryRunStore):
    """A removal leaves something, which the next document with the id finds."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._values: dict[tuple[str, str], dict[ValueKey, bytes]] = {}
        self._events: dict[tuple[str, str], dict[int, Event | str]] = {}

    def leave(self, values: dict[ValueKey, bytes], events: dict[int, Event | str]) -> tuple[Any, Any]:
        """What is left of these."""
        raise NotImplementedError

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        document = self._find(kind, run_id)
        if document is None or document.token != token:
            return await super().delete(run_id, token, kind=kind)
        left = self.leave(document.values, document.events)
        self._values[kind, run_id], self._events[kind, run_id] = left
        return await super().delete(run_id, token, kind=kind)

    async def create(self, new: NewRun) -> Created:
        made = await super().create(new)
        document, key = self._find(new.kind, new.run_id), (new.kind, new.run_id)
        if made.made and document is not None:
            document.values = {**self._values.pop(key, {}), **document.values}
            document.events = {**self._events.pop(key, {}), **document.events}
        return made


class _LeavesValues(_Leaves):
    """A removal leaves the values."""

    def leave(self, values: dict[ValueKey, bytes], events: dict[int, Event | str]) -> tuple[Any, Any]:
        return values, {}


class _LeavesOutputs(_Leaves):
    """A removal leaves the outputs of nodes."""

    def leave(self, values: dict[ValueKey, bytes], events: dict[int, Event | str]) -> tuple[Any, Any]:
        return {key: data for key, data in values.items() if key.space == "output"}, {}


class _RefusedTakesEvents(MemoryRunStore):
    """A removal removes the events, and then looks whether the token is the one."""

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        document = self._find(kind, run_id)
        if document is not None:
            document.events.clear()
        return await super().delete(run_id, token, kind=kind)


class _LeavesEvents(_Leaves):
    """A removal leaves the events."""

    def leave(self, values: dict[ValueKey, bytes], events: dict[int, Event | str]) -> tuple[Any, Any]:
        return {}, events


class _RemovesAHundred(_Leaves):
    """A removal removes a hundred values at most."""

    def leave(self, values: dict[ValueKey, bytes], events: dict[int, Event | str]) -> tuple[Any, Any]:
        return dict([*values.items()][100:]), {}


class _HeadFirst(_LeavesValues):
    """A removal removes the head first and the values a moment later, if it is not interrupted."""

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        gone = await super().delete(run_id, token, kind=kind)
        await turns(3)
        if gone:
            self._values.pop((kind, run_id), None)
        return gone


class _DeleteAnyToken(MemoryRunStore):
    """A removal does not look at the token."""

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        document = self._find(kind, run_id)
        return await super().delete(run_id, token if document is None else document.token, kind=kind)


class _DeleteRaces(MemoryRunStore):
    """A removal compares the token, and removes a moment later."""

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        document = self._find(kind, run_id)
        if document is not None and document.token != token:
            return False
        await turns(1)
        return await super().delete(run_id, token if document is None else document.token, kind=kind)


class _DeleteTwiceFails(MemoryRunStore):
    """The removal of what is not there is told to have failed."""

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        there = self._find(kind, run_id) is not None
        return there and await super().delete(run_id, token, kind=kind)


class _DeleteByPrefix(MemoryRunStore):
    """A removal takes all documents along whose id begins like that one."""

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        gone = await super().delete(run_id, token, kind=kind)
        if gone and kind in self._kinds:
            for name, document in [*self._kinds[kind].documents.items()]:
                if name.startswith(run_id):
                    self._kinds[kind].remove(document)
        return gone


class _DeleteTakesAllKinds(MemoryRunStore):
    """A removal takes the documents of other kinds with that id along."""

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        gone = await super().delete(run_id, token, kind=kind)
        for documents in self._kinds.values():
            if gone and kind != "run" and (other := documents.documents.get(run_id)) is not None:
                documents.remove(other)
        return gone


class _BlueprintOverwritten(MemoryRunStore):
    """A blueprint that is stored again is overwritten."""

    async def save_blueprint(self, content_hash: str, data: bytes) -> None:
        self._blueprints[content_hash] = data


class _BlueprintCut(MemoryRunStore):
    """A blueprint is cut at 64 KB."""

    async def save_blueprint(self, content_hash: str, data: bytes) -> None:
        await super().save_blueprint(content_hash, data[:65_536])


class _BlueprintRaceFails(MemoryRunStore):
    """Storing a blueprint while another one does raises an error."""

    async def save_blueprint(self, content_hash: str, data: bytes) -> None:
        if content_hash in self._saving:
            raise Unavailable("somebody else is storing it")
        self._saving.add(content_hash)
        await turns(1)
        await super().save_blueprint(content_hash, data)
        self._saving.discard(content_hash)

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._saving: set[str] = set()


class _SetupForgets(MemoryRunStore):
    """Setting up begins with an empty store."""

    async def setup(self) -> None:
        self._kinds.clear()


class _SetupRaceFails(MemoryRunStore):
    """Setting up while another one does raises an error."""

    setting_up = False

    async def setup(self) -> None:
        if self.setting_up:
            raise Misconfigured("the table exists")
        self.setting_up = True
        await turns(1)
        self.setting_up = False


class _CloseTwiceFails(MemoryRunStore):
    """Closing what is closed raises an error."""

    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise RuntimeError("closed")
        self.closed = True
        try:
            await super().aclose()
        finally:
            asyncio.get_running_loop().call_soon(setattr, self, "closed", False)


class _Milliseconds(MemoryRunStore):
    """The clock counts milliseconds."""

    async def clock(self) -> float:
        return 1000 * await super().clock()


mutants = (
    mutant("store-delete-leaves-outputs", "store.delete.takes-everything", store=_LeavesOutputs),
    mutant("store-delete-refused-takes-events", "store.delete.is-fenced", store=_RefusedTakesEvents),
    mutant("store-delete-leaves-events", "store.delete.takes-everything", store=_LeavesEvents),
    mutant("store-delete-first-hundred", "store.delete.many-values", store=_RemovesAHundred),
    mutant("store-delete-head-first", "store.delete.cut-off-can-be-repeated", store=_HeadFirst),
    mutant("store-delete-any-token", "store.delete.is-fenced", store=_DeleteAnyToken),
    mutant("store-delete-races", "store.delete.races-a-commit", store=_DeleteRaces),
    mutant("store-delete-twice-fails", "store.delete.may-be-repeated", store=_DeleteTwiceFails),
    mutant("store-delete-by-prefix", "store.delete.only-its-own", store=_DeleteByPrefix),
    mutant("store-delete-takes-all-kinds", "store.delete.only-its-kind", store=_DeleteTakesAllKinds),
    mutant("store-blueprint-overwritten", "store.blueprints.stored-once", store=_BlueprintOverwritten),
    mutant("store-blueprint-cut", "store.blueprints.any-content", store=_BlueprintCut),
    mutant("store-blueprint-race-fails", "store.blueprints.raced", store=_BlueprintRaceFails),
    mutant("store-setup-forgets", "store.opening.setup-raced", store=_SetupForgets),
    mutant("store-setup-race-fails", "store.opening.setup-raced", store=_SetupRaceFails),
    mutant("store-close-twice-fails", "store.opening.close-repeated", store=_CloseTwiceFails),
    mutant("store-clock-in-milliseconds", "store.opening.clock", store=_Milliseconds),
)
