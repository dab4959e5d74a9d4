"""Starting again: nodes of a run and all that follows from them are pending once more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flowcraft.engine.draft import Draft, output_key, output_visit
from flowcraft.engine.head import (
    CANCELLED,
    COMPLETED,
    FAILED,
    LIVE,
    OPEN,
    PENDING,
    SKIPPED,
    UNMARKED,
    VOID,
    Head,
)
from flowcraft.engine.propagate import propagate
from flowcraft.graph import Graph

__all__ = ["affected", "new_epoch", "reset_from"]


def affected(graph: Graph, head: Head, nodes: Iterable[int]) -> set[int]:
    """The nodes and all that follows from them: along edges that are not back edges, out of their scopes, and what
    only their fallbacks led to."""
    found: set[int] = set()
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if node in found:
            continue
        found.add(node)
        todo += [graph.dst[e] for e in graph.out[node] if e < graph.in_mid[graph.dst[e]]]
        fallback = graph.fallback[node]
        if fallback >= 0 and fallback not in found:
            todo += [graph.dst[e] for e in _open_edges(graph, head, fallback)]
        for scope in graph.chain[node]:
            if scope:
                todo += [graph.dst[e] for e in graph.scopes[scope].exits if head.marks[e] != LIVE]
    return found


def _open_edges(graph: Graph, head: Head, node: int) -> list[int]:
    return [e for e in graph.out[node] if head.marks[e] != LIVE and e < graph.in_mid[graph.dst[e]]]


def new_epoch(draft: Draft) -> None:
    """The run goes on, after its end or after a rollback."""
    head, timeout = draft.head, draft.graph.blueprint.timeout
    head.epoch += 1
    head.phase, head.cause, head.paused = "running", "", False
    head.wake_at = None
    head.deadline = None if timeout is None else draft.now + timeout
    if head.deadline is not None:
        draft.wake(head.deadline)
    draft.note("run:restarted", epoch=head.epoch)


def reset_from(draft: Draft, nodes: Sequence[int]) -> None:
    """Put the nodes, and all that follows from them, back to pending, and decide what follows from the marks left.

    The nodes start again, as their next visit, unless they follow from one another. What else is settled stays; active
    visits of nodes that are reset must have been ended before.
    """
    graph, head = draft.graph, draft.head
    again = affected(graph, head, nodes)
    first = [n for n in nodes if not any(graph.src[e] in again for e in range(graph.in_lo[n], graph.in_mid[n]))]
    reached = {n for n in again if any(graph.src[e] in again for e in range(graph.in_lo[n], graph.in_mid[n]))}
    for node in again:
        _forget(draft, node, restart=node in reached)
    _reopen_fallbacks(graph, head, again)
    for scope in {s for n in again for s in graph.chain[n] if s}:
        for e in graph.scopes[scope].exits:
            if head.marks[e] != LIVE:
                _unmark(head, e)
    head.failures = [failure for failure in head.failures if failure.node not in again]
    head.fired -= again
    draft.recount()
    for node in first:
        if head.states[node] == PENDING:
            draft.activate(node)
    draft.work.extend(sorted(again))
    draft.finals.extend(n for n in range(graph.node_count) if head.states[n] == OPEN)
    draft.fired.extend(again)
    draft.exits += [s for s, plan in enumerate(graph.scopes) if s and any(head.marks[e] == LIVE for e in plan.early)]
    draft.changed = True
    propagate(draft)


def _forget(draft: Draft, node: int, *, restart: bool) -> None:
    """Back to pending, its marks removed. ``restart``: what leads to it is decided again, too."""
    graph, head = draft.graph, draft.head
    state, visit = head.states[node], output_visit(graph, head, node)
    if visit and not graph.repeats[node]:
        draft.erase(output_key(graph, node, visit))
        head.outputs.pop(node, None)
    if not graph.repeats[node] and state in (COMPLETED, FAILED, CANCELLED):
        head.visits[node] = head.visits.get(node, 1) + 1
    if graph.repeats[node] and state in (COMPLETED, FAILED):
        head.last[node] = state
        if visit:
            head.outputs[node] = visit
    for e in graph.out[node]:
        _unmark(head, e)
    scope = graph.header_of.get(node)
    opened_by_back_edge = scope is not None and head.wins.get(node, (0,))[0] >= graph.in_mid[node]
    if scope is not None and (restart or not opened_by_back_edge):
        head.rounds.pop(scope, None)
        for e in graph.scopes[scope].entering:
            if head.marks[e] == VOID:
                head.marks[e] = head.entered.pop(e, UNMARKED)
    if restart or not opened_by_back_edge:
        head.wins.pop(node, None)
    head.fallbacks.pop(node, None)
    head.ordinary.pop(node, None)
    if graph.namers[node] and graph.in_lo[node] == graph.in_hi[node]:
        head.states[node] = OPEN
        head.ordinary[node] = SKIPPED
    elif node not in graph.undoes:
        head.states[node] = PENDING


def _unmark(head: Head, edge: int) -> None:
    head.marks[edge] = UNMARKED
    head.mark_visits.pop(edge, None)


def _reopen_fallbacks(graph: Graph, head: Head, again: set[int]) -> None:
    """A fallback that a reset node names may be needed again; what others chose of its edges stays."""
    for fallback in {graph.fallback[n] for n in again} - {-1} - again:
        kept = any(head.marks[e] == LIVE for e in graph.out[fallback])
        if not kept:
            head.fallbacks.pop(fallback, None)
        if head.states[fallback] not in (PENDING, OPEN):
            head.ordinary.setdefault(fallback, SKIPPED)
            head.states[fallback] = OPEN
        for e in _open_edges(graph, head, fallback):
            _unmark(head, e)
