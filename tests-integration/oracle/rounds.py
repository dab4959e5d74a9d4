"""How cycles go round, and how visits vanish: the changes that are more than one line, apart from the rules."""

from __future__ import annotations

from collections.abc import Sequence

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
            if not live:
                self.ended.add(k)
            elif self.rounds[k] >= self.facts.max_visits:
                self.ended.add(k)
                self.state[scope.header] = "failed"
                self.limited.add(scope.header)
                self.failures.append(Failure(scope.header, "limit"))
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
        for n in scope.nodes:
            if self._ran(n):
                self.kept[n] = self._final(n)
            self.state[n] = "none" if n in self.facts.only_fallback else "pending"
            self.helps[n] = {}
        self.lost -= scope.nodes
        self.limited -= scope.nodes
        self.fired -= scope.nodes
        for i, edge in self.facts.edges.items():
            if edge.source in scope.nodes and edge.target in scope.nodes:
                self.marks.pop(i, None)

    def _unheard(self, n: str) -> bool:
        """Whether nobody can be executing the active node."""
        return n in self.new or n in self.resting

    def _remove(self, n: str) -> None:
        """Reading: a visit that came to nothing did not run, also if it was begun."""
        for helper in self.active.pop(n).chain[1:]:
            del self.helps[helper][n]
        self.resting.discard(n)
        self.state[n] = "cancelled"
