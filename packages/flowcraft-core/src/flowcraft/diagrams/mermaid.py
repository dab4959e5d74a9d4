"""A picture as a flowchart of Mermaid. Only shapes that old versions know, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from flowcraft.diagrams.picture import COLOURS, DASHED, KINDS, Kind, Picture, legend_pairs
from flowcraft.diagrams.texts import mermaid_text

__all__ = ["mermaid_of"]

_SHAPES: Final[Mapping[Kind, tuple[str, str]]] = {
    "step": ("[", "]"),
    "decision": ("{{", "}}"),
    "fallback": ("([", "])"),
    "wait": (">", "]"),
    "sleep": ("[/", "/]"),
    "webhook": ("[\\", "\\]"),
    "subflow": ("[[", "]]"),
    "loop": ("{{", "}}"),
    "scatter": ("[/", "\\]"),
    "items": ("[", "]"),
    "gather": ("[\\", "/]"),
}
_TIES: Final = {"solid": "-->", "dotted": "-.->", "ignored": "--x"}


def mermaid_of(picture: Picture, direction: Literal["TD", "LR"], *, legend: bool) -> str:
    """The text of the diagram."""
    lines = [f"flowchart {direction}", *_inside(picture, None, direction, "  ")]
    for arrow in picture.arrows:
        label = f'|"{mermaid_text(arrow.label)}"|' if arrow.label else ""
        lines.append(f"  n{arrow.source} {_TIES[arrow.style]}{label} n{arrow.target}")
    faded = [str(number) for number, arrow in enumerate(picture.arrows) if arrow.faded]
    if faded:
        lines.append(f"  linkStyle {','.join(faded)} stroke:#9ca3af,stroke-dasharray:4")
    if legend:
        lines += _legend(picture)
    for state in sorted(picture.states):
        fill, border = COLOURS[state]
        dashes = ",stroke-dasharray:4" if state in DASHED else ""
        lines.append(f"  classDef {state} fill:{fill},stroke:{border},color:#111827{dashes}")
        members = [f"n{number}" for number, box in enumerate(picture.boxes) if box.state == state]
        lines.append(f"  class {','.join([*members, *([f's_{state}'] if legend else [])])} {state}")
    if legend:
        lines.append("  classDef plain fill:#ffffff,stroke:#64748b,color:#111827")
        lines.append(f"  class {','.join(f'k_{kind}' for kind in picture.kinds)} plain")
    groups = [f"g{number}" for number in range(len(picture.groups))] + (["legend"] if legend else [])
    if groups:
        lines.append("  classDef group fill:#f8fafc,stroke:#94a3b8,color:#334155")
        lines.append(f"  class {','.join(groups)} group")
    return "\n".join(lines) + "\n"


def _inside(picture: Picture, group: int | None, direction: str, indent: str) -> Iterator[str]:
    for number, box in enumerate(picture.boxes):
        if box.group == group:
            yield f"{indent}n{number}{_shape(box.kind, '<br/>'.join(mermaid_text(line) for line in box.lines))}"
    for number, inner in enumerate(picture.groups):
        if inner.parent == group:
            yield f'{indent}subgraph g{number}["{mermaid_text(inner.title)}"]'
            yield f"{indent}  direction {direction}"  # else one without edges to the outside is turned
            yield from _inside(picture, number, direction, indent + "  ")
            yield f"{indent}end"


def _shape(kind: Kind, text: str) -> str:
    left, right = _SHAPES[kind]
    return f'{left}"{text}"{right}'


def _legend(picture: Picture) -> Iterator[str]:
    """The kinds of boxes that there are, and the states."""
    yield '  subgraph legend["legend"]'
    yield "    direction TB"
    kinds, states = picture.kinds, picture.states
    for kind in kinds:
        yield f"    k_{kind}{_shape(kind, mermaid_text(KINDS[kind]))}"
    for state in states:
        yield f'    s_{state}["{state}"]'
    for above, below in legend_pairs([f"k_{kind}" for kind in kinds], [f"s_{state}" for state in states]):
        yield f"    {above} ~~~ {below}"
    yield "  end"
