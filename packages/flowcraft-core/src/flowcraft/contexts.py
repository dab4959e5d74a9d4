"""A run's context, seen from outside of its nodes, over any run store: what an adapter gives people under its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from flowcraft.codec import Codec
from flowcraft.errors import InvalidRequest
from flowcraft.model import ValueKey
from flowcraft.ports import RunStore

__all__ = ["Patching", "StoredContext"]


class Patching(Protocol):
    """What writing needs: an adapter."""

    async def patch_context(self, run_id: str, values: Mapping[str, object], delete: Iterable[str] = ()) -> None:
        """See `RunHandle.patch_context`."""
        ...


class StoredContext:
    """The keys that a run's nodes share, as they were last committed. `set` and `delete` are events of the run.

    Args:
        store: where the run is.
        run_id: of the run.
        codec: that of the adapter that the run was started with.
        patching: that adapter; None: the context is only read.
    """

    def __init__(self, store: RunStore, run_id: str, codec: Codec, patching: Patching | None = None) -> None:
        self.run_id = run_id
        self._store = store
        self._codec = codec
        self._adapter = patching

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give back what was opened for this context. What was passed in stays open."""

    async def prepare(self) -> None:
        """Called before each read, for what the store must know first."""

    async def get(self, key: str, default: object = None) -> Any:
        """The value of ``key``, or ``default``."""
        return (await self._read(key)).get(key, default)

    async def has(self, key: str) -> bool:
        """Whether ``key`` exists; None is a value."""
        return key in await self._read(key)

    async def to_dict(self) -> dict[str, object]:
        """All keys with their values."""
        await self.prepare()
        return self._decoded(await self._store.read_values(self.run_id, space="context"))

    async def set(self, key: str, value: object) -> None:
        """Set ``key``, in a commit of its own.

        Raises:
            InvalidRequest: this context is only read. RunNotFound, CommandRefused: see `RunHandle.patch_context`.
        """
        await self._patching().patch_context(self.run_id, {key: value})

    async def delete(self, key: str) -> bool:
        """Delete ``key``, in a commit of its own; True if it existed before. Raises what `set` raises."""
        patching = self._patching()
        existed = await self.has(key)
        await patching.patch_context(self.run_id, {}, [key])
        return existed

    async def _read(self, key: str) -> dict[str, object]:
        await self.prepare()
        return self._decoded(await self._store.read_values(self.run_id, [ValueKey("context", key)]))

    def _decoded(self, found: Mapping[ValueKey, bytes]) -> dict[str, object]:
        return {key.name: self._codec.decode(data) for key, data in found.items()}

    def _patching(self) -> Patching:
        if self._adapter is None:
            name = type(self).__name__
            raise InvalidRequest(f"a write to a run's context is an event of the run: make {name} of an adapter")
        return self._adapter
