"""What the end of one attempt does to its node and to the node's edges."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from flowcraft.blueprint import Edge

from .behaviour import Err, Ok
from .facts import Activation, Mark
from .kinds import is_controller
from .rounds import Rounds
from .standing import Done
from .texts import CannotEvaluate, from_inputs, holds, transformed
from .views import Broken, Failure

__all__ = ["Outcomes"]


class Outcomes(Rounds):
    """A run whose visits end."""

    def _activate(self, chain: tuple[str, ...], value: object) -> None:
        self.visits[chain[-1]] += 1
        self.begun.add(chain[-1])
        before = self.active.get(chain[0])
        visits = () if before is None else (*before.visits, before.visit)
        self.active[chain[0]] = Activation(chain, self.visits[chain[-1]], 1, value, visits=visits)
        self._hand_out(chain[0])

    def _tried_again(self, activation: Activation, error: Err) -> bool:
        node, key = self.facts.nodes[activation.chain[-1]], activation.slot.key
        if activation.draining or error.fatal or not error.retryable or activation.attempt >= node.retry.attempts:
            return False
        self.active[key] = replace(activation, attempt=activation.attempt + 1)
        self._hand_out(key)
        if node.retry.delay > 0:
            self.resting.add(key)
        return True

    def _attempt_failed(self, activation: Activation, error: Err) -> None:
        owner, node = activation.chain[0], self.facts.nodes[activation.chain[-1]]
        if self._tried_again(activation, error):
            return
        if not activation.draining and not error.fatal and node.fallback is not None:
            self.helps[node.fallback][owner] = "running"
            self._activate((*activation.chain, node.fallback), {"error": None, "input": activation.input})
            return
        del self.active[owner]
        self.state[owner] = "failed"
        self.failures.append(Failure(owner, "failed", owner))
        for helper in activation.chain[1:]:
            self.helps[helper][owner] = "failed"
        for n in activation.chain:
            if not self._succeeded(n):
                self.outputs.pop(n, None)

    def _completed(self, activation: Activation, result: Ok) -> None:
        owner, runs = activation.chain[0], activation.chain[-1]
        if owner == runs and owner in self.facts.scatters:
            # Reading: its own output, for its other edges and for names, is how many items there are.
            self.frozen[owner] = cast("list[object]", result.output)
            result = Ok({"items": len(self.frozen[owner])})
        self.active.pop(owner, None)
        self.state[owner] = "completed"
        for helper in activation.chain[1:]:
            self.helps[helper][owner] = "completed"
        for n in activation.chain:
            self.outputs[n] = result.output
        if self.ending is not None and owner not in self.lost:
            self.late[owner] = (activation, result)
        for n in activation.chain:
            # Reading: of a draining owner, only its own edges are dead; its fallback's are chosen as always.
            if self.ending is None and n not in self.lost:
                self._choose(n, result, owner)
        self._remember(activation, result)

    def _remember(self, activation: Activation, result: Ok) -> None:
        """Reading: of a visit that a fallback completed, both are undone, the fallback first."""
        visits = (*activation.visits, activation.visit)
        value = activation.input
        inputs = [value]
        for _ in activation.chain[1:]:
            value = cast("dict[str, object]", value)["input"]
            inputs.insert(0, value)
        for n, visit, given in zip(activation.chain, visits, inputs, strict=True):
            if n in self.facts.undo:
                self.history.append(Done(activation.chain[0], n, visit, given, result.output))

    def _choose(self, n: str, result: Ok, owner: str) -> None:
        try:
            taken = self._taken(n, result)
            values = [(i, e, self._transformed(e, result.output) if e.transform else result.output) for i, e in taken]
        except CannotEvaluate:
            self.failures.append(Failure(n, "condition", owner))
            if n == owner:
                self.state[n] = "failed"
            else:
                self.helps[n][owner] = "failed"
            return
        for i, edge, value in values:
            if self.facts.callers[n]:
                self.choosers.setdefault(i, {})[owner] = value
            if i not in self.marks:
                # Reading: of parallel edges, the first that was LIVE carries the value, in the blueprint's order.
                pair = [
                    self.marks[j]
                    for j in self.facts.out[n]
                    if j in self.marks and self.marks[j].kind == "live" and self.facts.edges[j].target == edge.target
                ]
                self._mark(i, pair[0] if pair else Mark("live", value))
                self.made[i] = value
                if edge.action or edge.condition:
                    self.exits |= {k for k in self.facts.leaves[i] if k in self.facts.structured - self.ended}

    def _taken(self, n: str, result: Ok) -> list[tuple[int, Edge]]:
        """Sections 1.1 and 9.1."""
        edges = [(i, self.facts.edges[i]) for i in self.facts.out[n]]
        if is_controller(self.facts.nodes[n]):
            first = [(i, e) for i, e in edges if e.condition is not None and self._holds(e.condition, result)]
            if first:
                return first
            edges = [(i, e) for i, e in edges if e.condition is None]
        named = result.action is not None and any(edge.action == result.action for _, edge in edges)
        wanted = [(i, e) for i, e in edges if e.action == (result.action if named else None)]
        return [(i, e) for i, e in wanted if e.condition is None or self._holds(e.condition, result)]

    def _holds(self, condition: str, result: Ok) -> bool:
        return holds(condition, result.output, result.action, self.names)

    def _transformed(self, edge: Edge, output: object) -> object:
        named = self.facts.nodes[edge.target].inputs
        subject = from_inputs(named, self.names) if isinstance(named, str) else output
        return transformed(edge.transform or "input", subject, self.names)

    def _mark(self, i: int, mark: Mark) -> None:
        if i in self.marks:
            raise Broken(f"edge {self.facts.edges[i]} is marked {self.marks[i].kind} and {mark.kind}")
        self.marks[i] = mark
