"""What no worker executes: decisions of controllers, sleeping, waiting for signals and for subflows."""

from __future__ import annotations

from typing import cast

from .batches import Batches
from .behaviour import Err, Ok
from .facts import Activation
from .kinds import lasts
from .texts import CannotEvaluate, from_inputs, holds
from .views import Failure

__all__ = ["Waits"]

#: How many signals wait in the mailbox at most.
MAILBOX = 100


class Waits(Batches):
    """A run that waits."""

    def _decide_controllers(self) -> bool:
        found = [a for a in self.active.values() if self.facts.kind[a.chain[-1]] == "controller"]
        for activation in found:
            owner = activation.chain[0]
            self._forget(owner)
            text = cast("str", self.facts.nodes[activation.chain[-1]].params["condition"])
            try:
                goes_on = holds(text, activation.input, None, self.names)
            except CannotEvaluate:
                self.state[owner] = "failed"
                self.failures.append(Failure(owner, "condition", owner))
                for helper in activation.chain[1:]:
                    self.helps[helper][owner] = "failed"
                for n in activation.chain:
                    self.outputs[n] = activation.input  # Reading: 1.5, its output is kept, and is its input
                continue
            self._completed(activation, Ok(activation.input, "continue" if goes_on else "break"))
        return bool(found)

    def _begin_waits(self) -> bool:
        """Nodes that wait begin to; what is in the mailbox for them is taken."""
        kinds = ("sleep", "wait")
        found = [a for a in self.active.values() if self.facts.kind[a.chain[-1]] in kinds]
        found = [a for a in found if a.slot.key not in self.waiting]
        for activation in found:
            key, runs = activation.slot.key, activation.chain[-1]
            self.withheld.discard(key)
            params = self.facts.nodes[runs].params
            limit = params.get("duration" if self.facts.kind[runs] == "sleep" else "timeout")
            self.waiting[key] = None if limit is None else self.now + lasts(limit)
            kept = self.mailbox.pop(f"{runs}#{activation.visit}", None)
            if kept is not None:
                self._forget(key)
                self._completed(activation, kept)
        return bool(found)

    def _time_is_up(self, activation: Activation) -> None:
        runs, key = activation.chain[-1], activation.slot.key
        if self.facts.kind[runs] == "sleep":
            value = self._read_now(activation)
            self._forget(key)
            self._completed(activation, Ok(value))
        elif any(self.facts.edges[i].action == "timeout" for i in self.facts.out[runs]):
            # Reading: of a wait that stands in for another node, its own edges are looked at.
            self._forget(key)
            self._completed(activation, Ok(None, "timeout"))
        else:
            self.waiting.pop(key)
            self._attempt_failed(activation, Err("WaitTimedOut", retryable=False))

    def _read_now(self, activation: Activation) -> object:
        """The input, if it is read only now; what a node with `inputs` gets of outputs can change until then."""
        owner = activation.chain[0]
        inputs = self.facts.nodes[owner].inputs
        late = inputs is not None and len(activation.chain) == 1 and owner not in self.instead
        return from_inputs(inputs, self.names) if late and inputs is not None else activation.input

    def _signalled(self, node: str, result: Ok, signal_id: str, visit: int | None) -> str:
        """The answer to a signal."""
        if signal_id in self.answers:
            return self.answers[signal_id]
        if not self.active:
            return "late"
        if self.facts.kind.get(node) != "wait":
            return "not a wait"
        if self.ending is not None:
            return "late"
        waits = [a for key, a in self.active.items() if key in self.waiting and a.chain[-1] == node]
        found = [a for a in waits if visit in (None, a.visit)]
        if found:
            # Reading: several visits of a fallback may wait; without a visit, the first of them is meant.
            first = min(found, key=lambda activation: activation.visit)
            self.answers[signal_id] = "accepted"
            self._forget(first.slot.key)
            self._completed(first, result)
            return "accepted"
        # Reading: what is in a cycle may be visited later, also if it is settled now.
        if self.state[node] != "pending" and not self.facts.around[node] and not self.facts.callers[node]:
            return "late"
        return self._kept(node, result, signal_id, max(self.visits[node], 1) if visit is None else visit)

    def _kept(self, node: str, result: Ok, signal_id: str, visit: int) -> str:
        if visit <= self.visits[node]:
            return "late"
        if f"{node}#{visit}" in self.mailbox:
            return "conflict"
        if len(self.mailbox) >= MAILBOX:
            return "full"
        self.answers[signal_id] = "kept"
        self.mailbox[f"{node}#{visit}"] = result
        return "kept"
