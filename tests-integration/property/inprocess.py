"""One family of workflows by `FlowRuntime.run`, told to its oracles while it goes on: signals are chosen by them."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any

from flowcraft.blueprint import Blueprint
from flowcraft.errors import SignalConflict, TooLate
from flowcraft.model import Event
from flowcraft.nodes import NodeContext
from flowcraft.results import RunResult
from flowcraft.runtime import FlowRuntime

from ..oracle.behaviour import behaviour_of, without_errors
from ..oracle.oracle import Oracle
from ..oracle.views import Slot
from .executions import Executions
from .families import Family
from .replaying import assert_same_result, slowly
from .retelling import Retelling, Sent, key_of
from .worlds import SimClock

__all__ = ["InProcess"]

_OUTCOMES = frozenset(
    {"node:completed", "node:failed", "node:fallback", "node:retrying", "node:undone", "item:completed", "item:failed"}
)  # fmt: skip


class _Run:
    """One run, and what it was sent; the `Outside` of its retelling."""

    def __init__(self, all_of: InProcess, run_id: str, oracle: Oracle, executions: Executions) -> None:
        self.all_of = all_of
        self.run_id = run_id
        self.oracle = oracle
        self.told = Retelling(oracle, executions, self)
        self.sent: tuple[str, int | None, Sent] | None = None
        self.known: list[tuple[str, int | None, Sent]] = []  # what was accepted or kept
        self.fired_at = -1.0  # when the latest timer fired, if nothing has happened since
        self.begun: set[tuple[str, int, int]] = set()
        self.expected: dict[tuple[str, int], object] = {}
        self.dropped_at_once: set[str] = set()

    def signal(self, node: str, visit: int) -> Sent | None:
        if self.sent is None or self.sent[0] != node or self.sent[1] not in (None, visit):
            return None
        sent, self.sent = self.sent[2], None
        return sent

    def kept(self, node: str, visit: int) -> Sent:
        sent = self.signal(node, visit)
        assert sent is not None, f"a signal for {node}#{visit} was kept that nobody sent"
        return sent

    def command(self, kind: str) -> object:
        raise AssertionError(f"nobody told this run to {kind}")

    def child(self, name: str, oracle: Oracle, slot: Slot) -> None:
        self.all_of.begin(name, str(oracle.facts.nodes[slot.runs].params["blueprintId"]), oracle, slot)

    def ended(self, name: str) -> Oracle:
        return self.all_of.runs[name].oracle


class InProcess:
    """The run of a family and of all its subflows."""

    def __init__(self, family: Family, source: random.Random) -> None:
        self.family = family
        self.source = source
        self.clock = SimClock()
        self.runs: dict[str, _Run] = {}
        self.counts: Counter[str] = Counter()
        self._blueprints = {blueprint.id: blueprint for blueprint in family.blueprints}
        self._executions: dict[str, Executions] = defaultdict(Executions)
        self._events: list[Event] = []
        self._seqs: Counter[str] = Counter()
        self._signals = 0

        async def node(ctx: NodeContext[object, object]) -> object:
            await slowly(source)
            try:
                return self._executions[ctx.run_id].perform(ctx)
            finally:
                await slowly(source)

        self.runtime = FlowRuntime(
            blueprints=family.blueprints, registry={"behave": node}, listeners=[self._events.append],
            clock=self.clock, concurrency=source.choice((1, 2, 3, 100)),
        )  # fmt: skip

    async def check(self) -> RunResult:
        """Run to the end; every step must be the oracle's, and the result too."""
        main = self._add("main", self.family.blueprint, self.family.run_input, {}, now=self.clock.now)
        result = await self._finished(self.runtime.run(self.family.blueprint, self.family.run_input, run_id="main"))
        while True:
            self._tell()
            if result.status != "awaiting":
                break
            assert main.oracle.active, "it waits, but has ended"
            result = await self._resumed(result)
        assert_same_result(result, main.oracle)
        assert without_errors(dict(result.context)) == without_errors(main.oracle.context), "the context"
        for run in self.runs.values():
            assert not run.oracle.active, f"{run.run_id} has not ended"
            assert run.told.executions.twice(run.oracle) == []
            self.counts += run.told.seen
        return result

    def begin(self, name: str, blueprint_id: str, oracle: Oracle, slot: Slot) -> None:
        """A subflow makes its run."""
        given = oracle.child_input(slot)
        mapped = oracle.facts.nodes[slot.runs].params.get("inputs") is not None
        self._add(name, self._blueprints[blueprint_id], given, given if mapped and isinstance(given, dict) else {},
                  now=oracle.now)  # fmt: skip

    def _add(self, run_id: str, blueprint: Blueprint, run_input: object, context: Any, *, now: float) -> _Run:
        assert run_id not in self.runs, f"{run_id} is made twice"
        oracle = Oracle(blueprint, behaviour_of(blueprint), run_input, now=now, context=context)
        run = self.runs[run_id] = _Run(self, run_id, oracle, self._executions[run_id])
        return run

    async def _finished(self, running: Coroutine[Any, Any, RunResult]) -> RunResult:
        """Time passes only when nothing else can happen."""
        task = asyncio.create_task(running)
        for _ in range(20_000):
            for _ in range(200):
                if task.done():
                    assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks are left behind"
                    return task.result()
                await asyncio.sleep(0)
            self.clock.step(3600.0)
        raise AssertionError("it does not end")

    # ---- signals

    async def _resumed(self, result: RunResult) -> RunResult:
        """Send a signal to a wait, in whatever state it is, but most often to one that waits."""
        source = self.source
        places = [(path, run, wait) for path, run in self._reachable("main", "") for wait in _waits(run.oracle)]
        open_ones = [place for place in places if _is_open(place[1].oracle, place[2])]
        assert open_ones, "it waits, but for no signal"
        path, run, wait = source.choice(open_ones if source.random() < 0.7 else places)
        oracle = run.oracle
        actions = [e.action for e in oracle.facts.edges.values() if e.source == wait and e.action]
        visit = source.choice((None, None, None, oracle.visits[wait], oracle.visits[wait] + 1)) or None
        self._signals += 1
        sent = Sent(f"s{self._signals}", {"n": self._signals}, source.choice([None, *actions]))
        if run.known and source.random() < 0.15:
            wait, visit, sent = source.choice(run.known)
        name = sent.id
        known = name in oracle.answers
        answer = oracle.clone().signal(wait, sent.payload, sent.action, signal_id=name, visit=visit)
        self.counts["again" if known else answer] += 1
        run.sent = (wait, visit, sent)
        going = self.runtime.resume(result, path + wait, sent.payload, action=sent.action, signal_id=name, visit=visit)
        if answer in ("accepted", "kept"):
            went = await self._finished(going)
            if known:
                run.sent = None
            else:
                run.known.append((wait, visit, sent))
            self._tell()
            assert run.sent is None, f"{sent} was {answer}, but nothing tells of it"
            return went
        try:
            await self._finished(going)
        except (TooLate, SignalConflict):
            run.sent = None
            return result
        raise AssertionError(f"{sent} for {path}{wait} is taken, but should be {answer}")

    def _reachable(self, run_id: str, path: str) -> list[tuple[str, _Run]]:
        run = self.runs[run_id]
        found = [(path, run)]
        for key in run.oracle.children:
            found += self._reachable(run.told.children[key], f"{path}{key}/")
        return found

    # ---- telling

    def _tell(self) -> None:
        """What has happened since, to the oracles."""
        events, done = self._events, 0
        try:
            for number, event in enumerate(events):
                done = number
                self._take(event, events[number + 1 :])
        except AssertionError as error:
            lately = [
                f"{e.run_id} {e.at} {e.type} {e.node}#{e.visit}.{e.attempt} {dict(e.data)}" for e in events[: done + 8]
            ]
            error.add_note("\n".join(lately[-60:]))
            raise
        events.clear()

    def _take(self, event: Event, later: Sequence[Event]) -> None:
        run = self.runs[event.run_id]
        oracle = run.oracle
        if not event.seq:
            self._hint(run, event)
            return
        self._seqs[event.run_id] += 1
        assert event.seq == self._seqs[event.run_id], "the events are not numbered without gaps"
        oracle.now = max(oracle.now, event.at)
        self._wake(run, event)
        timer = self._is_timer(run, event)
        follows = event.type == "node:completed" and not self._is_cause(oracle, event)
        oracle.folding = (
            (timer and run.fired_at == event.at)
            or self._is_dropped_at_once(run, event)
            or self._is_cancelled_at_once(event, later)
        )
        run.told.take(event)
        oracle.folding = False
        if timer:
            run.fired_at = event.at
        elif self._is_cause(oracle, event) and not follows:
            run.fired_at = -1.0

    def _wake(self, run: _Run, event: Event) -> None:
        """What is tried again when its time has come: nothing tells of it."""
        due = run.told.due
        for key in sorted(due, key=lambda key: due[key]):  # of equal ones, the first that was put aside
            if due[key] <= event.at and key in run.oracle.resting:
                run.oracle.wake(key)

    @staticmethod
    def _is_cause(oracle: Oracle, event: Event) -> bool:
        activation = oracle.active.get(key_of(event))
        return event.type in _OUTCOMES and activation is not None and activation.visit == event.visit

    def _is_timer(self, run: _Run, event: Event) -> bool:
        key = key_of(event)
        until = run.oracle.waiting.get(key)
        return self._is_cause(run.oracle, event) and until is not None and until <= event.at and run.sent is None

    @staticmethod
    def _is_dropped_at_once(run: _Run, event: Event) -> bool:
        """A visit that nobody had begun is over in the step in which it is needed no more."""
        if event.data.get("reason") != "drained":
            return False
        activation = run.oracle.active.get(key_of(event))
        return activation is not None and (activation.chain[-1], activation.visit, activation.attempt) not in run.begun

    @staticmethod
    def _is_cancelled_at_once(event: Event, later: Sequence[Event]) -> bool:
        """A subflow that was cancelled before it went on for the first time: nobody has heard of its start nodes."""
        if event.type != "run:cancelling":
            return False
        following = next((each for each in later if each.run_id == event.run_id and each.seq), None)
        return following is not None and following.type != "node:draining"

    @staticmethod
    def _hint(run: _Run, event: Event) -> None:
        if event.type != "node:started":
            return
        oracle, told = run.oracle, run.told
        found = [
            a for a in oracle.active.values() if (a.chain[-1], a.visit) == (event.node, event.visit) and a.item < 0
        ]
        for activation in found:
            key = activation.slot.key
            oracle.now = max(oracle.now, event.at)
            if key in oracle.resting and told.due[key] <= event.at:
                oracle.wake(key)
            run.begun.add((activation.chain[-1], activation.visit, activation.attempt))
            if not activation.undoes and len(activation.chain) == 1:
                told.expected[key] = oracle.input_now(activation.slot)


def _waits(oracle: Oracle) -> list[str]:
    return [node for node, kind in oracle.facts.kind.items() if kind == "wait"]


def _is_open(oracle: Oracle, wait: str) -> bool:
    return any(oracle.active[key].chain[-1] == wait for key in oracle.waiting)
