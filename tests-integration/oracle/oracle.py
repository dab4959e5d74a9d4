"""A naive interpreter of docs/semantics.md: after each outcome, every rule is tried everywhere until none applies.

Where the page leaves a choice, a comment that starts with "Reading:" says which one is taken here.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import cast

from flowcraft.blueprint import Blueprint

from .behaviour import Behaviour, Err, Ok, Result
from .epochs import Epochs
from .facts import Activation
from .kinds import is_controller
from .texts import from_inputs
from .views import NotReady, Slot

__all__ = ["Oracle"]


class Oracle(Epochs):
    """One run, from ``now`` on. ``scan`` shuffles the order in which rules are tried, which must make no difference.

    While it is ``folding``, whatever happens is in the same commit as what happened before.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        behaviour: Behaviour,
        run_input: object,
        scan: random.Random | None = None,
        *,
        now: float = 1000.0,
        context: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(blueprint, behaviour, run_input, scan)
        self.now = now
        self.context = dict(context or {})
        self._close()

    # --- what can be seen --------------------------------------------------------------------------------------------

    def ready(self) -> list[Slot]:
        """What may execute now, in the blueprint's order of the nodes it runs for."""
        order = {n: i for i, n in enumerate(self.facts.nodes)}
        idle = {*self.resting, *self.waiting, *self.withheld, *self.children}
        found = [activation.slot for key, activation in self.active.items() if key not in idle]
        return sorted(found, key=lambda slot: (order[slot.node], slot.item))

    def asleep(self) -> dict[str, float]:
        """What waits for a time, and until when."""
        return {key: until for key, until in self.waiting.items() if until is not None}

    def held(self) -> dict[str, int]:
        """Of each batch that runs, how many items have not entered its window."""
        return {
            n: sum(item not in batch.results for item in range(batch.began, len(batch.groups)))
            for n, batch in self.batches.items()
            if not (batch.failing or batch.gone)
        }

    def input_of(self, slot: Slot) -> object:
        return self._activation(slot).input

    def input_now(self, slot: Slot) -> object:
        """The input, if it is read only now; what a node with `inputs` gets of outputs can change until then."""
        return self._read_now(self._activation(slot))

    def child_input(self, slot: Slot) -> object:
        """What the run gets that a subflow makes."""
        inputs = self.facts.nodes[slot.runs].params.get("inputs")
        if inputs is None:
            return self.input_now(slot)
        return from_inputs(cast("Mapping[str, str]", inputs), self.names)

    def outcome_of(self, slot: Slot) -> Result:
        """What the behaviour says that this attempt does."""
        return self.behaviour(slot.runs, slot.visit, slot.attempt, self.input_of(slot))

    # --- outcomes ----------------------------------------------------------------------------------------------------

    def settle(self, slot: Slot, result: Result, *, same_commit: bool = False) -> None:
        """The outcome of one attempt arrives; in the ``same_commit`` as the one before, of which nobody has heard yet.

        Raises:
            NotReady: this attempt must not be executing.
        """
        self._hear(same_commit=same_commit)
        activation = self._activation(slot)
        if activation.undoes:
            self._undone(activation, result)
        elif activation.item >= 0:
            self._item_settled(activation, result)
        elif isinstance(result, Err):
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
        self.active[slot.key] = again = replace(activation, attempt=attempt)
        return again.slot

    def rest(self, slot: Slot) -> None:
        """The visit is put aside until `wake`: nobody can execute it where it was tried.

        Raises:
            NotReady: it is not executing, or draining.
        """
        self._hear()
        activation = self._activation(slot)
        if activation.draining:
            raise NotReady(f"{slot} is draining")
        self.resting.add(slot.key)
        if slot.item >= 0:
            self._left_window(activation)
        self._close()

    def wake(self, key: str, *, same_commit: bool = False) -> None:
        """A visit that was put aside, or waits for its next attempt, is ready again; an item when there is room."""
        self._hear(same_commit=same_commit)
        activation = self.active[key]
        if activation.item >= 0:
            self._item_woken(activation)
        else:
            self.resting.remove(key)
            self._hand_out(key)
            if not same_commit:
                self._hear()
        self._close()

    def drop(self, slot: Slot, *, same_commit: bool = False) -> None:
        """A draining visit is abandoned.

        Raises:
            NotReady: it is not executing, or not draining.
        """
        self._hear(same_commit=same_commit)
        if not self._activation(slot).draining:
            raise NotReady(f"{slot} is not draining")
        if slot.item >= 0:
            self._forget(slot.key)
        else:
            self._remove(slot.node)
        self._close()

    def tick(self, now: float, order: Sequence[str] = ()) -> list[str]:
        """It is ``now``; what waited for a time until then, which is told, is over.

        Reading: in the order of their times, equal ones in the blueprint's order, or in this ``order``; what begins to
        wait meanwhile is not looked at.
        """
        self._hear()
        self.now = max(self.now, now)
        order = order or list(self.facts.nodes)
        asleep = {key: at for key, at in self.asleep().items() if at <= self.now}
        due = sorted(asleep, key=lambda key: (asleep[key], order.index(key)))
        over: list[str] = []
        for key in due:
            activation = self.active.get(key)
            if activation is not None and self.waiting.get(key) == asleep[key]:
                over.append(key)
                self._time_is_up(activation)
                self._close()
        return over

    def time_is_up(self, key: str) -> None:
        """The time of this one alone has come."""
        self._hear()
        self._time_is_up(self.active[key])
        self._close()

    def signal(
        self, node: str, payload: object, action: str | None = None, *, signal_id: str, visit: int | None = None
    ) -> str:
        """The answer to a signal: accepted, kept, or why it was refused: late, not a wait, conflict, full."""
        self._hear()
        answer = self._signalled(node, Ok(payload, action), signal_id, visit)
        self._close()
        return answer

    def child_started(self, slot: Slot) -> None:
        """The execution of a subflow has made a run."""
        self._hear()
        self._activation(slot)
        self.children.add(slot.key)

    def child_ended(self, key: str, result: Result | None, writes: Mapping[str, object] | None = None) -> None:
        """A subflow's run has ended: completed, failed, or cancelled (None)."""
        self._hear()
        self.children.remove(key)
        activation = self.active[key]
        if isinstance(result, Ok):
            self.context |= writes or {}
            self._completed(activation, result)
        elif result is None and activation.draining:
            self._remove(key)  # Reading: it was cancelled because its visit was
        else:
            self._attempt_failed(activation, result or Err("SubflowFailed", retryable=False))
        self._close()

    # --- commands ----------------------------------------------------------------------------------------------------

    def cancel(self, *, same_commit: bool = False) -> None:
        self._hear(same_commit=same_commit)
        if self.rolling is not None:
            return  # Reading: a rollback goes on
        if self.active and self.ending is None:
            self._end("cancelled")
        elif self.active:  # Reading: a run that was failing and is cancelled as well was cancelling
            self.ending = "cancelled"

    def pause(self) -> bool:
        if not self.active or self.ending is not None or self.paused:
            return False
        self.paused = True
        return True

    def unpause(self) -> bool:
        was, self.paused = self.paused, False
        self.withheld.clear()
        self._hear()
        return was

    def patch(self, writes: Mapping[str, object], deleted: Collection[str] = ()) -> bool:
        if not self.active:
            return False
        self.context = {k: v for k, v in {**self.context, **writes}.items() if k not in deleted}
        return True

    def mark_completed(self, node: str, output: object, action: str | None = None) -> bool:
        """Reading: an item node and its scatter are the batch; only a visit with a child is a subflow that is refused.
        Nor can a draining visit be marked.

        A node that is only called (a fallback, a compensation) has no visit of its own to mark. Marking is no firing of
        a join. A visit that a fallback stood in for is the node's own then.
        """
        refused = is_controller(self.facts.nodes[node]) or node in self.facts.batches or node in self.children
        refused = refused or self._is_draining(node)
        if refused or node in self.facts.scatters or self.state[node] not in ("pending", "active"):
            return False
        self._hear()
        if node in self.active:
            activation = self._forget(node)
            for helper in activation.chain[1:]:
                del self.helps[helper][node]
            visit = (*activation.visits, activation.visit)[0]
            activation = replace(activation, chain=(node,), visit=visit, visits=())
        else:
            self.visits[node] += 1
            self.begun.add(node)
            for k, scope in enumerate(self.facts.scopes):
                self.rounds[k] += scope.header == node
            activation = Activation((node,), self.visits[node], 1, None)
        self._completed(activation, Ok(output, action))
        self._close()
        return True

    def _activation(self, slot: Slot) -> Activation:
        activation = self.active.get(slot.key)
        if activation is None or slot not in self.ready():
            raise NotReady(f"{slot} is not ready, but {', '.join(map(str, self.ready())) or 'nothing'}")
        return activation
