"""What of a run's graph is what in another one, and whether all that has happened is still possible there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flowcraft.engine.head import COMPLETED, LIVE, OPEN, PENDING, SETTLED, SKIPPED, Head
from flowcraft.engine.slots import node_of
from flowcraft.errors import MigrationRefused
from flowcraft.graph import Graph

__all__ = ["Match"]

#: An edge as people see it: source, target and action; and the how-manieth of those that are alike.
_Name = tuple[str, str, str | None, int]


class Match:
    """One run between two graphs: what of the old one is what in the new one.

    ``touched``: the old nodes that are settled or active, or were; ``edge``: the new number of each edge that stays;
    ``scopes``: those that have begun; ``won``: edges that fired a join or opened a visit. Numbers without another word
    are those of the old graph.
    """

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

    def check(self) -> None:
        """What has happened must fit.

        Raises:
            MigrationRefused: it does not; the error names the nodes.
        """
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
        other = [n for n in sorted(self.touched) if not self._same_kind(n)]
        self._refuse(other, "are another kind of node in the new blueprint, or of another batch; leave that")
        won = [n for n, edges in self.before.wins.items() if any(e not in self.edge for e in edges)]
        self._refuse(won, "were started by edges that the new blueprint lacks; keep these edges")
        self._refuse(self._untransformed(), "have completed, and an edge from them has a transform only now; drop it")

    def _refuse(self, nodes: Iterable[int], why: str) -> None:
        found = tuple(self.old.ids[n] for n in nodes)
        if found:
            told = ", ".join(map(repr, found[:10])) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
            raise MigrationRefused(f"the run cannot be moved: {told} {why}", nodes=found)

    def _same_kind(self, node: int) -> bool:
        other = self.node(node)
        return self.old.kind[node] == self.new.kind[other] and _batch_of(self.old, node) == _batch_of(self.new, other)

    def _same_scope(self, scope: int) -> bool:
        """Whether a cycle that has begun is the same cycle; what hangs off it may differ."""
        plan, made = self.old.scopes[scope], self.moved_scope(scope)
        if made < 0 or plan.structured != self.new.scopes[made].structured:
            return False
        members = _ids(self.new, self.new.scopes[made].members)
        return {self.edge.get(e) for e in _round(self.old, scope)} == _round(self.new, made) and (
            not self._exhausted(scope) or _ids(self.old, plan.members) == members
        )

    def moved_scope(self, scope: int) -> int:
        """The scope with the same header, or -1."""
        header = self.new.index.get(self.old.ids[self.old.scopes[scope].header], -1)
        return self.new.header_of.get(header, -1)

    def ended(self, scope: int) -> bool:
        """Whether all nodes of its last visit are settled."""
        return all(self.before.states[n] in SETTLED for n in self.old.scopes[scope].members)

    def _exhausted(self, scope: int) -> bool:
        """Whether the cycle has ended because it went round too often: to end again, it would fail again."""
        return self.ended(scope) and any(self.before.marks[e] == LIVE for e in self.old.scopes[scope].back)

    def _untransformed(self) -> list[int]:
        """Sources of LIVE edges whose transform nobody has evaluated, where its value may still be asked for."""
        new, carried = self.new, {made: e for e, made in self.edge.items()}
        found: set[int] = set()
        for e in range(len(new.src)):
            source = self.old.index.get(new.ids[new.src[e]], -1)
            if new.transform[e] is None or source not in self.touched or self._over(e):
                continue
            old = carried.get(e)
            if (old is None and self.is_live(e)) or (old is not None and self._bare(old)):
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

    def is_live(self, edge: int) -> bool:
        """Whether an edge that is new is LIVE at once: without a condition or an action, from a completed node."""
        source = self.old.index.get(self.new.ids[self.new.src[edge]], -1)
        bare = self.new.condition[edge] is None and self.new.action[edge] is None
        return bare and source in self.touched and self.before.states[source] == COMPLETED


def _touched(graph: Graph, head: Head) -> frozenset[int]:
    """The nodes that are settled or active, or were in an earlier visit of their scope."""
    found = {
        n
        for n, state in enumerate(head.states)
        if state != PENDING
        and not (state == OPEN and graph.namers[n] and graph.in_lo[n] == graph.in_hi[n])
        and not (state == SKIPPED and n in graph.undoes)
    }
    for numbers in (head.visits, head.outputs, head.last, head.wins, head.fallbacks, head.batches, head.answered,
                    head.frozen, head.halted):  # fmt: skip
        found.update(numbers)
    found |= head.fired | {node_of(slot) for slot in head.active} | {node for node, _ in head.mailbox}
    for activation in head.active.values():
        found.update(n for n, _ in activation.before)
        if activation.runs >= 0:
            found.add(activation.runs)
    for failure in head.failures:
        found.update(n for n, _ in failure.visits)
    return frozenset(found)


def _batch_of(graph: Graph, node: int) -> tuple[str, str, str] | None:
    plan = graph.batches[graph.batch_of[node]] if node in graph.batch_of else graph.batches.get(node)
    return None if plan is None else (plan.scatter, plan.items, plan.gather)


def _names(graph: Graph) -> dict[int, _Name]:
    names: dict[int, _Name] = {}
    counts: Counter[tuple[str, str, str | None]] = Counter()
    for edges in graph.out:
        for e in edges:
            alike = (graph.ids[graph.src[e]], graph.ids[graph.dst[e]], graph.action[e])
            names[e] = (*alike, counts[alike])
            counts[alike] += 1
    return names


def _round(graph: Graph, scope: int) -> set[int]:
    """The edges of a scope that lead round, without those of what hangs off the cycle."""
    plan = graph.scopes[scope]
    inside, before = set(plan.members), dict[int, list[int]]()
    for e in plan.inner:
        before.setdefault(graph.dst[e], []).append(graph.src[e])
    core, todo = {plan.header}, [plan.header]
    while todo:
        node = todo.pop()
        for other in (*before.get(node, ()), *graph.namers[node], graph.fallback[node]):
            if other in inside and other not in core:
                core.add(other)
                todo.append(other)
    return {e for e in plan.inner if graph.src[e] in core and graph.dst[e] in core}


def _ids(graph: Graph, nodes: Iterable[int]) -> frozenset[str]:
    return frozenset(graph.ids[n] for n in nodes)


def _scopes_of(graph: Graph, node: int) -> list[str]:
    return [graph.ids[graph.scopes[s].header] for s in graph.chain[node] if s]
