"""How a run stands: the recorded facts and everything that follows from them by looking."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from flowcraft.blueprint import Blueprint

from .behaviour import Behaviour, Ok, canonical
from .facts import SETTLED, Activation, Facts, Mark, together
from .kinds import is_controller
from .views import Failure, NodeView, RunView

__all__ = ["Batch", "Done", "Standing"]


class Done(NamedTuple):
    """A visit that completed, also if its edges could not be judged: ``runs`` did it for ``node``; it may be undone."""

    node: str
    runs: str
    visit: int
    input: object
    output: object


@dataclass(frozen=True)
class Batch:
    """The items of one visit of an item node: the first ``began`` have entered the window, the others are HELD.

    ``left`` are out of the window again (parked, or long until the next attempt), the ``due`` of them wait for room.
    """

    visit: int
    groups: tuple[object, ...]
    began: int = 0
    left: frozenset[int] = frozenset()
    due: frozenset[int] = frozenset()
    results: Mapping[int, object] = field(default_factory=dict[int, object])
    failed: int = 0
    failing: bool = False
    gone: bool = False


class Standing:
    """One run as it stands: what happened so far, and what can be read off it. Changing it is the oracle's."""

    def __init__(
        self, blueprint: Blueprint, behaviour: Behaviour, run_input: object, scan: random.Random | None = None
    ) -> None:
        self.facts = Facts(blueprint)
        self.behaviour = behaviour
        self.run_input = run_input
        self.scan = scan
        self.state = {n: "none" if n in self.facts.only_called else "pending" for n in self.facts.nodes}
        self.helps: dict[str, dict[str, str]] = {n: {} for n in self.facts.nodes}  # F -> for whom -> how it went
        self.active: dict[str, Activation] = {}
        self.lost: set[str] = set()
        self.new: set[str] = set()  # what became active by the latest outcome only: nobody has heard of it
        self.folding = False  # what happens next is in the same commit as the latest outcome
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
        # sections 9 to 13
        self.now = 1000.0
        self.context: dict[str, object] = {}
        self.frozen: dict[str, list[object]] = {}  # what the scatters returned
        self.batches: dict[str, Batch] = {}
        self.waiting: dict[str, float | None] = {}  # sleeping or waiting for a signal, until when
        self.children: set[str] = set()  # whose subflow is running
        self.mailbox: dict[str, Ok] = {}
        self.answers: dict[str, str] = {}  # to signals that were not refused, by their ids
        self.exits: set[int] = set()  # scopes that an edge has left early
        self.exited: set[int] = set()  # the same, once they were drained
        self.paused = False
        self.withheld: set[str] = set()  # READY, but not handed out: the run is paused
        self.epoch = 1
        self.late: dict[str, tuple[Activation, Ok]] = {}  # completed after the run was stopped: no edge is marked
        self.choosers: dict[int, dict[str, object]] = {}  # of a fallback's LIVE edges: for whom, and the value
        self.led: dict[str, tuple[list[tuple[str, object]], list[int]]] = {}  # what sent a header round last
        self.given: dict[str, object] = {}  # the input that a join fired with
        self.restarted: set[str] = set()  # nodes that fire once more with what they were given
        self.history: list[Done] = []
        self.begun: set[str] = set()  # since the last reset
        self.made: dict[str, tuple[object, dict[int, object]]] = {}  # by item node: the list, and results that stay
        self.rolling: tuple[str | None] | None = None  # to which node the run is rolled back; None: everything

    def _hear(self, *, same_commit: bool = False) -> None:
        """The latest outcome is committed, and everybody has heard of it, unless the next is in the same commit."""
        if not (same_commit or self.folding):
            self.new.clear()

    def status(self) -> str:
        if self.active and self.paused:
            return "paused"
        if self.active and all(key in self.waiting for key in self.active):
            return "awaiting"
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
            if v.state == "completed" and not self.facts.out[n] and n not in self.facts.only_called
        }
        output = next(iter(ends.values())) if len(ends) == 1 else ends or None
        return RunView(self.status(), nodes, tuple(sorted(self.failures)), output)

    def clone(self) -> Self:
        twin = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | list | set):
                setattr(twin, name, value.copy())
        twin.helps = {n: dict(of) for n, of in self.helps.items()}
        twin.choosers = {i: dict(of) for i, of in self.choosers.items()}
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

    @property
    def names(self) -> Mapping[str, object]:
        """What a name in an expression or in `inputs` means."""
        return {**self.context, **self.outputs}

    def _items(self, n: str) -> list[str]:
        """The keys of a batch's items that are active."""
        return [key for key, activation in self.active.items() if activation.item >= 0 and activation.chain[0] == n]

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
        if not self.facts.callers[n] and n not in self.facts.undo.values():
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
                or (
                    self._last(target) in ("dead", "upstream", "cancelled")
                    and self._settled(target)  # Reading: a fallback is not skipped while it may be called
                    and self._absolved(target)
                )
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
        return join.at_least is not None and join.losers == "cancel" and not is_controller(self.facts.nodes[n])
