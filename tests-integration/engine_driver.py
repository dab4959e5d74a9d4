"""Drives the pure transition step by step, as a worker would, but without any I/O: for comparing it with the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from flowcraft.blueprint import Blueprint
from flowcraft.codec import JsonCodec
from flowcraft.engine.draft import MISSING, Draft
from flowcraft.engine.head import DRAINING, READY, RETRYING, SKIPPED_FAILED, Head
from flowcraft.engine.headbytes import decode_head, encode_head
from flowcraft.engine.inputs import input_plan
from flowcraft.engine.needs import needed_keys
from flowcraft.engine.slots import CHUNK, item_of, item_slot, node_of
from flowcraft.engine.transition import (
    Completed,
    Dropped,
    Effects,
    EngineEvent,
    Failed,
    Tick,
    Visit,
    apply,
    fresh_head,
    seal,
    start,
)
from flowcraft.engine.view import run_view
from flowcraft.graph import Graph, compile_graph
from flowcraft.model import ErrorInfo, ValueKey

from .oracle.behaviour import Err, Result
from .oracle.views import Failure, NodeView, RunView, Slot

__all__ = ["EngineRun"]

_CODEC = JsonCodec()
_KINDS = {"ConditionError": "condition", "VisitLimitReached": "limit"}


@dataclass
class _Stored:
    head: bytes
    values: dict[ValueKey, bytes]


class EngineRun:
    """One run on bytes: every step decodes the head, folds its events, and encodes the head again."""

    def __init__(self, blueprint: Blueprint, run_input: object, *, graph: Graph | None = None) -> None:
        self.graph = graph or compile_graph(blueprint)
        self.scatters = {node.id for node in blueprint.nodes if node.uses == "batch-scatter"}
        self.now = 1000.0  # a due time of 0 is none
        self.told: set[tuple[int, str]] = set()  # what was handed out: slot and nonce
        self._commits = 0
        head = fresh_head(self.graph, self.now)
        self.stored = _Stored(b"", {})
        draft = self._draft(head, set())
        start(draft, _CODEC.encode(run_input), {})
        self._commit(draft)

    def _draft(self, head: Head, allowed: set[ValueKey]) -> Draft:
        def read(key: ValueKey) -> object:
            assert key in allowed, f"{key} was read, but is not among the needed keys"
            return self.stored.values.get(key, MISSING)

        draft = Draft(
            self.graph,
            head,
            read=read,
            decode=lambda cell: _CODEC.decode(cell) if isinstance(cell, bytes) else cell,
            encode=_CODEC.encode,
            record=True,
        )
        self._commits += 1
        draft.begin(f"t{self._commits}", self.now)
        return draft

    def _commit(self, draft: Draft) -> Effects:
        effects = seal(draft)
        self.told = self.told | {(slot, activation.nonce) for slot, activation in effects.ready}
        if effects.changed:
            for key in effects.deleted:
                self.stored.values.pop(key, None)
            for key, cell in effects.values.items():
                assert isinstance(cell, bytes)
                self.stored.values[key] = cell
            self.stored.head = encode_head(draft.head)
        return effects

    @property
    def head(self) -> Head:
        return decode_head(self.stored.head)

    def ready(self) -> list[Slot]:
        """What may execute now, draining visits included; timers are fired first."""
        head = self.head
        if any(head.state(n) == RETRYING for n in head.active):
            self.now += 10_000.0
            self.fold([Tick(can=lambda _: True)])
            head = self.head
        return [self._slot(head, n) for n in sorted(head.active) if self.executes(head, n)]

    def executes(self, head: Head, slot: int) -> bool:
        """Whether a worker can have it in hand: handed out, or draining, but no child of it."""
        activation, state = head.active[slot], head.state(slot)
        return (state == READY and (slot, activation.nonce) in self.told) or (
            state == DRAINING and not activation.reason
        )

    def _slot(self, head: Head, number: int) -> Slot:
        activation, node = head.active[number], node_of(number)
        ids = self.graph.ids
        runs = ids[node if activation.runs < 0 else activation.runs]
        return Slot(ids[node], runs, activation.visit, activation.attempt, item_of(number))

    def number(self, slot: Slot) -> int:
        """The engine's number of it."""
        node = self.graph.index[slot.node]
        return node if slot.item < 0 else item_slot(node, slot.item)

    def input_of(self, slot: Slot) -> object:
        plan = input_plan(self.graph, self.head, self.number(slot))
        values = self.stored.values
        return plan.build(lambda key: _CODEC.decode(values[key]) if key in values else MISSING)

    def visit(self, slot: Slot) -> Visit:
        number = self.number(slot)
        return Visit(number, self.head.active[number].nonce, slot.visit, slot.attempt)

    def event(self, slot: Slot, result: Result) -> EngineEvent:
        if isinstance(result, Err):
            error = ErrorInfo(result.kind, f"{slot} failed")
            return Failed(self.visit(slot), error, result.retryable, result.fatal)
        if slot.node == slot.runs and slot.node in self.scatters:
            return self._scattered(slot, cast("list[object]", result.output))
        return Completed(self.visit(slot), _CODEC.encode(result.output), result.action, failed=result.failed)

    def _scattered(self, slot: Slot, items: list[object]) -> EngineEvent:
        chunks = tuple(_CODEC.encode(items[i : i + CHUNK]) for i in range(0, len(items), CHUNK))
        output = _CODEC.encode({"items": len(items)})
        return Completed(self.visit(slot), output, items=(len(items), chunks))

    def fold(self, events: list[EngineEvent]) -> list[bool]:
        """Apply events in one commit; True for each that changed something."""
        head = self.head
        draft = self._draft(head, needed_keys(self.graph, head, events))
        applied = [apply(draft, event) for event in events]
        self._commit(draft)
        return applied

    def drop(self, slot: Slot) -> None:
        self.fold([Dropped(self.visit(slot))])

    def view(self) -> RunView:
        """The result in the oracle's form."""
        view = run_view(self.graph, self.head)
        values = self.stored.values
        head = self.head
        nodes: dict[str, NodeView] = {}
        for node_id, node in view.nodes.items():
            n = self.graph.index[node_id]
            # the output of a visit that failed afterwards is kept, but it is no result
            shown = node.output if node.state == "completed" else None
            output = None if shown is None else _CODEC.decode(values[shown])
            visits = _visits(head, self.graph, n, node.state)
            nodes[node_id] = NodeView(node.state, visits, output, _reason(head, n, node.state))
        failures = tuple(sorted(Failure(f.node_id, self._kind(f.errors[-1])) for f in view.failures))
        outputs: Mapping[str, object] = {end: _CODEC.decode(values[key]) for end, key in view.outputs.items()}
        output = next(iter(outputs.values()), None) if len(outputs) < 2 else outputs
        return RunView(view.status, nodes, failures, output)

    def _kind(self, key: ValueKey) -> str:
        error = ErrorInfo.from_dict(_CODEC.decode(self.stored.values[key]))
        return _KINDS.get(error.kind, "failed")


def _visits(head: Head, graph: Graph, node: int, state: str) -> int:
    """How often the node's function was activated; a skipped node shows none."""
    if state == "skipped":
        return 0
    return head.visits.get(node, 0 if graph.repeats[node] else int(state in ("completed", "failed")))


def _reason(head: Head, node: int, state: str) -> str:
    if state != "skipped":
        return ""
    return "upstream" if head.states[node] == SKIPPED_FAILED else "dead"
