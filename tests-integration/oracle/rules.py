"""The rules that follow from what has happened: tried everywhere until none applies."""

from __future__ import annotations

from collections.abc import Iterable

from .facts import Mark
from .texts import from_inputs
from .views import Broken
from .waits import Waits

__all__ = ["Rules"]


class Rules(Waits):
    """A run that goes on by itself after each outcome."""

    def _close(self) -> None:
        """Reading: marks and joins first; then losers; then early exits; then failing fast; then scopes."""
        while self.ending is None:
            if self._resolve_marks() or self._decide_joins() or self._decide_controllers() or self._begin_waits():
                continue
            if self._begin_batches() or self._end_batches() or self._judge_losers() or self._judge_exits():
                continue
            self._judge_failures()
            if self.ending is not None or not (self._turn_scopes() or self._fill_windows()):
                break
        self._end_batches()
        if self.ending is None and not self.active:
            waiting = [n for n in self.facts.nodes if not self._settled(n)]
            if waiting or len(self.ended) < len(self.facts.scopes):
                raise Broken(f"nothing is active, but {waiting} wait")
        if not self.active:
            self.paused = False

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
        if n in self.again or n in self.restarted:
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
        if back is not None:
            self.led[n] = (back, self.brought[n])
        if n not in self.restarted:
            self.instead.discard(n)
            self.given[n] = self._input(n, back)
        node = self.facts.nodes[n]
        self.restarted.discard(n)
        again = node.inputs is not None and n not in self.instead
        if back is None:
            self.fired.add(n)
            self.fired_once.add(n)
        for k, scope in enumerate(self.facts.scopes):
            self.rounds[k] += scope.header == n
        self.state[n] = "active"
        self._activate((n,), from_inputs(node.inputs, self.names) if again and node.inputs else self.given[n])

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
            return from_inputs(node.inputs, self.names)
        preds = self._predecessors(n)
        items = next((w for w, plan in self.facts.batches.items() if plan.gather == n), None)
        mark = preds.get(items or "")
        if mark is not None and mark.kind == "live":
            return mark.value
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
        losers -= {n for n in losers if self._is_draining(n)}
        for n in losers:
            self.lost.add(n)
            self._give_up(n)
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
        for n in self.facts.nodes:
            if n in self.active or n in self.batches:
                self._give_up(n)
        self._end_batches()
        self.paused = False  # Reading: a run that is being stopped is not paused any more

    def _is_draining(self, n: str) -> bool:
        return self.batches[n].gone if n in self.batches else n in self.active and self.active[n].draining
