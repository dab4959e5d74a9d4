"""Why a command cannot be done to a run as it is: reasons in words, an empty text if there is none."""

from __future__ import annotations

from flowcraft.constructs import ITEMS, LOOP, SCATTER
from flowcraft.engine.commands import failed_nodes, was_stopped
from flowcraft.engine.head import (
    ACTIVE,
    CANCELLED,
    COMPLETED,
    DRAINING,
    FAILED,
    STATE_NAMES,
    WAITING,
    Head,
)
from flowcraft.graph import Graph

__all__ = ["begun_node", "ended", "may_restart", "restartable", "why_not_marked", "why_not_steered"]

_BEGUN = ACTIVE | {COMPLETED, FAILED, CANCELLED}


def ended(head: Head) -> str:
    """That the run has ended."""
    return f"the run has ended as {head.phase}" if head.terminal else ""


def why_not_steered(head: Head) -> str:
    """Why a run takes no command: it has ended, or is ending."""
    ending = {"failing": "is failing", "cancelling": "is being cancelled", "undoing": "is being rolled back"}
    return ended(head) or (f"the run {ending[head.phase]}" if head.phase in ending else "")


def may_restart(head: Head) -> str:
    """Why a run that has ended cannot be started again."""
    if head.parent is None:
        return ""
    return f"it was a subflow of run {head.parent[0]!r}, which has gone on: retry or roll back that one"


def restartable(graph: Graph, head: Head) -> bool:
    """Whether there is something to retry by default."""
    return bool(failed_nodes(graph, head)) or was_stopped(head)


def begun_node(graph: Graph, head: Head, node: int) -> str:
    """Why a run cannot start again from a node."""
    if node in graph.undoes:
        return "it only undoes another node"
    if graph.namers[node] and graph.in_lo[node] == graph.in_hi[node]:
        return f"it only stands in for {', '.join(repr(graph.ids[n]) for n in graph.namers[node])}"
    if head.states[node] in _BEGUN or node in head.last or node in head.batches:
        return ""
    return f"it is {STATE_NAMES[head.states[node]]}: nothing has led to it"


def why_not_marked(graph: Graph, head: Head, node: int) -> str:
    """Why `can_mark` says no."""
    state = head.states[node]
    if head.phase != "running":
        return why_not_steered(head)
    if graph.kind[node] == LOOP:
        return "it is a loop's controller"
    if graph.kind[node] == ITEMS or graph.nodes[node].uses == SCATTER:
        return "it is part of a batch"
    if graph.namers[node]:
        return f"it stands in for {', '.join(repr(graph.ids[n]) for n in graph.namers[node])}: mark that instead"
    if node in graph.undoes:
        return "it only undoes another node"
    if state == WAITING:
        return f"it waits for its subflow, run {head.active[node].reason!r}: end that one"
    if state == DRAINING:
        return "it is being ended"
    return f"it is {STATE_NAMES[state]}"
