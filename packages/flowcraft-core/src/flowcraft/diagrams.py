"""Pictures of a blueprint, or of a run of it, as Mermaid or DOT text.

Ids, conditions and the like are text of users: every one of them is escaped, and the diagram's own names are numbers,
so that whatever an id holds the picture stays a picture. States are told by a word as well as by a colour.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.graph import Graph, compile_graph

__all__ = ["Direction", "HasNodes", "to_dot", "to_mermaid"]

Direction = Literal["TD", "LR"]
_LONGEST: Final = 80
#: fill, border; the text is always nearly black. The order is that of importance, for a box that stands for many nodes.
_COLOURS: Final[Mapping[str, tuple[str, str]]] = {
    "failed": ("#fee2e2", "#b91c1c"),
    "retrying": ("#fef3c7", "#b45309"),
    "draining": ("#fef3c7", "#92400e"),
    "ready": ("#dbeafe", "#1d4ed8"),
    "waiting": ("#ede9fe", "#6d28d9"),
    "parked": ("#ede9fe", "#6d28d9"),
    "held": ("#ede9fe", "#6d28d9"),
    "pending": ("#ffffff", "#9ca3af"),
    "cancelled": ("#e5e7eb", "#4b5563"),
    "completed": ("#dcfce7", "#15803d"),
    "skipped": ("#f3f4f6", "#9ca3af"),
}
_DASHED: Final = frozenset({"pending", "cancelled", "skipped"})


class HasNodes(Protocol):
    """A run: a `RunResult`, a `RunView`, or anything else whose ``nodes`` have states, by id."""

    @property
    def nodes(self) -> Mapping[str, object]:
        """A state's name, or something with a ``state`` (and perhaps a ``visit``), by node id."""
        ...


@dataclass(slots=True)
class _Box:
    nodes: list[Node]
    lines: list[str]
    state: str = ""
    stands_in: bool = False
    decides: bool = False


@dataclass(frozen=True, slots=True)
class _Arrow:
    source: int
    target: int
    label: str = ""
    style: Literal["solid", "dotted", "ignored"] = "solid"


def to_mermaid(
    blueprint: Blueprint, run: HasNodes | None = None, *, direction: Direction = "TD", fold: int | None = None
) -> str:
    """A flowchart for Mermaid.

    Args:
        blueprint: what to draw.
        run: a run of it, to show the states of its nodes.
        direction: top down or left to right.
        fold: draw more than so many nodes as one if they use the same function and have the same neighbours.

    Raises:
        DefinitionError: the blueprint cannot work.
    """
    boxes, arrows = _draw(blueprint, run, fold)
    lines = [f"flowchart {direction}"]
    for number, box in enumerate(boxes):
        text = "<br/>".join(_mermaid_text(line) for line in box.lines)
        left, right = ("{{", "}}") if box.decides else ("([", "])") if box.stands_in else ("[", "]")
        lines.append(f'  n{number}{left}"{text}"{right}')
    ties = {"solid": "-->", "dotted": "-.->", "ignored": "--x"}
    for arrow in arrows:
        label = f'|"{_mermaid_text(arrow.label)}"|' if arrow.label else ""
        lines.append(f"  n{arrow.source} {ties[arrow.style]}{label} n{arrow.target}")
    for state in sorted({box.state for box in boxes if box.state}):
        fill, border = _colours(state)
        dashes = ",stroke-dasharray:4" if state in _DASHED else ""
        lines.append(f"  classDef {state} fill:{fill},stroke:{border},color:#111827{dashes}")
        members = ",".join(f"n{number}" for number, box in enumerate(boxes) if box.state == state)
        lines.append(f"  class {members} {state}")
    return "\n".join(lines) + "\n"


def to_dot(
    blueprint: Blueprint, run: HasNodes | None = None, *, direction: Direction = "TD", fold: int | None = None
) -> str:
    """A directed graph for Graphviz; see `to_mermaid`.

    Raises:
        DefinitionError: the blueprint cannot work.
    """
    boxes, arrows = _draw(blueprint, run, fold)
    rank = "TB" if direction == "TD" else direction
    lines = [
        f'digraph "{_dot_text(blueprint.id)}" {{',
        f'  graph [rankdir={rank}, fontname="sans-serif"];',
        '  node [shape=box, style="rounded,filled", fillcolor="#ffffff", fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    for number, box in enumerate(boxes):
        label = "\\n".join(_dot_text(line) for line in box.lines)
        options = f'label="{label}"'
        if box.decides:
            options += ", shape=hexagon"
        if box.state:
            fill, border = _colours(box.state)
            dashes = ', style="rounded,filled,dashed"' if box.state in _DASHED else ""
            options += f', fillcolor="{fill}", color="{border}"{dashes}'
        lines.append(f"  n{number} [{options}];")
    styles = {"solid": "", "dotted": "style=dashed", "ignored": "style=dotted, arrowhead=tee"}
    for arrow in arrows:
        parts = [f'label="{_dot_text(arrow.label)}"' if arrow.label else "", styles[arrow.style]]
        options = ", ".join(filter(None, parts))
        lines.append(f"  n{arrow.source} -> n{arrow.target}{f' [{options}]' if options else ''};")
    return "\n".join([*lines, "}"]) + "\n"


def _colours(state: str) -> tuple[str, str]:
    return _COLOURS.get(state, _COLOURS["pending"])


def _draw(blueprint: Blueprint, run: HasNodes | None, fold: int | None) -> tuple[list[_Box], list[_Arrow]]:
    graph = compile_graph(blueprint)
    groups = _groups(blueprint, fold)
    states = {} if run is None else {node_id: _state(found) for node_id, found in run.nodes.items()}
    boxes = [_box(graph, nodes, states) for nodes in groups]
    place = {node.id: number for number, nodes in enumerate(groups) for node in nodes}
    ignored = set(graph.ignored)
    arrows = [
        _Arrow(place[edge.source], place[edge.target], _label(edge, edge in ignored), style)
        for edge in blueprint.edges
        for style in ("ignored" if edge in ignored else "solid",)
    ]
    arrows += [
        _Arrow(place[node.id], place[node.fallback], "fallback", "dotted")
        for node in blueprint.nodes
        if node.fallback is not None
    ]
    return boxes, list(dict.fromkeys(arrows))


def _groups(blueprint: Blueprint, fold: int | None) -> list[list[Node]]:
    """The nodes that are drawn as one, in the blueprint's order."""
    if fold is None:
        return [[node] for node in blueprint.nodes]
    around: dict[str, list[object]] = {node.id: [] for node in blueprint.nodes}
    for edge in blueprint.edges:
        how = (edge.action, edge.condition, edge.transform)
        around[edge.source].append(("to", edge.target, how))
        around[edge.target].append(("from", edge.source, how))
    named = {node.fallback for node in blueprint.nodes}
    alike: dict[object, list[Node]] = {}
    for node in blueprint.nodes:
        own = node.id if node.id in named else None
        key = (own, node.uses, node.fallback, node.join, frozenset(around[node.id]))
        alike.setdefault(key, []).append(node)
    groups: list[list[Node]] = []
    for nodes in alike.values():
        groups += [nodes] if len(nodes) > fold else [[node] for node in nodes]
    order = {node.id: number for number, node in enumerate(blueprint.nodes)}
    return sorted(groups, key=lambda nodes: order[nodes[0].id])


def _state(found: object) -> tuple[str, int]:
    if isinstance(found, str):
        return found, 1
    return str(getattr(found, "state", "pending")), int(getattr(found, "visit", 1))


def _box(graph: Graph, nodes: list[Node], states: Mapping[str, tuple[str, int]]) -> _Box:
    first = nodes[0]
    n = graph.index[first.id]
    if len(nodes) > 1:
        lines = [f"{len(nodes)} × {first.uses}", f"{first.id} … {nodes[-1].id}"]
    else:
        named = first.uses.rpartition(".")[2] == first.id
        lines = [first.id] if named or states else [first.id, first.uses]
    if (needed := first.join.at_least) is not None:
        lines.append(f"needs {needed} of {graph.predecessors[n]}")
    box = _Box(
        nodes,
        lines,
        stands_in=bool(graph.namers[n]),
        decides=any(graph.action[e] is not None or graph.condition[e] is not None for e in graph.out[n]),
    )
    if states:
        found = [states.get(node.id, ("pending", 1)) for node in nodes]
        counted = Counter(state for state, _ in found)
        ranking = [*_COLOURS, *counted]
        box.state = _safe_name(min(counted, key=ranking.index))
        if len(nodes) == 1:
            state, visit = found[0]
            lines.append(f"{state}, visit {visit}" if visit > 1 else state)
        else:
            lines.append(", ".join(f"{counted[s]} {s}" for s in sorted(counted, key=ranking.index)))
    return box


def _safe_name(state: str) -> str:
    """The state as the name of a class; one that nobody knows is drawn as pending."""
    return state if state in _COLOURS else "pending"


def _label(edge: Edge, ignored: bool) -> str:
    parts: Sequence[str | None] = (
        edge.action,
        None if edge.condition is None else f"if {edge.condition}",
        None if edge.transform is None else f"gives {edge.transform}",
        "ignored" if ignored else None,
    )
    return " · ".join(filter(None, parts))


def _shown(text: str) -> str:
    """Text on one line: cut where it is long, and what has no shape, or could turn the rest round, made visible."""
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return "".join(map(_visible, text))


def _visible(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"<U+{code:04X}>" if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Co", "Cn") else char


def _mermaid_text(text: str) -> str:
    """Safe inside a quoted label: what is neither a letter, a digit nor harmless between two of them is a number."""
    # Mermaid would make an icon of fa:fa-car and a formula of $$x$$, also where they are spelt with numbers
    shown = _shown(text).replace(":fa-", ":\u200bfa-").replace("$$", "$\u200b$")
    made: list[str] = []
    for at, char in enumerate(shown):
        inside = 0 < at < len(shown) - 1 and shown[at - 1].isalnum() and shown[at + 1].isalnum()
        plain = char.isalnum() or char == " " or (char in "_.-" and inside)
        made.append(char if plain else f"#{ord(char)};")
    return "".join(made)


def _dot_text(text: str) -> str:
    """Safe inside a quoted string of DOT, which knows escapes and the entities of HTML."""
    return _shown(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
