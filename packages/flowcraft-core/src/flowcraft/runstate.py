"""A run as a process holds it: the decoded head with the version that a commit may be planned on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from flowcraft.blueprint import Blueprint
from flowcraft.codec import Codec
from flowcraft.engine.draft import MISSING, Cell, Draft, Times
from flowcraft.engine.head import Head
from flowcraft.engine.headbytes import decode_head, encode_head
from flowcraft.engine.slots import item_slot
from flowcraft.errors import Misconfigured, SerializationError
from flowcraft.executor import Executor
from flowcraft.graph import Graph
from flowcraft.model import Index, StoredHead, ValueKey
from flowcraft.ports import Clock, RunStore
from flowcraft.registry import Definition

__all__ = [
    "CACHED_BYTES",
    "Graphs",
    "Outdated",
    "RunState",
    "RuntimeParts",
    "StoreTime",
    "pack_head",
    "slot_of",
    "unpack_head",
]

#: So many bytes of immutable values are kept beside a cached head.
CACHED_BYTES: Final = 256 * 1024
_HASH_BYTES: Final = 32
_SYNC_SECONDS: Final = 10.0
#: Seconds by which two clocks go apart in a second, at most and by far.
_DRIFT: Final = 0.001
#: Spaces whose values never change once they are committed.
_IMMUTABLE: Final = frozenset({"output", "input", "error", "item"})


class RuntimeParts(Protocol):
    """What the distributed part needs of a `FlowRuntime`."""

    @property
    def codec(self) -> Codec:
        """How values become bytes."""
        ...

    @property
    def clock(self) -> Clock:
        """Time."""
        ...

    @property
    def token_hex(self) -> Callable[[int], str]:
        """Makes a text of so many random bytes, in hex, for nonces, tokens and ids."""
        ...

    def graph(self, key: str, /) -> Graph | None:
        """The compiled blueprint with this content hash, or None."""
        ...

    def register(self, blueprint: Blueprint, /) -> Graph:
        """Compile a blueprint and remember it under its content hash."""
        ...

    def resolve(self, flow: Definition | Blueprint | str, /) -> Graph:
        """The compiled form of whatever a caller names."""
        ...

    def names_of(self, graph: Graph, /) -> Callable[[object], str] | None:
        """How node functions become node ids, if that is known."""
        ...

    def payload_of(self, graph: Graph, node_id: str, /) -> Any:
        """The type of a wait's payload, if its flow declares one."""
        ...

    def open_executor(self) -> AbstractAsyncContextManager[Executor]:
        """An executor whose dependencies are open inside the block."""
        ...


def slot_of(graph: Graph, node_id: str, item: int) -> int:
    """The slot of a node, or of an item visit of a batch; -1 if the graph has no such node."""
    node = graph.index.get(node_id, -1)
    return node if node < 0 or item < 0 else item_slot(node, item)


def pack_head(content_hash: str, head: Head) -> bytes:
    """The stored document: which blueprint the run is pinned to, then the head."""
    return bytes.fromhex(content_hash) + encode_head(head)


def unpack_head(data: bytes) -> tuple[str, Head]:
    """The inverse of `pack_head`.

    Raises:
        SerializationError: it is not such a document, or a newer version wrote it.
    """
    if len(data) <= _HASH_BYTES:
        raise SerializationError(f"a stored run has more than {len(data)} bytes")
    return data[:_HASH_BYTES].hex(), decode_head(data[_HASH_BYTES:])


class Graphs:
    """Compiled blueprints by content hash: those of this process, else those that the store keeps for its runs."""

    def __init__(self, runtime: RuntimeParts, store: RunStore) -> None:
        self._runtime = runtime
        self._store = store
        self._known: dict[str, Graph] = {}

    async def get(self, content_hash: str) -> Graph:
        """The graph that a run is pinned to.

        Raises:
            Misconfigured: nobody has stored it. DefinitionError: this version of the library cannot compile it.
        """
        graph = self._known.get(content_hash) or self._runtime.graph(content_hash)
        if graph is None:
            data = await self._store.load_blueprint(content_hash)
            if data is None:
                raise Misconfigured(f"the blueprint {content_hash} of a stored run is not in its store")
            graph = self._runtime.register(Blueprint.from_json(data))
        self._known[content_hash] = graph
        return graph


class StoreTime:
    """The store's clock without asking it every time: an offset to the monotonic clock, measured now and then.

    A measurement is uncertain by half of what its question took. One that was held up, by a network that stalled, say,
    does not replace a better one, unless it shows that the store's clock has really moved.
    """

    def __init__(self, store: RunStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._offset = 0.0
        self._doubt = 0.0  # seconds by which the offset may be wrong, when it was measured
        self._measured = 0.0
        self._asked: float | None = None

    @property
    def stale(self) -> bool:
        """Whether it is time to measure again."""
        return self._asked is None or self._clock.monotonic() - self._asked > _SYNC_SECONDS

    async def sync(self) -> None:
        """Measure. Raises what the store raises."""
        before = self._clock.monotonic()
        told = await self._store.clock()
        now = self._clock.monotonic()
        offset, doubt = told - (before + now) / 2, (now - before) / 2
        known = self._doubt + _DRIFT * (now - self._measured)
        if self._asked is None or doubt <= known or abs(offset - self._offset) > doubt + known:
            self._offset, self._doubt, self._measured = offset, doubt, now
        self._asked = now

    def now(self) -> float:
        """Epoch seconds of the store's clock; `sync` was called before."""
        return self._clock.monotonic() + self._offset


class RunState:
    """One run at one committed version, and the draft in which its next commit is planned.

    While a fold is planned or being written the draft's head is ahead of the store (``tentative``); `committed` is
    always what is stored. ``fresh``: loaded for the decision at hand, not remembered from an earlier commit.
    """

    __slots__ = (
        "_cached",
        "_copy",
        "confirmed",
        "draft",
        "fresh",
        "raw",
        "run_id",
        "tentative",
        "token",
        "values",
        "version",
    )

    def __init__(
        self, graph: Graph, head: Head, stored: StoredHead, codec: Codec, confirmed: float, times: Times
    ) -> None:
        self.run_id = stored.run_id
        self.draft = Draft(
            graph, head, read=_unread, decode=_decoder(codec), encode=codec.encode, record=True, times=times
        )
        self.raw = stored.head
        self.version = stored.version
        self.token = stored.token
        self.confirmed = confirmed
        self.fresh = True
        self.tentative = False
        self.values: dict[ValueKey, bytes] = {}
        self._cached = 0
        self._copy: Head | None = None

    @property
    def graph(self) -> Graph:
        """The blueprint that the run is pinned to."""
        return self.draft.graph

    def committed(self) -> Head:
        """The head as it is stored; to be read before anything is awaited, never to be changed."""
        if not self.tentative:
            return self.draft.head
        if self._copy is None:
            self._copy = unpack_head(self.raw)[1]
        return self._copy

    def advance(self, raw: bytes, version: str, token: str, confirmed: float) -> None:
        """What the draft planned is stored now."""
        self.raw = raw
        self.version = version
        self.token = token
        self.confirmed = confirmed
        self.fresh = False
        self.tentative = False
        self._copy = None

    def remember(self, key: ValueKey, data: object) -> None:
        """Keep a committed value for readers in this process, if it can never change."""
        if key.space in _IMMUTABLE and isinstance(data, bytes) and len(data) <= CACHED_BYTES // 8:
            if self._cached > CACHED_BYTES:
                self.values.clear()
                self._cached = 0
            self.values[key] = data
            self._cached += len(data) + len(key.name) + 100

    def rewound(self, codec: Codec) -> RunState:
        """The same version once more, after a fold that went wrong."""
        stored = StoredHead(self.run_id, self.raw, self.version, self.token, _NO_INDEX)
        again = RunState(self.graph, unpack_head(self.raw)[1], stored, codec, self.confirmed, self.draft.times)
        again.fresh = self.fresh
        again.values, again._cached = self.values, self._cached
        return again


class Outdated(SerializationError):
    """A value that the head speaks of is not there: others have used it up since the head was read."""


_NO_INDEX: Final = Index("running", None, 0.0)


def _unread(key: ValueKey) -> Cell:
    raise LookupError(f"{key} was not read before planning")


def _decoder(codec: Codec) -> Callable[[Cell], object]:
    def decode(cell: Cell) -> object:
        if cell is MISSING:
            raise Outdated("a value that the head speaks of is not in the store")
        if not isinstance(cell, bytes):
            raise SerializationError(f"stored values are bytes, not {type(cell).__name__}")
        return codec.decode(cell)

    return decode
