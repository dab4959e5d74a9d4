"""What the nodes of one run got and did: user code that notes each of its executions."""

# ruff: noqa: TID252 - the folder's name has a hyphen, so that nothing here can be imported absolutely

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from flowcraft.errors import FatalError, SerializationError
from flowcraft.model import Event
from flowcraft.nodes import NodeContext
from flowcraft.nodes import Result as Returned

from ..oracle.behaviour import Err, Ok, Result, behave, without_errors
from ..oracle.oracle import Oracle
from ..oracle.views import Slot

__all__ = ["Execution", "Executions"]


class Execution(NamedTuple):
    """One execution of user code: what it got, what it did, in which process, and its idempotency key."""

    given: object
    result: Result
    process: str
    key: str


class Executions:
    """All executions of one run, by (function, visit, item), then by attempt."""

    def __init__(self) -> None:
        self.done: dict[tuple[str, int, int], dict[int, list[Execution]]] = defaultdict(lambda: defaultdict(list))
        self._keys: dict[str, tuple[str, int, str]] = {}  # of which visit each idempotency key is

    def perform(self, ctx: NodeContext[Any, Any], process: str = "") -> object:
        """What `behave` says that this attempt does, as user code does it."""
        result = behave(ctx.params, ctx.node_id, ctx.visit, ctx.attempt, ctx.input)
        item = -1 if ctx.item is None else ctx.item
        self.done[ctx.node_id, ctx.visit, item][ctx.attempt].append(
            Execution(ctx.input, result, process, ctx.idempotency_key)
        )
        if isinstance(result, Err):
            if result.fatal:
                raise FatalError("fatal")
            raise RuntimeError("error") if result.retryable else SerializationError("final")
        return result.output if result.action is None else Returned(result.output, result.action)

    def twice(self, oracle: Oracle) -> list[tuple[str, int, int, int, list[str]]]:
        """What was executed more than once, and where; a compensation has the visit's number of what it undoes."""
        return [
            (node, visit, item, attempt, [execution.process for execution in done])
            for (node, visit, item), attempts in self.done.items()
            for attempt, done in attempts.items()
            if len(done) > 1 and node not in oracle.facts.undo.values()
        ]

    def outcome(self, oracle: Oracle, slot: Slot, event: Event) -> tuple[object, Result, int]:
        """What a visit got and came to, and at which attempt; its earlier attempts here were allowed to be made."""
        node = oracle.facts.nodes[slot.runs]
        activation = oracle.active[slot.key]
        if node.uses == "batch-gather":  # built in, so nobody notes it
            return (
                activation.input,
                oracle.behaviour(slot.runs, slot.visit, slot.attempt, activation.input),
                slot.attempt,
            )
        if slot.item >= 0 and oracle.facts.batches[slot.node].per_job > 1:
            return (*self._group(oracle, slot), slot.attempt)
        attempts = self.done[slot.runs, slot.visit, slot.item]
        last = _last(event, attempts, slot)
        assert attempts[last], f"nobody executed attempt {last} of {slot}"
        for attempt in range(slot.attempt, last):
            error = attempts[attempt][-1].result
            assert isinstance(error, Err), f"{slot} was tried again without need"
            assert error.retryable
            assert not error.fatal
        if activation.undoes:
            late = oracle.facts.nodes[slot.node].inputs is not None or "inputs" in oracle.facts.nodes[slot.node].params
            done = self._undoing(slot, activation.input, attempts[last], late=late)
            given = activation.input
        else:
            done = attempts[last][-1]
            given = done.given
        known = self._keys.setdefault(done.key, (slot.runs, slot.visit, slot.key))
        assert known == (slot.runs, slot.visit, slot.key), f"{slot} and {known} have the key {done.key}"
        return given, done.result, last

    def _group(self, oracle: Oracle, slot: Slot) -> tuple[list[object], Result]:
        """A job of several items."""
        given: list[object] = []
        results: list[object] = []
        failed = 0
        size = oracle.facts.batches[slot.node].per_job
        wanted = cast("Sequence[object]", oracle.active[slot.key].input)
        for number in range(slot.item * size, slot.item * size + len(wanted)):
            attempts = self.done[slot.runs, slot.visit, number]
            assert attempts, f"nobody executed item {number} of {slot}"
            execution = attempts[max(attempts)][-1]
            given.append(execution.given)
            failed += isinstance(execution.result, Err)
            results.append({"error": None} if isinstance(execution.result, Err) else execution.result.output)
        return given, Ok(results, failed=failed)

    @staticmethod
    def _undoing(slot: Slot, undone: object, done: Sequence[Execution], *, late: bool) -> Execution:
        """A compensation got what it undoes; of an earlier round than the latest the input is not known any more.

        Of a node that reads its input ``late``, it is read again.
        """
        wanted = cast("dict[str, object]", undone)
        for execution in done:
            found = cast("dict[str, object]", execution.given)
            known = not (late or found["input"] is None)
            if (
                without_errors(found["output"]) == without_errors(wanted["output"])
                and found["visit"] == slot.visit
                and (not known or without_errors(found["input"]) == without_errors(wanted["input"]))
                and execution.key.endswith(f"/{slot.node}")
            ):
                return execution
        raise AssertionError(f"{slot} got {done}, not {wanted}")


def _last(event: Event, attempts: dict[int, list[Execution]], slot: Slot) -> int:
    """The attempt that this outcome is of."""
    if event.type in ("node:retrying", "node:fallback", "item:failed"):
        return event.attempt
    if "attempts" in event.data:
        return cast("int", event.data["attempts"])
    return slot.attempt if "took" in event.data else max(attempts, default=slot.attempt)
