"""Cycles become scopes: docs/semantics.md, section 4, sentence by sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft.errors import DefinitionError
from flowcraft.scopes import MAX_NESTING, Scope, Topology, decompose, strong_components


def topology_of(
    edges: str, *, fallbacks: str = "", entries: str = "", controllers: str = "", plain: str = ""
) -> Topology:
    """``ab bc`` are edges; ``fallbacks`` likewise; edges in ``plain`` have, and compete with, no decision."""
    pairs = [(text[0], text[1]) for text in edges.split()]
    references = {text[0]: text[1] for text in fallbacks.split()}
    names = sorted({n for pair in [*pairs, *references.items()] for n in pair} | {*controllers})
    number = {name: n for n, name in enumerate(names)}
    return Topology(
        names=names,
        edges=[(number[a], number[b]) for a, b in pairs],
        fallback=[number[references[name]] if name in references else -1 for name in names],
        entry_points=[number[name] for name in entries],
        controllers={number[name] for name in controllers},
        decided={n for n, text in enumerate(edges.split()) if text not in plain.split()},
    )


def scopes_of(edges: str, **parts: Any) -> dict[str, str]:
    """Header -> members of all scopes but the root, in order; back edges are checked on the way."""
    strict = parts.pop("strict", False)
    topology = topology_of(edges, **parts)
    found = decompose(topology, strict=strict)
    for scope in found[1:]:
        for number in scope.back:
            source, target = topology.edges[number]
            assert target == scope.header
            assert source in scope.members
    return {topology.names[s.header]: "".join(topology.names[n] for n in s.members) for s in found[1:]}


def test_no_cycle_no_scope() -> None:
    root = decompose(topology_of("ab bc ac"), strict=True)
    assert root == [Scope(0, -1, 0, -1, structured=False, members=[0, 1, 2])]


@pytest.mark.parametrize(
    ("edges", "parts", "scopes"),
    [
        # 1: components, with fallback references
        ("sa aa", {}, {"a": "a"}),
        ("sa ab ba be", {}, {"a": "abe"}),
        ("sa fa", {"fallbacks": "af"}, {"a": "af"}),
        ("sa fx", {"fallbacks": "af"}, {}),
        # 2: the header
        ("sb ab ba", {"controllers": "b"}, {"b": "ab"}),
        ("sa ab ba", {"controllers": "b"}, {"a": "ab"}),
        ("ab ba", {"controllers": "b"}, {"b": "ab"}),
        ("sa tb ab ba", {"entries": "b"}, {"b": "ab"}),
        ("sa tb ab ba", {"entries": "ba"}, {"b": "ab"}),
        ("ib bi io oi", {"controllers": "io"}, {"o": "bio", "i": "bi"}),
        ("ib bi io oi", {"controllers": "i"}, {"i": "bio"}),
        ("ia ai io om mb bm mo oi oz", {"controllers": "imo"}, {"o": "abimo", "i": "ai", "m": "bm"}),
        ("jj kk jk kj", {"controllers": "jk"}, {"j": "jk", "k": "k"}),
        ("sb ab ba", {}, {"b": "ab"}),
        ("ab bc ca", {}, {"a": "abc"}),
        ("ab bc ca", {"entries": "c"}, {"c": "abc"}),
        # 3: what only the cycle reaches
        ("sa ab ba bx xy", {}, {"a": "abxy"}),
        ("sa ab ba bx sx", {}, {"a": "ab"}),
        ("sa ab ba bx xy sy", {}, {"a": "ab"}),
        ("sa ab ba bx", {"fallbacks": "xf"}, {"a": "abfx"}),
        ("sa ab ba bx sz", {"fallbacks": "xf zf"}, {"a": "ab"}),
        ("sl lb bl lx bz", {"controllers": "l"}, {"l": "blz"}),
        # 4: nested
        ("sa ab bc cb ca", {}, {"a": "abc", "b": "bc"}),
        ("sa ab bb ba", {}, {"a": "ab", "b": "b"}),
        ("sa aa ab bb", {}, {"a": "ab", "b": "b"}),
        ("sa aa sb bb", {}, {"a": "a", "b": "b"}),
    ],
)  # fmt: skip
def test_scopes(edges: str, parts: dict[str, Any], scopes: dict[str, str]) -> None:
    assert scopes_of(edges, **parts) == scopes


@pytest.mark.parametrize("edges", ["sa tb ab ba", "sa sb ab ba", "sb sc ab bc ca"])
def test_several_entries_need_a_name(edges: str) -> None:
    with pytest.raises(DefinitionError, match=r"a cycle is entered at several nodes .* metadata\.cycleEntryPoints"):
        scopes_of(edges)


def test_a_cycle_closed_only_by_being_a_fallback() -> None:
    with pytest.raises(DefinitionError, match="the cycle through 'f' is closed only by its being a fallback"):
        scopes_of("fa", fallbacks="af", entries="f")


@pytest.mark.parametrize(
    ("edges", "plain", "ignored"),
    [
        ("sa ab ba", "sa ab ba", ["ba"]),
        ("sa ab ba", "sa ab", []),
        ("sa aa", "aa", ["aa"]),
        ("sa ab ba ac ca", "sa ab ba", ["ba"]),
        ("sa ab ba bc cb", "sa ab ba bc cb", ["ba", "cb"]),
    ],
)
def test_cycles_that_can_never_end(edges: str, plain: str, ignored: list[str]) -> None:
    topology = topology_of(edges, plain=plain)
    decompose(topology, strict=False)
    assert [edges.split()[n] for n in sorted(topology.removed)] == ignored
    if ignored:
        with pytest.raises(DefinitionError, match="can never end"):
            decompose(topology_of(edges, plain=plain), strict=True)


def nest(depth: int) -> Topology:
    """One cycle in another: every node leads to the next, the last leads back to all."""
    chain = [(n, n + 1) for n in range(depth - 1)] + [(depth - 1, n) for n in range(depth)]
    return Topology([f"n{n}" for n in range(depth)], chain, [-1] * depth, [], set(), set(range(len(chain))))


def test_nesting_has_a_limit() -> None:
    found = decompose(nest(MAX_NESTING), strict=True)
    assert [scope.depth for scope in found] == list(range(MAX_NESTING + 1))
    with pytest.raises(DefinitionError, match=f"cycles are nested more than {MAX_NESTING} deep"):
        decompose(nest(MAX_NESTING + 2), strict=True)


def test_long_cycles_need_no_recursion() -> None:
    size = 5000
    ring = [(n, (n + 1) % size) for n in range(size)]
    found = decompose(Topology([str(n) for n in range(size)], ring, [-1] * size, [], set(), {0}), strict=True)
    assert [(scope.header, len(scope.members)) for scope in found[1:]] == [(0, size)]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_strong_components_are_those_of_reachability(edges: list[tuple[int, int]]) -> None:
    successors: dict[int, list[int]] = {n: [] for n in range(8)}
    for source, target in edges:
        successors[source].append(target)

    def reached(start: int) -> set[int]:
        seen, todo = {start}, [start]
        while todo:
            for other in successors[todo.pop()]:
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return seen

    reach = {n: reached(n) for n in range(8)}
    wanted = {frozenset(m for m in range(8) if m in reach[n] and n in reach[m]) for n in range(8)}
    found = strong_components(range(8), successors)
    assert {frozenset(c) for c in found} == wanted
    assert sum(map(len, found)) == 8
    place = {n: i for i, c in enumerate(found) for n in c}
    assert all(place[target] <= place[source] for source, target in edges), "successors first"
