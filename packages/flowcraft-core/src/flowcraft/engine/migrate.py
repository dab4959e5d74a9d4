"""Moving a run to another blueprint: the head in the numbers of another graph. Pure; what follows is decided at once.

What has happened stays: nodes that are settled or active keep their states, visits and marks, so the new blueprint must
have them, in the same cycles and with the same fallbacks. What has not happened yet may be changed at will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from flowcraft.engine.draft import Draft, output_visit
from flowcraft.engine.head import (
    CANCELLED,
    DEAD,
    LIVE,
    MARK_FAILED,
    OPEN,
    PARKED,
    PENDING,
    SETTLED,
    SKIPPED,
    UNMARKED,
    UPSET,
    VOID,
    Activation,
    Failure,
    Head,
)
from flowcraft.engine.joins import goes_round
from flowcraft.engine.matching import Match
from flowcraft.engine.propagate import propagate
from flowcraft.engine.routes import erase_unread, spoken_of, transform_key
from flowcraft.engine.slots import NODE_MASK, item_of, item_slot, node_of
from flowcraft.engine.transition import Effects, seal
from flowcraft.errors import MigrationRefused
from flowcraft.graph import Graph
from flowcraft.model import ValueKey

__all__ = ["HEAD_FIELDS", "Migrated", "migrate"]

#: Every field of a head and how it is moved: as it is, or by a function below. A test compares it with `Head`.
HEAD_FIELDS: Final = {
    "as it is": {
        "phase", "paused", "depth", "parent", "epoch", "seq", "wake_at", "started_at", "cause", "tokens", "logged",
        "origin", "was",
    },
    "by node": {
        "states", "active", "visits", "outputs", "last", "wins", "fallbacks", "ordinary", "fired", "failures",
        "batches", "answered", "mailbox", "done", "undo", "goal", "halted", "late", "frozen", "given",
    },
    "by edge": {"marks", "mark_visits", "brought", "choosers", "entered"},
    "by scope": {"rounds"},
    "by blueprint": {"deadline"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Migrated:
    """``head`` in the numbers of the new graph; ``moved``: stored values that have another key now, as (old, new)."""

    head: Head
    effects: Effects
    moved: tuple[tuple[ValueKey, ValueKey], ...]


def migrate(old: Graph, new: Graph, head: Head, *, draft: Callable[[Graph, Head], Draft]) -> Migrated:
    """The run of ``head``, which stays as it is, on the graph ``new``.

    ``draft`` makes the draft in which what follows is decided, with its fold begun.

    Raises:
        MigrationRefused: the run has ended or is ending, or the new blueprint lacks or contradicts what has happened.
    """
    if head.phase != "running":
        raise MigrationRefused(f"the run is {head.phase}: only one that goes on can be moved to another blueprint")
    plan = _Move(old, new, head)
    plan.check()
    moved = plan.head()
    made = draft(new, moved)
    made.changed = True
    made.note("run:migrated", old=old.content_hash, new=new.content_hash)
    for node, visit in sorted(plan.unread()):
        erase_unread(made, node, visit)
    _decide(made)
    return Migrated(moved, seal(made), plan.moved_values())


def _decide(draft: Draft) -> None:
    """Start what has nothing before it, and decide what can be decided now; `propagate` does the rest."""
    graph, head = draft.graph, draft.head
    for slot, activation in list(head.active.items()):
        if head.state(slot) == PARKED and activation.due > draft.now:  # its function may be known under the new name
            draft.schedule(slot, PARKED, replace(activation, due=draft.now))
    if head.deadline is not None:
        draft.wake(head.deadline)
    for node in graph.starts:
        if head.states[node] == PENDING:
            draft.activate(node)
    draft.work.extend(n for n, state in enumerate(head.states) if state == PENDING)
    draft.finals.extend(n for n, state in enumerate(head.states) if state == OPEN)
    draft.fired.extend(n for n, state in enumerate(head.states) if n in head.wins or state == CANCELLED)
    draft.exits += [s for s, plan in enumerate(graph.scopes) if s and any(head.marks[e] == LIVE for e in plan.early)]
    draft.failed, draft.judged = bool(head.failures), 0
    propagate(draft)


class _Move(Match):
    """The head in the new numbers."""

    def head(self) -> Head:
        old, new, before = self.old, self.new, self.before
        states, ordinary = bytearray(new.node_count), dict[int, int]()
        for n, node_id in enumerate(new.ids):
            number = old.index.get(node_id, -1)
            if number in self.touched:
                states[n] = before.states[number]
                if number in before.ordinary:
                    ordinary[n] = before.ordinary[number]
            elif new.namers[n] and new.in_lo[n] == new.in_hi[n]:
                states[n], ordinary[n] = OPEN, SKIPPED
            elif n in new.undoes:
                states[n] = SKIPPED
        marks, mark_visits, entered = self._marks()
        deadline = before.deadline
        if new.blueprint.timeout != old.blueprint.timeout:
            deadline = None if new.blueprint.timeout is None else before.started_at + new.blueprint.timeout
        return replace(
            before,
            states=states,
            marks=marks,
            deadline=deadline,
            tokens=list(before.tokens),
            logged=list(before.logged),
            active=self._active(),
            visits=self._by_node(before.visits),
            outputs=self._by_node(before.outputs),
            last=self._by_node(before.last),
            wins={self.node(n): tuple(self.edge[e] for e in edges) for n, edges in before.wins.items()},
            mark_visits=mark_visits,
            rounds={new.header_of[self.node(old.scopes[s].header)]: count for s, count in before.rounds.items()},
            fallbacks={
                self.node(n): {self.node(owner): worked for owner, worked in ran.items()}
                for n, ran in before.fallbacks.items()
            },
            brought={self.edge[e]: visit for e, visit in before.brought.items()},
            choosers={
                self.edge[e]: [(self.node(owner), visit) for owner, visit in rows]
                for e, rows in before.choosers.items()
                if e in self.edge
            },
            ordinary=ordinary,
            fired={self.node(n) for n in before.fired},
            failures=[
                Failure(self.node(f.node), self._visits(f.visits), f.owner if f.owner < 0 else self.node(f.owner))
                for f in before.failures
            ],
            batches={
                self.node(n): replace(batch, states=bytearray(batch.states), away=set(batch.away))
                for n, batch in before.batches.items()
            },
            answered={self.node(n): list(answers) for n, answers in before.answered.items()},
            mailbox={(self.node(n), visit): signal for (n, visit), signal in before.mailbox.items()},
            done=[done for done in self._done(before.done) if new.compensation[done[0]] >= 0],
            undo=self._done(before.undo),
            goal=tuple(self.node(n) for n in before.goal),
            entered=entered,
            halted=self._by_node(before.halted),
            late=[(self.node(n), visit, action, self.node(owner)) for n, visit, action, owner in before.late],
            frozen={self.node(n): made for n, made in before.frozen.items()},
            given=self._by_node(before.given),
        )

    def _by_node(self, numbers: Mapping[int, int]) -> dict[int, int]:
        return {self.node(n): number for n, number in numbers.items()}

    def _visits(self, pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple((self.node(n), visit) for n, visit in pairs)

    def _done(self, visits: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        return [(self.node(n), visit, self.node(owner)) for n, visit, owner in visits]

    def _active(self) -> dict[int, Activation]:
        """One object for those that share one, as before: the head stays small."""
        made: dict[int, Activation] = {}
        active: dict[int, Activation] = {}
        for slot, a in self.before.active.items():
            if id(a) not in made:
                runs = a.runs if a.runs < 0 else self.node(a.runs)
                made[id(a)] = replace(a, runs=runs, before=self._visits(a.before))
            node = self.node(node_of(slot))
            active[item_slot(node, item_of(slot)) if slot > NODE_MASK else node] = made[id(a)]
        return active

    def _marks(self) -> tuple[bytearray, dict[int, int], dict[int, int]]:
        """Marks, the visits that they speak of, and what edges carried that are not heeded any more."""
        marks = bytearray(len(self.new.src))
        visits: dict[int, int] = {}
        entered: dict[int, int] = {}
        for e, made in self.edge.items():
            marks[made] = self._carried_mark(e, made)
            if e in self.before.mark_visits:
                visits[made] = self.before.mark_visits[e]
            if e in self.before.entered:
                entered[made] = self.before.entered[e]
        carried = set(self.edge.values())
        for e in range(len(marks)):
            if e in carried:
                continue
            marks[e] = mark = self._fresh_mark(e)
            source = self.new.src[e]
            if mark == LIVE and self.new.repeats[source]:
                visits[e] = output_visit(self.old, self.before, self.old.index[self.new.ids[source]])
            if mark != UNMARKED and self._not_heeded(e):
                marks[e], entered[e] = VOID, mark
        return marks, visits, entered

    def _carried_mark(self, old: int, made: int) -> int:
        """As it was, unless the edge leaves a cycle now that it did not leave, or the other way round."""
        mark, source = self.before.marks[old], self.old.src[old]
        if mark in (LIVE, VOID) or self.before.states[source] not in SETTLED:
            return mark
        if self._leaves_one_that_goes_on(made):
            return UNMARKED
        return mark or (MARK_FAILED if self.before.states[source] in UPSET else DEAD)

    def _leaves_one_that_goes_on(self, edge: int) -> bool:
        left = self.new.exits_scope[edge]
        return any(self.moved_scope(s) == left and not self.ended(s) for s in self.scopes if left)

    def _fresh_mark(self, edge: int) -> int:
        source = self.old.index.get(self.new.ids[self.new.src[edge]], -1)
        if source not in self.touched or self.before.states[source] not in SETTLED:
            return UNMARKED
        if self.is_live(edge):
            return LIVE
        return UNMARKED if self._leaves_one_that_goes_on(edge) else DEAD  # the end of the cycle decides

    def _not_heeded(self, edge: int) -> bool:
        """Whether the edge leads into a cycle that has gone round."""
        entered = [s for s in self.scopes if edge in self.new.scopes[self.moved_scope(s)].entering]
        return any(goes_round(self.old, self.before, self.old.scopes[s].header) for s in entered)

    def unread(self) -> set[tuple[int, int]]:
        """The visits that edges spoke of which are no more, and that would have been undone by what undoes no more."""
        gone = spoken_of(self.old, self.before, (e for e in range(len(self.old.src)) if e not in self.edge))
        gone |= {(n, visit) for n, visit, _ in self.before.done}
        return {(self.node(n), visit) for n, visit in gone}

    def moved_values(self) -> tuple[tuple[ValueKey, ValueKey], ...]:
        """What transforms made is stored by the numbers of edges, which are others now."""
        found: list[tuple[ValueKey, ValueKey]] = []
        for e, made in self.edge.items():
            if self._carries(e) and self.old.transform[e] is not None and e != made:
                visits = {visit for _, visit in spoken_of(self.old, self.before, (e,))}
                visits = visits or {output_visit(self.old, self.before, self.old.src[e])}
                found += [(transform_key(e, each), transform_key(made, each)) for each in sorted(visits)]
        return tuple(found)
