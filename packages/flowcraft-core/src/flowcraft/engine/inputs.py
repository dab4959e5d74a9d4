"""The input of an active visit: which stored values it is made of, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from flowcraft.blueprint_expressions import InputPath
from flowcraft.constructs import GATHER
from flowcraft.engine.draft import MISSING, output_key
from flowcraft.engine.head import FAILED, LIVE, VOID, Activation, Head
from flowcraft.engine.joins import goes_round
from flowcraft.engine.routes import edge_key, given_key, keys_of, speaks_of
from flowcraft.engine.slots import CHUNK, NODE_MASK, chunk_key, item_of, node_of, result_key
from flowcraft.expressions import Reference
from flowcraft.graph import Graph
from flowcraft.model import RUN_INPUT, ErrorInfo, ValueKey

__all__ = ["InputPlan", "input_plan"]

Read = Callable[[ValueKey], object]


@dataclass(frozen=True, slots=True)
class InputPlan:
    """``keys`` are to be read; ``build`` makes the input from their decoded values (MISSING where there is none)."""

    keys: tuple[ValueKey, ...]
    build: Callable[[Read], object]
    #: The value that is the input as it is stored, if it is one.
    whole: ValueKey | None = None


def input_plan(graph: Graph, head: Head, node: int) -> InputPlan:
    """The input of the active ``node``; for a fallback ``{"error": …, "input": what the failed visit got}``."""
    if node > NODE_MASK:
        return _item(graph, head, node)
    activation = head.active.get(node)
    direct = graph.direct[node] if head.epoch == 1 else None  # what is known in advance is of first visits
    plan = _ordinary(graph, head, node) if direct is None else _single(direct)
    if activation is not None and node in head.given and head.given[node] == _visit_of(activation):
        plan = _single(given_key(graph.ids[node]))
    if activation is not None and 0 <= activation.runs == graph.compensation[node]:
        return _for_compensation(graph, head, node, activation.visit, plan)
    for failed, visit in activation.before if activation is not None else ():
        plan = _for_fallback(plan, ValueKey("error", graph.ids[failed], visit))
    return plan


def _visit_of(activation: Activation) -> int:
    """The visit of the active node itself, also while another node stands in for it, or undoes it."""
    return activation.before[0][1] if activation.before else activation.visit


def _for_compensation(graph: Graph, head: Head, node: int, visit: int, plan: InputPlan) -> InputPlan:
    """What a completed visit got and made.

    What a visit of an earlier round got is not known any more, nor what one got that stood in for another node.
    """
    output, owner = output_key(graph, node, visit), head.undo[-1][2]
    known = owner == node and node not in head.last and head.visits.get(node, 1) == visit

    def build(read: Read) -> object:
        return {"input": plan.build(read) if known else None, "output": _or_none(read(output)), "visit": visit}

    return InputPlan((*plan.keys, output), build)


def _for_fallback(plan: InputPlan, error: ValueKey) -> InputPlan:
    def build(read: Read) -> object:
        info = ErrorInfo.from_dict(read(error))  # without its trace, which differs from process to process
        return {"error": {"kind": info.kind, "message": info.text}, "input": plan.build(read)}

    return InputPlan((*plan.keys, error), build)


def _item(graph: Graph, head: Head, slot: int) -> InputPlan:
    """One item, or the list of those that one job has."""
    node, number = node_of(slot), item_of(slot)
    batch, name = head.batches[node], graph.batches[node].scatter
    first, count = number * batch.size, batch.members(number)
    chunks = range(first // CHUNK, (first + count - 1) // CHUNK + 1)
    keys = tuple(chunk_key(name, batch.source, chunk) for chunk in chunks)

    def build(read: Read) -> object:
        items: list[object] = []
        for chunk, key in zip(chunks, keys, strict=True):
            stored = cast("list[object]", read(key))
            items += stored[max(first - chunk * CHUNK, 0) : first + count - chunk * CHUNK]
        return items[0] if batch.size == 1 else items

    return InputPlan(keys, build)


def _gathered(graph: Graph, head: Head, node: int) -> InputPlan:
    """The results of a batch, in the order of its items."""
    batch, name = head.batches[node], graph.ids[node]
    keys = tuple(result_key(name, batch.under, item) for item in range(len(batch.states)))
    failed = [state == FAILED for state in batch.states]

    def build(read: Read) -> object:
        made: list[object] = []
        for item, key in enumerate(keys):
            result = _or_none(read(key))
            if failed[item] and not isinstance(result, list):
                made += [result] * batch.members(item)
            elif batch.size == 1:
                made.append(result)
            else:
                made += cast("list[object]", result)
        return made

    return InputPlan(keys, build)


def _ordinary(graph: Graph, head: Head, node: int) -> InputPlan:
    if graph.nodes[node].uses == GATHER and node in graph.batch_of:
        return _gathered(graph, head, graph.batch_of[node])
    inputs = graph.inputs[node]
    live = _live(graph, head, node)
    if inputs is not None:
        transformed = [e for e in live if graph.transform[e] is not None]
        if isinstance(inputs, tuple) and transformed:
            return _single(edge_key(graph, head, transformed[0]))
        return _mapped(graph, head, inputs)
    carried = _first_of_each(graph, head, live)
    if not carried:
        return _single(RUN_INPUT)
    if graph.at_least[node] == 1 or _predecessors(graph, head, node) == 1:
        return _single(edge_key(graph, head, carried[0]))
    by_source: dict[str, ValueKey] = {}
    for e in carried:
        by_source.setdefault(graph.ids[graph.src[e]], edge_key(graph, head, e))

    def build(read: Read) -> object:
        return {source: _or_none(read(key)) for source, key in by_source.items()}

    return InputPlan(tuple(by_source.values()), build)


def _live(graph: Graph, head: Head, node: int) -> tuple[int, ...]:
    """The edges whose values reach the node: those that fired it, or all LIVE ones."""
    live = head.wins.get(node)
    if live is not None:
        return live
    return tuple(e for e in range(graph.in_lo[node], graph.in_mid[node]) if head.marks[e] == LIVE)


def _first_of_each(graph: Graph, head: Head, live: tuple[int, ...]) -> tuple[int, ...]:
    """Of several edges from one source, the one that was LIVE first."""
    if len(live) < 2:
        return live
    first: dict[int, int] = {}
    for e in live:
        best = first.setdefault(graph.src[e], e)
        if speaks_of(graph, head, e) < speaks_of(graph, head, best):
            first[graph.src[e]] = e
    return tuple(first.values())


def _predecessors(graph: Graph, head: Head, node: int) -> int:
    """How many predecessors apply to this visit."""
    low, high = graph.in_lo[node], graph.in_mid[node]
    if goes_round(graph, head, node):
        return len({graph.src[e] for e in range(high, graph.in_hi[node])})
    return len({graph.src[e] for e in range(low, high) if head.marks[e] != VOID})


def _single(key: ValueKey) -> InputPlan:
    return InputPlan((key,), lambda read: _or_none(read(key)), key)


def _or_none(value: object) -> object:
    return None if value is MISSING else value


def _mapped(graph: Graph, head: Head, inputs: InputPath | Mapping[str, InputPath]) -> InputPlan:
    if isinstance(inputs, Mapping):
        parts = {name: _mapped(graph, head, path) for name, path in inputs.items()}
        keys = tuple(key for part in parts.values() for key in part.keys)
        return InputPlan(keys, lambda read: {name: part.build(read) for name, part in parts.items()})
    found = {reference: tuple(keys_of(graph, head, reference)) for path in inputs for reference in path.references}

    def build(read: Read) -> object:
        def resolve(reference: Reference) -> object:
            return next((value for key in found[reference] if (value := read(key)) is not MISSING), None)

        def exists(path_references: frozenset[Reference]) -> bool:
            return any(read(key) is not MISSING for reference in path_references for key in found[reference])

        for path in inputs:
            if exists(path.references):
                return path.evaluate(resolve)
        return None

    return InputPlan(tuple(key for keys in found.values() for key in keys), build)
