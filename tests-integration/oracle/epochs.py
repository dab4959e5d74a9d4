"""Runs that go on after their end, and runs that are undone (sections 13.4 and 13.5)."""

from __future__ import annotations

from collections.abc import Collection

from .behaviour import Err, Result
from .facts import Activation, Mark
from .rules import Rules
from .views import Failure

__all__ = ["Epochs"]


class Epochs(Rules):
    """A run that can be reset."""

    def retry(self, nodes: Collection[str] | None = None) -> bool:
        """Open the next epoch; False for a run that cannot be tried again."""
        if self.active or self.status() not in ("failed", "cancelled"):
            return False
        self._hear()
        named = self._failed() if nodes is None else set(nodes)
        if not named and not self._stopped():
            return False  # Reading: there is nothing to try again
        self._open_epoch(named)
        self._close()
        return True

    def _failed(self) -> set[str]:
        """The nodes whose failure counts; where the edges of a fallback could not be judged, whom it stood in for."""
        return {failure.owner for failure in self.failures if not self._absolved(failure.node)}

    def rollback(self, node: str | None = None) -> bool:
        """Undo what was done, and start again at the node, or end."""
        if self.rolling is not None:
            return False
        self._hear()
        self.rolling = (node,)
        self._end("cancelled")
        self._close()
        return True

    def _close(self) -> None:
        super()._close()
        if self.rolling is not None and not self.active:
            self._roll(self.rolling[0])

    # --- undoing -----------------------------------------------------------------------------------------------------

    def _roll(self, node: str | None) -> None:
        """The next that must be undone; when there is none, the end of the rollback."""
        undo = set(self.facts.nodes) if node is None else self._reset_by({node})
        todo = [done for done in self.history if done.node in undo]
        if todo:
            done = todo[-1]
            by = self.facts.undo[done.runs]
            value = {"input": done.input, "output": done.output}
            self.active[done.runs] = Activation((done.runs, by), done.visit, 1, value, undoes=True)
            self.new.add(done.runs)
            return
        self.rolling = None
        if node is not None:
            self._open_epoch({node})
            self._close()
            return

    def _undone(self, activation: Activation, result: Result) -> None:
        """Reading: the status of the node that undoes, and its output, are not those of its compensations."""
        if isinstance(result, Err):
            if self._tried_again(activation, result):
                return
            self.rolling = None
            self.ending = "failed"
            self.failures.append(Failure(activation.chain[0], "failed", activation.chain[0]))
        else:
            done = (activation.chain[0], activation.visit)
            self.history = [other for other in self.history if (other.runs, other.visit) != done]
        self._forget(activation.chain[0])

    # --- resetting ---------------------------------------------------------------------------------------------------

    def _reset_by(self, named: Collection[str]) -> set[str]:
        """The named nodes, and what their visits led to.

        Reading: a scope with such a node is open again: what its edges that were not chosen led to is reset too.
        """
        reset = set(named)
        while True:
            found = {self.facts.edges[i].target for i in self._unmarked_by(reset) if i not in self.facts.back}
            if found <= reset:
                return reset
            reset |= found

    def _unmarked_by(self, reset: Collection[str]) -> set[int]:
        """The edges that carry no mark any more if these nodes are reset."""
        called = {n for n in self.facts.nodes if self._is_called_by(n, reset)}
        found: set[int] = set()
        for i, edge in self.facts.edges.items():
            live = i in self.marks and self.marks[i].kind == "live"
            left = any(
                not scope.nodes.isdisjoint(reset) for scope in (self.facts.scopes[k] for k in self.facts.leaves[i])
            )
            others = live and not self.choosers.get(i, {}).keys() <= set(reset)
            if (left and not live) or edge.source in reset or (edge.source in called and not others):
                found.add(i)
        return found

    def _is_called_by(self, n: str, reset: Collection[str]) -> bool:
        return any(a in reset or self._is_called_by(a, reset) for a in self.facts.callers[n])

    def _stopped(self) -> set[str]:
        """What was cancelled when the run was stopped."""
        called = self.facts.only_called
        return {n for n, state in self.state.items() if state == "cancelled" and n not in self.lost and n not in called}

    def _open_epoch(self, named: Collection[str]) -> None:
        reset = self._reset_by({*named, *self._stopped()})
        self.epoch += 1
        self.ending = None
        self.failures = [f for f in self.failures if f.node not in reset and f.owner not in reset]
        self.judged = len(self.failures)
        reached = {
            e.target for i, e in self.facts.edges.items() if i not in self.facts.back and i in self._unmarked_by(reset)
        }
        starts = reset - reached
        self._reopen_scopes(reset, starts)
        begun = set(named) | self.begun
        self.restarted = {n for n in starts & begun if n in self.fired and n not in self.again}
        for i in self._unmarked_by(reset):
            self.marks.pop(i, None)
        for i, of in self.choosers.items():
            mine = self.facts.edges[i].source in reset
            self.choosers[i] = {owner: value for owner, value in of.items() if owner not in reset and not mine}
            if i in self.marks and self.choosers[i]:
                self.marks[i] = Mark("live", next(iter(self.choosers[i].values())))
        self.kept |= {n: self._final(n) for n in reset if self.facts.around[n] and self._ran(n)}
        for n in reset:
            self._reset_node(n)
        undecided = [n for n in self.facts.only_called if self.state[n] == "cancelled" and n not in self.lost]
        self.state |= dict.fromkeys(undecided, "none")  # what was decided of it when the run was stopped
        late, self.late = self.late, {}
        for owner, (activation, result) in late.items():
            # Reading: what completed after the run was stopped marks its edges now.
            for n in activation.chain if owner not in reset else ():
                if n not in reset:
                    self._choose(n, result, owner)

    def _reset_node(self, n: str) -> None:
        """Reading: its status and output are forgotten; in a cycle they are kept, as in a later round."""
        if not self.facts.around[n]:
            self.outputs.pop(n, None)
        self.begun.discard(n)
        for of in self.helps.values():
            of.pop(n, None)
        self.helps[n] = {}  # what it did for others is undecided again, too
        self.state[n] = "none" if n in self.facts.only_called else "pending"
        for group in (self.lost, self.fired, self.fired_once, self.limited):
            group.discard(n)

    def _reopen_scopes(self, reset: Collection[str], starts: Collection[str]) -> None:
        """Scopes with a node that is reset are open again, in the visit where they were if not entered anew.

        Reading: an early exit whose edge is still LIVE holds on; each visit of a header in one opening counts, also
        those of earlier epochs.
        """
        unmarked = self._unmarked_by(reset)
        for k, scope in enumerate(self.facts.scopes):
            if scope.nodes.isdisjoint(reset):
                continue
            h = scope.header
            live = [i for i in sorted(scope.back) if i in self.marks and self.marks[i].kind == "live"]
            self.ended.discard(k)
            if k in self.exited:
                self.exited.discard(k)
                if any(self._left_by(k, i) for i in self.facts.edges if i not in unmarked):
                    self.exits.add(k)
            if h in starts and h in self.limited:
                brought = {self.facts.edges[i].source: self.marks[i].value for i in reversed(live)}
                sources = [self.facts.edges[i].source for i in live]
                self.again[h], self.brought[h] = [(source, brought[source]) for source in sources], live
                self.turn[k] += 1
            elif h in starts and self.turn[k] > 1 and not self._is_inner(k, reset):
                self.again[h], self.brought[h] = self.led[h]
            elif h in starts and self.turn[k] == 1 and not self._is_inner(k, reset):
                pass
            elif h in reset:
                self.turn[k], self.rounds[k] = 1, 0

    def _is_inner(self, k: int, reset: Collection[str]) -> bool:
        """Whether a scope around this one begins anew."""
        around = [j for j in self.facts.around[self.facts.scopes[k].header] if j != k]
        return any(self.facts.scopes[j].header in reset for j in around)

    def _left_by(self, k: int, i: int) -> bool:
        edge = self.facts.edges[i]
        live = i in self.marks and self.marks[i].kind == "live"
        return live and k in self.facts.leaves[i] and bool(edge.action or edge.condition)
