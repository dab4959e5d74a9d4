"""How cycles go round and are left, and how visits vanish: changes of more than one line, apart from the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .facts import Activation
from .scopes import Scope
from .standing import Standing
from .views import Failure

__all__ = ["Rounds"]


class Rounds(Standing):
    """A run whose scopes can be turned."""

    def _turn_scopes(self) -> bool:
        for k, scope in enumerate(self.facts.scopes):
            nested = self.facts.within(k)
            if k in self.ended or not self.ended.issuperset(nested[1:]) or not all(map(self._settled, scope.nodes)):
                continue
            live = [i for i in sorted(scope.back) if self.marks[i].kind == "live"]
            if not live or k in self.exited:
                self.ended.add(k)
            elif self.rounds[k] >= self.facts.max_visits:
                self.ended.add(k)
                self.state[scope.header] = "failed"
                self.limited.add(scope.header)
                self.failures.append(Failure(scope.header, "limit", scope.header))
            else:
                self._reopen(k, scope, live)
            return True
        return False

    def _reopen(self, k: int, scope: Scope, live: Sequence[int]) -> None:
        brought = {self.facts.edges[i].source: self.marks[i].value for i in reversed(live)}
        self.again[scope.header] = [(self.facts.edges[i].source, brought[self.facts.edges[i].source]) for i in live]
        self.brought[scope.header] = list(live)
        self.turn[k] += 1
        for j in self.facts.within(k)[1:]:
            self.turn[j], self.rounds[j] = 1, 0
            self.ended.discard(j)
            self.exited.discard(j)
        for n in scope.nodes:
            if self._ran(n):
                self.kept[n] = self._final(n)
            self.state[n] = "none" if n in self.facts.only_called else "pending"
            self.helps[n] = {}
        self.lost -= scope.nodes
        self.limited -= scope.nodes
        self.fired -= scope.nodes
        for i, edge in self.facts.edges.items():
            if edge.source in scope.nodes and edge.target in scope.nodes:
                self.marks.pop(i, None)
                self.choosers.pop(i, None)

    def _judge_exits(self) -> bool:
        """Reading: what an early exit cancels counts as a loser (section 5) for what only leads there."""
        left, self.exits = self.exits - self.exited, set()
        for k in left:
            self.exited |= set(self.facts.within(k))
            for n in self.facts.scopes[k].nodes:
                if self._settled(n):
                    continue
                self.lost.add(n)
                # Reading: a fallback that has no ordinary visit is what its callers made of it; its edges are dead.
                if self.state[n] in ("pending", "active"):
                    self._give_up(n)
        return bool(left)

    def _give_up(self, n: str) -> None:
        """Cancelled at once, or drained."""
        if n in self.batches:
            self.batches[n] = replace(self.batches[n], gone=True)
            self._stop_items(n)
        elif n not in self.active:
            self.state[n] = "cancelled"
        elif self._unheard(n):
            self._remove(n)
        else:
            self._drain(n)

    def _stop_items(self, n: str) -> None:
        for key in self._items(n):
            if self._unheard(key):
                self._forget(key)
            else:
                self._drain(key)

    def _drain(self, key: str) -> None:
        """Reading: also what is READY in a paused run and was not handed out."""
        self.active[key] = replace(self.active[key], draining=True)
        self.withheld.discard(key)

    def _unheard(self, key: str) -> bool:
        """Whether nobody can be executing what is active."""
        return key in self.new or key in self.resting or key in self.waiting

    def _forget(self, key: str) -> Activation:
        self.resting.discard(key)
        self.withheld.discard(key)
        self.waiting.pop(key, None)
        self.children.discard(key)
        return self.active.pop(key)

    def _remove(self, n: str) -> None:
        """Reading: a visit that came to nothing did not run, also if it was begun."""
        for helper in self._forget(n).chain[1:]:
            del self.helps[helper][n]
        self.state[n] = "cancelled"

    def _hand_out(self, key: str) -> None:
        """What is active is READY now."""
        self.new.add(key)
        if self.paused:
            self.withheld.add(key)
