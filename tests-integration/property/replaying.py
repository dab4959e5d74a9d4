"""A real run, told to the oracle: its outcomes as they really were, in the order in which they were committed."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flowcraft.blueprint import Blueprint
from flowcraft.errors import FatalError, SerializationError
from flowcraft.model import Event
from flowcraft.nodes import NodeContext, Result
from flowcraft.results import RunResult

from ..oracle.behaviour import Err, behave, without_errors
from ..oracle.behaviour import Result as Outcome
from ..oracle.oracle import Oracle
from ..oracle.views import Failure, Slot

__all__ = ["Executed", "Replay", "assert_same_result", "may_drain", "perform", "slowly"]

_KINDS = {"ConditionError": "condition", "VisitLimitReached": "limit"}


@dataclass
class Executed:
    """What the nodes of one run got and did, by (function, visit), then by attempt; every execution counts."""

    attempts: dict[tuple[str, int], dict[int, list[tuple[object, Outcome]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def twice(self) -> list[tuple[str, int, int]]:
        """What was executed more than once."""
        return [
            (node, visit, attempt)
            for (node, visit), attempts in self.attempts.items()
            for attempt, done in attempts.items()
            if len(done) > 1
        ]


async def perform(ctx: NodeContext[object, object], executed: Executed) -> object:
    """What `behave` says that this attempt does, as user code does it."""
    outcome = behave(ctx.params, ctx.node_id, ctx.visit, ctx.attempt, ctx.input)
    executed.attempts[ctx.node_id, ctx.visit][ctx.attempt].append((ctx.input, outcome))
    if isinstance(outcome, Err):
        if outcome.fatal:
            raise FatalError("fatal")
        raise RuntimeError("error") if outcome.retryable else SerializationError("final")
    return Result(outcome.output, outcome.action)


async def slowly(source: random.Random) -> None:
    """Let others go first, a few times."""
    for _ in range(source.choice((0, 0, 1, 2, 3, 5, 9))):
        await asyncio.sleep(0)


def may_drain(blueprint: Blueprint) -> bool:
    """Whether a visit may be ended by what happens elsewhere."""
    return blueprint.failure == "fail-fast" or any(node.join.at_least is not None for node in blueprint.nodes)


class Replay:
    """Feeds one run's events to the oracle, which refuses what must not be."""

    def __init__(self, oracle: Oracle, executed: Executed) -> None:
        self.oracle = oracle
        self.executed = executed
        self._first = True

    def commit(self, events: Iterable[Event]) -> None:
        """The events of one commit."""
        self._first = True
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        data, node = event.data, event.node or ""
        failed = str(data.get("error", ""))
        if event.type == "node:completed":
            self._settle(event, str(data["by"]), ok=True)
        elif event.type == "node:failed" and not failed.startswith(tuple(_KINDS)):
            self._settle(event, str(data["by"]), ok=False)
            again = self.oracle.active.get(node)  # in the next round of its cycle, perhaps
            fresh = again is None or (len(again.chain) == 1 and (data["by"] != node or again.visit != event.visit))
            assert fresh, f"{node} failed, but may go on"
        elif event.type == "node:fallback":
            self._settle(event, self.oracle.active[node].slot.runs, ok=False)
            assert self.oracle.active[node].slot.runs == data["fallback"]
        elif event.type == "node:retrying":
            self._settle(event, self.oracle.active[node].slot.runs, ok=False)
            assert node in self.oracle.active, f"{node} is tried again, but must not be"
        elif event.type == "node:draining":
            assert self.oracle.active[node].draining, f"{node} is needed"
        elif event.type == "node:cancelled" and data.get("reason") == "drained":
            slot = self.oracle.active[node].slot
            assert slot.visit == event.visit
            self.oracle.drop(slot, same_commit=self._in_between())
        elif event.type == "node:cancelled":
            assert self.oracle.state[node] == "cancelled", f"{node} is needed"
        elif event.type == "run:cancelling":
            self.oracle.cancel(same_commit=self._in_between())

    def _in_between(self) -> bool:
        first, self._first = self._first, False
        return not first

    def _settle(self, event: Event, runs: str, *, ok: bool) -> None:
        node = event.node or ""
        oracle = self.oracle
        if node in oracle.resting:
            oracle.wake(node)
        assert node in oracle.active, f"{event} of a node that must not run"
        slot = oracle.active[node].slot
        assert (slot.runs, slot.visit) == (runs, event.visit), f"{slot} must run, {event} came"
        attempts = self.executed.attempts[runs, event.visit]
        last = self._last(slot, attempts, ok=ok, retrying=event.type == "node:retrying", at=event.attempt)
        value, outcome = attempts[last][-1]
        for attempt in range(slot.attempt, last):
            error = attempts[attempt][-1][1]
            assert isinstance(error, Err), f"{slot} was tried again without need"
            assert error.retryable
            assert not error.fatal
        assert isinstance(outcome, Err) != ok, f"{event} of {outcome}"
        slot = oracle.retried(slot, last)
        if oracle.facts.nodes[node].inputs is None:  # else it was read at some moment before
            assert without_errors(value) == without_errors(oracle.input_of(slot)), f"the input of {slot}"
        oracle.settle(slot, outcome, same_commit=self._in_between())

    @staticmethod
    def _last(
        slot: Slot, attempts: Mapping[int, Sequence[tuple[object, Outcome]]], *, ok: bool, retrying: bool, at: int
    ) -> int:
        """The attempt that this outcome is of."""
        if retrying:
            return at
        return max(attempts, default=slot.attempt)


def assert_same_result(result: RunResult, oracle: Oracle) -> None:
    """The result that a user gets is the oracle's."""
    view = oracle.result()
    assert not oracle.active, f"{oracle.ready()} must run"
    assert result.status == view.status
    assert dict(result.nodes) == {n: node.state for n, node in view.nodes.items()}
    for n, node in view.nodes.items():
        if node.state == "completed":
            assert without_errors(result.outputs[n]) == without_errors(node.output), f"the output of {n}"
    failures = [Failure(f.node_id, _KINDS.get(f.errors[-1].kind, "failed")) for f in result.failures]
    assert tuple(sorted(failures)) == view.failures
    assert without_errors(result.output()) == without_errors(view.output)
    if result.status in ("completed", "failed") and oracle.ending is None:
        assert bool(result.errors) == (result.status == "failed")
