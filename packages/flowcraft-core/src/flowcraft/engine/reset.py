"""Starting again: nodes of a run and all that follows from them are pending once more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flowcraft.engine.actions import take_action
from flowcraft.engine.draft import MISSING, Draft, output_key, output_visit
from flowcraft.engine.head import (
    BEGUN,
    COMPLETED,
    DEAD,
    FAILED,
    FAILED_LATE,
    GIVEN_UP,
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
from flowcraft.engine.joins import goes_round
from flowcraft.engine.outcomes import route_late
from flowcraft.engine.propagate import propagate
from flowcraft.engine.routes import erase_unread, spoken_of
from flowcraft.graph import Graph

__all__ = ["affected", "new_epoch", "reset_from"]


def affected(graph: Graph, head: Head, nodes: Iterable[int]) -> set[int]:
    """The nodes and all that follows from them: along edges that are not back edges, out of their scopes, and what
    only their fallbacks led to."""
    found: set[int] = set()
    todo = list(nodes)
    while todo:
        while todo:
            node = todo.pop()
            if node not in found:
                found.add(node)
                todo += _ahead(graph, graph.out[node])
        undecided = (e for e in _undecided(graph, head, found) if graph.dst[e] not in found)
        todo += _ahead(graph, undecided)
    return found


def _ahead(graph: Graph, edges: Iterable[int]) -> list[int]:
    """What the edges lead to that are not back edges."""
    return [graph.dst[e] for e in edges if e < graph.in_mid[graph.dst[e]]]


def _undecided(graph: Graph, head: Head, again: set[int]) -> set[int]:
    """The edges that carry no mark any more if these nodes start again: theirs, those out of their scopes that are not
    LIVE, and those of their fallbacks that are not LIVE through somebody else."""
    found = {e for n in again for e in graph.out[n]}
    scopes = {s for n in again for s in graph.chain[n] if s}
    found |= {e for s in scopes for e in graph.scopes[s].exits if head.mark_of(e) != LIVE}
    for e in (e for n in _helpers(graph, again) for e in graph.out[n]):
        if head.mark_of(e) != LIVE or all(owner in again for owner, _ in head.choosers.get(e, ())):
            found.add(e)
    return found


def _helpers(graph: Graph, nodes: Iterable[int]) -> set[int]:
    """The fallbacks that may have stood in for these nodes: their own, and those of these."""
    found: set[int] = set()
    for node in nodes:
        fallback = graph.fallback[node]
        while fallback >= 0 and fallback not in found:
            found.add(fallback)
            fallback = graph.fallback[fallback]
    return found


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
    """What starts again: ``again`` is put back, the edges ``undecided`` lose their marks, and ``first`` starts at once
    with what had led there (``wins`` and the visits these edges speak of)."""

    again: set[int]
    undecided: set[int]
    first: list[int]
    wins: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    brought: dict[int, int] = field(default_factory=dict[int, int])


def reset_from(draft: Draft, nodes: Sequence[int]) -> None:
    """Put the nodes, what was stopped, and all that follows from them back to pending, and decide what follows.

    What had begun starts again, as its next visit, unless it follows from something else that does; what else is
    settled stays. Nothing is active when this is called.
    """
    graph, head = draft.graph, draft.head
    plan = _plan(graph, head, nodes)
    touched = {s for n in (*plan.again, *head.halted, *(late[0] for late in head.late)) for s in graph.chain[n] if s}
    edges = {*plan.undecided, *(e for n in _helpers(graph, plan.again) for e in graph.out[n])}
    edges |= {e for n in plan.again & graph.header_of.keys() for e in graph.scopes[graph.header_of[n]].back}
    unread = spoken_of(graph, head, edges)
    for e in plan.undecided:
        _unmark(head, e)
    _open_anew(graph, head, plan)
    for node in plan.again:
        _carry_given_input(graph, head, node, again=node in plan.first)
        _forget(draft, node)
    _resume_halted(draft, plan.again)
    _reopen_fallbacks(graph, head, plan.again)
    head.failures = [f for f in head.failures if f.node not in plan.again and f.owner not in plan.again]
    head.fired -= plan.again
    head.wins.update(plan.wins)
    head.brought.update(plan.brought)
    for node, visit in unread:
        erase_unread(draft, node, visit)
    draft.recount()
    draft.judged = len(head.failures)
    for node in plan.first:
        draft.activate(node)
    _mark_what_came_late(draft, plan.again)
    _decide(draft, plan.again, touched)
    draft.changed = True
    propagate(draft)


def _plan(graph: Graph, head: Head, nodes: Sequence[int]) -> _Plan:
    begun = [n for n, how in head.halted.items() if how == BEGUN]
    again = affected(graph, head, [*nodes, *begun])
    undecided = _undecided(graph, head, again)
    reached = set(_ahead(graph, undecided))
    had_begun = [n for n in dict.fromkeys((*nodes, *begun)) if _had_begun(graph, head, n)]
    plan = _Plan(again, undecided, [n for n in had_begun if n not in reached])
    for node in plan.first:
        refused, scope = _refused(head, node), graph.header_of.get(node)
        if refused and scope is not None:  # it was to go round once more
            wins = tuple(e for e in graph.scopes[scope].back if head.marks[e] == LIVE)
            plan.brought.update({e: head.mark_visits[e] for e in wins if e in head.mark_visits})
        else:
            wins = head.wins.get(node, ())
        if wins:
            plan.wins[node] = wins
    return plan


def _refused(head: Head, header: int) -> bool:
    """Whether the header would have gone round once more, but had done so too often (now, not in another opening)."""
    return any(f.visits[0] == (header, -head.visits.get(header, 1)) for f in head.failures)


def _had_begun(graph: Graph, head: Head, node: int) -> bool:
    """Whether the node's own visit had begun; what a fallback did for others is none of its own."""
    if head.halted.get(node) == BEGUN:
        return True
    if graph.at_least[node] and graph.in_lo[node] < graph.in_mid[node] and node not in head.wins:
        return False  # it was marked as completed, and its join has not fired
    return (head.ordinary.get(node) if graph.namers[node] else head.states[node]) in (COMPLETED, FAILED)


def _forget(draft: Draft, node: int) -> None:
    """Back to pending."""
    graph, head = draft.graph, draft.head
    state, visit = head.states[node], output_visit(graph, head, node)
    ran = state in (COMPLETED, FAILED)
    if graph.scope_of[node]:
        if ran:
            head.last[node] = state
        if ran and visit:
            head.outputs[node] = visit
    elif visit:
        if graph.compensation[node] < 0:  # else it may still have to be undone
            draft.erase(output_key(graph, node, visit))
        head.outputs.pop(node, None)
    if not graph.repeats[node] and (ran or head.halted.get(node) in (BEGUN, GIVEN_UP)):
        head.visits[node] = head.visits.get(node, 1) + 1
    head.wins.pop(node, None)
    head.fallbacks.pop(node, None)
    head.ordinary.pop(node, None)
    if graph.namers[node] and graph.in_lo[node] == graph.in_hi[node]:
        head.states[node] = OPEN
        head.ordinary[node] = SKIPPED
    elif node not in graph.undoes:
        head.states[node] = PENDING


def _carry_given_input(graph: Graph, head: Head, node: int, *, again: bool) -> None:
    """What was given for a visit that starts again with what had led there is given for the next one."""
    visit = head.latest_visit(node, repeats=graph.repeats[node])
    begun = head.states[node] in (COMPLETED, FAILED) or head.halted.get(node) in (BEGUN, GIVEN_UP)
    if begun and head.given.get(node) == visit:
        if again:
            head.given[node] = 0 if graph.repeats[node] else visit + 1
        else:
            del head.given[node]


def _open_anew(graph: Graph, head: Head, plan: _Plan) -> None:
    """Scopes whose header starts again because something before it does, or around it; visits of others count on."""
    anew: set[int] = set()
    for node in plan.again & graph.header_of.keys():
        around = (graph.scopes[s].header for s in graph.chain[node] if s and s != graph.header_of[node])
        if node not in plan.first or not plan.again.isdisjoint(around):
            anew.add(graph.header_of[node])
    later = {s for s, plan in enumerate(graph.scopes) if s and goes_round(graph, head, plan.header)} - anew
    heeded_by_none = {e for s in later for e in graph.scopes[s].entering}
    for scope in anew:
        head.rounds.pop(scope, None)
        for e in graph.scopes[scope].back:
            head.brought.pop(e, None)
        for e in graph.scopes[scope].entering:
            if head.marks[e] == VOID and e not in heeded_by_none:
                head.marks[e] = head.entered.pop(e, UNMARKED)
    starting = [n for n in graph.starts if n in plan.again and later.isdisjoint(graph.chain[n])]
    plan.first = list(dict.fromkeys((*plan.first, *starting)))


def _unmark(head: Head, edge: int) -> None:
    head.put_mark(edge, UNMARKED)
    head.mark_visits.pop(edge, None)
    head.choosers.pop(edge, None)


def _resume_halted(draft: Draft, again: set[int]) -> None:
    """What had not begun when the run was stopped is pending as before."""
    head = draft.head
    for node, how in head.halted.items():
        if node not in again and how not in (FAILED_LATE, GIVEN_UP):
            head.states[node] = OPEN if how == WAS_OPEN else PENDING


def _reopen_fallbacks(graph: Graph, head: Head, again: set[int]) -> None:
    """A fallback that stood in for a reset node may be needed again; what it did for others stays."""
    for fallback in _helpers(graph, again) - again:
        ran = {owner: worked for owner, worked in head.fallbacks.pop(fallback, {}).items() if owner not in again}
        if ran:
            head.fallbacks[fallback] = ran
        if head.states[fallback] not in (PENDING, OPEN):
            head.ordinary.setdefault(fallback, SKIPPED)
            head.states[fallback] = OPEN
        for e in graph.out[fallback]:
            others = [chosen for chosen in head.choosers.get(e, ()) if chosen[0] not in again]
            if others:
                head.choosers[e] = others
                head.mark_visits[e] = others[0][1]


def _mark_what_came_late(draft: Draft, again: set[int]) -> None:
    """Outcomes that arrived after the run was stopped lead on now; those of losers lead nowhere."""
    graph, head = draft.graph, draft.head
    late, head.late = head.late, []
    halted = head.halted
    head.halted = {n: how for n, how in halted.items() if how == GIVEN_UP and n not in again}
    for node, visit, kept, owner in late:
        action = take_action(draft, node, visit, kept)
        stays = node not in again and owner not in again
        if stays and draft.cell(output_key(graph, node, visit)) is not MISSING:
            route_late(draft, node, visit, action, owner)
    for node in range(graph.node_count):
        if node not in again and head.states[node] in SETTLED and not graph.namers[node]:
            draft.send(node, MARK_FAILED if halted.get(node) == FAILED_LATE else DEAD)


def _decide(draft: Draft, again: set[int], touched: set[int]) -> None:
    graph, head = draft.graph, draft.head
    draft.work.extend(n for n in range(graph.node_count) if head.states[n] == PENDING)
    draft.finals.extend(n for n in range(graph.node_count) if head.states[n] == OPEN)
    draft.fired.extend(again)
    plans = list(enumerate(graph.scopes))[1:]
    open_still = {s for s, plan in plans if any(head.mark_of(e) == UNMARKED for e in plan.exits)}
    going_round = {s for s, plan in plans if not _refused(head, plan.header)}  # it was stopped before they could
    draft.ended += [s for s in touched | open_still | going_round if not draft.left[s]]
    draft.exits += [s for s, plan in plans if any(head.mark_of(e) == LIVE for e in plan.early)]
