"""A naive interpreter of docs/semantics.md: after each outcome, every rule is tried everywhere until none applies.

Where the page leaves a choice, a comment that starts with "Reading:" says which one is taken here.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from flowcraft.blueprint import Blueprint, Edge

from .behaviour import Behaviour, Err, Ok, Result
from .facts import Activation, Mark
from .rounds import Rounds
from .texts import CannotEvaluate, from_inputs, holds, transformed
from .views import Broken, Failure, NotReady, Slot

__all__ = ["Oracle"]


class Oracle(Rounds):
    """One run. ``scan`` shuffles the order in which rules are tried, which must make no difference."""

    def __init__(
        self, blueprint: Blueprint, behaviour: Behaviour, run_input: object, scan: random.Random | None = None
    ) -> None:
        super().__init__(blueprint, behaviour, run_input, scan)
        self._close()

    # --- the outside -------------------------------------------------------------------------------------------------

    def ready(self) -> list[Slot]:
        """What may execute now, in the blueprint's order of the nodes it runs for."""
        return [self.active[n].slot for n in self.facts.nodes if n in self.active and n not in self.resting]

    def input_of(self, slot: Slot) -> object:
        return self._activation(slot).input

    def input_now(self, slot: Slot) -> object:
        """The input, if it is read only now; what a node with `inputs` gets of outputs can change until then."""
        activation, node = self._activation(slot), self.facts.nodes[slot.node]
        late = node.inputs is not None and len(activation.chain) == 1 and slot.node not in self.instead
        return from_inputs(node.inputs, self.outputs) if late and node.inputs is not None else activation.input

    def outcome_of(self, slot: Slot) -> Result:
        """What the behaviour says that this attempt does."""
        return self.behaviour(slot.runs, slot.visit, slot.attempt, self.input_of(slot))

    def settle(self, slot: Slot, result: Result, *, same_commit: bool = False) -> None:
        """The outcome of one attempt arrives; in the ``same_commit`` as the one before, of which nobody has heard yet.

        Raises:
            NotReady: this attempt must not be executing.
        """
        if not same_commit:
            self.new.clear()
        activation = self._activation(slot)
        if isinstance(result, Err):
            self._attempt_failed(activation, result)
        else:
            self._completed(activation, result)
        self._close()

    def retried(self, slot: Slot, attempt: int) -> Slot:
        """The same visit at a later attempt: whoever executes it made the ones before without telling anyone.

        Raises:
            NotReady: it is not executing, or may not be tried so often.
        """
        activation, node = self._activation(slot), self.facts.nodes[slot.runs]
        if not activation.attempt <= attempt <= node.retry.attempts:
            raise NotReady(f"{slot} may be tried {node.retry.attempts} times, not {attempt}")
        self.active[slot.node] = again = replace(activation, attempt=attempt)
        return again.slot

    def rest(self, slot: Slot) -> None:
        """The visit is put aside until `wake`: nobody can execute it where it was tried.

        Raises:
            NotReady: it is not executing, or draining.
        """
        self.new.clear()
        if self._activation(slot).draining:
            raise NotReady(f"{slot} is draining")
        self.resting.add(slot.node)

    def wake(self, node: str) -> None:
        """A visit that was put aside, or waits for its next attempt, is ready again."""
        self.new.clear()
        self.resting.remove(node)

    def drop(self, slot: Slot, *, same_commit: bool = False) -> None:
        """A draining visit is abandoned.

        Raises:
            NotReady: it is not executing, or not draining.
        """
        if not same_commit:
            self.new.clear()
        if not self._activation(slot).draining:
            raise NotReady(f"{slot} is not draining")
        self._remove(slot.node)
        self._close()

    def cancel(self, *, same_commit: bool = False) -> None:
        if not same_commit:
            self.new.clear()
        if self.active and self.ending is None:
            self._end("cancelled")
        elif self.active:  # Reading: a run that was failing and is cancelled as well was cancelling
            self.ending = "cancelled"

    # --- one outcome -------------------------------------------------------------------------------------------------

    def _activation(self, slot: Slot) -> Activation:
        activation = self.active.get(slot.node)
        if activation is None or activation.slot != slot or slot.node in self.resting:
            raise NotReady(f"{slot} is not ready, but {', '.join(map(str, self.ready())) or 'nothing'}")
        return activation

    def _attempt_failed(self, activation: Activation, error: Err) -> None:
        owner, runs = activation.chain[0], activation.chain[-1]
        node = self.facts.nodes[runs]
        if not activation.draining and not error.fatal:
            if error.retryable and activation.attempt < node.retry.attempts:
                self.active[owner] = replace(activation, attempt=activation.attempt + 1)
                self.new.add(owner)
                if node.retry.delay > 0:
                    self.resting.add(owner)
                return
            if node.fallback is not None:
                self.helps[node.fallback][owner] = "running"
                self._activate((*activation.chain, node.fallback), {"error": None, "input": activation.input})
                return
        del self.active[owner]
        self.state[owner] = "failed"
        self.failures.append(Failure(owner, "failed"))
        for helper in activation.chain[1:]:
            self.helps[helper][owner] = "failed"
        for n in activation.chain:
            if not self._succeeded(n):
                self.outputs.pop(n, None)

    def _completed(self, activation: Activation, result: Ok) -> None:
        owner = activation.chain[0]
        del self.active[owner]
        self.state[owner] = "completed"
        for helper in activation.chain[1:]:
            self.helps[helper][owner] = "completed"
        for n in activation.chain:
            self.outputs[n] = result.output
        for n in activation.chain:
            # Reading: of a draining owner, only its own edges are dead; its fallback's are chosen as always.
            if self.ending is None and n not in self.lost:
                self._choose(n, result, owner)

    def _choose(self, n: str, result: Ok, owner: str) -> None:
        edges = [(i, self.facts.edges[i]) for i in self.facts.out[n]]
        named = result.action is not None and any(edge.action == result.action for _, edge in edges)
        wanted = [(i, e) for i, e in edges if e.action == (result.action if named else None)]
        try:
            taken = [
                (i, e)
                for i, e in wanted
                if e.condition is None or holds(e.condition, result.output, result.action, self.outputs)
            ]
            values = [(i, e, self._transformed(e, result.output) if e.transform else result.output) for i, e in taken]
        except CannotEvaluate:
            self.failures.append(Failure(n, "condition"))
            if n == owner:
                self.state[n] = "failed"
            else:
                self.helps[n][owner] = "failed"
            return
        for i, edge, value in values:
            if i not in self.marks:
                # Reading: of parallel edges, the first that was LIVE carries the value, in the blueprint's order.
                pair = [
                    self.marks[j]
                    for j in self.facts.out[n]
                    if j in self.marks and self.marks[j].kind == "live" and self.facts.edges[j].target == edge.target
                ]
                self._mark(i, pair[0] if pair else Mark("live", value))
                self.made[i] = value

    def _transformed(self, edge: Edge, output: object) -> object:
        named = self.facts.nodes[edge.target].inputs
        subject = from_inputs(named, self.outputs) if isinstance(named, str) else output
        return transformed(edge.transform or "input", subject, self.outputs)

    def _mark(self, i: int, mark: Mark) -> None:
        if i in self.marks:
            raise Broken(f"edge {self.facts.edges[i]} is marked {self.marks[i].kind} and {mark.kind}")
        self.marks[i] = mark

    def _activate(self, chain: tuple[str, ...], value: object) -> None:
        self.visits[chain[-1]] += 1
        self.new.add(chain[0])
        self.active[chain[0]] = Activation(chain, self.visits[chain[-1]], 1, value)

    # --- the rules, until none applies ------------------------------------------------------------

    def _close(self) -> None:
        """Reading: marks and joins first; when they are done, losers; when they are done, failing fast; then scopes."""
        while self.ending is None:
            if self._resolve_marks() or self._decide_joins() or self._judge_losers():
                continue
            self._judge_failures()
            if self.ending is not None or not self._turn_scopes():
                break
        if self.ending is None and not self.active:
            waiting = [n for n in self.facts.nodes if not self._settled(n)]
            if waiting or len(self.ended) < len(self.facts.scopes):
                raise Broken(f"nothing is active, but {waiting} wait")

    def _shuffled(self, items: Iterable[object]) -> list[object]:
        result = list(items)
        if self.scan is not None:
            self.scan.shuffle(result)
        return result

    def _resolve_marks(self) -> bool:
        """The edges that were not chosen, once they cannot be chosen any more."""
        changed = False
        for i, edge in self.facts.edges.items():
            if i in self.marks or not self._settled(edge.source) or not self.ended.issuperset(self.facts.leaves[i]):
                continue
            bad = self._final(edge.source) in ("failed", "upstream") and edge.source not in self.lost
            self._mark(i, Mark("failed" if bad else "dead"))
            changed = True
        return changed

    def _decide_joins(self) -> bool:
        changed = False
        for item in self._shuffled(n for n in self.facts.nodes if self.state[n] == "pending"):
            n = str(item)
            decision = self._decision(n)
            if decision == "fire":
                self._fire(n)
            elif decision is not None:
                self.state[n] = decision
            changed = changed or decision is not None
        return changed

    def _decision(self, n: str) -> str | None:
        if n in self.again:
            return "fire"
        least = self.facts.nodes[n].join.at_least
        preds = self._predecessors(n)
        live = sum(mark is not None and mark.kind == "live" for mark in preds.values())
        failed = sum(mark is not None and mark.kind == "failed" for mark in preds.values())
        if not preds:
            return "fire" if self._starts(n) else "dead"
        if least is not None and live >= least:
            return "fire"
        if None in preds.values():
            return None
        if least is not None:
            return "upstream" if failed and live + failed >= least else "dead"
        return "upstream" if failed else "fire" if live else "dead"

    def _fire(self, n: str) -> None:
        back = self.again.pop(n, None)
        self.instead.discard(n)
        if back is None:
            self.fired.add(n)
            self.fired_once.add(n)
        for k, scope in enumerate(self.facts.scopes):
            self.rounds[k] += scope.header == n
        self.state[n] = "active"
        self._activate((n,), self._input(n, back))

    def _input(self, n: str, back: list[tuple[str, object]] | None) -> object:
        node = self.facts.nodes[n]
        if node.inputs is not None:
            live_edges = (
                self.brought[n]
                if back is not None
                else [
                    i
                    for i in self.facts.into[n]
                    if self._applies(i) and i in self.marks and self.marks[i].kind == "live"
                ]
            )
            made = [self.made[i] for i in live_edges if self.facts.edges[i].transform]
            if made and isinstance(node.inputs, str):
                self.instead.add(n)
                return made[0]
            return from_inputs(node.inputs, self.outputs)
        preds = self._predecessors(n)
        live = back if back is not None else [(s, m.value) for s, m in preds.items() if m and m.kind == "live"]
        if not live:
            return self.run_input
        return live[0][1] if len(preds) == 1 or node.join.at_least == 1 else dict(live)

    def _judge_losers(self) -> bool:
        """Reading: judged over all joins that have fired, whenever all else is decided."""
        joins = {n for n in self.fired if self._cancels(n)}
        losers = {n for n in self.facts.nodes if self.state[n] in ("pending", "active") and not self.facts.callers[n]}
        gone = {n for n in self.lost if self.state[n] == "cancelled"}
        while True:
            safe = {
                n
                for n in losers
                if not self.facts.out[n]
                or any(
                    i in self.facts.back or self.facts.edges[i].target not in joins | losers | gone
                    for i in self.facts.out[n]
                )
            }
            if not safe:
                break
            losers -= safe
        losers -= {n for n in self.active if self.active[n].draining}
        for n in losers:
            self.lost.add(n)
            if n in self.active and self._unheard(n):
                self._remove(n)
            elif n in self.active:
                self.active[n] = replace(self.active[n], draining=True)
            else:
                self.state[n] = "cancelled"
        return bool(losers)

    def _judge_failures(self) -> None:
        new, self.judged = self.failures[self.judged :], len(self.failures)
        if self.facts.fail_fast and not all(self._absolved(failure.node) for failure in new):
            self._end("failed")

    def _end(self, status: str) -> None:
        self.ending = status
        # Reading: a fallback without edges that was never needed is cancelled too, if it was not settled for good.
        undone = [
            n for n, state in self.state.items() if state == "pending" or (state == "none" and not self._settled(n))
        ]
        self.state |= dict.fromkeys(undone, "cancelled")
        for n, activation in list(self.active.items()):
            if self._unheard(n):
                self._remove(n)
            else:
                self.active[n] = replace(activation, draining=True)
