"""Short ways to make checks, targets and reports."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace

from flowcraft.conformance import Check, Env, Place, Ports, Target, target
from flowcraft.conformance.facts import Facts
from flowcraft.conformance.report import Environment, Report
from flowcraft.conformance.results import Outcome, Result
from flowcraft.conformance.target import PortName
from flowcraft.conformance.targets import memory
from flowcraft.model import Capabilities

Step = Callable[[Env], Awaitable[None]]
ALL: frozenset[PortName] = frozenset({"store", "queue", "coordination", "events", "values", "system"})
DURABLE = Facts(ALL, store=Capabilities(), queue=Capabilities())


async def holds(env: Env) -> None:
    """Nothing is wrong."""


def check(run: Step = holds, name: str = "store.t.one", **more: object) -> Check:
    made = Check(name, name.partition(".")[0], 1, "The contract holds.", "Because.", run)  # type: ignore[arg-type]
    return replace(made, **more)  # type: ignore[arg-type]


def result(outcome: Outcome, level: int = 1, port: PortName = "store", name: str = "one") -> Result:
    return Result(f"{port}.t{level}.{name}", port, level, outcome, 0.5, "what was seen" if outcome != "pass" else "")


def report(*results: Result, levels: Mapping[PortName, int] | None = None, complete: bool = True) -> Report:
    where = Environment("1.2.3", "CPython 3.11", "Plan 9")
    return Report("mine", "2026.1", complete, DURABLE, results, levels or {"store": 1}, 0, (), 5.0, 2.0, where)


def changed(change: Callable[[Ports], Ports], **more: object) -> Target:
    """The memory target with its ports passed through ``change``."""

    @target("changed", offers=sorted(memory.offers), virtual_time=True, drop=memory.drop, leftovers=memory.leftovers)
    async def opened(place: Place) -> AsyncGenerator[Ports]:
        async with memory.open(place) as ports:
            yield change(ports)

    return replace(opened, **more)  # type: ignore[arg-type]
