"""Joins and losers: when a node fires, and who is not needed any more once it has."""

from __future__ import annotations

from collections.abc import Sequence

from flowcraft.engine.draft import Draft
from flowcraft.engine.head import (
    CANCELLED,
    DEAD,
    LIVE,
    MARK_FAILED,
    PARKED,
    PENDING,
    READY,
    RETRYING,
    SETTLED,
    SKIPPED,
    SKIPPED_FAILED,
    SPREAD,
    UNMARKED,
    VOID,
    WAITING,
    Head,
)
from flowcraft.graph import Graph

__all__ = ["absolved", "fired_by_join", "give_up", "give_up_losers", "goes_round", "resolve"]


def resolve(draft: Draft, node: int) -> None:
    """Decide a pending node from the marks of its predecessors, if they suffice."""
    graph, head = draft.graph, draft.head
    if head.states[node] != PENDING:
        return
    low, high, needed = graph.in_lo[node], graph.in_mid[node], graph.at_least[node]
    if graph.waits_for_all[node] and head.marks.find(UNMARKED, low, high) >= 0:
        return  # the usual answer at a wide join, without a copy
    marks = _by_predecessor(graph, head, node) if graph.parallel[node] else head.marks[low:high]
    if not needed:
        if UNMARKED in marks:
            return
        if MARK_FAILED in marks:
            _skip(draft, node, SKIPPED_FAILED)
        elif LIVE in marks:
            draft.activate(node)
        else:
            _skip(draft, node, SKIPPED)
        return
    live = marks.count(LIVE)
    if live >= needed:
        _fire(draft, node, [e for e in range(low, high) if head.marks[e] == LIVE])
    elif UNMARKED not in marks:
        failed = marks.count(MARK_FAILED)
        _skip(draft, node, SKIPPED_FAILED if failed and live + failed >= needed else SKIPPED)


def _by_predecessor(graph: Graph, head: Head, node: int) -> bytearray:
    """One mark for each predecessor, where several edges come from one."""
    found: dict[int, list[int]] = {}
    for e in range(graph.in_lo[node], graph.in_mid[node]):
        found.setdefault(graph.src[e], []).append(head.marks[e])
    order = (LIVE, UNMARKED, MARK_FAILED, DEAD, VOID)
    return bytearray(next(m for m in order if m in marks) for marks in found.values())


def _skip(draft: Draft, node: int, state: int) -> None:
    draft.note("node:skipped", node, failed=state == SKIPPED_FAILED)
    draft.decide(node, state)


def _fire(draft: Draft, node: int, winners: Sequence[int]) -> None:
    draft.head.wins[node] = tuple(winners[:1] if draft.graph.at_least[node] == 1 else winners)
    draft.activate(node)
    if not draft.graph.keep_losers[node]:
        draft.fired.append(node)


def give_up_losers(draft: Draft) -> None:
    """Cancel or drain what the joins that have just fired made superfluous; called when all else is decided."""
    seeds, draft.fired = draft.fired, []
    for loser in _losers(draft, seeds):
        give_up(draft, loser)


def give_up(draft: Draft, node: int) -> None:
    """The node is not needed any more: what nobody works on is cancelled, what somebody may work on drains."""
    head = draft.head
    state = head.states[node]
    if state == READY or (state == WAITING and head.active[node].reason):
        if not draft.drain(node):
            return
    elif state in (RETRYING, PARKED, WAITING):
        del head.active[node]
    elif state != PENDING:
        if state == SPREAD:
            draft.unneeded.append(node)
        return
    if state != PENDING:
        draft.came_to_nothing(node)
    draft.note("node:cancelled", node, reason="it is not needed any more")
    draft.decide(node, CANCELLED)


def fired_by_join(graph: Graph, head: Head, node: int) -> bool:
    """Whether the join fired in the current visit of its scope; a header that goes round did not fire by its join."""
    return graph.at_least[node] > 0 and node in head.wins and head.wins[node][0] < graph.in_mid[node]


def goes_round(graph: Graph, head: Head, header: int) -> bool:
    """Whether the scope of this header is in a later visit than the first of its opening."""
    wins = head.wins.get(header)
    return wins is not None and wins[0] >= graph.in_mid[header]


def _losers(draft: Draft, seeds: Sequence[int]) -> list[int]:
    """Unsettled nodes all of whose ways out now end at joins that have fired; in order of their numbers.

    ``seeds`` are the nodes that changed so that others, before them, may have become losers, or themselves.
    """
    graph, head = draft.graph, draft.head
    candidates = {n for n in seeds if head.states[n] not in SETTLED and not graph.namers[n]}
    todo = list(seeds)
    while todo:
        node = todo.pop()
        for e in range(graph.in_lo[node], graph.in_mid[node]):
            source = graph.src[e]
            if source not in candidates and head.states[source] not in SETTLED and not graph.namers[source]:
                candidates.add(source)
                todo.append(source)

    def leads_away(e: int) -> bool:
        target = graph.dst[e]
        if e >= graph.in_mid[target]:
            return True
        if fired_by_join(graph, head, target) and not graph.keep_losers[target]:
            return False
        return target not in candidates and head.states[target] != CANCELLED

    doomed = list(candidates)
    while doomed:
        doomed = [n for n in candidates if not graph.out[n] or any(map(leads_away, graph.out[n]))]
        candidates.difference_update(doomed)
    return sorted(candidates)


def absolved(graph: Graph, head: Head, node: int) -> bool:
    """Whether a failed node's every way out leads to a join of the kind at least n that has fired.

    Settled nodes are walked, so the answer is final only at completion.
    """
    seen: set[int] = set()
    todo = [node]
    while todo:
        current = todo.pop()
        if not graph.out[current]:
            return False
        for e in graph.out[current]:
            target = graph.dst[e]
            if e >= graph.in_mid[target]:
                return False
            if target in seen or target in head.fired or fired_by_join(graph, head, target):
                continue
            if target in head.last or head.states[target] not in (SKIPPED, SKIPPED_FAILED, CANCELLED):
                return False  # ran, perhaps in an earlier visit of its scope, which is what counts of it
            seen.add(target)
            todo.append(target)
    return True
