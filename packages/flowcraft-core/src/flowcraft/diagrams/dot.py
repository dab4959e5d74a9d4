"""A picture as a directed graph of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from flowcraft.diagrams.picture import COLOURS, DASHED, KINDS, Arrow, Kind, Picture, legend_pairs
from flowcraft.diagrams.texts import dot_text

__all__ = ["dot_of"]

_SHAPES: Final[Mapping[Kind, str]] = {
    "step": "",
    "decision": "shape=hexagon",
    "fallback": "shape=oval",
    "wait": 'shape=cds, margin="0.25,0.15"',
    "sleep": "shape=parallelogram",
    "webhook": "shape=house",
    "subflow": "peripheries=2",
    "loop": "shape=hexagon",
    "scatter": "shape=trapezium",
    "items": "shape=box3d",
    "gather": "shape=invtrapezium",
}
_TIES: Final = {"solid": "", "dotted": "style=dashed", "ignored": "style=dotted, arrowhead=tee"}


def dot_of(picture: Picture, name: str, direction: Literal["TD", "LR"], *, legend: bool) -> str:
    """The text of the diagram."""
    lines = [
        f'digraph "{dot_text(name)}" {{',
        f'  graph [rankdir={"TB" if direction == "TD" else direction}, fontname="sans-serif"];',
        '  node [shape=box, style="rounded,filled", fillcolor="#ffffff", fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
        *_inside(picture, None, "  "),
    ]
    lines += map(_arrow, picture.arrows)
    if legend:
        lines += _legend(picture)
    return "\n".join([*lines, "}"]) + "\n"


def _inside(picture: Picture, group: int | None, indent: str) -> Iterator[str]:
    for number, box in enumerate(picture.boxes):
        if box.group == group:
            label = "\\n".join(dot_text(line) for line in box.lines)
            yield f"{indent}n{number} [{_options(label, box.kind, box.state)}];"
    for number, inner in enumerate(picture.groups):
        if inner.parent == group:
            yield from _cluster(f"g{number}", inner.title, indent)
            yield from _inside(picture, number, indent + "  ")
            yield f"{indent}}}"


def _cluster(name: str, title: str, indent: str) -> Iterator[str]:
    yield f"{indent}subgraph cluster_{name} {{"
    yield f'{indent}  graph [label="{dot_text(title)}", style="rounded,filled", fillcolor="#f8fafc", color="#94a3b8"];'


def _options(label: str, kind: Kind, state: str) -> str:
    options = [f'label="{label}"', _SHAPES[kind]]
    if state:
        fill, border = COLOURS[state]
        options += [f'fillcolor="{fill}"', f'color="{border}"']
        options.append('style="rounded,filled,dashed"' if state in DASHED else "")
    return ", ".join(filter(None, options))


def _arrow(arrow: Arrow) -> str:
    options = [f'label="{dot_text(arrow.label)}"' if arrow.label else "", _TIES[arrow.style]]
    if arrow.faded:
        options.append('color="#9ca3af", fontcolor="#9ca3af"')
        options.append("style=dashed" if arrow.style == "solid" else "")
    told = ", ".join(filter(None, options))
    return f"  n{arrow.source} -> n{arrow.target}{f' [{told}]' if told else ''};"


def _legend(picture: Picture) -> Iterator[str]:
    """The kinds of boxes that there are, and the states, in columns."""
    kinds, states = picture.kinds, picture.states
    yield from _cluster("legend", "legend", "  ")
    for kind in kinds:
        yield f"    k_{kind} [{_options(dot_text(KINDS[kind]), kind, '')}];"
    for state in states:
        yield f"    s_{state} [{_options(state, 'step', state)}];"
    for above, below in legend_pairs([f"k_{kind}" for kind in kinds], [f"s_{state}" for state in states]):
        yield f"    {above} -> {below} [style=invis];"
    yield "  }"
