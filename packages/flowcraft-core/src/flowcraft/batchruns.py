"""Batches as they are executed: what a scatter returns, and jobs of several items."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from flowcraft.constructs import GATHER, SCATTER, WEBHOOK
from flowcraft.engine.draft import Cell
from flowcraft.engine.slots import CHUNK, MAX_ITEMS
from flowcraft.errors import FatalError, NodeFailed, NodeNotRegistered
from flowcraft.model import ErrorInfo
from flowcraft.nodes import NodeContext, VisitRequest
from flowcraft.registry import NodeFunction

__all__ = ["ItemsRun", "built_in", "collect", "frozen_items"]

Find = Callable[[str], NodeFunction | None]


async def collect(values: object, what: str) -> list[object]:
    """A list of what a list, an iterable or an async iterator gives; None is an empty one.

    Raises:
        NodeFailed: it is none of these, or has more than a million items.
    """
    if values is None:
        return []
    found: list[object] = []
    if isinstance(values, AsyncIterable):
        async for item in cast("AsyncIterable[object]", values):
            found.append(item)
            if len(found) > MAX_ITEMS:
                break
    elif isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        found = list(cast("Iterable[object]", values))
    else:
        raise NodeFailed(f"{what} works on a list, not on {type(values).__name__}")
    if len(found) > MAX_ITEMS:
        raise NodeFailed(f"{what} has more than {MAX_ITEMS:,} items")
    return found


def frozen_items(items: Sequence[object], to_cell: Callable[[object], Cell]) -> tuple[int, tuple[Cell, ...]]:
    """How many items there are, and the items in chunks."""
    chunks = tuple(to_cell(list(items[start : start + CHUNK])) for start in range(0, len(items), CHUNK))
    return len(items), chunks


def built_in(uses: str, find: Find) -> NodeFunction | None:
    """The function of a built-in node that workers execute like any other."""
    if uses == SCATTER:
        return NodeFunction(uses, _scatter(find))
    if uses == WEBHOOK:
        return NodeFunction(uses, _no_webhook)
    return NodeFunction(uses, _gather) if uses == GATHER else None


def _scatter(find: Find) -> Callable[[NodeContext[Any, Any]], Awaitable[Any]]:
    async def scatter(ctx: NodeContext[Any, Any]) -> list[object]:
        source = ctx.params.get("sourceUsesKey")
        values: object = ctx.input
        if source is not None:
            function = find(str(source))
            if function is None:
                raise NodeNotRegistered(f"no function is registered for {source!r}, the source of {ctx.node_id!r}")
            values = function.call(ctx)
            values = await values if isinstance(values, Awaitable) else values
        return await collect(values, f"batch {ctx.node_id!r}")

    return scatter


async def _no_webhook(ctx: NodeContext[Any, Any]) -> Any:
    raise FatalError(f"webhook {ctx.node_id!r} needs an adapter; in process, register a function for {WEBHOOK!r}")


async def _gather(ctx: NodeContext[Any, Any]) -> Any:
    key = ctx.params.get("outputKey")
    if key is not None and key != ctx.node_id:
        await ctx.context.set(str(key), ctx.input)
    return ctx.input


class _Outcome(Protocol):
    """The parts of an `ExecutionOutcome` that are needed here."""

    ok: bool
    output: Cell
    writes: Mapping[str, Cell] | None
    error: ErrorInfo | None
    retryable: bool
    fatal: bool
    attempts: int
    random: float


@dataclass(slots=True)
class ItemsRun:
    """The outcome of a job of several items: one after the other, each with the attempts of its node's policy.

    A job of several small items waits for their next attempts in process.
    """

    request: VisitRequest
    value_of: Callable[[Cell], object]
    sleep: Callable[[float], Awaitable[None]]
    results: list[object] = field(default_factory=list[object])
    writes: dict[str, Cell] = field(default_factory=dict[str, Cell])
    failed: int = 0

    async def run(
        self, execute: Callable[[VisitRequest], Awaitable[_Outcome]], one: Callable[..., VisitRequest]
    ) -> None:
        """Fill in results, writes and failures. A failed item's result tells its error."""
        for number, item in enumerate(cast("list[object]", self.request.input)):
            outcome = await self._item(execute, one(self.request, item, number))
            if outcome.ok:
                self.results.append(self.value_of(outcome.output))
                self.writes.update(outcome.writes or {})
            else:
                error = outcome.error or ErrorInfo("NodeFailed", "")
                self.results.append({"error": {"kind": error.kind, "message": error.text[:2000]}})
                self.failed += 1

    async def _item(self, execute: Callable[[VisitRequest], Awaitable[_Outcome]], request: VisitRequest) -> _Outcome:
        retry = request.node.retry
        while True:
            outcome = await execute(request)
            if outcome.ok or not outcome.retryable or outcome.fatal or outcome.attempts >= retry.attempts:
                return outcome
            await self.sleep(retry.delay_after(outcome.attempts, outcome.random))
            request.attempt = outcome.attempts + 1
