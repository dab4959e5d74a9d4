"""Scopes at work: when every node of a cycle's visit is settled, the next visit opens or the scope has ended."""

from __future__ import annotations

from flowcraft.engine.draft import Draft, output_visit
from flowcraft.engine.head import (
    COMPLETED,
    DEAD,
    FAILED,
    LIVE,
    MARK_FAILED,
    OPEN,
    PENDING,
    SKIPPED,
    UNMARKED,
    UPSET,
    VOID,
    Failure,
)
from flowcraft.engine.joins import fired_by_join, give_up
from flowcraft.engine.routes import erase_unread, spoken_of
from flowcraft.model import ErrorInfo, ValueKey

__all__ = ["end_visit", "leave_loop"]


def end_visit(draft: Draft, scope: int) -> None:
    """All nodes of the scope's visit are settled: go round again, or mark the edges that waited for the end."""
    if draft.left[scope]:
        return
    graph, head = draft.graph, draft.head
    plan = graph.scopes[scope]
    live = tuple(e for e in plan.back if head.marks[e] == LIVE)
    if live and not any(head.mark_of(e) == LIVE for s in graph.chain[plan.header] for e in graph.scopes[s].early):
        if head.rounds.get(scope, 0) < graph.blueprint.max_visits:
            _reopen(draft, scope, live)
            return
        _exhaust(draft, plan.header)
    for e in plan.exits:
        if head.mark_of(e) == UNMARKED:
            draft.mark(e, MARK_FAILED if head.states[graph.src[e]] in UPSET else DEAD)


def leave_loop(draft: Draft, scope: int) -> None:
    """An edge with an action or a condition led out of a structured loop: what is not settled in it is not needed."""
    if draft.left[scope]:
        for node in draft.graph.scopes[scope].members:
            give_up(draft, node)


def _exhaust(draft: Draft, header: int) -> None:
    graph, head = draft.graph, draft.head
    refused = -head.visits.get(header, 1)  # stands for the round after this visit, which is not made
    told = Failure(header, ((header, refused),))
    if told in head.failures:
        return  # a cycle within ended, went round and ended again in this commit: so has this one, twice
    limit = graph.blueprint.max_visits
    error = ErrorInfo("VisitLimitReached", f"the cycle at {graph.ids[header]!r} went round {limit} times")
    draft.write(ValueKey("error", graph.ids[header], refused), draft.encode(error.to_dict()))
    head.states[header] = FAILED
    head.failures.append(told)
    draft.failed = True
    draft.note("node:failed", header, refused, error=str(error))


def _reopen(draft: Draft, scope: int, live: tuple[int, ...]) -> None:
    graph, head = draft.graph, draft.head
    plan = graph.scopes[scope]
    for nested in plan.nested:
        head.rounds.pop(nested, None)
        draft.left[nested] = len(graph.scopes[nested].members)
    for around in graph.chain[plan.header]:
        if around and graph.scopes[around].depth <= plan.depth:
            draft.left[around] += len(plan.members)
    for node in plan.members:
        _forget(draft, node)
    carried = {e: head.mark_visits[e] for e in live if e in head.mark_visits}
    unread = spoken_of(graph, head, plan.inner)
    for e in plan.inner:
        head.marks[e] = UNMARKED
        head.entered.pop(e, None)
        head.mark_visits.pop(e, None)
        head.choosers.pop(e, None)
        head.brought.pop(e, None)
    for e in plan.entering:
        if head.marks[e] != VOID:
            head.entered[e] = head.marks[e]
            head.marks[e] = VOID
    head.wins[plan.header] = live
    head.brought.update(carried)  # the header's input is that of the visits that sent it round
    for node, visit in unread:
        erase_unread(draft, node, visit)
    draft.activate(plan.header)
    draft.note("scope:visit", plan.header, round=head.rounds[scope])
    draft.work.extend(node for node in plan.members if node != plan.header)
    if head.wins or head.fired:  # what a join outside needs no more, it needs in no later visit
        draft.fired.extend(plan.members)


def _forget(draft: Draft, node: int) -> None:
    """Back to pending; what the last visit that ran was, and its output, stay known."""
    graph, head = draft.graph, draft.head
    if head.states[node] in (COMPLETED, FAILED):
        visit = output_visit(graph, head, node)
        if visit:
            head.outputs[node] = visit
        head.last[node] = head.states[node]
    if fired_by_join(graph, head, node):
        head.fired.add(node)
    head.wins.pop(node, None)
    head.fallbacks.pop(node, None)
    head.ordinary.pop(node, None)
    if graph.namers[node] and graph.in_lo[node] == graph.in_hi[node]:
        head.states[node] = OPEN
        head.ordinary[node] = SKIPPED
    else:
        head.states[node] = PENDING
