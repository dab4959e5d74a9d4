"""What nodes are made of, as one kind of call: async and blocking functions, and classes, in their middleware."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flowcraft.codec import Codec
from flowcraft.errors import FatalError, SerializationError
from flowcraft.middleware import Call, Middleware, compose
from flowcraft.nodes import ClassNode, NodeContext
from flowcraft.registry import NodeFunction
from flowcraft.sealing import traceback_of

__all__ = ["Hint", "Prepared", "from_thread", "prepare"]

Hint = Callable[[str, Mapping[str, object]], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A function in its middleware, ready to be awaited. ``wanted`` is the type of its input, if it says one."""

    function: NodeFunction
    call: Call
    wanted: Any


def prepare(function: NodeFunction, middleware: Sequence[Middleware], codec: Codec) -> Prepared:
    """The call of a function or a class, in its middleware."""
    call: Call
    if function.node_class is not None:
        call = _class_call(function.node_class, (SerializationError, *function.never_retry), codec)
    elif function.blocking:
        call = _blocking_call(function.call)
    else:
        call = function.call
    call = compose(middleware, call) if middleware else call
    return Prepared(function, call, function.input_type)


def _blocking_call(function: Callable[[Any], Any]) -> Call:
    def run(ctx: NodeContext[Any, Any]) -> Any:
        try:
            return function(ctx)
        except StopIteration as error:  # no future can carry it: whoever waits would wait for ever
            raise RuntimeError("the node's function raised StopIteration") from error

    async def call(ctx: NodeContext[Any, Any]) -> Any:
        value = await asyncio.to_thread(run, ctx)
        return await value if inspect.isawaitable(value) else value  # a plain function around an async one

    return call


def from_thread(hint: Hint) -> Hint:
    """``hint`` for a function in a thread: listeners are called on the event loop."""
    loop = asyncio.get_running_loop()

    def tell(kind: str, data: Mapping[str, object]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the function outlived its visit, and nobody listens
            loop.call_soon_threadsafe(hint, kind, data)

    return tell


def _class_call(
    node_class: type[ClassNode[Any, Any, Any]], unretried: tuple[type[BaseException], ...], codec: Codec
) -> Call:
    async def call(ctx: NodeContext[Any, Any]) -> Any:
        instance = node_class()
        failure: Exception | None = None
        try:
            prepared = await instance.prep(ctx)
            try:
                made = await instance.exec(prepared, ctx)
            except Exception as error:
                failure = error
                if isinstance(error, FatalError) or not (ctx.last_attempt or isinstance(error, unretried)):
                    raise
                made = await instance.fallback(error, ctx)
            return await instance.post(made, ctx)
        except Exception as error:
            failure = error
            raise
        finally:
            if failure is not None:
                await _recover(instance, failure, ctx, codec)

    return call


async def _recover(
    instance: ClassNode[Any, Any, Any], failure: Exception, ctx: NodeContext[Any, Any], codec: Codec
) -> None:
    try:
        await instance.recover(failure, ctx)
    except Exception as error:  # the outcome stands: an error while cleaning up is told, not raised
        shown = traceback_of(codec, error)
        ctx.log.exception("recover of node %r failed: %s", ctx.node_id, type(error).__name__, exc_info=shown)
