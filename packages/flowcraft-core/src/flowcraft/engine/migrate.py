"""Moving a run to another blueprint: the head in the numbers of another graph. Pure; what follows is decided at once.

What has happened stays: nodes that are settled or active keep their states, visits and marks, so the new blueprint must
have them, in the same cycles and with the same fallbacks. What has not happened yet may be changed at will.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from flowcraft.engine.draft import Cell, Draft, Times, output_visit
from flowcraft.engine.head import (
    CANCELLED,
    COMPLETED,
    DEAD,
    LIVE,
    OPEN,
    PARKED,
    PENDING,
    SETTLED,
    SKIPPED,
    UNMARKED,
    VOID,
    Activation,
    Failure,
    Head,
)
from flowcraft.engine.outcomes import propagate
from flowcraft.engine.routes import transform_key
from flowcraft.engine.transition import Effects, seal
from flowcraft.errors import MigrationRefused
from flowcraft.graph import Graph
from flowcraft.model import ValueKey

__all__ = ["HEAD_FIELDS", "Migrated", "migrate"]

#: Every field of a head and how it is moved: as it is, or by a function below. A test compares it with `Head`.
HEAD_FIELDS: Final = {
    "as it is": {"phase", "epoch", "seq", "wake_at", "started_at", "cause", "tokens"},
    "by node": {"states", "active", "visits", "outputs", "last", "wins", "fallbacks", "ordinary", "fired", "failures"},
    "by edge": {"marks", "mark_visits"},
    "by scope": {"rounds"},
    "by blueprint": {"deadline"},
}
#: An edge as people see it: source, target and action; and the how-manieth of those that are alike.
_Name = tuple[str, str, str | None, int]


@dataclass(frozen=True, slots=True)
class Migrated:
    """``head`` in the numbers of the new graph; ``moved``: stored values that have another key now, as (old, new)."""

    head: Head
    effects: Effects
    moved: tuple[tuple[ValueKey, ValueKey], ...]


def migrate(
    old: Graph, new: Graph, head: Head, *, nonce: str, now: float, times: Times, encode: Callable[[object], Cell]
) -> Migrated:
    """The run of ``head``, which stays as it is, on the graph ``new``; to be committed under ``nonce``.

    Raises:
        MigrationRefused: the run has ended or is ending, or the new blueprint lacks or contradicts what has happened.
    """
    if head.terminal or head.phase != "running":
        raise MigrationRefused(f"the run is {head.phase}: only one that goes on can be moved to another blueprint")
    plan = _Plan(old, new, head)
    plan.check()
    moved = plan.head()
    draft = Draft(new, moved, read=_unread, decode=_unread, encode=encode, record=True, times=times)
    draft.begin(nonce, now)
    draft.changed = True
    draft.note("run:migrated", old=old.content_hash, new=new.content_hash)
    _decide(draft)
    return Migrated(moved, seal(draft), plan.moved_values())


def _unread(_: object) -> object:
    raise AssertionError("nothing is decided by values when a run is moved")


def _decide(draft: Draft) -> None:
    """Start what has nothing before it, and decide what can be decided now; `propagate` does the rest."""
    graph, head = draft.graph, draft.head
    for node, activation in list(head.active.items()):
        if head.states[node] == PARKED and activation.due > draft.now:  # its function may be known under the new name
            draft.schedule(node, PARKED, replace(activation, due=draft.now))
    if head.deadline is not None:
        draft.wake(head.deadline)
    for node in graph.starts:
        if head.states[node] == PENDING:
            draft.activate(node)
    draft.work.extend(n for n, state in enumerate(head.states) if state == PENDING)
    draft.finals.extend(n for n, state in enumerate(head.states) if state == OPEN)
    draft.fired.extend(n for n, state in enumerate(head.states) if n in head.wins or state == CANCELLED)
    draft.failed = bool(head.failures)
    propagate(draft)


class _Plan:
    """One run between two graphs. ``touched`` are the old nodes with which something has happened."""

    def __init__(self, old: Graph, new: Graph, head: Head) -> None:
        self.old, self.new, self.before = old, new, head
        self.touched = _touched(old, head)
        names = {name: e for e, name in _names(new).items()}
        self.edge = {e: names[name] for e, name in _names(old).items() if name in names}
        self.won = {e for edges in head.wins.values() for e in edges}
        self.scopes = [s for s, plan in enumerate(old.scopes) if s and not self.touched.isdisjoint(plan.members)]

    def node(self, old: int) -> int:
        """The number in the new graph of a touched node."""
        return self.new.index[self.old.ids[old]]

    # ---- what has happened must fit

    def check(self) -> None:
        missing = [n for n in sorted(self.touched) if self.old.ids[n] not in self.new.index]
        self._refuse(missing, "are not in the new blueprint, but have run or were decided; keep them in it")
        twisted = {n for s in self.scopes if not self._same_scope(s) for n in self.old.scopes[s].members}
        twisted |= {n for n in self.touched if _scopes_of(self.old, n) != _scopes_of(self.new, self.node(n))}
        self._refuse(sorted(twisted), "are in cycles that have begun and that the new blueprint changes; let them end")
        helpers = [
            n
            for n in sorted(self.touched)
            if _ids(self.old, self.old.namers[n]) != _ids(self.new, self.new.namers[self.node(n)])
        ]
        self._refuse(helpers, "have run or were decided as fallbacks, and are named by other nodes now; leave that")
        won = [n for n, edges in self.before.wins.items() if any(e not in self.edge for e in edges)]
        self._refuse(won, "were started by edges that the new blueprint lacks; keep these edges")
        self._refuse(self._untransformed(), "have completed, and an edge from them has a transform only now; drop it")

    def _refuse(self, nodes: Iterable[int], why: str) -> None:
        found = tuple(self.old.ids[n] for n in nodes)
        if found:
            told = ", ".join(map(repr, found[:10])) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
            raise MigrationRefused(f"the run cannot be moved: {told} {why}", nodes=found)

    def _same_scope(self, scope: int) -> bool:
        plan = self.old.scopes[scope]
        header = self.new.index.get(self.old.ids[plan.header], -1)
        if header not in self.new.header_of:
            return False
        other = self.new.scopes[self.new.header_of[header]]
        return (
            plan.structured == other.structured
            and _ids(self.old, plan.members) == _ids(self.new, other.members)
            and {self.edge.get(e) for e in plan.inner} == set(other.inner)
            and {self.edge.get(e) for e in plan.back} == set(other.back)
        )

    def _untransformed(self) -> list[int]:
        """Sources of LIVE edges whose transform nobody has evaluated, where its value may still be asked for."""
        new, carried = self.new, {made: e for e, made in self.edge.items()}
        found: set[int] = set()
        for e in range(len(new.src)):
            source = self.old.index.get(new.ids[new.src[e]], -1)
            if new.transform[e] is None or source not in self.touched or self._over(e):
                continue
            old = carried.get(e)
            if (old is None and self._is_live(e)) or (old is not None and self._bare(old)):
                found.add(source)
        return sorted(found)

    def _carries(self, old: int) -> bool:
        """Whether somebody may ask for what an edge carries: it is LIVE, or it was when its cycle went round."""
        return self.before.marks[old] == LIVE or old in self.won

    def _bare(self, old: int) -> bool:
        return self._carries(old) and self.old.transform[old] is None

    def _over(self, edge: int) -> bool:
        """Whether nobody will ask for what a new edge carries: its target is settled, and it goes round no cycle."""
        target = self.new.dst[edge]
        number = self.old.index.get(self.new.ids[target], -1)
        return edge < self.new.in_mid[target] and number in self.touched and self.before.states[number] in SETTLED

    # ---- the head in the new numbers

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
        marks, mark_visits = self._marks()
        deadline = before.deadline
        if new.blueprint.timeout != old.blueprint.timeout:
            deadline = None if new.blueprint.timeout is None else before.started_at + new.blueprint.timeout
        return replace(
            before,
            states=states,
            marks=marks,
            deadline=deadline,
            tokens=list(before.tokens),
            active=self._active(),
            visits=self._by_node(before.visits),
            outputs=self._by_node(before.outputs),
            last=self._by_node(before.last),
            wins={self.node(n): tuple(self.edge[e] for e in edges) for n, edges in before.wins.items()},
            mark_visits=mark_visits,
            rounds={new.header_of[self.node(old.scopes[s].header)]: count for s, count in before.rounds.items()},
            fallbacks={self.node(n): ran for n, ran in before.fallbacks.items()},
            ordinary=ordinary,
            fired={self.node(n) for n in before.fired},
            failures=[Failure(self.node(f.node), self._visits(f.visits)) for f in before.failures],
        )

    def _by_node(self, numbers: Mapping[int, int]) -> dict[int, int]:
        return {self.node(n): number for n, number in numbers.items()}

    def _visits(self, pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return tuple((self.node(n), visit) for n, visit in pairs)

    def _active(self) -> dict[int, Activation]:
        """One object for those that share one, as before: the head stays small."""
        made: dict[int, Activation] = {}
        active: dict[int, Activation] = {}
        for n, a in self.before.active.items():
            if id(a) not in made:
                runs = a.runs if a.runs < 0 else self.node(a.runs)
                made[id(a)] = replace(a, runs=runs, before=self._visits(a.before))
            active[self.node(n)] = made[id(a)]
        return active

    def _marks(self) -> tuple[bytearray, dict[int, int]]:
        marks = bytearray(len(self.new.src))
        visits: dict[int, int] = {}
        carried = set(self.edge.values())
        for e, made in self.edge.items():
            marks[made] = self.before.marks[e]
            if e in self.before.mark_visits:
                visits[made] = self.before.mark_visits[e]
        for e in range(len(marks)):
            if e not in carried:
                marks[e] = self._fresh_mark(e)
                if marks[e] == LIVE and self.new.repeats[self.new.src[e]]:
                    source = self.old.index[self.new.ids[self.new.src[e]]]
                    visits[e] = output_visit(self.old, self.before, source)
        return marks, visits

    def _is_live(self, edge: int) -> bool:
        """Whether an edge that is new is LIVE at once: without a condition or an action, from a completed node."""
        source = self.old.index.get(self.new.ids[self.new.src[edge]], -1)
        bare = self.new.condition[edge] is None and self.new.action[edge] is None
        return bare and source in self.touched and self.before.states[source] == COMPLETED

    def _fresh_mark(self, edge: int) -> int:
        source = self.old.index.get(self.new.ids[self.new.src[edge]], -1)
        if source not in self.touched or self.before.states[source] not in SETTLED:
            return UNMARKED
        entered = [s for s in self.scopes if self._enters(edge, s)]
        if any(self.before.rounds.get(s, 0) > 1 for s in entered):
            return VOID
        if self._is_live(edge):
            return LIVE
        left = self.new.exits_scope[edge]
        if left and any(self.before.states[n] not in SETTLED for n in self._members(left)):
            return UNMARKED  # the end of the cycle decides
        return DEAD

    def _enters(self, edge: int, scope: int) -> bool:
        return edge in self.new.scopes[self.new.header_of[self.node(self.old.scopes[scope].header)]].entering

    def _members(self, scope: int) -> list[int]:
        return [self.old.index[self.new.ids[n]] for n in self.new.scopes[scope].members]

    def moved_values(self) -> tuple[tuple[ValueKey, ValueKey], ...]:
        """What transforms made is stored by the numbers of edges, which are others now."""
        found: list[tuple[ValueKey, ValueKey]] = []
        for e, made in self.edge.items():
            if self._carries(e) and self.old.transform[e] is not None and e != made:
                visit = self.before.mark_visits.get(e) or output_visit(self.old, self.before, self.old.src[e])
                found.append((transform_key(e, visit), transform_key(made, visit)))
        return tuple(found)


def _touched(graph: Graph, head: Head) -> frozenset[int]:
    """The nodes that are settled or active, or were in an earlier visit of their scope."""
    found = {
        n
        for n, state in enumerate(head.states)
        if state != PENDING and not (state == OPEN and graph.namers[n] and graph.in_lo[n] == graph.in_hi[n])
    }
    for numbers in (head.active, head.visits, head.outputs, head.last, head.wins, head.fallbacks, head.fired):
        found.update(numbers)
    for activation in head.active.values():
        found.update(n for n, _ in activation.before)
        if activation.runs >= 0:
            found.add(activation.runs)
    for failure in head.failures:
        found.update(n for n, _ in failure.visits)
    return frozenset(found)


def _names(graph: Graph) -> dict[int, _Name]:
    names: dict[int, _Name] = {}
    counts: Counter[tuple[str, str, str | None]] = Counter()
    for edges in graph.out:
        for e in edges:
            alike = (graph.ids[graph.src[e]], graph.ids[graph.dst[e]], graph.action[e])
            names[e] = (*alike, counts[alike])
            counts[alike] += 1
    return names


def _ids(graph: Graph, nodes: Iterable[int]) -> frozenset[str]:
    return frozenset(graph.ids[n] for n in nodes)


def _scopes_of(graph: Graph, node: int) -> list[str]:
    return [graph.ids[graph.scopes[s].header] for s in graph.chain[node] if s]
