"""Middleware: code around every execution of a node, for tracing, metrics, limits and the like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from flowcraft.nodes import NodeContext

__all__ = ["Call", "Middleware", "compose"]

Call = Callable[[NodeContext[Any, Any]], Awaitable[Any]]


class Middleware:
    """Override what you need. The first registered is the outermost; each wraps one attempt.

    An exception raised here counts as the node's failure, like one of the node itself.
    """

    async def before(self, ctx: NodeContext[Any, Any]) -> None:
        """Before the attempt."""

    async def after(self, ctx: NodeContext[Any, Any], result: object, error: BaseException | None) -> None:
        """After the attempt: ``result`` if it succeeded, else ``error`` (also when it is being cancelled)."""

    async def around(self, ctx: NodeContext[Any, Any], call_next: Call) -> Any:
        """Around the attempt: return the node's result, normally that of ``await call_next(ctx)``."""
        return await call_next(ctx)


def compose(middleware: Sequence[Middleware], call: Call) -> Call:
    """``call`` wrapped in all of the middleware, the first outermost."""
    for layer in reversed(middleware):
        call = _wrap(layer, call)
    return call


def _wrap(layer: Middleware, call: Call) -> Call:
    async def wrapped(ctx: NodeContext[Any, Any]) -> Any:
        await layer.before(ctx)
        try:
            result = await layer.around(ctx, call)
        except BaseException as error:
            await layer.after(ctx, None, error)
            raise
        await layer.after(ctx, result, None)
        return result

    return wrapped
