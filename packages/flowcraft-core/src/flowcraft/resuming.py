"""Runs in process that wait for signals: between a result that says ``awaiting`` and `FlowRuntime.resume`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Protocol

from flowcraft.codec import Codec
from flowcraft.constructs import SUBFLOW
from flowcraft.engine.draft import Cell
from flowcraft.errors import CommandRefused, DefinitionError, InvalidRequest, NotWaiting, TooLate
from flowcraft.executor import Executor
from flowcraft.graph import Graph
from flowcraft.local import LocalRun
from flowcraft.localchildren import LocalChild
from flowcraft.model import TERMINAL
from flowcraft.results import RunResult
from flowcraft.signals import SignalRequest, name_of

__all__ = ["Suspended", "result_of", "resume_run"]


class Suspended:
    """A run that waits. Shared by all its results: each `FlowRuntime.resume` moves the same run on."""

    def __init__(self, run: LocalRun) -> None:
        self.run = run
        self.busy = False


class _Runtime(Protocol):
    @property
    def codec(self) -> Codec: ...
    def payload_of(self, graph: Graph, node_id: str) -> Any: ...
    def snapshot(self, value: object) -> Cell: ...
    def open_executor(self, to_cell: Any = None) -> AbstractAsyncContextManager[Executor]: ...


def result_of(run: LocalRun, suspended: Suspended | None = None) -> RunResult:
    """What a run came to, as it is now: with the run itself if it waits, perhaps in a subflow."""
    result = run.result()
    if run.ended:
        return result
    return replace(
        result,
        status="awaiting",
        nodes=dict(result.nodes),
        outputs=dict(result.outputs),
        _suspended=suspended or Suspended(run),
    )


async def resume_run(runtime: _Runtime, result: RunResult, node: object, request: SignalRequest) -> RunResult:
    """Give a wait of a suspended run what it waits for, and go on until the run has ended or waits again.

    Raises:
        As `FlowRuntime.resume`.
    """
    suspended = result._suspended  # noqa: SLF001 - kept there for this function
    if not isinstance(suspended, Suspended):
        if result.status in TERMINAL:
            raise TooLate(f"run {result.run_id!r} has ended ({result.status}): nothing in it waits")
        raise InvalidRequest(f"run {result.run_id!r} is not one of this process: signal it through its adapter")
    if suspended.busy:
        raise CommandRefused(
            f"run {result.run_id!r} is being resumed, or was interrupted while it was", reason="it is busy"
        )
    run = suspended.run
    path, target, wait = _find(run, _name(run, node))
    runtime.snapshot(request.payload)
    wanted = runtime.payload_of(target.graph, wait)
    _, events = request.event(target.graph, target.draft.head, wait, wanted, runtime.snapshot, runtime.codec)
    suspended.busy, started = True, False
    try:
        async with runtime.open_executor(runtime.snapshot) as executor:
            started = True
            run.reopen(executor)
            event = next(iter(events), None)
            for child in path:
                child.wake(event if child is path[-1] else None)
            await run.go_on(None if path else event)
            started = False
    finally:
        suspended.busy = started  # interrupted, it cannot be gone on with
    return result_of(run, suspended)


def _name(run: LocalRun, node: object) -> str:
    try:
        return name_of(node, run.around.names_of(run.graph))
    except DefinitionError as error:
        raise NotWaiting(str(error)) from error


def _find(run: LocalRun, name: str) -> tuple[list[LocalChild], LocalRun, str]:
    """The wait ``subflow/…/wait``: the children on the way to it, the run that has it, and its id there.

    Raises:
        NotWaiting: a part of the way is no subflow, or does not wait.
    """
    path: list[LocalChild] = []
    while name not in run.graph.index:
        above = [name[:i] for i, char in enumerate(name) if char == "/" and name[:i] in run.graph.index]
        if not above:
            break
        node = run.graph.index[above[-1]]
        child = run.child_at(node)
        if child is None or not isinstance(child.run, LocalRun):
            what = "has no run that waits" if run.graph.nodes[node].uses == SUBFLOW else "is no subflow"
            raise NotWaiting(f"node {above[-1]!r} {what}, so there is no {name!r}")
        path.append(child)
        run, name = child.run, name[len(above[-1]) + 1 :]
    return path, run, name
