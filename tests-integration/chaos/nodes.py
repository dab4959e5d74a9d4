"""What the nodes of a campaign do: leave a line, take their time, behave as their params say, leave another line."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from oracle.behaviour import Err, behave

from flowcraft import FatalError, NodeContext, Result
from flowcraft.registry import NodeFunction, node_function

__all__ = ["ACTIVATION", "Journal", "functions"]

Context = NodeContext[Any, Any]
#: Of the visit being executed: what only the worker knows of it.
ACTIVATION: ContextVar[dict[str, object]] = ContextVar("ACTIVATION")


class Journal:
    """The append-only file of one process. A line that was written survives the process, however it ends."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)

    def write(self, what: str, **row: object) -> None:
        """One line, in one call of the operating system. ``t`` is the same clock for all processes of a machine."""
        line = {"what": what, "t": time.monotonic(), "wall": time.time(), **row}
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")


class _Failed(Exception):
    pass


class _Final(Exception):
    pass


def functions(journal: Journal) -> dict[str, NodeFunction]:
    """The two functions behind all nodes."""
    counter = iter(range(1, 1 << 62))

    @contextmanager
    def written(ctx: Context) -> Iterator[None]:
        number = next(counter)
        journal.write(
            "begin", number=number, run=ctx.run_id, node=ctx.node_id, visit=ctx.visit, attempt=ctx.attempt,
            **ACTIVATION.get({}),
        )  # fmt: skip
        how = "ok"
        try:
            yield
        except asyncio.CancelledError:
            how = "cancelled"
            raise
        except Exception:
            how = "error"
            raise
        finally:
            journal.write("end", number=number, how=how)

    async def work(ctx: Context) -> object:
        with written(ctx):
            await asyncio.sleep(_seconds(ctx))  # the work: it takes its time
            result = _outcome(ctx)
            if ctx.params.get("write"):
                await ctx.context.set(ctx.node_id, result.output)
            return result

    def block(ctx: Context) -> object:
        with written(ctx):
            time.sleep(_seconds(ctx))  # the work of a blocking function
            return _outcome(ctx)

    return {
        "behave": node_function("behave", work, never_retry=(_Final,)),
        "behave.blocking": node_function("behave.blocking", block, never_retry=(_Final,)),
    }


def _seconds(ctx: Context) -> float:
    """As the params say, else 0 to 300 ms, nothing at all for a quarter of them; the same for each repetition."""
    if "ms" in ctx.params:
        return float(ctx.params["ms"]) / 1000
    drawn = hashlib.sha256(f"{ctx.idempotency_key}/{ctx.attempt}".encode()).digest()
    share = drawn[0] / 255
    return 0.3 * share if drawn[1] % 4 else 0.0


def _outcome(ctx: Context) -> Result[object]:
    result = behave(ctx.params, ctx.node_id, ctx.visit, ctx.attempt, ctx.input)
    if isinstance(result, Err):
        text = f"{ctx.idempotency_key} failed"
        raise FatalError(text) if result.fatal else _Failed(text) if result.retryable else _Final(text)
    return Result(result.output, result.action)
