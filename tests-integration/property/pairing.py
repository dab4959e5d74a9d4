"""The transition and the oracle, moved together: whatever is done is done to both, and they must stand alike."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

from collections.abc import Mapping

from flowcraft.codec import JsonCodec
from flowcraft.engine.draft import MISSING, Draft
from flowcraft.engine.events import (
    Cancel,
    ChildEnded,
    ChildStarted,
    EngineEvent,
    MarkCompleted,
    Patch,
    Pause,
    Retry,
    Rollback,
    Signal,
    Tick,
    Unpause,
)
from flowcraft.engine.head import HELD, PARKED, RETRYING, WAITING, Head
from flowcraft.engine.special import judge
from flowcraft.engine.transition import run_status
from flowcraft.model import ErrorInfo, ValueKey

from ..oracle.behaviour import Ok, Result, without_errors
from ..oracle.oracle import Oracle
from ..oracle.script import OraclePlayer
from ..oracle.views import Slot
from .driving import CheckedRun, assert_same_input, assert_same_view

__all__ = ["Pair", "ToldRun"]

_CODEC = JsonCodec()
#: What the engine calls the answers to a signal.
_ANSWERS = {"accepted": {"accepted", "repeated"}, "kept": {"early", "repeated"}, "full": {"full"}}
_REFUSED = {"late", "conflict"}


class ToldRun(CheckedRun):
    """A run of any construct: what one event needs is not known in advance, as it need not be."""

    def _draft(self, head: Head, allowed: set[ValueKey]) -> Draft:
        return super()._draft(head, _All())


class _All(set[ValueKey]):
    def __contains__(self, key: object) -> bool:
        return True


class Pair(OraclePlayer):
    """Both. ``strict`` compares also which refusal a signal gets."""

    def __init__(self, run: CheckedRun, oracle: Oracle) -> None:
        super().__init__(oracle)
        self.run = run
        self.children: dict[str, str] = {}

    # --- how they stand

    def look(self) -> None:
        run, oracle, head = self.run, self.oracle, self.run.head
        assert sorted(run.ready()) == sorted(oracle.ready()), f"ready {sorted(run.ready())} {sorted(oracle.ready())}"
        assert sorted(run.resting()) == sorted(oracle.resting), "put aside"
        assert self._waiting(head) == sorted(oracle.waiting), f"waiting {self._waiting(head)} {sorted(oracle.waiting)}"
        assert self._with_child(head) == sorted(oracle.children), "with a child"
        held = {n: batch.states.count(HELD) for n, batch in head.batches.items() if not batch.ending}
        of_engine = {run.graph.ids[n]: count for n, count in held.items() if count}
        assert of_engine == {n: count for n, count in oracle.held().items() if count}, "held"
        assert head.terminal == (not oracle.active), "the end"
        due = {run._slot(head, n).key: a.due for n, a in head.active.items() if head.state(n) == WAITING and a.due}
        assert {k: at for k, at in due.items() if k not in oracle.children} == oracle.asleep(), "until when"
        status = run_status(head)
        assert status in (oracle.status(), "cancelling"), f"{status}, but {oracle.status()}"

    def _waiting(self, head: Head) -> list[str]:
        found = [n for n, a in head.active.items() if head.state(n) == WAITING and not a.reason]
        return sorted(self.run._slot(head, n).key for n in found)

    def _with_child(self, head: Head) -> list[str]:
        resting = (RETRYING, PARKED)
        found = [n for n, a in head.active.items() if a.reason and head.state(n) not in resting]
        return sorted(self.run._slot(head, n).key for n in found)

    # --- what happens

    def settle(self, slot: Slot) -> None:
        run, oracle = self.run, self.oracle
        undoes = oracle.active[slot.key].undoes
        value = oracle.input_of(slot) if undoes else run.input_of(slot)
        if not undoes:
            assert_same_input(run, oracle, slot)
        result = oracle.behaviour(slot.runs, slot.visit, slot.attempt, value)
        event = run.event(slot, result)
        assert run.fold([event, event]) == [True, False]
        assert run.fold([event]) == [False]
        oracle.settle(slot, result)

    def rest(self, slot: Slot) -> None:
        self.run.park(slot)
        self.oracle.rest(slot)

    def wake(self, key: str) -> None:
        head, run = self.run.head, self.run
        due = {run._slot(head, n).key: a.due for n, a in head.active.items() if head.state(n) in (RETRYING, PARKED)}
        self.advance(due[key])

    def tick(self, now: float) -> None:
        self.advance(now)

    def advance(self, now: float, *, can: bool = True) -> None:
        """Time goes on, in both."""
        run, oracle, head = self.run, self.oracle, self.run.head
        run.now = max(run.now, now)
        resting = {n for n in head.active if head.state(n) in (RETRYING, PARKED)}
        due = sorted(n for n in resting if head.active[n].due <= run.now and (can or head.state(n) == RETRYING))
        woken = [run._slot(head, n).key for n in due]
        waiting = [run._slot(head, n).key for n in head.active if head.state(n) == WAITING]
        run.fold([Tick(can=lambda _: can)])
        oracle.tick(run.now, waiting)
        for key in woken:
            if key in oracle.resting:
                oracle.wake(key, same_commit=True)

    def drop(self, slot: Slot) -> None:
        self.run.drop(slot)
        self.oracle.drop(slot)

    def cancel(self) -> None:
        rolling = self.oracle.rolling is not None  # a rollback goes on
        assert self.run.fold([Cancel("enough"), Cancel("again")]) == [not rolling, False]
        self.oracle.cancel()

    def signal(self, node: str, action: str | None, signal_id: str, visit: int | None) -> str:
        known = signal_id in self.oracle.answers
        answer = super().signal(node, action, signal_id, visit)
        if answer == "not a wait":
            return answer
        event = Signal(self.run.graph.index[node], _CODEC.encode(f"{node}!"), action, signal_id, visit)
        told = judge(self.run.graph, self.run.head, event)
        assert told in _ANSWERS.get(answer, _REFUSED), f"the answer is {told}, not {answer}"
        applied = self.run.fold([event])
        assert applied == [not known and answer in ("accepted", "kept")], f"{answer}, {applied}"
        return answer

    def child_started(self, slot: Slot) -> None:
        name = f"child of {slot}"
        event = ChildStarted(self.run.visit(slot), name)
        assert self.run.fold([event, event]) == [True, False]
        self.children[slot.key] = name
        self.oracle.child_started(slot)

    def child_ended(self, key: str, result: Result | None, writes: Mapping[str, object]) -> None:
        slot = self.oracle.active[key].slot
        number, child = self.run.number(slot), self.children[key]
        if isinstance(result, Ok):
            cells = {name: _CODEC.encode(value) for name, value in writes.items()}
            event = ChildEnded(number, child, _CODEC.encode(result.output), cells)
        else:
            error = ErrorInfo("SubflowFailed", "the child failed")
            event = ChildEnded(number, child, error=error, retryable=result is not None)
        assert self.run.fold([event, event]) == [True, False]
        self.oracle.child_ended(key, result, writes)

    def command(self, name: str, rest: str) -> bool:
        done = super().command(name, rest)
        event = self._command(name, rest)
        assert self.run.fold([event]) == [done], f"{name}:{rest} is {'refused' if done else 'accepted'} by the engine"
        return done

    def _command(self, name: str, rest: str) -> EngineEvent:
        index = self.run.graph.index
        first, _, second = rest.partition(":")
        if name == "patch":
            key, equals, number = rest.partition("=")
            return Patch({key: _CODEC.encode({"n": int(number)}) if equals else MISSING})
        if name == "mark":
            return MarkCompleted(index[first], _CODEC.encode("marked"), second or None)
        if name == "retry":
            return Retry(tuple(index[node] for node in rest.split("+") if node))
        if name == "rollback":
            return Rollback(index[rest] if rest else None)
        return Pause() if name == "pause" else Unpause()

    def compare_ends(self) -> None:
        run, oracle = self.run, self.oracle
        assert_same_view(run.view(), oracle.result())
        stored = {key.name: _CODEC.decode(cell) for key, cell in run.stored.values.items() if key.space == "context"}
        assert without_errors(stored) == without_errors(oracle.context), "the context"
