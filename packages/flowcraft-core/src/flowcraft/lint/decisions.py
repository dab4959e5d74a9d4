"""What can be told of decisions before a run: conditions that are constant, edges that exclude each other.

Everything here errs on one side: an edge is called dead, two of them exclusive, and a node certain, only if that holds
in every run (in which nothing fails, and nobody intervenes by a command).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from flowcraft.constructs import GATHER, LOOP, SCATTER, SLEEP, SUBFLOW, WEBHOOK, kind_of
from flowcraft.errors import ConditionError, ExpressionError
from flowcraft.expressions import Expression, parse, truthy
from flowcraft.expressions.parser import Apply, Index, Literally, Member, Node, Read, parse_tree
from flowcraft.graph import Graph
from flowcraft.shapes import text_of

__all__ = ["Fact", "certain_nodes", "constant", "dead_edges", "facts_of_edge"]

_WITHOUT_ACTION = frozenset({SCATTER, GATHER, SUBFLOW, WEBHOOK})


class Fact(NamedTuple):
    """A question about one node's outcome: edges that need different answers to it exclude each other."""

    node: int
    question: object


def constant(condition: str | Expression, names: frozenset[str] = frozenset()) -> bool | None:
    """Whether a condition is always true or always false; None if that depends, or it is no expression."""
    try:
        parsed = parse(condition, names=names) if isinstance(condition, str) else condition
        return None if parsed.references else truthy(parsed.evaluate(lambda _: None))
    except (ExpressionError, ConditionError):
        return None


def dead_edges(graph: Graph) -> Mapping[int, str]:
    """The edges that are never taken, each with the reason as half a sentence."""
    found: dict[int, str] = {}
    for n, node in enumerate(graph.nodes):
        fixed = {e: constant(condition) for e in graph.out[n] if (condition := graph.condition[e]) is not None}
        found |= dict.fromkeys((e for e, value in fixed.items() if value is False), "its condition is always false")
        if kind_of(node) == LOOP:
            found |= dict(_dead_behind_loop(graph, n, fixed))
        elif (node.uses in _WITHOUT_ACTION or kind_of(node) == SLEEP) and node.fallback is None:
            reason = f"a {node.uses} has no action"
            found |= {e: reason for e in graph.out[n] if graph.action[e] is not None}
    return found


def _dead_behind_loop(graph: Graph, n: int, fixed: Mapping[int, bool | None]) -> Iterator[tuple[int, str]]:
    """A controller tries its edges with a condition first; its own actions are two."""
    condition = text_of(graph.nodes[n].params["condition"])
    never = condition is not None and constant(condition, graph.names) is False
    actions = {"break"} if never else {"continue", "break"}  # one that is always true has a code of its own
    plain = [e for e in graph.out[n] if graph.condition[e] is None]
    named = {graph.action[e] for e in plain}
    for e in plain:
        action = graph.action[e]
        if True in fixed.values():
            yield e, "another edge has a condition that is always true"
        elif action is None and actions <= named:
            yield e, "each action of the loop has an edge of its own"
        elif action is not None and action not in actions:
            yield e, "the loop's condition is always false" if never else f"a loop has no action {action!r}"


def facts_of_edge(graph: Graph, e: int) -> Mapping[Fact, object]:
    """What must hold of the source's outcome for the edge to be taken; nothing where several visits may choose."""
    n = graph.src[e]
    single = not graph.namers[n] or (len(graph.namers[n]) == 1 and graph.in_lo[n] == graph.in_hi[n])
    if not single:
        return {}
    found: dict[Fact, object] = {}
    condition = graph.condition[e]
    choosy = any(graph.action[other] is not None for other in graph.out[n])
    if graph.kind[n] == LOOP:
        found[Fact(n, "action")] = "condition" if condition is not None else ("action", graph.action[e])
    elif choosy:
        found[Fact(n, "action")] = graph.action[e]
    if condition is not None:
        tree, _ = parse_tree(condition.source, condition.names)
        found |= {Fact(n, question): answer for question, answer in _facts(tree, True)}
    return found


def _facts(tree: Node, holds: bool) -> Iterator[tuple[object, object]]:
    if isinstance(tree, Apply) and tree.operator == "not":
        yield from _facts(tree.operands[0], not holds)
        return
    if isinstance(tree, Apply) and tree.operator == ("and" if holds else "or"):
        for operand in tree.operands:
            yield from _facts(operand, holds)
    if isinstance(tree, Apply) and tree.operator == "!=":
        tree, holds = Apply(tree.position, "==", tree.operands), not holds
    if isinstance(tree, Apply) and tree.operator == "==" and holds:
        left, right = tree.operands
        if isinstance(left, Literally):
            left, right = right, left
        if isinstance(right, Literally):
            yield ("equals", _plain(left)), (type(right.value) is bool, right.value)
    yield ("holds", _plain(tree)), holds


def _plain(tree: Node) -> object:
    """A tree without its positions, to compare it with another one."""
    match tree:
        case Literally(value=value):
            return type(value).__name__, value
        case Read(reference=reference):
            return reference
        case Member(base=base, name=name):
            return _plain(base), name
        case Index(base=base, key=key):
            return "[]", _plain(base), _plain(key)
        case Apply(operator=operator, operands=operands):
            return operator, *map(_plain, operands)
        case _:
            return tree


def certain_nodes(graph: Graph) -> frozenset[int]:
    """The nodes that are executed in every run, if nothing fails before."""
    risky = _perhaps_losers(graph)
    back = {e for plan in graph.scopes for e in plan.back}
    found: set[int] = set()
    sources: dict[int, set[int]] = {}
    todo = [n for n in graph.starts if n not in risky]
    while todo:
        n = todo.pop()
        if n in found:
            continue
        found.add(n)
        choosy = any(graph.action[e] is not None for e in graph.out[n]) or graph.kind[n] == LOOP
        for e in graph.out[n]:
            target = graph.dst[e]
            if choosy or graph.condition[e] is not None or e in back or target in risky:
                continue
            reached = sources.setdefault(target, set())
            reached.add(n)
            if len(reached) >= (graph.at_least[target] or 1):
                todo.append(target)
    return frozenset(found)


def _perhaps_losers(graph: Graph) -> set[int]:
    """The nodes from which a join is reached that does not wait for all of its predecessors, and cancels the others."""
    before: list[set[int]] = [set() for _ in graph.nodes]
    for source, target in zip(graph.src, graph.dst, strict=True):
        before[target].add(source)
    found: set[int] = set()
    todo = [n for n, needed in enumerate(graph.at_least) if needed and not graph.keep_losers[n]]
    while todo:
        for source in before[todo.pop()]:
            if source not in found:
                found.add(source)
                todo.append(source)
    return found
