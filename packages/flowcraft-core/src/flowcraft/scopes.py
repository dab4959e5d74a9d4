"""Where a blueprint goes round: cycles become scopes with one header, nested like blocks of a program.

Pure graph theory on node numbers, from the rules of docs/semantics.md, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flowcraft.errors import DefinitionError

__all__ = ["LOOP_CONTROLLER", "MAX_NESTING", "Scope", "Topology", "decompose"]

#: ``uses`` of the node that controls a structured loop.
LOOP_CONTROLLER = "loop-controller"
#: How deep cycles may be nested. A cycle that only another one leads to counts as inside it.
MAX_NESTING = 200


@dataclass(slots=True)
class Scope:
    """One cycle with all that belongs to it. Scope 0 is the whole run: it has no header and never goes round."""

    index: int
    parent: int
    depth: int
    header: int
    structured: bool
    #: All nodes inside, those of nested scopes included.
    members: list[int]
    #: Edges (numbers of the topology) from inside into the header.
    back: list[int] = field(default_factory=list[int])


@dataclass(slots=True)
class Topology:
    """What the decomposition sees of a blueprint: ends of edges, fallback references, and names for messages."""

    names: Sequence[str]
    edges: list[tuple[int, int]]
    fallback: Sequence[int]  # by node: the node it falls back to, or -1
    entry_points: Sequence[int]
    controllers: Collection[int]
    decided: Collection[int]  # edges that have, or compete with, an action or a condition
    removed: set[int] = field(default_factory=set[int])  # back edges of cycles that could never end

    def live_edges(self, inside: Collection[int], without: Collection[int]) -> Iterable[tuple[int, int, int]]:
        """Edges within ``inside`` that are neither removed nor in ``without``, as (number, source, target)."""
        for number, (source, target) in enumerate(self.edges):
            if source in inside and target in inside and number not in self.removed and number not in without:
                yield number, source, target


def decompose(topology: Topology, *, strict: bool) -> list[Scope]:
    """All scopes, parents before children; ``topology.removed`` holds the back edges that are ignored.

    Raises:
        DefinitionError: a cycle with several entries and no named header, or closed by a fallback reference alone, or
            nested too deeply, or (``strict``) one that can never end.
    """
    everything = set(range(len(topology.names)))
    while True:
        root = Scope(0, -1, 0, -1, structured=False, members=sorted(everything))
        scopes, endless = [root], set[int]()
        _decompose_into(topology, scopes, root, everything, set(), endless)
        if not endless:
            return scopes
        if strict:
            source, target = topology.edges[min(endless)]
            raise DefinitionError(
                f"the cycle closed by {topology.names[source]} -> {topology.names[target]} can never end: "
                "give one of its edges an action or a condition",
                subject=topology.names[target],
            )
        topology.removed |= endless


def _decompose_into(
    topology: Topology, scopes: list[Scope], parent: Scope, inside: set[int], cut: set[int], endless: set[int]
) -> None:
    if parent.depth > MAX_NESTING:
        raise DefinitionError(f"cycles are nested more than {MAX_NESTING} deep", subject=topology.names[parent.header])
    found: list[tuple[set[int], int, bool, set[int]]] = []
    around = _neighbours(topology, inside, cut)
    for component in _cyclic_components(topology, inside, cut):
        header, structured = _header(topology, component, cut)
        found.append((component, header, structured, _attached(around, component, header, structured, inside)))
    nested = set[int]().union(*(attached for *_, attached in found))
    found = [each for each in found if each[1] not in nested]  # else it hangs off another cycle, and is found inside it
    backs = [{n for n, _, target in topology.live_edges(c, cut) if target == header} for c, header, _, _ in found]
    for (component, header, _, _), back in zip(found, backs, strict=True):
        endless |= _endless(topology, component, header, back, cut)
    if endless:
        return  # the caller removes them and starts again
    for (component, header, structured, attached), back in zip(found, backs, strict=True):
        body = component | attached
        scope = Scope(len(scopes), parent.index, parent.depth + 1, header, structured, sorted(body), sorted(back))
        scopes.append(scope)
        inner = cut | back
        if any(header in again for again in _cyclic_components(topology, component, inner)):
            raise DefinitionError(
                f"the cycle through {topology.names[header]!r} is closed only by its being a fallback: "
                "name another of its nodes in cycleEntryPoints",
                subject=topology.names[header],
            )
        _decompose_into(topology, scopes, scope, body, inner, endless)


def _cyclic_components(topology: Topology, inside: set[int], cut: set[int]) -> list[set[int]]:
    """Components (edges one way, fallback references both ways) in which edges and references close a cycle."""
    both: dict[int, list[int]] = {n: [] for n in inside}
    one_way: dict[int, list[int]] = {n: [] for n in inside}
    for _, source, target in topology.live_edges(inside, cut):
        both[source].append(target)
        one_way[source].append(target)
    for node in inside:
        other = topology.fallback[node]
        if other in both:
            both[node].append(other)
            both[other].append(node)
            one_way[node].append(other)
    components = [set(c) for c in strong_components(sorted(inside), both)]
    return [c for c in components if _has_cycle(c, one_way)]


def _has_cycle(nodes: set[int], successors: Mapping[int, Sequence[int]]) -> bool:
    within = {n: [m for m in successors[n] if m in nodes] for n in nodes}
    return any(len(c) > 1 or c[0] in within[c[0]] for c in strong_components(sorted(nodes), within))


def strong_components(nodes: Sequence[int], successors: Mapping[int, Sequence[int]]) -> list[list[int]]:
    """Strongly connected components (Tarjan's algorithm, with a stack of its own instead of recursion)."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    found: list[list[int]] = []
    for root in nodes:
        if root in order:
            continue
        calls: list[tuple[int, int]] = [(root, 0)]
        while calls:
            node, position = calls.pop()
            if position == 0:
                order[node] = low[node] = len(order)
                stack.append(node)
                on_stack.add(node)
            children = successors[node]
            while position < len(children):
                child = children[position]
                position += 1
                if child not in order:
                    calls += [(node, position), (child, 0)]
                    break
                if child in on_stack:
                    low[node] = min(low[node], order[child])
            else:
                if low[node] == order[node]:
                    at = _rindex(stack, node)
                    found.append(stack[at:])
                    on_stack.difference_update(stack[at:])
                    del stack[at:]
                if calls:
                    parent = calls[-1][0]
                    low[parent] = min(low[parent], low[node])
    return found


def _rindex(stack: list[int], node: int) -> int:
    at = len(stack) - 1
    while stack[at] != node:
        at -= 1
    return at


def _header(topology: Topology, component: set[int], cut: set[int]) -> tuple[int, bool]:
    entered = {
        target
        for number, (source, target) in enumerate(topology.edges)
        if target in component and source not in component and number not in topology.removed
    }
    controllers = sorted(n for n in topology.controllers if n in component and (n in entered or not entered))
    if controllers:
        return (controllers[0] if entered else _outermost(topology, component, cut, controllers)), True
    for entry in topology.entry_points:
        if entry in component:
            return entry, False
    if len(entered) > 1:
        names = ", ".join(repr(topology.names[n]) for n in sorted(entered))
        raise DefinitionError(
            f"a cycle is entered at several nodes ({names}): name one in metadata.cycleEntryPoints",
            subject=topology.names[min(entered)],
        )
    if entered:
        return entered.pop(), False
    targets = {target for _, target in topology.edges}
    only_fallback = {n for n in topology.fallback if n >= 0 and n not in targets}
    return min(component - only_fallback or component), False


def _outermost(topology: Topology, component: set[int], cut: set[int], controllers: Sequence[int]) -> int:
    """The controller of the loop that is around the others: they still go round if it does not, and it leads out."""
    found: list[int] = []
    for controller in controllers if len(controllers) > 1 else ():
        back = {number for number, _, target in topology.live_edges(component, cut) if target == controller}
        going = set[int]().union(*_cyclic_components(topology, component, cut | back))
        if going.issuperset(other for other in controllers if other != controller):
            found.append(controller)
    leading_out = {source for source, target in topology.edges if source in component and target not in component}
    return next((c for c in found if c in leading_out), (found or controllers)[0])


def _endless(topology: Topology, component: set[int], header: int, back: set[int], cut: set[int]) -> set[int]:
    """The back edges of cycles on which nothing is ever decided."""
    successors: dict[int, list[int]] = {n: [] for n in component}
    for number, source, target in topology.live_edges(component, cut | back):
        if number not in topology.decided:
            successors[source].append(target)
    reached = _closure([header], lambda n: successors[n])
    return {n for n in back if n not in topology.decided and topology.edges[n][0] in reached}


def _closure(start: Iterable[int], successors: Callable[[int], Iterable[int]]) -> set[int]:
    seen = set(start)
    todo = list(seen)
    while todo:
        for other in successors(todo.pop()):
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen


_Around = tuple[Sequence[set[int]], Sequence[set[int]]]


def _neighbours(topology: Topology, inside: set[int], cut: set[int]) -> _Around:
    """What comes before and after each node, also outside; a fallback belongs where the node is that names it."""
    everyone = range(len(topology.names))
    before: list[set[int]] = [set() for _ in everyone]
    after: list[set[int]] = [set() for _ in everyone]
    for _, source, target in topology.live_edges(everyone, cut):
        before[target].add(source)
        after[source].add(target)
    for node in inside:
        other = topology.fallback[node]
        if other in inside:
            for one, two in ((node, other), (other, node)):
                before[one].add(two)
                after[one].add(two)
    return before, after


def _attached(around: _Around, component: set[int], header: int, structured: bool, inside: set[int]) -> set[int]:
    """The nodes that only the cycle reaches and from which nothing else is reachable."""
    before, after = around
    core = component - {header} if structured else component
    kept = (_closure(core, after.__getitem__) & inside) - component
    dropped = [n for n in kept if any(o not in core and o not in kept for o in before[n] | after[n])]
    while dropped:
        node = dropped.pop()
        kept.discard(node)
        dropped += [n for n in before[node] | after[node] if n in kept]
    return kept
