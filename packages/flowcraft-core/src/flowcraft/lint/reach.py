"""What can never run: nodes that nothing leads to, edges that are never taken, joins that ask for too much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from flowcraft.constructs import GATHER, LOOP, kind_of
from flowcraft.graph import Graph
from flowcraft.lint.decisions import Fact, dead_edges, facts_of_edge
from flowcraft.lint.issues import LintIssue
from flowcraft.lint.subject import Subject

__all__ = ["check_reach"]

_Facts = Mapping[Fact, object]
_MOST_FACTS = 64  # kept of one node: to forget some only finds less


def check_reach(subject: Subject, graph: Graph) -> Iterator[LintIssue]:
    """``JOIN_NEVER_FIRES``, ``UNREACHABLE_NODE``, ``EDGE_NEVER_TAKEN`` and ``ALL_JOIN_OF_ALTERNATIVES``."""
    dead = dead_edges(graph)
    facts = _facts_of_nodes(graph)
    hopeless: set[int] = set()
    for n in range(graph.node_count):
        ways = _ways(graph, facts, dead, n)
        most = _most_at_once(list(ways.values()))
        if ways and most < graph.at_least[n]:
            hopeless.add(n)
            yield _hopeless(graph, n, len(ways), most)
        elif len(ways) > 1 and most == 1 and not graph.at_least[n] and _wants_one(subject, graph, n):
            yield _alternatives(graph, n, [graph.ids[source] for source in ways])
    possible = _possible(graph, dead, hopeless)
    reported: set[int] = set()
    for n, node_id in enumerate(graph.ids):
        if n not in possible and n not in hopeless and node_id in subject.nodes and n not in _undoing(subject, graph):
            reported.add(n)
            yield _unreachable(graph, dead, n)
    for e, reason in sorted(dead.items()):
        if graph.src[e] in possible and graph.dst[e] not in reported:
            edge = f"{graph.ids[graph.src[e]]} -> {graph.ids[graph.dst[e]]}"
            yield LintIssue(
                "EDGE_NEVER_TAKEN",
                edge,
                f"edge {edge} is never taken: {reason}",
                "mend what it depends on, or remove it",
            )


def _undoing(subject: Subject, graph: Graph) -> set[int]:
    return {graph.index[node_id] for node_id in subject.undoes}


def _wants_one(subject: Subject, graph: Graph, n: int) -> bool:
    node = subject.nodes.get(graph.ids[n])
    return node is not None and node.inputs is None and node.uses != GATHER and kind_of(node) != LOOP


def _facts_of_nodes(graph: Graph) -> Sequence[_Facts]:
    """For each node what is known of the decisions before it, whenever it runs; nothing is always right."""
    facts: list[_Facts] = [{} for _ in graph.nodes]
    before = [
        [*((graph.src[e], e) for e in range(graph.in_lo[n], graph.in_mid[n])), *((m, -1) for m in graph.namers[n])]
        for n in range(graph.node_count)
    ]
    missing = [len(ways) for ways in before]
    after: list[list[int]] = [[] for _ in graph.nodes]
    for n, ways in enumerate(before):
        for source, _ in ways:
            after[source].append(n)
    ready = [n for n, count in enumerate(missing) if not count]
    while ready:
        n = ready.pop()
        facts[n] = _common([_along(graph, facts, source, e, n) for source, e in before[n]])
        for follower in after[n]:
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
    return facts


def _along(graph: Graph, facts: Sequence[_Facts], source: int, e: int, target: int) -> _Facts:
    """What holds when an edge (or a fallback reference, -1) is taken; a loop that is left forgets its rounds."""
    known = {**facts[source], **(facts_of_edge(graph, e) if e >= 0 else {})}
    around = set(graph.chain[target])
    kept = [(fact, answer) for fact, answer in known.items() if set(graph.chain[fact.node]) <= around]
    return dict(kept[-_MOST_FACTS:])


def _common(ways: Sequence[_Facts]) -> _Facts:
    if not ways:
        return {}
    first, *others = ways
    return {fact: answer for fact, answer in first.items() if all(fact in o and o[fact] == answer for o in others)}


def _ways(graph: Graph, facts: Sequence[_Facts], dead: Iterable[int], n: int) -> Mapping[int, _Facts]:
    """By predecessor, what must hold for it to be LIVE; without those that never are."""
    found: dict[int, list[_Facts]] = {}
    for e in range(graph.in_lo[n], graph.in_mid[n]):
        if e not in dead:
            found.setdefault(graph.src[e], []).append(_along(graph, facts, graph.src[e], e, n))
    return {source: _common(edges) for source, edges in found.items()}


def _most_at_once(ways: Sequence[_Facts]) -> int:
    """No more of them hold together: for each question, those that do not ask it and one of those for each answer."""
    most = len(ways)
    for fact in {fact for facts in ways for fact in facts}:
        answers: dict[object, int] = {}
        for facts in ways:
            if fact in facts:
                answers[facts[fact]] = answers.get(facts[fact], 0) + 1
        most = min(most, len(ways) - sum(answers.values()) + max(answers.values()))
    return most


def _possible(graph: Graph, dead: Iterable[int], hopeless: set[int]) -> set[int]:
    """The nodes that run in some run, as far as can be told."""
    found: set[int] = set()
    lively: dict[int, set[int]] = {}
    falls_to = dict(enumerate(graph.fallback))
    todo = [*graph.starts]
    while todo:
        n = todo.pop()
        if n in found:
            continue
        found.add(n)
        if falls_to[n] >= 0:
            todo.append(falls_to[n])
        for e in graph.out[n]:
            target = graph.dst[e]
            if e in dead:
                continue
            around = e >= graph.in_mid[target]
            sources = lively.setdefault(target, set())
            sources.add(n)
            if around or (target not in hopeless and len(sources) >= graph.at_least[target]):
                todo.append(target)
    return found


def _hopeless(graph: Graph, n: int, ways: int, most: int) -> LintIssue:
    node_id, needed = graph.ids[n], graph.at_least[n]
    then = "it only ever stands in as a fallback" if graph.namers[n] else "it is always skipped"
    why = f"has {ways}" if most == ways else f"at most {most} of its {ways} can be taken in one run"
    return LintIssue(
        "JOIN_NEVER_FIRES", node_id,
        f"node {node_id!r} waits for {needed} predecessors and {why}: {then}",
        f"ask for at most {most}",
    )  # fmt: skip


def _alternatives(graph: Graph, n: int, sources: Sequence[str]) -> LintIssue:
    named = " and ".join(map(repr, sources)) if len(sources) < 4 else f"{len(sources)} predecessors"
    return LintIssue(
        "ALL_JOIN_OF_ALTERNATIVES", graph.ids[n],
        f"{named} exclude each other, and node {graph.ids[n]!r} waits for all of them: its input is an object with the "
        "output of the one that was taken",
        "use the join 'any' to get the output itself, or say with inputs what it reads",
    )  # fmt: skip


def _unreachable(graph: Graph, dead: Mapping[int, str], n: int) -> LintIssue:
    node_id = graph.ids[n]
    for e in range(graph.in_lo[n], graph.in_hi[n]):
        if e in dead:
            edge = f"{graph.ids[graph.src[e]]} -> {graph.ids[n]}"
            why, remedy = f"edge {edge} is never taken: {dead[e]}", "mend what the edge depends on, or remove the node"
            break
    else:
        why, remedy = "nothing that leads to it ever runs", "mend what leads to it, or remove it"
    return LintIssue("UNREACHABLE_NODE", node_id, f"node {node_id!r} never runs: {why}", remedy)
