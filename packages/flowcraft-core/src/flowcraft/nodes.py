"""What a node's code sees: its context, its result, and the class form with `prep`, `exec` and `post`."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from flowcraft.blueprint import Node
from flowcraft.checks import check_id
from flowcraft.codec import Codec
from flowcraft.engine.draft import MISSING
from flowcraft.errors import AdapterError, DefinitionError, SerializationError
from flowcraft.notes import NoteTaker, VisitLog

__all__ = [
    "ClassNode",
    "NodeContext",
    "ReadContext",
    "Result",
    "RunContext",
    "Surroundings",
    "VisitRequest",
    "detached",
]

InT = TypeVar("InT")
OutT = TypeVar("OutT")
OutT_co = TypeVar("OutT_co", covariant=True)
DepsT = TypeVar("DepsT")
PrepT = TypeVar("PrepT")

#: Reads committed context keys (None: all of them); missing ones are left out.
ReadContext = Callable[[Sequence[str] | None], Awaitable[Mapping[str, object]]]
_LOG = logging.getLogger("flowcraft.node")
_SHAREABLE = frozenset({type(None), bool, int, float, str, bytes})


def detached(value: Any) -> Any:
    """A copy of a stored value that its reader may change: what one visit does to it, no other one sees."""
    kind = type(value)
    if kind in _SHAREABLE:
        return value
    if kind is dict:
        return {key: detached(item) for key, item in value.items()}
    if kind is list:
        return [detached(item) for item in value]
    return copy.deepcopy(value)


@dataclass(frozen=True, slots=True)
class Result(Generic[OutT_co]):
    """Return this instead of a plain value to choose the edges with that ``action``."""

    output: OutT_co
    action: str | None = None


class RunContext:
    """The run's shared keys as one visit sees them: its own buffered writes, else the latest commit.

    Writes are committed together with the visit's outcome, per key, the last commit wins; a failed attempt leaves none.
    """

    __slots__ = ("_codec", "_read", "trouble", "writes")

    def __init__(self, read: ReadContext, codec: Codec) -> None:
        self._read = read
        self._codec = codec
        #: Why the backend could not be read: not the node's failure, whatever its code made of it.
        self.trouble: AdapterError | None = None
        #: What this visit wrote so far; `MISSING` stands for a deleted key.
        self.writes: dict[str, object] = {}

    async def get(self, key: str, default: object = None) -> Any:
        """The value of ``key``, or ``default``. Changing it changes nothing: `set` it."""
        if _context_key(key) in self.writes:
            value = self.writes[key]
        else:
            value = (await self._committed((key,))).get(key, MISSING)
        return default if value is MISSING else detached(value)

    async def has(self, key: str) -> bool:
        """Whether ``key`` exists; None is a value."""
        if _context_key(key) in self.writes:
            return self.writes[key] is not MISSING
        return key in await self._committed((key,))

    async def set(self, key: str, value: object) -> None:
        """Set ``key`` when the visit is committed.

        Raises:
            SerializationError: the value cannot be stored; the message says where in it. Or the key: it is text of at
                most 200 bytes.
        """
        self.writes[_context_key(key)] = self._codec.snapshot(value)

    async def delete(self, key: str) -> bool:
        """Delete ``key`` when the visit is committed; True if it existed."""
        existed = await self.has(key)
        self.writes[key] = MISSING
        return existed

    async def to_dict(self) -> dict[str, object]:
        """All keys with their values."""
        merged = {**await self._committed(None), **self.writes}
        return {key: detached(value) for key, value in merged.items() if value is not MISSING}

    async def _committed(self, keys: Sequence[str] | None) -> Mapping[str, object]:
        try:
            return await self._read(keys)
        except AdapterError as error:
            self.trouble = error
            raise


def _context_key(key: object) -> str:
    try:
        return check_id(key, "context key")
    except DefinitionError as error:
        raise SerializationError(str(error)) from error


@dataclass(slots=True)
class VisitRequest:
    """One visit to execute. ``node`` is the node whose function runs; ``input`` and context values are decoded data.

    ``item`` is the number of the first item that the visit is about, in a batch; ``size`` > 1: ``input`` is a list of
    up to so many items. ``timed``: whether the outcome is to say how long it took. ``undoes``: the node of which it
    undoes a visit, the one with the same number.
    """

    run_id: str
    node: Node
    visit: int
    attempt: int
    input: Any
    read_context: ReadContext
    hint: Callable[[str, Mapping[str, object]], None] | None = None
    item: int = -1
    size: int = 1
    timed: bool = False
    undoes: str = ""
    #: What the visit has said so far; None: nothing.
    notes: NoteTaker | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all visits of a process share: the opened dependencies, how values are stored, and the time.

    ``keep_logs``: the least level of log records that are kept with the run, or None.
    """

    deps: Any
    codec: Codec
    now: Callable[[], float]
    keep_logs: int | None


class NodeContext(Generic[InT, DepsT]):
    """All that one execution of a node may know.

    ``input`` is what led here; ``attempt`` counts the executions of this visit from 1; ``deadline`` is the epoch
    second at which the attempt times out, or None.
    """

    __slots__ = ("_context", "_params", "_request", "_surroundings", "attempt", "deadline", "input")

    def __init__(
        self, request: VisitRequest, surroundings: Surroundings, input: InT, attempt: int, deadline: float | None = None
    ) -> None:
        self.input = input
        self.attempt = attempt
        self.deadline = deadline
        self._request = request
        self._surroundings = surroundings
        self._context: RunContext | None = None
        self._params: Mapping[str, Any] | None = None

    @property
    def params(self) -> Mapping[str, Any]:
        """The node's constants: a copy of its own for each attempt."""
        params = self._params
        if params is None:
            params = self._params = cast("Mapping[str, Any]", detached(self._request.node.params))
        return params

    @property
    def deps(self) -> DepsT:
        """The dependencies that the runtime opened."""
        return cast("DepsT", self._surroundings.deps)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._request.run_id

    @property
    def node_id(self) -> str:
        """The id of the node whose function this is."""
        return self._request.node.id

    @property
    def visit(self) -> int:
        """The node's executions in the run so far (loops, retries of the run), from 1."""
        return self._request.visit

    @property
    def last_attempt(self) -> bool:
        """Whether the retry policy allows no further attempt."""
        return self.attempt >= self._request.node.retry.attempts

    @property
    def cancelled(self) -> bool:
        """Whether the visit is being cancelled: its outcome will route nothing. False in a thread."""
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return False
        return task is not None and task.cancelling() > 0

    @property
    def context(self) -> RunContext:
        """The run's shared keys."""
        if self._context is None:
            self._context = RunContext(self._request.read_context, self._surroundings.codec)
        return self._context

    @property
    def writes(self) -> Mapping[str, object]:
        """The context keys written so far; `MISSING` stands for a deleted one."""
        return {} if self._context is None else self._context.writes

    @property
    def opened_context(self) -> RunContext | None:
        """The run's shared keys, if the node has asked for them."""
        return self._context

    @property
    def idempotency_key(self) -> str:
        """``run/node/visit``: the same for every attempt and repetition of this visit, and of no other.

        In a batch with ``/item``; of a compensation with ``/`` and the node that it undoes: it may undo several.
        """
        request = self._request
        more = f"/{request.undoes}" if request.undoes else "" if request.item < 0 else f"/{request.item}"
        return f"{self.run_id}/{self.node_id}/{self.visit}{more}"

    @property
    def item(self) -> int | None:
        """In a batch: the number of the item, from 0."""
        return None if self._request.item < 0 else self._request.item

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger ``flowcraft.node`` with run, node, visit and attempt in ``extra``.

        What the runtime's ``keep_logs`` allows (``INFO`` and above) is also kept with the run, with the visit's
        outcome: the latest 200 records and 32 KB of it, each cut at 2,000 characters.
        """
        extra = {"run_id": self.run_id, "node_id": self.node_id, "visit": self.visit, "attempt": self.attempt}
        least = self._surroundings.keep_logs
        return VisitLog(_LOG, extra, None if least is None else self._notes(), least or 0, self.attempt)

    def progress(self, share: float, text: str = "") -> None:
        """Tell whoever watches how far this visit is, from 0.0 to 1.0. The last one is kept, with its outcome."""
        share, text = max(0.0, min(1.0, float(share))), text[:500]
        self._notes().progress(share, text, self.attempt)
        hint = self._request.hint
        if hint is not None:
            hint("node:progress", {"share": share, "text": text})

    def _notes(self) -> NoteTaker:
        notes = self._request.notes
        if notes is None:
            notes = self._request.notes = NoteTaker(self.node_id, self.visit, self._surroundings.now)
        return notes


class ClassNode(Generic[InT, OutT, DepsT]):
    """A node as a class. Each attempt makes an instance and runs ``prep`` → ``exec`` → ``post``.

    When the last attempt's ``exec`` failed, ``fallback`` may still make a result (by default it raises the error
    again); ``recover`` runs at the end of an attempt in which anything failed, and cannot change the outcome. A timeout
    or a cancellation interrupts an attempt like any coroutine: neither is called, ``finally`` is.
    """

    async def prep(self, ctx: NodeContext[InT, DepsT]) -> Any:
        """Gather what `exec` needs; by default the input."""
        return ctx.input

    async def exec(self, prepared: Any, ctx: NodeContext[InT, DepsT]) -> Any:
        """The work itself."""
        raise NotImplementedError(f"{type(self).__name__}.exec")

    async def post(self, made: Any, ctx: NodeContext[InT, DepsT]) -> OutT | Result[OutT]:  # noqa: ARG002 - to override
        """Turn what `exec` made into the node's output or `Result`; by default it is the output."""
        return cast("OutT", made)

    async def fallback(self, error: Exception, ctx: NodeContext[InT, DepsT]) -> Any:  # noqa: ARG002 - to override
        """Make up for the last attempt's error, in place of `exec`, or raise."""
        raise error

    async def recover(self, error: Exception, ctx: NodeContext[InT, DepsT]) -> None:
        """Clean up after an error."""
