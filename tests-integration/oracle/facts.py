"""What is known before a run, and the words of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flowcraft.blueprint import Blueprint

from .kinds import expanded, is_controller, kind_of
from .scopes import plan_of
from .views import Slot

__all__ = ["SETTLED", "Activation", "Facts", "Mark", "together"]

SETTLED = ("completed", "failed", "dead", "upstream", "cancelled")


class Mark(NamedTuple):
    kind: str  # live, dead or failed
    value: object = None


@dataclass(frozen=True)
class Activation:
    """A visit that is owed an outcome: the last of ``chain`` runs for the first, its owner."""

    chain: tuple[str, ...]
    visit: int
    attempt: int
    input: object
    draining: bool = False
    item: int = -1
    undoes: bool = False
    visits: tuple[int, ...] = ()  # of those in the chain before the last

    @property
    def slot(self) -> Slot:
        return Slot(self.chain[0], self.chain[-1], self.visit, self.attempt, self.item)


class Facts:
    """What is known of one blueprint before it runs."""

    def __init__(self, blueprint: Blueprint) -> None:
        blueprint, self.batches = expanded(blueprint)
        self.scatters = {batch.scatter for batch in self.batches.values()}
        plan = plan_of(blueprint)
        self.nodes = {node.id: node for node in blueprint.nodes}
        self.edges = {i: blueprint.edges[i] for i in plan.edges}
        self.scopes = plan.scopes
        self.max_visits = blueprint.max_visits
        self.fail_fast = blueprint.failure == "fail-fast"
        self.into = {n: [i for i, edge in self.edges.items() if edge.target == n] for n in self.nodes}
        self.out = {n: [i for i, edge in self.edges.items() if edge.source == n] for n in self.nodes}
        self.callers = {n: [a.id for a in self.nodes.values() if a.fallback == n] for n in self.nodes}
        self.undo = {n: node.compensate for n, node in self.nodes.items() if node.compensate is not None}
        self.only_called = {n for n in self.nodes if (self.callers[n] or n in self.undo.values()) and not self.into[n]}
        self.kind = {n: kind_of(node, self.batches) for n, node in self.nodes.items()}
        self.around = {n: [k for k, scope in enumerate(self.scopes) if n in scope.nodes] for n in self.nodes}
        self.structured = {k for k, s in enumerate(self.scopes) if is_controller(self.nodes[s.header])}
        self.back = {i: k for k, scope in enumerate(self.scopes) for i in scope.back}
        self.leaves = {
            i: [k for k in self.around[e.source] if k not in self.around[e.target]] for i, e in self.edges.items()
        }
        self.enters = {
            i: [k for k in self.around[e.target] if k not in self.around[e.source]] for i, e in self.edges.items()
        }

    def within(self, k: int) -> list[int]:
        """The scope and the scopes nested in it."""
        return [j for j, scope in enumerate(self.scopes) if j == k or (scope.nodes <= self.scopes[k].nodes and j > k)]


def together(marks: Sequence[Mark | None]) -> Mark | None:
    live = [mark for mark in marks if mark is not None and mark.kind == "live"]
    if live:
        return live[0]
    return None if None in marks else next((m for m in marks if m is not None and m.kind == "failed"), marks[0])
