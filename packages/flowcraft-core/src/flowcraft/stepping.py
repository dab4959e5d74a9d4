"""Running a coroutine by hand for its first step, and as a task would for the rest."""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

__all__ = ["resumed"]

T = TypeVar("T")


@types.coroutine
def resumed(call: Coroutine[Any, Any, T], context: Context, waiting: Any) -> Generator[Any, Any, T]:
    """Await the rest of a coroutine in its own context: what a node sets in it ends with the node, as in a task."""
    try:
        while True:
            try:
                told = yield waiting
            except GeneratorExit:
                context.run(call.close)
                raise
            except BaseException as error:  # noqa: BLE001 - thrown into the coroutine, whatever it is
                waiting = context.run(call.throw, error)
            else:
                waiting = context.run(call.send, told)
    except StopIteration as done:
        value: T = done.value
        return value
