"""Where an outcome leads: actions, conditions and transforms of a completed node's edges, on committed values."""

from __future__ import annotations

from collections.abc import Iterator

from flowcraft.engine.draft import MISSING, Cell, Draft, output_key, output_visit
from flowcraft.engine.head import DEAD, LIVE, UNMARKED, Head
from flowcraft.errors import ConditionError, SerializationError
from flowcraft.expressions import Expression, Reference, truthy
from flowcraft.graph import Graph
from flowcraft.model import RUN_INPUT, ValueKey
from flowcraft.scopes import LOOP_CONTROLLER

__all__ = ["Route", "edge_key", "keys_of", "lookup", "plan_route", "replaced_keys", "take_route", "transform_key"]

#: LIVE edges of one node, with the cells that their transforms made (MISSING without one).
Route = list[tuple[int, Cell]]


def transform_key(edge: int, visit: int) -> ValueKey:
    """Where the value that an edge's transform made is stored, by the visit of its source."""
    return ValueKey("input", str(edge), visit)


def keys_of(graph: Graph, head: Head, reference: Reference) -> Iterator[ValueKey]:
    """The stored values that a name may stand for, the first that exists counts."""
    if reference.kind in ("name", "output"):
        node = graph.index.get(reference.name)
        if node is not None:
            visit = output_visit(graph, head, node)
            if visit:
                yield output_key(graph, node, visit)
    if reference.kind == "name":
        yield ValueKey("context", reference.name)
    if reference.kind == "input_of":
        yield from _input_keys(graph, head, reference.name)


def _input_keys(graph: Graph, head: Head, name: str) -> Iterator[ValueKey]:
    """``_inputs.x``: what the first LIVE edge into x carried, or the run's input for a start node."""
    node = graph.index.get(name)
    if node is None:
        return
    if graph.in_lo[node] == graph.in_hi[node]:
        yield RUN_INPUT
    for e in head.wins.get(node) or range(graph.in_lo[node], graph.in_mid[node]):
        if head.marks[e] == LIVE:
            yield edge_key(graph, head, e)
            return


def edge_key(graph: Graph, head: Head, edge: int) -> ValueKey:
    """Where the value is that a LIVE edge carries."""
    source = graph.src[edge]
    visit = head.mark_visits.get(edge) or output_visit(graph, head, source)
    return output_key(graph, source, visit) if graph.transform[edge] is None else transform_key(edge, visit)


def lookup(draft: Draft, reference: Reference) -> object:
    """What a name stands for, or None."""
    for key in keys_of(draft.graph, draft.head, reference):
        value = draft.value(key)
        if value is not MISSING:
            return value
    return None


def plan_route(draft: Draft, node: int, cell: Cell, action: str | None) -> Route:
    """The edges that an outcome of ``node`` chooses; nothing is changed yet.

    Raises:
        ConditionError: an expression could not be evaluated; the message names the edge.
    """
    graph = draft.graph
    edges = graph.out[node]
    controller = graph.nodes[node].uses == LOOP_CONTROLLER
    chosen = [e for e in edges if action is not None and graph.action[e] == action]
    chosen = chosen or [e for e in edges if graph.action[e] is None]
    if not graph.references[node] and not any(
        graph.condition[e] or graph.transform[e] for e in (edges if controller else chosen)
    ):
        return [(e, MISSING) for e in chosen]
    outcome = _Outcome(draft, draft.decode(cell), action)
    if controller:
        early = [e for e in edges if graph.condition[e] is not None and outcome.takes(e)]
        chosen = early or [e for e in chosen if graph.condition[e] is None]
    else:
        chosen = [e for e in chosen if outcome.takes(e)]
    return [(e, outcome.sent_along(e)) for e in chosen]


class _Outcome:
    """A decoded outcome, asked what its edges' expressions say about it."""

    __slots__ = ("_action", "_draft", "_output")

    def __init__(self, draft: Draft, output: object, action: str | None) -> None:
        self._draft = draft
        self._output = output
        self._action = action

    def takes(self, edge: int) -> bool:
        condition = self._draft.graph.condition[edge]
        return condition is None or truthy(self._evaluate(edge, condition, "condition", self._output))

    def sent_along(self, edge: int) -> Cell:
        """What the edge's transform makes, as a cell; MISSING without one."""
        graph = self._draft.graph
        transform, named = graph.transform[edge], graph.inputs[graph.dst[edge]]
        if transform is None:
            return MISSING
        subject = self._output
        if isinstance(named, tuple):  # the target's string `inputs` says what is transformed
            found = (self._evaluate(edge, path, "inputs", self._output) for path in named)
            subject = next((value for value in found if value is not None), None)
        try:
            return self._draft.encode(self._evaluate(edge, transform, "transform", subject))
        except SerializationError as error:
            raise ConditionError(f"the transform of an edge made a value that cannot be stored: {error}") from error

    def _evaluate(self, edge: int, expression: Expression, what: str, subject: object) -> object:
        graph = self._draft.graph
        source = graph.ids[graph.src[edge]]

        def resolve(reference: Reference) -> object:
            if reference.kind == "input":
                return subject
            if reference.kind == "result":
                return {"output": self._output, "action": self._action}
            if reference.kind in ("name", "output") and reference.name == source:
                return self._output  # the outcome that is being committed, not the one before
            return lookup(self._draft, reference)

        try:
            return expression.evaluate(resolve)
        except ConditionError as error:
            raise ConditionError(
                f"the {what} of edge {source} -> {graph.ids[graph.dst[edge]]} ({expression.source!r}) failed: {error}"
            ) from error


def take_route(draft: Draft, node: int, visit: int, route: Route) -> None:
    """Mark the edges of a node that completed. A fallback's edges that are not chosen stay open, see `Draft.send`."""
    graph, head = draft.graph, draft.head
    keep_visit = graph.repeats[node]
    for e, made in route:
        if head.marks[e] == UNMARKED:  # a second LIVE changes nothing
            if made is not MISSING:
                draft.write(transform_key(e, visit), made)
            if keep_visit:
                head.mark_visits[e] = visit
            draft.mark(e, LIVE)
    if not graph.namers[node]:
        draft.send(node, DEAD)


def replaced_keys(graph: Graph, head: Head, node: int, previous: int) -> Iterator[ValueKey]:
    """What a new visit's outcome makes obsolete of an earlier one, except what a LIVE edge still speaks of."""
    if any(head.mark_visits.get(e) == previous for e in graph.out[node]):
        return
    yield output_key(graph, node, previous)
    for e in graph.out[node]:
        if graph.transform[e] is not None:
            yield transform_key(e, previous)
