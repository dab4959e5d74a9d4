"""What was recorded: by the processes in their journals, by the campaign about its strikes, by the store about runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oracle.views import Failure, NodeView, RunView

from flowcraft.adapter import Adapter
from flowcraft.codec import JsonCodec
from flowcraft.engine.head import SKIPPED_FAILED, Head
from flowcraft.engine.view import run_view
from flowcraft.graph import Graph
from flowcraft.model import TERMINAL, ErrorInfo, Event, ValueKey

from .shapes import result_key

__all__ = [
    "Clock",
    "Echo",
    "Execution",
    "Outage",
    "Story",
    "Strike",
    "collect",
    "read_clocks",
    "read_executions",
    "read_lines",
    "read_resends",
]

_KINDS = {"ConditionError": "condition", "VisitLimitReached": "limit"}
_CODEC = JsonCodec()
Line = dict[str, Any]


@dataclass
class Execution:
    """One attempt of one visit in one process. ``end`` is None if it left no further line. Times are monotonic.

    ``owner`` is the node for which ``node`` ran; ``kept``: it had no message of its own; ``lease``: the name of its lease.
    """

    process: str
    run: str
    node: str
    visit: int
    attempt: int
    begin: float
    wall: float
    owner: str = ""
    nonce: str = ""
    resend: int = 0
    kept: bool = False
    end: float | None = None
    how: str = ""
    lease: str = ""

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What must be executed once."""
        return (self.run, self.node, self.visit, self.attempt)

    def __str__(self) -> str:
        return f"{self.run}/{self.node}#{self.visit}.{self.attempt} in {self.process}"


@dataclass
class Strike:
    """A signal to a process: sent at ``at``; dead, or going on again, at ``until``.

    ``locked``: all the time while it was paused, somebody had the lock of the file. ``code``: how it ended.
    """

    signal: str
    process: str
    at: float
    wall: float
    until: float = 0.0
    locked: bool = False
    code: int | None = None

    def hit(self, execution: Execution) -> bool:
        """Whether the execution was going on in the struck process when the signal was sent."""
        began = execution.process == self.process and execution.begin <= self.at
        return began and (execution.end is None or execution.end >= self.at)


@dataclass
class Outage:
    """Something that was done to the backend, or to the way of some ``processes`` to it (none named: of all).

    From ``at``, which is ``wall`` by the clock of the world, until ``until``. ``leases``: the names of those that were
    removed by it.
    """

    what: str
    at: float
    wall: float
    until: float = 0.0
    processes: tuple[str, ...] = ()
    leases: frozenset[str] = frozenset()

    @staticmethod
    def now(what: str, processes: tuple[str, ...] = ()) -> Outage:
        """One that begins at this moment."""
        return Outage(what, time.monotonic(), time.time(), processes=processes)

    @property
    def wall_until(self) -> float:
        """The end by the clock of the world."""
        return self.wall + self.until - self.at

    def met(self, process: str) -> bool:
        """Whether it concerned a process."""
        return not self.processes or process in self.processes


@dataclass
class Echo:
    """A message that was sent again at ``at``, by ``process``."""

    at: float
    owner: str
    nonce: str
    process: str = ""


@dataclass
class Clock:
    """From ``wall`` on, ``process`` is so many seconds off when it tells the time of the store."""

    process: str
    wall: float
    error: float


@dataclass
class Story:
    """A run as the store knows it. ``key`` is that of its result, if it has ended."""

    run: str
    status: str
    events: Sequence[Event] = ()
    key: str = ""
    written: dict[str, tuple[object, object]] = field(default_factory=dict[str, tuple[object, object]])


def read_lines(path: Path) -> Iterator[Line]:
    """The complete lines of a journal."""
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield json.loads(line)


def read_executions(path: Path) -> list[Execution]:
    """Of one process, in the order of their beginnings."""
    found: dict[int, Execution] = {}
    for line in read_lines(path):
        if line["what"] == "begin":
            found[line["number"]] = Execution(
                path.stem, line["run"], line["node"], line["visit"], line["attempt"], line["t"], line["wall"],
                str(line.get("owner", line["node"])), line.get("nonce", ""), line.get("resend", 0), line.get("kept", False),
                lease=str(line.get("lease", "")),
            )  # fmt: skip
        elif line["what"] == "end":
            found[line["number"]].end, found[line["number"]].how = line["t"], line["how"]
    return list(found.values())


def read_clocks(path: Path) -> list[Clock]:
    """How a process took the store's clock to be."""
    return [Clock(path.stem, line["wall"], line["error"]) for line in read_lines(path) if line["what"] == "clock"]


def read_resends(path: Path) -> list[Echo]:
    """The messages that a process's ticker sent again."""
    found = [line for line in read_lines(path) if line["what"] == "resend"]
    return [Echo(line["t"], line["owner"], line["nonce"], path.stem) for line in found]


async def collect(adapter: Adapter, run_id: str, graph: Graph) -> Story:
    """Read a run from its store."""
    state = await adapter._ready()[0].load(run_id)
    if state is None:
        return Story(run_id, "unknown")
    head = state.committed()
    events = await adapter.run(run_id).history()
    status = run_view(graph, head).status
    if status not in TERMINAL:
        return Story(run_id, status, events)
    values: dict[ValueKey, bytes] = {}
    for space in ("output", "error", "context"):
        values.update(await adapter.store.read_values(run_id, space=space))
    view = _view(graph, head, values)
    written: dict[str, tuple[object, object]] = {}
    for node in graph.blueprint.nodes:
        if node.params.get("write") and view.nodes[node.id].state == "completed":
            key = ValueKey("context", node.id)
            written[node.id] = (view.nodes[node.id].output, _CODEC.decode(values[key]) if key in values else None)
    return Story(run_id, status, events, result_key(view), written)


def _view(graph: Graph, head: Head, values: dict[ValueKey, bytes]) -> RunView:
    """The result in the oracle's form."""
    found = run_view(graph, head)
    nodes: dict[str, NodeView] = {}
    for name, node in found.nodes.items():
        n = graph.index[name]
        shown = node.output if node.state == "completed" else None  # that of a failed visit is kept, but is no result
        skipped = node.state == "skipped"
        count = head.visits.get(n, 0) if graph.repeats[n] else int(node.state in ("completed", "failed"))
        nodes[name] = NodeView(
            node.state,
            0 if skipped else count,
            None if shown is None or shown not in values else _CODEC.decode(values[shown]),
            ("upstream" if head.states[n] == SKIPPED_FAILED else "dead") if skipped else "",
        )
    failures = tuple(sorted(Failure(f.node_id, _kind(values, f.errors[-1])) for f in found.failures))
    outputs = {end: _CODEC.decode(values[key]) for end, key in found.outputs.items() if key in values}
    output = next(iter(outputs.values()), None) if len(outputs) < 2 else outputs
    return RunView(found.status, nodes, failures, output)


def _kind(values: dict[ValueKey, bytes], key: ValueKey) -> str:
    error = ErrorInfo.from_dict(_CODEC.decode(values[key]) if key in values else {})
    return _KINDS.get(error.kind, "failed")
