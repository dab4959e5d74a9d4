"""Runs one visit: context, middleware, time limit, short retries, and the outcome in a form that can be committed."""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from flowcraft.batchruns import ItemsRun, built_in, frozen_items
from flowcraft.blueprint import Node
from flowcraft.calls import Hint, Prepared, from_thread, prepare
from flowcraft.checks import check_id
from flowcraft.clock import SystemClock
from flowcraft.codec import Codec
from flowcraft.constructs import SCATTER, SUBFLOW
from flowcraft.engine.draft import MISSING, Cell
from flowcraft.engine.notes import Notes
from flowcraft.errors import (
    FatalError,
    InvalidRequest,
    NodeFailed,
    NodeNotRegistered,
    NodeTimedOut,
    SerializationError,
)
from flowcraft.middleware import Call, Middleware
from flowcraft.model import ErrorInfo
from flowcraft.nodes import NodeContext, Result, Surroundings, VisitRequest, detached
from flowcraft.notes import NoteTaker
from flowcraft.ports import Clock
from flowcraft.registry import NodeFunction, Registry

__all__ = [
    "INLINE_DELAY",
    "Dependencies",
    "ExecutionOutcome",
    "Executor",
    "Hint",
    "VisitRequest",
    "error_info",
    "open_dependencies",
]

#: A retry that is due within so many seconds waits in process; a longer one becomes a durable timer.
INLINE_DELAY = 0.5
_MAX_TEXT = 8000
_LOG = logging.getLogger("flowcraft.node")

#: The dependencies themselves, or a function that opens them as an async context manager.
Dependencies = object


class _ToCell(Protocol):
    def __call__(self, value: object, /) -> Cell: ...


@dataclass(slots=True)
class ExecutionOutcome:
    """What came of it: a completed outcome with cells, or a failed one. ``attempts`` is the last attempt's number.

    ``items`` are those of a scatter, ``failed`` how many items of a job of several failed; see `Completed`. The last
    attempt ``took`` so many seconds, where that was asked for.
    """

    ok: bool
    output: Cell = None
    action: str | None = None
    writes: Mapping[str, Cell] | None = None
    error: ErrorInfo | None = None
    retryable: bool = True
    fatal: bool = False
    attempts: int = 1
    random: float = 0.5
    items: tuple[int, tuple[Cell, ...]] | None = None
    failed: int = 0
    notes: Notes | None = None
    took: float | None = None


@asynccontextmanager
async def open_dependencies(deps: Dependencies) -> AsyncGenerator[object]:
    """The dependencies, opened and in the end closed if they came as a function that opens them.

    Raises:
        InvalidRequest: the function returned something else than an async context manager.
    """
    if callable(deps):
        opening = cast("Callable[[], AbstractAsyncContextManager[object]]", deps)()
        if not isinstance(opening, AbstractAsyncContextManager):
            what = type(cast("object", opening)).__name__
            raise InvalidRequest(f"deps must be a function that returns an async context manager, not a {what}")
        async with opening as opened:
            yield opened
    else:
        yield deps


def error_info(error: BaseException) -> ErrorInfo:
    """An exception as plain data, its texts cut at 8,000 characters."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-20))
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - of an exception class of the author's
        text = "(its text cannot be told)"
    return ErrorInfo(type(error).__name__, _storable(text[:_MAX_TEXT]), _storable(trace[-_MAX_TEXT:]))


def _storable(text: str) -> str:
    """Without lone surrogates, which come from names of files and the like."""
    return text.encode("utf-8", "backslashreplace").decode()


class Executor:
    """Executes visits with one set of functions, dependencies and middleware. Shared by all visits of a process.

    ``to_cell`` makes the stored form of a value (bytes by default; an in-process run keeps plain data); ``knows`` tells
    whether this process has a blueprint, for subflows; ``keep_logs`` is the least level of log records that outcomes
    bring along, or None.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        deps: object = None,
        middleware: Sequence[Middleware] = (),
        codec: Codec,
        clock: Clock,
        to_cell: _ToCell | None = None,
        knows: Callable[[str], bool] = lambda _: False,
        random_source: Callable[[], float] = random.random,
        keep_logs: int | None = logging.INFO,
    ) -> None:
        self._registry = registry
        self._surroundings = Surroundings(deps, codec, clock.time, keep_logs)
        self._middleware = tuple(middleware)
        self._codec = codec
        self._clock = clock
        self._real_time = isinstance(clock, SystemClock)
        self._to_cell = to_cell or codec.encode
        self._stored = to_cell is None
        self._knows = knows
        self._random = random_source
        self._prepared: dict[str, Prepared] = {}  # by `uses`

    def can_run(self, node: Node) -> bool:
        """Whether this process has the function of ``node``, in the version that it names, or its subflow."""
        if node.uses == SUBFLOW:
            return self._knows(str(node.params.get("blueprintId")))
        source = node.params.get("sourceUsesKey") if node.uses == SCATTER else None
        return self._find(node.uses) is not None and (source is None or self._find(str(source)) is not None)

    def replaces(self, uses: str) -> bool:
        """Whether a function of the registry takes the place of what is built in."""
        return self._registry.find(uses) is not None

    def _find(self, uses: str) -> NodeFunction | None:
        return self._registry.find(uses) or built_in(uses, self._registry.find)

    async def run(self, request: VisitRequest) -> ExecutionOutcome:
        """Execute a visit, and again after a short delay while its policy allows.

        Raises:
            asyncio.CancelledError: the visit was cancelled from outside; there is no outcome.
            AdapterError: the backend failed while the node read its context; it is not the node's failure.
        """
        node, attempt, shared = request.node, request.attempt, request.notes
        if request.size > 1:
            return await self._run_items(request)
        prepared = self._prepared.get(node.uses) or self._prepare(node.uses)
        if prepared is None:
            error = NodeNotRegistered(f"no function is registered for {node.uses!r} (node {node.id!r})")
            return ExecutionOutcome(False, error=error_info(error), fatal=True, attempts=attempt)
        if prepared.function.blocking and request.hint is not None:
            request = replace(request, hint=from_thread(request.hint))
        while True:
            ctx: NodeContext[Any, Any] | None = None
            began = self._clock.monotonic() if request.timed else None
            try:
                value = detached(request.input)
                if prepared.wanted is not None:
                    value = self._codec.convert(value, prepared.wanted)
                if node.timeout is None:
                    ctx = NodeContext(request, self._surroundings, value, attempt)
                    value = await prepared.call(ctx)
                else:
                    ctx = NodeContext(request, self._surroundings, value, attempt, self._clock.time() + node.timeout)
                    value = await self._within(node.timeout, node, prepared.call, ctx)
                outcome = self._completed(node, value, ctx, attempt)
            except asyncio.CancelledError as error:
                if _cancelled_from_outside():
                    raise
                own = NodeFailed(f"node {node.id!r} was cancelled by its own code")
                outcome = _failed(own, error, prepared.function, attempt)
            except (Exception, SystemExit) as error:
                opened = None if ctx is None else ctx.opened_context
                if opened is not None and opened.trouble is not None:
                    raise opened.trouble from error
                outcome = _failed(error, error, prepared.function, attempt)
            outcome.took = None if began is None else self._clock.monotonic() - began
            if outcome.ok or not await self._again(request, outcome, attempt):
                notes = request.notes  # those of a job of several items are closed with the job
                return outcome if notes is None or notes is shared else self._with_notes(outcome, notes)
            attempt += 1

    def _completed(self, node: Node, value: object, ctx: NodeContext[Any, Any], attempt: int) -> ExecutionOutcome:
        """The outcome of a function that returned. A scatter's items are stored apart, its output is their number."""
        action = items = None
        if isinstance(value, Result):
            chosen = cast("Result[object]", value)
            value, action = chosen.output, _action(chosen.action)
        if node.uses == SCATTER:
            items = frozen_items(cast("list[object]", value), self._to_cell)
            value = {"items": items[0]}
        cell = self._to_cell(value)
        writes = None if ctx.opened_context is None else self._cells(ctx.opened_context.writes)
        return ExecutionOutcome(True, cell, action, writes, None, True, False, attempt, 0.5, items)

    async def _run_items(self, request: VisitRequest) -> ExecutionOutcome:
        value_of = self._codec.decode if self._stored else _as_it_is
        notes = request.notes = NoteTaker(request.node.id, request.visit, self._clock.time)
        work = ItemsRun(request, cast("Callable[[Cell], object]", value_of), self._clock.sleep)
        await work.run(self.run, _one_of)
        outcome = ExecutionOutcome(True, self._to_cell(work.results), None, work.writes, failed=work.failed)
        return self._with_notes(outcome, notes)

    async def _again(self, request: VisitRequest, outcome: ExecutionOutcome, attempt: int) -> bool:
        """Whether the next attempt follows here; it is waited for."""
        outcome.random = self._random()
        retry = request.node.retry
        if not outcome.retryable or outcome.fatal or attempt >= retry.attempts or _cancelled_from_outside():
            return False
        delay = retry.delay_after(attempt, outcome.random)
        if delay > INLINE_DELAY:
            return False
        if request.hint is not None:
            request.hint("node:retry", {"attempt": attempt, "error": str(outcome.error)})
        if delay:
            await self._clock.sleep(delay)
        return True

    def _with_notes(self, outcome: ExecutionOutcome, notes: NoteTaker) -> ExecutionOutcome:
        """The outcome, with what the visit said while it came to it."""
        said = notes.close()
        if said is not None:
            value, count = said
            try:
                outcome.notes = self._to_cell(value), count
            except SerializationError as error:  # an outcome does not fail for what was said about it
                _LOG.warning("what node %r said cannot be kept: %s", value["node"], error)
        return outcome

    def _cells(self, writes: Mapping[str, object]) -> Mapping[str, Cell]:
        return {key: value if value is MISSING else self._to_cell(value) for key, value in writes.items()}

    async def _within(self, timeout: float, node: Node, call: Call, ctx: NodeContext[Any, Any]) -> Any:
        """The call's result; real seconds count, and those of the injected clock, whichever have passed first."""
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                if self._real_time:
                    return await call(ctx)
                return await self._watched(limit, timeout, call(ctx))
        except TimeoutError as error:
            if limit.expired():
                raise NodeTimedOut(f"node {node.id!r} ran longer than its timeout of {timeout:g} s") from error
            raise

    async def _watched(self, limit: asyncio.Timeout, timeout: float, call: Awaitable[Any]) -> Any:
        """The call's result, while a task beside it lets the limit end by the clock."""

        async def watch() -> None:
            await self._clock.sleep(timeout)
            limit.reschedule(asyncio.get_running_loop().time())

        watching = asyncio.create_task(watch())
        try:
            return await call
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    def _prepare(self, uses: str) -> Prepared | None:
        function = self._find(uses)
        if function is None:
            return None
        prepared = self._prepared[uses] = prepare(function, self._middleware, self._codec)
        return prepared


def _as_it_is(cell: Cell) -> object:
    return cell


def _one_of(request: VisitRequest, item: object, number: int) -> VisitRequest:
    """The visit of one item of several."""
    return replace(request, input=item, item=request.item + number, size=1)


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _failed(error: BaseException, told: BaseException, function: NodeFunction, attempt: int) -> ExecutionOutcome:
    if error is not told:
        error.__cause__ = told
    never = isinstance(error, (SerializationError, *function.never_retry))
    return ExecutionOutcome(
        False, error=error_info(error), retryable=not never, fatal=isinstance(error, FatalError), attempts=attempt
    )


def _action(action: object) -> str | None:
    """The action of a `Result`: text like that of an edge."""
    if action is None or action == "":
        return None
    return str.__str__(check_id(action, "the action of a Result"))
