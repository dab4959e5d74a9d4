"""The pure transition, driven by hand and watched: after every commit, what must always hold is checked."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flowcraft.blueprint import Blueprint
from flowcraft.engine.draft import Draft, output_visit
from flowcraft.engine.head import DRAINING, PARKED, READY, RETRYING, Head
from flowcraft.engine.headbytes import decode_head, encode_head
from flowcraft.engine.needs import needed_keys
from flowcraft.engine.routes import spoken_of
from flowcraft.engine.transition import (
    Cancel,
    Completed,
    Dropped,
    Effects,
    EngineEvent,
    Failed,
    Parked,
    Resent,
    Tick,
    Visit,
    apply,
    due_work,
)
from flowcraft.graph import Graph
from flowcraft.model import ErrorInfo, ValueKey

from ..engine_driver import EngineRun
from ..oracle.behaviour import without_errors
from ..oracle.oracle import Oracle
from ..oracle.views import RunView, Slot

__all__ = ["Chaos", "CheckedRun", "assert_same_input", "assert_same_view", "in_lock_step", "plainly"]


class _Everything(set[ValueKey]):
    def __contains__(self, key: object) -> bool:
        return True


class CheckedRun(EngineRun):
    """A run whose every commit is looked at. ``given`` are all activations that were ever handed out."""

    def __init__(self, blueprint: Blueprint, run_input: object, *, graph: Graph | None = None) -> None:
        self.given: list[Visit] = []
        self.ended: Counter[tuple[int, object, int]] = Counter()
        self.seq = 0
        super().__init__(blueprint, run_input, graph=graph)

    def clone(self) -> CheckedRun:
        """The same run, to go on with in another way."""
        twin = object.__new__(CheckedRun)
        twin.__dict__.update(self.__dict__)
        twin.stored = replace(self.stored, values=dict(self.stored.values))
        twin.given = list(self.given)
        twin.ended = self.ended.copy()
        return twin

    def fold(self, events: list[EngineEvent]) -> list[bool]:
        head = self.head
        # What one event needs is known in advance; a second one may need what the first one made current.
        allowed = needed_keys(self.graph, head, events) if len(events) == 1 else _Everything()
        draft = self._draft(head, allowed)
        applied = [apply(draft, event) for event in events]
        self._commit(draft)
        return applied

    def _commit(self, draft: Draft) -> Effects:
        before = self.stored.head
        effects = super()._commit(draft)
        if effects.changed:
            self._check_change(draft.head, effects, before)
        else:
            assert encode_head(draft.head) == encode_head(decode_head(before)), "a stale event changed the head"
            assert not any((effects.values, effects.deleted, effects.ready, effects.revoked, effects.facts))
        return effects

    def _check_change(self, head: Head, effects: Effects, before: bytes) -> None:
        stored = self.head
        assert encode_head(stored) == self.stored.head, "decoding and encoding changes the head"
        for name in Head.__dataclass_fields__:
            if name != "active":
                assert getattr(stored, name) == getattr(head, name), f"{name} is not stored as it was"
        token = stored.tokens[-1]
        assert token == f"t{self._commits}"
        assert stored.terminal == (not stored.active)
        assert stored.terminal == effects.terminal
        fresh = {n for n, a in stored.active.items() if stored.state(n) == READY and a.nonce == token}
        told = [n for n, _ in effects.ready]
        assert len(set(told)) == len(told), "one job twice in one commit"
        assert stored.paused or fresh <= set(told), "READY, and nobody is told"
        assert not (stored.paused and told), "handed out, though the run is paused"
        assert all(stored.state(n) == READY for n in told), "told, but not READY"
        for node, activation in effects.ready:
            if activation.nonce == token:
                self.given.append(Visit(node, token, activation.visit, activation.attempt))
        drained = {n for n, a in stored.active.items() if stored.state(n) == DRAINING and not a.reason}
        old = decode_head(before) if before else None
        was = {n for n in old.active if old.state(n) == DRAINING} if old is not None else set[int]()
        assert drained - was <= {n for n, _ in effects.revoked}, "draining, and nobody is told"
        self._check_time(stored)
        self._check_values(stored)
        self.seq += len(effects.facts)
        assert stored.seq == self.seq, "the events are not numbered without gaps"
        for kind, node, visit, _, data in effects.facts:
            routed = not str(data.get("error", "")).startswith("ConditionError")
            undoes = self.graph.index.get(str(data.get("by"))) in self.graph.undoes  # the next rollback tries it again
            if kind in ("node:completed", "node:failed") and visit > 0 and routed and not undoes:
                self.ended[node, data.get("by"), visit] += 1
        assert not self.ended or max(self.ended.values()) == 1, "one visit ended twice"

    def _check_values(self, head: Head) -> None:
        """What nobody can read any more is not kept: of each node the latest output, and what marks speak of."""
        graph = self.graph
        known = spoken_of(graph, head, range(len(graph.src)))
        for key in self.stored.values:
            node = graph.index.get(key.name, -1)
            if key.space == "output" and node >= 0 and graph.compensation[node] < 0:
                read = (node, key.visit) in known or key.visit == output_visit(graph, head, node)
                assert read, f"the output of visit {key.visit} of {key.name} is kept for nobody"

    def _check_time(self, head: Head) -> None:
        if head.terminal:
            assert head.wake_at is None
            return
        wake = due_work(head, self.now).wake
        assert wake is None or (head.wake_at is not None and head.wake_at <= wake), "the ticker would come too late"

    # ---- what a worker does

    def ready(self) -> list[Slot]:
        head = self.head
        return [self._slot(head, n) for n in sorted(head.active) if self.executes(head, n)]

    def draining(self) -> list[Slot]:
        head = self.head
        return [
            self._slot(head, n) for n in sorted(head.active) if head.state(n) == DRAINING and self.executes(head, n)
        ]

    def resting(self) -> list[str]:
        """What is parked or waits for the next attempt."""
        head = self.head
        return [self._slot(head, n).key for n in sorted(head.active) if head.state(n) in (RETRYING, PARKED)]

    def park(self, slot: Slot) -> None:
        assert self.fold([Parked(self.visit(slot), "no function here")]) == [True]

    def cancel(self) -> list[bool]:
        return self.fold([Cancel("enough")])

    def wake(self, can: bool) -> list[str]:
        """Let time pass until the first is due; the nodes that became READY. ``can``: parked ones can be executed."""
        before, head = self.resting(), self.head
        parked = {self._slot(head, n).key for n in head.active if head.state(n) == PARKED}
        self.now = min(a.due for n, a in head.active.items() if head.state(n) in (RETRYING, PARKED))
        applied = self.fold([Tick(can=lambda _: can)])
        woken = [node for node in before if node not in self.resting()]
        assert applied == [bool(woken)], "a tick changed something else"
        assert can or parked.isdisjoint(woken), "nobody here can execute what is parked"
        return woken

    def forged(self, slot: Slot) -> list[Visit]:
        """Fences that are wrong in one part each."""
        right = self.visit(slot)
        return [
            replace(right, nonce="of nobody"), replace(right, visit=right.visit + 1),
            replace(right, visit=right.visit - 1), replace(right, attempt=right.attempt + 1),
            replace(right, attempt=right.attempt - 1),
        ]  # fmt: skip

    def refuse(self, visits: Sequence[Visit]) -> None:
        """No event of these visits may change anything."""
        error = ErrorInfo("Late", "an outcome of an activation that is over")
        kinds: list[list[EngineEvent]] = [
            [Completed(v, b"1", None), Failed(v, error), Dropped(v), Parked(v, "no function here")] for v in visits
        ]
        events = [event for kind in kinds for event in kind]
        assert not any(self.fold(events)), "a stale event was taken"


def plainly(view: RunView) -> RunView:
    """Of a cancelled node, how often it ran is not compared: nobody can see it."""
    nodes = {n: replace(v, visit=0) if v.state == "cancelled" else v for n, v in view.nodes.items()}
    return replace(view, nodes=nodes)


def assert_same_view(engine: RunView, oracle: RunView) -> None:
    engine, oracle = plainly(engine), plainly(oracle)
    assert engine.status == oracle.status
    for node, expected in oracle.nodes.items():
        found = engine.nodes[node]
        assert without_errors(found.output) == without_errors(expected.output), f"the output of {node}"
        assert replace(found, output=None) == replace(expected, output=None), f"the end of {node}"
    assert engine.failures == oracle.failures
    assert engine.key == oracle.key


def assert_same_input(run: EngineRun, oracle: Oracle, slot: Slot) -> None:
    """What a fallback gets of a node with `inputs` may be read again, so it is not compared."""
    if slot.runs == slot.node or oracle.facts.nodes[slot.node].inputs is None:
        found, expected = without_errors(run.input_of(slot)), without_errors(oracle.input_now(slot))
        assert found == expected, f"the input of {slot}"


@dataclass(frozen=True)
class Chaos:
    """How often, of 1, something else happens than one outcome in one commit."""

    fold: float = 0.25
    stale: float = 0.5
    park: float = 0.05
    drop: float = 0.2
    resend: float = 0.05
    cancel: float = 0.0


def in_lock_step(run: CheckedRun, oracle: Oracle, source: random.Random, chaos: Chaos) -> RunView:
    """Drive both to the end in a random order; they must agree all the way."""
    steps = 0
    while True:
        ready = run.ready()
        assert sorted(ready) == sorted(oracle.ready()), f"ready at step {steps}"
        assert sorted(run.resting()) == sorted(oracle.resting), f"put aside at step {steps}"
        if not ready and not oracle.resting:
            break
        _step(run, oracle, source, chaos, ready)
        if source.random() < chaos.stale:
            now = {run.visit(slot) for slot in run.ready()}
            old = [visit for visit in run.given if visit not in now]
            run.refuse(source.sample(old, min(4, len(old))))
        steps += 1
        assert steps < 5_000, "it does not end"
    view = run.view()
    assert_same_view(view, oracle.result())
    run.refuse(run.given[-8:])
    assert run.fold([Cancel(), Tick(can=lambda _: True)]) == [False, False], "a run that has ended changed"
    return view


def _step(run: CheckedRun, oracle: Oracle, source: random.Random, chaos: Chaos, ready: list[Slot]) -> None:
    draining = run.draining()
    if not ready or (oracle.resting and source.random() < 0.3):
        for node in run.wake(can=source.random() < 0.8):
            oracle.wake(node)
    elif oracle.ending != "cancelled" and source.random() < chaos.cancel:
        assert run.fold([Cancel("enough"), Cancel("again")]) == [True, False]
        oracle.cancel()
    elif draining and source.random() < chaos.drop:
        slot = source.choice(draining)
        run.drop(slot)
        oracle.drop(slot)
    elif source.random() < chaos.park:
        slot = source.choice(ready)
        run.park(slot)  # a draining visit that is parked is over
        (oracle.drop if slot in draining else oracle.rest)(slot)
    elif source.random() < chaos.resend:
        nodes = [run.graph.index[slot.node] for slot in ready if slot not in draining]
        run.fold([Resent(nodes)])
    else:
        _outcomes(run, oracle, source, chaos, ready)


def _outcomes(run: CheckedRun, oracle: Oracle, source: random.Random, chaos: Chaos, ready: list[Slot]) -> None:
    """Some outcomes in one commit, each of them twice, and all of them once more in the next one."""
    several = source.randint(2, 4) if source.random() < chaos.fold else 1
    slots = source.sample(ready, min(several, len(ready)))
    run.refuse(run.forged(slots[0]))
    events: list[EngineEvent] = []
    results = []
    for slot in slots:
        assert_same_input(run, oracle, slot)
        result = oracle.behaviour(slot.runs, slot.visit, slot.attempt, run.input_of(slot))
        results.append(result)
        events.append(run.event(slot, result))
    twice = source.random() < 0.5
    applied = run.fold([event for event in events for _ in range(1 + twice)])
    assert applied == [first for _ in events for first in ((True, False) if twice else (True,))]
    before = run.stored.head
    assert not any(run.fold(events)), "an outcome that came once more was taken"
    assert run.stored.head == before
    for n, (slot, result) in enumerate(zip(slots, results, strict=True)):
        oracle.settle(slot, result, same_commit=n > 0)
