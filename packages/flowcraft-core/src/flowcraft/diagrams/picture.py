"""What there is to draw of a blueprint, or of a run of it, whatever the diagram's language: boxes, arrows, groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal, Protocol

from flowcraft.blueprint import Blueprint, Edge, Node
from flowcraft.constructs import GATHER, LOOP, ORDINARY, SCATTER, SLEEP, SUBFLOW, WAIT, WEBHOOK, kind_of
from flowcraft.diagrams.texts import duration_text
from flowcraft.graph import Graph, compile_graph
from flowcraft.shapes import Batch, batches_of, loops_of, seconds_of, text_of

__all__ = [
    "COLOURS",
    "DASHED",
    "KINDS",
    "Arrow",
    "Box",
    "Group",
    "HasNodes",
    "Kind",
    "Options",
    "Picture",
    "draw",
    "legend_pairs",
]

#: fill, border; the text is always nearly black. The order is that of importance, for a box that stands for many nodes.
COLOURS: Final[Mapping[str, tuple[str, str]]] = {
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
DASHED: Final = frozenset({"pending", "cancelled", "skipped"})
Kind = Literal[
    "step", "decision", "fallback", "wait", "sleep", "webhook", "subflow", "loop", "scatter", "items", "gather"
]
#: What a legend says of each kind of box.
KINDS: Final[Mapping[Kind, str]] = {
    "step": "a step",
    "decision": "a step that decides",
    "fallback": "stands in for another",
    "wait": "waits for a signal",
    "sleep": "waits for a time",
    "webhook": "opens a webhook",
    "subflow": "runs another blueprint",
    "loop": "goes round, or on",
    "scatter": "spreads items",
    "items": "works on each item",
    "gather": "gathers results",
}
_DONE_BY_ENGINE: Final[Mapping[int, Kind]] = {WAIT: "wait", SLEEP: "sleep", LOOP: "loop"}
_USES: Final[Mapping[str, Kind]] = {WEBHOOK: "webhook", SUBFLOW: "subflow", SCATTER: "scatter", GATHER: "gather"}
_NOT_GONE: Final = frozenset({"skipped", "cancelled", "failed"})


class HasNodes(Protocol):
    """A run: a `RunResult`, a `RunView`, or anything else whose ``nodes`` have states, by id."""

    @property
    def nodes(self) -> Mapping[str, object]:
        """A state's name, or something with a ``state`` (and perhaps a ``visit``), by node id."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How to draw: see `flowcraft.diagrams.to_mermaid`."""

    fold: int | None = None
    durations: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(slots=True)
class Box:
    """One node, or many that are alike, with its lines of text; ``group`` is the number of the group around it."""

    kind: Kind
    lines: list[str]
    state: str = ""
    group: int | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one box to another; ``faded``: in this run nothing went along it."""

    source: int
    target: int
    label: str = ""
    style: Literal["solid", "dotted", "ignored"] = "solid"
    faded: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Boxes that go round together, or are one batch; ``parent`` is the group around it."""

    title: str
    parent: int | None


@dataclass(frozen=True, slots=True)
class Picture:
    """All there is to draw."""

    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    groups: Sequence[Group]

    @property
    def kinds(self) -> Sequence[Kind]:
        """The kinds of its boxes."""
        found = {box.kind for box in self.boxes}
        return [kind for kind in KINDS if kind in found]

    @property
    def states(self) -> Sequence[str]:
        """The states of its boxes, the most important first."""
        found = {box.state for box in self.boxes}
        return [state for state in COLOURS if state in found]


def legend_pairs(*parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What stands above what in a legend: each of its parts in columns of four."""
    for names in parts:
        for start in range(0, len(names), 4):
            yield from pairwise(names[start : start + 4])


def draw(blueprint: Blueprint, run: HasNodes | None, options: Options) -> Picture:
    """Make the picture.

    Raises:
        DefinitionError: the blueprint cannot work.
    """
    return _Drawing(compile_graph(blueprint), run, options).picture()


class _Drawing:
    def __init__(self, graph: Graph, run: HasNodes | None, options: Options) -> None:
        self.graph = graph
        self.blueprint = graph.blueprint
        self.options = options
        self.states = {} if run is None else {node_id: _state(found) for node_id, found in run.nodes.items()}
        self.choosy = {e.source for e in self.blueprint.edges if e.action is not None or e.condition is not None}
        self.stand_ins = {node.fallback for node in self.blueprint.nodes}
        gathered = [batch for batch in batches_of(self.blueprint) if self._is_whole(batch)]
        self.batches: Mapping[str, Batch] = {batch.scatter: batch for batch in gathered}
        self.groups: list[Group] = []
        self.group_of: dict[str, int] = {}
        self.boxes: list[Box] = []
        self.place: dict[str, int] = {}

    def _is_whole(self, batch: Batch) -> bool:
        """Whether scatter and gather are connected, inside the same loops."""
        if batch.gather is None or (batch.scatter, batch.gather) not in {
            (edge.source, edge.target) for edge in self.blueprint.edges
        }:
            return False
        place = [self.graph.scope_of[self.graph.index[end]] for end in (batch.scatter, batch.gather)]
        return place[0] == place[1]

    def picture(self) -> Picture:
        self._surround()
        for nodes in _alike(self.blueprint, self.options.fold):
            for node in nodes:
                self.place[node.id] = len(self.boxes)
            self.boxes.append(self._box(nodes))
            if nodes[0].id in self.batches:
                self.place[_items(nodes[0].id)] = len(self.boxes)
                self.boxes.append(self._items_box(self.batches[nodes[0].id]))
        return Picture(self.boxes, list(dict.fromkeys(self._arrows())), self.groups)

    def _surround(self) -> None:
        around: dict[str, int] = {}  # by header
        for loop in loops_of(self.graph):
            parent = None if loop.parent is None else around[loop.parent]
            around[loop.header] = len(self.groups)
            self.group_of |= dict.fromkeys((loop.header, *loop.body), len(self.groups))
            self.groups.append(Group(f"{'loop' if loop.structured else 'cycle'} {loop.header}", parent))
        for batch in self.batches.values():
            parent = self.group_of.get(batch.scatter)
            self.group_of |= dict.fromkeys((batch.scatter, str(batch.gather)), len(self.groups))
            self.groups.append(Group(f"batch {batch.id}", parent))

    def _kind(self, node: Node) -> Kind:
        if (kind := _built_in(node)) is not None:
            return kind
        return "decision" if node.id in self.choosy else "fallback" if node.id in self.stand_ins else "step"

    def _box(self, nodes: list[Node]) -> Box:
        first = nodes[0]
        kind = self._kind(first)
        if len(nodes) > 1:
            lines = [f"{len(nodes)} × {first.uses}", f"{first.id} … {nodes[-1].id}"]
        elif kind in ("step", "decision", "fallback"):
            named = first.uses.rpartition(".")[2] == first.id
            lines = [first.id] if named or self.states else [first.id, first.uses]
        else:
            lines = [first.id, *_told(first, kind)]
        needed = first.join.at_least
        if needed is not None and kind not in ("loop", "gather"):
            lines.append(f"needs {needed} of {self.graph.predecessors[self.graph.index[first.id]]}")
        box = Box(kind, lines, group=self.group_of.get(first.id))
        self._colour(box, [node.id for node in nodes])
        return box

    def _items_box(self, batch: Batch) -> Box:
        params = self.blueprint.node(batch.scatter).params
        limits = [params[name] for name in ("concurrency", "chunkSize") if isinstance(params.get(name), int)]
        lines = [batch.worker or "?", "for each item" + (f", {limits[0]} at a time" if limits else "")]
        box = Box("items", lines, group=self.group_of.get(batch.scatter))
        self._colour(box, [batch.items])
        return box

    def _colour(self, box: Box, ids: Sequence[str]) -> None:
        """The state, by a word and by a colour, with what else is known of the visits."""
        if not self.states:
            return
        found = [self.states.get(node_id, ("pending", 1)) for node_id in ids]
        counted = Counter(state for state, _ in found)
        ranking = [*COLOURS, *counted]
        state = min(counted, key=ranking.index)
        box.state = state if state in COLOURS else "pending"  # one that nobody knows is drawn as pending
        if len(ids) > 1:
            box.lines.append(", ".join(f"{counted[s]} {s}" for s in sorted(counted, key=ranking.index)))
            return
        visit, took = found[0][1], self.options.durations.get(ids[0])
        parts = [state, f"visit {visit}" if visit > 1 else "", "" if took is None else duration_text(took)]
        box.lines.append(", ".join(filter(None, parts)))

    def _arrows(self) -> Iterator[Arrow]:
        ignored = set(self.graph.ignored)
        for edge in self.blueprint.edges:
            batch = self.batches.get(edge.source)
            if batch is not None and edge.target == batch.gather:
                items = _items(edge.source)
                yield self._arrow(edge.source, items)
                yield self._arrow(items, edge.target)
            else:
                style: Literal["solid", "ignored"] = "ignored" if edge in ignored else "solid"
                yield self._arrow(edge.source, edge.target, _label(edge, edge in ignored), style)
        for node in self.blueprint.nodes:
            if node.fallback is not None:
                yield self._arrow(node.id, node.fallback, "fallback", "dotted")
            if node.compensate is not None:
                yield self._arrow(node.id, node.compensate, "undone by", "dotted")

    def _arrow(
        self, source: str, target: str, label: str = "", style: Literal["solid", "dotted", "ignored"] = "solid"
    ) -> Arrow:
        start, end = self.boxes[self.place[source]].state, self.boxes[self.place[target]].state
        faded = end == "skipped" or (style == "solid" and start in _NOT_GONE)
        return Arrow(self.place[source], self.place[target], label, style, faded)


def _items(scatter: str) -> str:
    """The key under which the items of a batch are placed: no node has a NUL in its id."""
    return f"\0{scatter}"


def _told(node: Node, kind: Kind) -> Iterable[str]:
    """What a built-in node does, from its parameters."""
    params = node.params
    if kind == "wait":
        timeout = seconds_of(params.get("timeout"))
        yield f"waits for {text_of(params.get('eventName')) or 'a signal'}"
        if timeout is not None:
            yield f"at most {duration_text(timeout)}"
    elif kind == "sleep":
        duration = seconds_of(params.get("duration"))
        yield "sleeps" if duration is None else f"sleeps {duration_text(duration)}"
    elif kind == "subflow":
        yield f"runs {text_of(params.get('blueprintId')) or '?'}"
    elif kind == "loop":
        yield f"continue if {params['condition']}"
    elif kind == "scatter":
        yield f"each of {node.inputs}" if isinstance(node.inputs, str) else "spreads its items"
    elif kind == "gather":
        key = text_of(params.get("outputKey"))
        yield f"gathers {key}" if key else "gathers the results"
    else:
        yield kind


def _alike(blueprint: Blueprint, fold: int | None) -> list[list[Node]]:
    """The nodes that are drawn as one, in the blueprint's order."""
    if fold is None:
        return [[node] for node in blueprint.nodes]
    around: dict[str, list[object]] = {node.id: [] for node in blueprint.nodes}
    for edge in blueprint.edges:
        how = (edge.action, edge.condition, edge.transform)
        around[edge.source].append(("to", edge.target, how))
        around[edge.target].append(("from", edge.source, how))
    named = {node.fallback for node in blueprint.nodes} | {node.compensate for node in blueprint.nodes}
    alike: dict[object, list[Node]] = {}
    for node in blueprint.nodes:
        own = node.id if node.id in named else None
        key = (own, node.uses, node.fallback, node.compensate, node.join, frozenset(around[node.id]))
        alike.setdefault(key, []).append(node)
    groups: list[list[Node]] = []
    for nodes in alike.values():
        groups += [nodes] if len(nodes) > fold else [[node] for node in nodes]
    order = {node.id: number for number, node in enumerate(blueprint.nodes)}
    return sorted(groups, key=lambda nodes: order[nodes[0].id])


def _built_in(node: Node) -> Kind | None:
    kind = kind_of(node)
    return _USES.get(node.uses) if kind == ORDINARY else _DONE_BY_ENGINE[kind]


def _state(found: object) -> tuple[str, int]:
    if isinstance(found, str):
        return found, 1
    return str(getattr(found, "state", "pending")), int(getattr(found, "visit", 1))


def _label(edge: Edge, ignored: bool) -> str:
    parts: Sequence[str | None] = (
        edge.action,
        None if edge.condition is None else f"if {edge.condition}",
        None if edge.transform is None else f"gives {edge.transform}",
        "ignored" if ignored else None,
    )
    return " · ".join(filter(None, parts))
