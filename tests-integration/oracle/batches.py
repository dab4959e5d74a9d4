"""The items of batches (section 11): windows, failures, the end."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from .behaviour import Err, Ok, Result
from .facts import Activation
from .outcomes import Outcomes
from .standing import Batch
from .views import Failure

__all__ = ["Batches"]

#: The longest an item may wait for its next attempt inside the window, in seconds.
LONG = 60.0


class Batches(Outcomes):
    """A run whose item nodes spread out and come together."""

    def _begin_batches(self) -> bool:
        found = [n for n in self.facts.batches if n in self.active]
        for n in found:
            activation = self._forget(n)
            groups = self.facts.batches[n].groups(self.frozen[self.facts.batches[n].scatter])
            self.batches[n] = Batch(activation.visit, groups)
            items = self.frozen[self.facts.batches[n].scatter]
            if self.made.get(n, (None, {}))[0] is not items:
                self.made[n] = (items, {})
            self.batches[n] = replace(self.batches[n], results=dict(self.made[n][1]))
            self._skip(n)
        return bool(found)

    def _fill_windows(self) -> bool:
        changed = False
        for n, plan in self.facts.batches.items():
            while n in self.batches and len(self._items(n)) - len(self.batches[n].left) < plan.window:
                batch = self.batches[n]
                if batch.failing or batch.gone or not (batch.due or batch.began < len(batch.groups)):
                    break
                if batch.due:  # Reading: of several, the first item
                    i = min(batch.due)
                    self.batches[n] = replace(batch, left=batch.left - {i}, due=batch.due - {i})
                else:
                    i = batch.began
                    self.batches[n] = replace(batch, began=i + 1)
                    self._skip(n)
                    self.active[f"{n}[{i}]"] = Activation((n,), batch.visit, 1, batch.groups[i], item=i)
                self.resting.discard(f"{n}[{i}]")
                self._hand_out(f"{n}[{i}]")
                changed = True
        return changed

    def _skip(self, n: str) -> None:
        """A batch that starts again with the same items keeps the results of those that did not fail."""
        batch = self.batches[n]
        while batch.began < len(batch.groups) and batch.began in self.made[n][1]:
            batch = replace(batch, began=batch.began + 1)
        self.batches[n] = batch

    def _left_window(self, activation: Activation) -> None:
        n = activation.chain[0]
        self.batches[n] = replace(self.batches[n], left=self.batches[n].left | {activation.item})

    def _item_settled(self, activation: Activation, result: Result) -> None:
        n, i, node = activation.chain[0], activation.item, self.facts.nodes[activation.chain[0]]
        if isinstance(result, Err) and self._tried_again(activation, result):
            wait = min(node.retry.delay * node.retry.backoff ** (activation.attempt - 1), node.retry.max_delay)
            if wait > LONG:
                self._left_window(activation)
            return
        self._forget(activation.slot.key)
        batch = self.batches[n]
        if not isinstance(result, Err) and not result.failed:
            self.made[n][1][i] = result.output
        outcome = {"error": None} if isinstance(result, Err) else result.output
        failed = batch.failed + (1 if isinstance(result, Err) else result.failed)
        self.batches[n] = replace(batch, results={**batch.results, i: outcome}, failed=failed)
        tolerate = self.facts.batches[n].tolerate
        if tolerate is not None and failed > tolerate and not batch.failing and not batch.gone:
            self.batches[n] = replace(self.batches[n], failing=True)
            self._stop_items(n)

    def _item_woken(self, activation: Activation) -> None:
        """One that left the window comes back when there is room."""
        n, i = activation.chain[0], activation.item
        if i in self.batches[n].left:
            self.batches[n] = replace(self.batches[n], due=self.batches[n].due | {i})
        else:
            self.resting.discard(activation.slot.key)
            self._hand_out(activation.slot.key)

    def _end_batches(self) -> bool:
        ended = [n for n, batch in self.batches.items() if not self._items(n) and self._is_over(batch)]
        for n in ended:
            batch = self.batches.pop(n)
            if batch.gone:  # Reading: also if it had failed before
                self.state[n] = "cancelled"
            elif batch.failing:
                self.state[n] = "failed"
                self.failures.append(Failure(n, "failed", n))
                self.outputs.pop(n, None)
            else:
                results = [batch.results[i] for i in range(len(batch.groups))]
                if self.facts.batches[n].per_job > 1:
                    results = [result for group in results for result in cast("list[object]", group)]
                self._completed(Activation((n,), batch.visit, 1, None), Ok(results))
                # Reading: the list is what the gather gets; what can be read is how many there were.
                self.outputs[n] = {"items": len(results), "failed": batch.failed}
        return bool(ended)

    @staticmethod
    def _is_over(batch: Batch) -> bool:
        return batch.failing or batch.gone or batch.began == len(batch.groups)
