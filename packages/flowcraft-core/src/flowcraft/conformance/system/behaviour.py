"""The user code of the scenarios: what it returns tells where it came from, so that any mix-up shows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flowcraft.conformance.faulty import Line
from flowcraft.errors import FatalError
from flowcraft.nodes import NodeContext, Result
from flowcraft.ports import Clock

__all__ = ["BEHAVIOURS", "Behaviour", "Host", "shown"]

Ctx = NodeContext[Any, Any]


class Host:
    """The process that executes: user code may look at its clock, or kill it."""

    def __init__(self, line: Line | None, clock: Clock) -> None:
        self.line = line
        self.clock = clock


Behaviour = Callable[[Host, Ctx], Awaitable[Any]]


def shown(value: object) -> str:
    """A short text of any value: lists in order, dicts by their keys."""
    if isinstance(value, Mapping):
        if isinstance(error := value.get("error"), Mapping):
            return f"{error.get('kind')}!"
        return ",".join(shown(value[key]) for key in sorted(value))
    if isinstance(value, list):
        return ",".join(map(shown, value))
    return "" if value is None else str(value)


async def _value(_: Host, ctx: Ctx) -> str:
    return f"{ctx.node_id}({shown(ctx.input)})"


async def _nap(host: Host, ctx: Ctx) -> str:
    await host.clock.sleep(float(ctx.params["seconds"]))
    return await _value(host, ctx)


async def _count(_: Host, ctx: Ctx) -> int:
    return (ctx.input if isinstance(ctx.input, int) else 0) + 1


async def _choose(host: Host, ctx: Ctx) -> Result[str]:
    return Result(await _value(host, ctx), action=ctx.params["action"])


async def _flaky(host: Host, ctx: Ctx) -> str:
    if ctx.attempt <= int(ctx.params.get("failures", 1)):
        raise RuntimeError(f"attempt {ctx.attempt}")
    return await _value(host, ctx)


async def _fail(_: Host, ctx: Ctx) -> None:
    raise FatalError("for good") if ctx.params.get("fatal") else RuntimeError("broken")


async def _odd(host: Host, ctx: Ctx) -> str:
    """Fails for every third item, always."""
    if ctx.item is not None and ctx.item % 3 == 1:
        raise FatalError("an odd item")
    return await _value(host, ctx)


async def _write(host: Host, ctx: Ctx) -> str:
    await ctx.context.set("key", f"{ctx.node_id}:{ctx.visit}")
    return await _value(host, ctx)


async def _read(_: Host, ctx: Ctx) -> str:
    return f"{ctx.node_id}[{shown(await ctx.context.to_dict())}]"


async def _numbers(_: Host, ctx: Ctx) -> list[int]:
    return list(range(int(ctx.params["count"])))


async def _killer(host: Host, _: Ctx) -> None:
    if host.line is not None:
        host.line.cut()
        await host.line.alive()


async def _hang(_: Host, __: Ctx) -> None:
    await asyncio.Event().wait()


async def _overrun(host: Host, _: Ctx) -> None:
    """Until its timeout, which is of the event loop's time: virtual time stands still meanwhile."""
    line = host.line
    if line is None:
        await asyncio.Event().wait()
        return
    with line.working():
        await asyncio.shield(line.died)
    await line.alive()


async def _big(_: Host, ctx: Ctx) -> str:
    return "x" * int(ctx.params["size"])


BEHAVIOURS: Mapping[str, Behaviour] = {
    "value": _value, "nap": _nap, "count": _count, "choose": _choose, "flaky": _flaky, "fail": _fail, "broken": _fail,
    "odd": _odd, "write": _write, "read": _read, "numbers": _numbers, "killer": _killer, "hang": _hang,
    "overrun": _overrun, "big": _big,
}  # fmt: skip
