"""What a run came to: its status, outputs and failures, the same in process and distributed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from flowcraft.engine.draft import MISSING
from flowcraft.engine.view import Lazy, RunView
from flowcraft.errors import DefinitionError, RunFailed
from flowcraft.model import ErrorInfo, NodeState, RunStatus, ValueKey
from flowcraft.nodes import ClassNode, Result
from flowcraft.notes import LogRecord, Progress, read_logs, read_progress

__all__ = ["NodeFailure", "RunResult", "build_result", "result_keys"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NodeFailure:
    """A visit that failed for good. ``errors``: the node's own, then those of fallbacks that failed too.

    ``absolved``: a join that needed only some of its predecessors made up for it; it did not fail the run.
    """

    node_id: str
    visit: int
    errors: tuple[ErrorInfo, ...]
    absolved: bool = False

    def __str__(self) -> str:
        return f"{self.node_id}: " + "; then ".join(map(str, self.errors))


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that has ended, or in process one that waits for signals (status ``awaiting``).

    ``nodes`` has the state of every node, ``outputs`` the output of each that has one.

    ``logs``: what nodes told ``ctx.log``, in order of time; ``progress``: the last ``ctx.progress`` of each node.
    """

    run_id: str
    status: RunStatus
    outputs: Mapping[str, object]
    ends: tuple[str, ...]
    nodes: Mapping[str, NodeState]
    failures: tuple[NodeFailure, ...] = ()
    context: Mapping[str, object] = field(default_factory=dict[str, object])
    cause: str = ""
    logs: tuple[LogRecord, ...] = ()
    progress: Mapping[str, Progress] = field(default_factory=dict[str, Progress])
    _names: Callable[[object], str] | None = None
    #: What `FlowRuntime.resume` goes on with, in process.
    _suspended: object = field(default=None, repr=False, compare=False)

    @overload
    def output(self) -> Any: ...
    @overload
    def output(self, node: str) -> Any: ...
    @overload
    def output(self, node: type[ClassNode[Any, T, Any]]) -> T: ...
    @overload
    def output(self, node: Callable[[Any], Awaitable[Result[T]]]) -> T: ...
    @overload
    def output(self, node: Callable[[Any], Awaitable[T]]) -> T: ...
    @overload
    def output(self, node: Callable[[Any], Result[T]]) -> T: ...
    @overload
    def output(self, node: Callable[[Any], T]) -> T: ...
    def output(self, node: object = None) -> Any:
        """A node's output, by id, function or class; without a node that of the run.

        The run's output is that of its only end (a node without outgoing edges) that completed, or a dict of those of
        its ends if there are several, or None.

        Raises:
            DefinitionError: the node has no output in this run; the message says what state it is in.
        """
        if node is None:
            made = {end: self.outputs[end] for end in self.ends}
            return next(iter(made.values()), None) if len(made) < 2 else made
        node_id = node if isinstance(node, str) else self._name_of(node)
        if node_id not in self.outputs:
            state = self.nodes.get(node_id)
            what = f"is {state} and has no output" if state else "is no node"
            raise DefinitionError(f"{node_id!r} {what} in run {self.run_id!r}", subject=node_id)
        return self.outputs[node_id]

    def _name_of(self, node: object) -> str:
        return self._names(node) if self._names is not None else str(getattr(node, "__name__", node))

    @property
    def errors(self) -> tuple[NodeFailure, ...]:
        """The failures that were not made up for."""
        return tuple(failure for failure in self.failures if not failure.absolved)

    def raise_for_failure(self) -> RunResult:
        """Return this result if the run completed.

        Raises:
            RunFailed: it failed or was cancelled; the message lists every failed node.
        """
        if self.status == "completed":
            return self
        lines = tuple(map(str, self.errors)) or ((self.cause,) if self.cause else ())
        told = ": " + " | ".join(lines) if lines else ""
        raise RunFailed(f"run {self.run_id!r} {self.status}{told}", errors=lines)


def result_keys(view: RunView) -> list[ValueKey]:
    """The stored values that a result is made of, without the context."""
    keys = [node.output for node in view.nodes.values() if node.output is not None]
    return keys + [key for failure in view.failures for key in failure.errors]


def build_result(
    run_id: str,
    view: RunView,
    read: Callable[[ValueKey], object],
    context: Mapping[str, object],
    names: Callable[[object], str] | None = None,
    said: Sequence[object] = (),
) -> RunResult:
    """Put a result together; ``read`` gives decoded values, or MISSING; ``said`` is all of the space ``log``."""

    def all_outputs() -> Mapping[str, object]:
        found = {node.id: read(node.output) for node in view.nodes.values() if node.output is not None}
        return {node_id: value for node_id, value in found.items() if value is not MISSING}

    failures = tuple(
        NodeFailure(
            failure.node_id,
            failure.visit,
            tuple(ErrorInfo.from_dict(found) for key in failure.errors if (found := read(key)) is not MISSING),
            failure.absolved,
        )
        for failure in view.failures
    )
    return RunResult(
        run_id=run_id,
        status=view.status,
        outputs=Lazy(all_outputs),
        ends=tuple(end for end, key in view.outputs.items() if read(key) is not MISSING),
        nodes=Lazy(lambda: {node.id: node.state for node in view.nodes.values()}),
        failures=failures,
        context=context,
        cause=view.cause,
        logs=read_logs(said),
        progress=read_progress(said),
        _names=names,
    )
