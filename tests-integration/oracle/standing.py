"""How a run stands: the recorded facts and everything that follows from them by looking."""

from __future__ import annotations

import copy
import random
from typing import Self

from flowcraft.blueprint import Blueprint

from .behaviour import Behaviour, canonical
from .facts import SETTLED, Activation, Facts, Mark, together
from .views import Failure, NodeView, RunView

__all__ = ["Standing"]


class Standing:
    """One run as it stands: what happened so far, and what can be read off it. Changing it is the oracle's."""

    def __init__(
        self, blueprint: Blueprint, behaviour: Behaviour, run_input: object, scan: random.Random | None = None
    ) -> None:
        self.facts = Facts(blueprint)
        self.behaviour = behaviour
        self.run_input = run_input
        self.scan = scan
        self.state = {n: "none" if n in self.facts.only_fallback else "pending" for n in self.facts.nodes}
        self.helps: dict[str, dict[str, str]] = {n: {} for n in self.facts.nodes}  # F -> for whom -> how it went
        self.active: dict[str, Activation] = {}
        self.lost: set[str] = set()
        self.new: set[str] = set()  # what became active by the latest outcome only: nobody has heard of it
        self.resting: set[str] = set()  # of the active: parked, or waiting for the next attempt
        self.marks: dict[int, Mark] = {}
        self.made: dict[int, object] = {}  # of LIVE edges, the value that each brought itself
        self.brought: dict[str, list[int]] = {}  # header -> the LIVE back edges that sent it round
        self.instead: set[str] = set()  # nodes whose `inputs` a transform replaced
        self.turn = [1] * len(self.facts.scopes)
        self.rounds = [0] * len(self.facts.scopes)  # how often the header ran in this opening
        self.ended: set[int] = set()
        self.again: dict[str, list[tuple[str, object]]] = {}  # header -> what its LIVE back edges brought
        self.fired: set[str] = set()  # joins that fired in the current visit, not by back edges
        self.fired_once: set[str] = set()
        self.limited: set[str] = set()  # headers that may not go round again
        self.visits = dict.fromkeys(self.facts.nodes, 0)
        self.outputs: dict[str, object] = {}
        self.kept: dict[str, str] = {}
        self.failures: list[Failure] = []
        self.judged = 0
        self.ending: str | None = None

    def status(self) -> str:
        if self.active:
            return "running"
        if self.ending is not None:
            return self.ending
        return "completed" if all(self._absolved(failure.node) for failure in self.failures) else "failed"

    def result(self) -> RunView:
        nodes = {n: self._view(n) for n in self.facts.nodes}
        ends = {
            n: v.output
            for n, v in nodes.items()
            if v.state == "completed" and not self.facts.out[n] and n not in self.facts.only_fallback
        }
        output = next(iter(ends.values())) if len(ends) == 1 else ends or None
        return RunView(self.status(), nodes, tuple(sorted(self.failures)), output)

    def clone(self) -> Self:
        twin = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | list | set):
                setattr(twin, name, value.copy())
        twin.helps = {n: dict(of) for n, of in self.helps.items()}
        return twin

    @property
    def key(self) -> str:
        """Text that is equal for runs that cannot be told apart any more."""
        parts = {
            name: sorted(value) if isinstance(value, set) else value
            for name, value in vars(self).items()
            if name not in ("facts", "behaviour", "scan", "failures")
        }
        return canonical([{k: parts[k] for k in sorted(parts)}, sorted((f.node, f.kind) for f in self.failures)])

    def _ran(self, n: str) -> bool:
        return self.state[n] in ("active", "completed", "failed") or bool(self.helps[n])

    def _succeeded(self, n: str) -> bool:
        return self.state[n] == "completed" or "completed" in self.helps[n].values()

    def _settled(self, n: str) -> bool:
        """A fallback is settled when nobody can call it any more."""
        return self.state[n] in (*SETTLED, "none") and all(map(self._settled, self.facts.callers[n]))

    def _final(self, n: str) -> str:
        if n in self.limited:
            return "failed"
        if not self.facts.callers[n]:
            return self.state[n]
        if self._succeeded(n):
            return "completed"
        return "failed" if self._ran(n) else "dead" if self.state[n] == "none" else self.state[n]

    def _last(self, n: str) -> str:
        """The state of the last visit that ran, else of the last one."""
        return self._final(n) if self._ran(n) else self.kept.get(n, self._final(n))

    def _view(self, n: str) -> NodeView:
        state = self._last(n)
        if state in ("dead", "upstream"):
            return NodeView("skipped", 0, None, state)
        return NodeView(state, self.visits[n], self.outputs.get(n) if state == "completed" else None)

    def _absolved(self, n: str) -> bool:
        return bool(self.facts.out[n]) and all(
            i not in self.facts.back
            and (
                self._won(target := self.facts.edges[i].target)
                or (self._last(target) in ("dead", "upstream", "cancelled") and self._absolved(target))
            )
            for i in self.facts.out[n]
        )

    def _won(self, n: str) -> bool:
        return self.facts.nodes[n].join.at_least is not None and n in self.fired_once

    def _applies(self, i: int) -> bool:
        if i in self.facts.back and self.turn[self.facts.back[i]] == 1:
            return False
        return all(self.turn[k] == 1 for k in self.facts.enters[i])

    def _predecessors(self, n: str) -> dict[str, Mark | None]:
        """Of each predecessor that applies, what its edges say together; None while that is open."""
        groups: dict[str, list[Mark | None]] = {}
        for i in self.facts.into[n]:
            if self._applies(i):
                groups.setdefault(self.facts.edges[i].source, []).append(self.marks.get(i))
        return {source: together(marks) for source, marks in groups.items()}

    def _starts(self, n: str) -> bool:
        """Without an edge that applies: a start node, or the header of a cycle that nothing enters, in first visits."""
        if any(self.turn[k] > 1 for k in self.facts.around[n]):
            return False
        if not self.facts.into[n]:
            return True
        headed = [scope for scope in self.facts.scopes if scope.header == n]
        return any(not scope.entered for scope in headed)

    def _cancels(self, n: str) -> bool:
        join = self.facts.nodes[n].join
        return join.at_least is not None and join.losers == "cancel"
