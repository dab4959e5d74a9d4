"""Starting again: nodes of a run and all that follows from them are pending once more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flowcraft.engine.draft import MISSING, Draft, output_key, output_visit
from flowcraft.engine.head import (
    BEGUN,
    COMPLETED,
    DEAD,
    FAILED,
    FAILED_LATE,
    LIVE,
    MARK_FAILED,
    OPEN,
    PENDING,
    SETTLED,
    SKIPPED,
    UNMARKED,
    VOID,
    WAS_OPEN,
    Head,
)
from flowcraft.engine.outcomes import route_late
from flowcraft.engine.propagate import propagate
from flowcraft.engine.rounds import leads_out
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
            todo += [graph.dst[e] for e in _undecided(graph, head, fallback)]
        for scope in graph.chain[node]:
            if scope:
                todo += [graph.dst[e] for e in graph.scopes[scope].exits if head.marks[e] != LIVE]
    return found


def _undecided(graph: Graph, head: Head, node: int) -> list[int]:
    """The edges of a fallback that nobody has chosen."""
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


@dataclass(slots=True)
class _Plan:
    """What starts again: ``again`` is put back, of it ``reached`` is decided anew, and ``first`` starts at once with
    what had led there (``wins`` and the visits these edges speak of)."""

    again: set[int]
    reached: set[int]
    first: list[int]
    wins: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    mark_visits: dict[int, int] = field(default_factory=dict[int, int])


def reset_from(draft: Draft, nodes: Sequence[int]) -> None:
    """Put the nodes, what was stopped, and all that follows from them back to pending, and decide what follows.

    What had begun starts again, as its next visit, unless it follows from something else that does; what else is
    settled stays. Nothing is active when this is called.
    """
    graph, head = draft.graph, draft.head
    plan = _plan(graph, head, nodes)
    touched = {s for n in (*plan.again, *head.halted, *(late[0] for late in head.late)) for s in graph.chain[n] if s}
    for node in plan.again:
        _forget(draft, node, plan)
    _resume_halted(draft, plan.again)
    _reopen_fallbacks(graph, head, plan.again)
    for scope in {s for n in plan.again for s in graph.chain[n] if s}:
        for e in graph.scopes[scope].exits:
            if head.marks[e] != LIVE:
                _unmark(head, e)
    head.failures = [failure for failure in head.failures if failure.node not in plan.again]
    head.fired -= plan.again
    head.wins.update(plan.wins)
    head.mark_visits.update(plan.mark_visits)
    draft.recount()
    for node in plan.first:
        draft.activate(node)
    _mark_what_came_late(draft, plan.again)
    _decide(draft, plan.again, touched)
    draft.changed = True
    propagate(draft)


def _plan(graph: Graph, head: Head, nodes: Sequence[int]) -> _Plan:
    begun = [n for n, how in head.halted.items() if how == BEGUN]
    again = affected(graph, head, [*nodes, *begun])
    reached = {n for n in again if any(graph.src[e] in again for e in range(graph.in_lo[n], graph.in_mid[n]))}
    starting = dict.fromkeys((*nodes, *begun))
    had_begun = [n for n in starting if head.states[n] in (COMPLETED, FAILED) or head.halted.get(n) == BEGUN]
    plan = _Plan(again, reached, [n for n in had_begun if n not in reached])
    for node in plan.first:
        refused = any(f.node == node and f.visits[0][1] < 0 for f in head.failures)
        scope = graph.header_of.get(node)
        if refused and scope is not None:  # it was to go round once more
            wins = tuple(e for e in graph.scopes[scope].back if head.marks[e] == LIVE)
        else:
            wins = head.wins.get(node, ())
        if wins:
            plan.wins[node] = wins
            plan.mark_visits.update({e: head.mark_visits[e] for e in wins if e in head.mark_visits})
    return plan


def _forget(draft: Draft, node: int, plan: _Plan) -> None:
    """Back to pending, its marks removed."""
    graph, head = draft.graph, draft.head
    state, visit = head.states[node], output_visit(graph, head, node)
    ran = state in (COMPLETED, FAILED)
    if graph.repeats[node]:
        if ran:
            head.last[node] = state
        if ran and visit:
            head.outputs[node] = visit
    else:
        if visit:
            draft.erase(output_key(graph, node, visit))
            head.outputs.pop(node, None)
        if ran or head.halted.get(node) == BEGUN:
            head.visits[node] = head.visits.get(node, 1) + 1
    for e in graph.out[node]:
        _unmark(head, e)
    goes_round = node in plan.first and plan.wins.get(node, (0,))[0] >= graph.in_mid[node]
    scope = graph.header_of.get(node)
    if scope is not None and not goes_round:
        head.rounds.pop(scope, None)
        for e in graph.scopes[scope].entering:
            if head.marks[e] == VOID:
                head.marks[e] = head.entered.pop(e, UNMARKED)
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


def _resume_halted(draft: Draft, again: set[int]) -> None:
    """What had not begun when the run was stopped is pending as before."""
    head = draft.head
    for node, how in head.halted.items():
        if node not in again and how != FAILED_LATE:
            head.states[node] = OPEN if how == WAS_OPEN else PENDING


def _reopen_fallbacks(graph: Graph, head: Head, again: set[int]) -> None:
    """A fallback that a reset node names may be needed again; what others chose of its edges stays."""
    for fallback in {graph.fallback[n] for n in again} - {-1} - again:
        if not any(head.marks[e] == LIVE for e in graph.out[fallback]):
            head.fallbacks.pop(fallback, None)
        if head.states[fallback] not in (PENDING, OPEN):
            head.ordinary.setdefault(fallback, SKIPPED)
            head.states[fallback] = OPEN
        for e in _undecided(graph, head, fallback):
            _unmark(head, e)


def _mark_what_came_late(draft: Draft, again: set[int]) -> None:
    """Outcomes that arrived after the run was stopped lead on now; those of losers lead nowhere."""
    graph, head = draft.graph, draft.head
    late, head.late = head.late, []
    halted, head.halted = head.halted, {}
    for node, visit, action in late:
        if node not in again and draft.cell(output_key(graph, node, visit)) is not MISSING:
            route_late(draft, node, visit, action)
    for node in range(graph.node_count):
        if node not in again and head.states[node] in SETTLED and not graph.namers[node]:
            draft.send(node, MARK_FAILED if halted.get(node) == FAILED_LATE else DEAD)


def _decide(draft: Draft, again: set[int], touched: set[int]) -> None:
    graph, head = draft.graph, draft.head
    draft.work.extend(n for n in range(graph.node_count) if head.states[n] == PENDING)
    draft.finals.extend(n for n in range(graph.node_count) if head.states[n] == OPEN)
    draft.fired.extend(again)
    draft.ended += [s for s in touched if not draft.left[s]]
    draft.exits += [s for s, plan in enumerate(graph.scopes) if s and any(leads_out(head, e) for e in plan.early)]
