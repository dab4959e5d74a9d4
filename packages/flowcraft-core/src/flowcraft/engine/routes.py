"""Where an outcome leads: actions, conditions and transforms of a completed node's edges, on committed values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flowcraft.engine.draft import MISSING, Cell, Draft, output_key, output_visit
from flowcraft.engine.head import DEAD, LIVE, UNMARKED, Head
from flowcraft.errors import ConditionError, SerializationError
from flowcraft.expressions import Expression, Reference, truthy
from flowcraft.graph import Graph
from flowcraft.model import RUN_INPUT, ValueKey
from flowcraft.scopes import LOOP_CONTROLLER

__all__ = [
    "Route",
    "edge_key",
    "erase_unread",
    "given_key",
    "keys_of",
    "lookup",
    "plan_route",
    "speaks_of",
    "spoken_of",
    "take_route",
    "transform_key",
]

#: LIVE edges of one node, with the cells that their transforms made (MISSING without one).
Route = list[tuple[int, Cell]]


def transform_key(edge: int, visit: int) -> ValueKey:
    """Where the value that an edge's transform made is stored, by the visit of its source."""
    return ValueKey("input", str(edge), visit)


def given_key(node_id: str) -> ValueKey:
    """Where the input is that was given for one visit of a node, in place of what led there."""
    return ValueKey("input", f"node:{node_id}")  # the names of edges are numbers


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
    if node in head.given and head.given[node] == head.latest_visit(node, repeats=graph.repeats[node]):
        yield given_key(name)
    if graph.in_lo[node] == graph.in_hi[node]:
        yield RUN_INPUT
    for e in head.wins.get(node) or range(graph.in_lo[node], graph.in_mid[node]):
        if head.marks[e] == LIVE:
            yield edge_key(graph, head, e)
            return


def edge_key(graph: Graph, head: Head, edge: int) -> ValueKey:
    """Where the value is that a LIVE edge carries."""
    source = graph.src[edge]
    visit = speaks_of(graph, head, edge) or output_visit(graph, head, source)
    return output_key(graph, source, visit) if graph.transform[edge] is None else transform_key(edge, visit)


def speaks_of(graph: Graph, head: Head, edge: int) -> int:
    """The visit of its source that a LIVE edge speaks of (a back edge: to the header that it sent round), or 0."""
    back = edge >= graph.in_mid[graph.dst[edge]]
    return (head.brought if back else head.mark_visits).get(edge, 0)


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


def take_route(draft: Draft, node: int, visit: int, route: Route, *, owner: int) -> None:
    """Mark the edges of a node that completed (a fallback: for ``owner``).

    A fallback's edges that are not chosen stay open, see `Draft.send`. A second LIVE changes nothing, but stays when
    the node is reset that the first one was for.
    """
    graph, head = draft.graph, draft.head
    keep_visit, helps = graph.repeats[node], bool(graph.namers[node])
    for e, made in route:
        first, chosen = head.mark_of(e) == UNMARKED, head.mark_of(e) in (UNMARKED, LIVE)
        if made is not MISSING and (first or (helps and chosen)):
            draft.write(transform_key(e, visit), made)
        if helps and chosen:
            head.choosers.setdefault(e, []).append((owner, visit))
        if first:
            if keep_visit:
                head.mark_visits[e] = visit
            draft.mark(e, LIVE)
    if not graph.namers[node]:
        draft.send(node, DEAD)


def spoken_of(graph: Graph, head: Head, edges: Iterable[int]) -> set[tuple[int, int]]:
    """The visits, as (node, visit), that the marks of these edges speak of."""
    found: set[tuple[int, int]] = set()
    for e in edges:
        visits = (head.mark_visits.get(e), head.brought.get(e), *(visit for _, visit in head.choosers.get(e, ())))
        found.update((graph.src[e], visit) for visit in visits if visit)
    return found


def erase_unread(draft: Draft, node: int, visit: int) -> None:
    """Delete what a visit made, unless it is the latest, or an edge still speaks of it, or it may have to be undone."""
    graph, head = draft.graph, draft.head
    if visit == output_visit(graph, head, node) or graph.compensation[node] >= 0:
        return
    if (node, visit) in spoken_of(graph, head, graph.out[node]):
        return
    draft.erase(output_key(graph, node, visit))
    for e in graph.out[node]:
        if graph.transform[e] is not None:
            draft.erase(transform_key(e, visit))
