"""One small workflow with all that must come of it, whatever goes wrong on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.conformance.expecting import equal
from flowcraft.conformance.system.fleet import Fleet
from flowcraft.conformance.system.process import Process
from flowcraft.model import RunStatus
from flowcraft.results import RunResult
from flowcraft.runs import RunHandle

__all__ = ["Steer", "Story", "blueprint"]

#: What people do to the run while it goes on: told the fleet, a process that lives, and the run.
Steer = Callable[[Fleet, Process, RunHandle], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Story:
    """``make``: the blueprints, the run's own first, for a unit of time in seconds · ``outputs``: by node, of which no
    other value is permitted · ``executed``: how many different attempts of visits a node must have had · ``nodes``:
    states in the end. What is not named may differ."""

    name: str
    what: str
    make: Callable[[float], Sequence[Blueprint]]
    input: object = 1
    context: Mapping[str, object] = field(default_factory=dict[str, object])
    status: RunStatus = "completed"
    outputs: Mapping[str, object] = field(default_factory=dict[str, object])
    nodes: Mapping[str, str] = field(default_factory=dict[str, str])
    executed: Mapping[str, int] = field(default_factory=dict[str, int])
    keys: Mapping[str, object] = field(default_factory=dict[str, object])
    steer: Steer | None = None
    options: Mapping[str, object] = field(default_factory=dict[str, object])

    def check(self, fleet: Fleet, result: RunResult) -> None:
        """Raises: Violated, naming what differs."""
        equal(result.status, self.status, f"status of the run ({[str(failure) for failure in result.failures]})")
        for node, expected in self.outputs.items():
            equal(result.outputs.get(node), expected, f"output of {node!r}")
        for node, state in self.nodes.items():
            equal(result.nodes.get(node), state, f"state of {node!r}")
        for key, expected in self.keys.items():
            equal(result.context.get(key), expected, f"context key {key!r}")
        for node, count in self.executed.items():
            found = {effect.key for effect in fleet.effects.all if effect.key.node == node}
            equal(len(found), count, f"different attempts of visits of {node!r} that were executed ({sorted(found)})")


def blueprint(name: str, nodes: Sequence[Node | str], edges: Sequence[Edge | str], **options: Any) -> Blueprint:
    """A blueprint in short.

    ``"a"`` is a node that uses ``value``, ``"a:fail"`` one that uses another function, ``"a>b"`` an edge, ``"a>b?x"``
    one for the action x.
    """
    made: list[Node] = []
    for node in nodes:
        if isinstance(node, Node):
            made.append(node)
        else:
            name_of, _, uses = node.partition(":")
            made.append(Node(name_of, uses or "value"))
    joined: list[Edge] = []
    for edge in edges:
        if isinstance(edge, Edge):
            joined.append(edge)
        else:
            source, _, rest = edge.partition(">")
            target, _, action = rest.partition("?")
            joined.append(Edge(source, target, action=action or None))
    return Blueprint(name, tuple(made), tuple(joined), **options)
