"""When each visit of a run waited and when it was executed, from its history, and as bars on a screen.

The history says when an attempt ended and how long it took. It was READY, at the earliest, when what it waited for had
ended: the time from there to the beginning of its execution is that in which it waited for a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flowcraft.blueprint import Blueprint
from flowcraft.cli.board import Style, clip, columns, seconds
from flowcraft.cli.failures import one_line
from flowcraft.engine.view import NodeView
from flowcraft.model import Event

__all__ = ["Span", "Stretch", "draw_timeline", "durations", "longest", "shown", "stretches"]

_ENDS: Final[Mapping[str, str]] = {
    "node:completed": "completed",
    "node:failed": "failed",
    "node:cancelled": "cancelled",
    "node:skipped": "skipped",
}
_PAUSES: Final[Mapping[str, str]] = {
    "node:retrying": "retrying",
    "node:fallback": "falling back",
    "node:parked": "parked",
    "node:waiting": "waiting",
}
_OPEN: Final = frozenset({"ready", "draining", "waiting"})
_NARROWEST: Final = 10  # columns of a bar


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt, in epoch seconds: READY, executed from ``began`` to ``ended``. Where it is not known how long it
    took, it began when it was READY; what was not executed began when it ended."""

    ready: float
    began: float
    ended: float

    def to_dict(self) -> dict[str, object]:
        """The attempt as JSON data."""
        return {"ready": self.ready, "began": self.began, "ended": self.ended}


@dataclass(slots=True)
class Stretch:
    """One visit: its attempts, and how it ended, or where it stands. ``error`` is why its last attempt failed."""

    node: str
    visit: int
    state: str = "ready"
    spans: list[Span] = field(default_factory=list[Span])
    error: str = ""
    attempt: int = 1

    @property
    def ready(self) -> float:
        """When it could be executed for the first time."""
        return self.spans[0].ready if self.spans else 0.0

    @property
    def took(self) -> float:
        """Seconds in which it was executed."""
        return sum(span.ended - span.began for span in self.spans)

    @property
    def waited(self) -> float:
        """Seconds in which it waited for a worker; pauses between attempts are not counted."""
        return sum(span.began - span.ready for span in self.spans)

    def to_dict(self) -> dict[str, object]:
        """The visit as JSON data."""
        return {
            "node": self.node,
            "visit": self.visit,
            "attempt": self.attempt,
            "state": self.state,
            "spans": [span.to_dict() for span in self.spans],
            "took": round(self.took, 6),
            "waited": round(self.waited, 6),
            "error": self.error,
        }


class _History:
    """The visits of a run, as its events tell of them one after the other."""

    def __init__(self, blueprint: Blueprint, started: float) -> None:
        self.found: list[Stretch] = []
        self.open: dict[str, Stretch] = {}
        self._again: dict[str, float] = {}
        self._settled: dict[str, float] = {}
        self._started = started
        self._needed = {node.id: node.join.at_least for node in blueprint.nodes}
        self._before: dict[str, set[str]] = {node.id: set() for node in blueprint.nodes}
        for edge in blueprint.edges:
            self._before[edge.target].add(edge.source)

    def take(self, event: Event) -> None:
        node, state = event.node, _ENDS.get(event.type) or _PAUSES.get(event.type)
        if node is None or state is None:
            return
        stretch = self.open.setdefault(node, Stretch(node, event.visit))
        stretch.visit = max(stretch.visit, event.visit)
        stretch.attempt = max(stretch.attempt, event.attempt, int(_number(event.data.get("attempts"))))
        stretch.error = one_line(str(event.data.get("error") or ""))
        waiting, stretch.state = stretch.state == "waiting", state
        if waiting and event.data.get("took") is None:  # a sleep, a signal or the run of a subflow is over
            self._again.pop(node, None)
            stretch.spans.append(Span(event.at, event.at, event.at))
        elif state != "skipped":
            stretch.spans.append(self._span(node, event, executed=state not in ("cancelled", "parked", "waiting")))
        if event.type in _ENDS:
            self._settled[node] = event.at
            self.found.append(self.open.pop(node))
        else:
            self._again[node] = max(event.at, _number(event.data.get("due")))

    def _span(self, node: str, event: Event, *, executed: bool) -> Span:
        ready = min(self.ready_at(node), event.at)
        self._again.pop(node, None)
        if not executed:
            return Span(ready, event.at, event.at)
        took = event.data.get("took")
        return Span(ready, ready if took is None else max(ready, event.at - _number(took)), event.at)

    def ready_at(self, node: str) -> float:
        """When its next attempt is READY, or was."""
        if node in self._again:
            return self._again[node]
        ends = sorted(self._settled[n] for n in self._before.get(node, ()) if n in self._settled)
        needed = self._needed.get(node)
        if not ends:
            return self._started
        return ends[-1] if needed is None else ends[min(needed, len(ends)) - 1]


def stretches(
    blueprint: Blueprint, events: Sequence[Event], now: float, nodes: Mapping[str, NodeView] | None = None
) -> list[Stretch]:
    """The visits of a run in the order in which they ended, then those that have not.

    ``nodes`` is how they stand now: so those are found of which the history tells nothing yet.
    """
    history = _History(blueprint, events[0].at if events else now)
    for event in events:
        history.take(event)
    for node_id, node in (nodes or {}).items():
        if node.state in _OPEN:
            stretch = history.open.setdefault(node_id, Stretch(node_id, max(1, node.visit)))
            ready = min(history.ready_at(node_id), now)
            stretch.state = node.state
            stretch.spans.append(Span(ready, now, now))
    return history.found + list(history.open.values())


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def durations(found: Iterable[Stretch]) -> Mapping[str, float]:
    """By node, the seconds in which it was executed, all visits together; without nodes that were not."""
    took: dict[str, float] = {}
    for stretch in found:
        if stretch.spans:
            took[stretch.node] = took.get(stretch.node, 0.0) + stretch.took
    return took


def shown(found: Iterable[Stretch], limit: int) -> list[Stretch]:
    """At most ``limit`` of them, by the time at which they were READY: those in trouble first, then the longest."""
    drawn = [stretch for stretch in found if stretch.spans]
    drawn.sort(key=lambda s: (s.state == "completed", s.attempt == 1, -s.took))
    return sorted(drawn[:limit], key=lambda s: (s.ready, s.spans[-1].ended))


def longest(found: Iterable[Stretch], limit: int) -> list[tuple[str, float, int]]:
    """The nodes that were executed for longest: (node, seconds, visits)."""
    sums: dict[str, tuple[float, int]] = {}
    for stretch in found:
        if stretch.took > 0:
            took, visits = sums.get(stretch.node, (0.0, 0))
            sums[stretch.node] = (took + stretch.took, visits + 1)
    rows = [(node, took, visits) for node, (took, visits) in sums.items()]
    return sorted(rows, key=lambda row: -row[1])[:limit]


def draw_timeline(drawn: Sequence[Stretch], *, width: int, style: Style) -> list[str]:
    """A scale, then one line a visit: its node, a bar on the run's time axis, how long it ran and waited, its state."""
    if not drawn:
        return []
    first = min(stretch.ready for stretch in drawn)
    last = max(stretch.spans[-1].ended for stretch in drawn)
    names = [one_line(s.node) + (f" #{s.visit}" if s.visit > 1 else "") for s in drawn]
    states = [s.state + (f" x{s.attempt}" if s.attempt > 1 else "") for s in drawn]
    ran = _aligned(f"ran {style.full}", [seconds(s.took) for s in drawn])
    waited = _aligned(f"waited {style.empty}", [seconds(s.waited) for s in drawn])
    right = len(ran[0]) + len(waited[0]) + max(map(len, states)) + 5
    wide = min(max(map(columns, names)), max(8, min(width // 3, width - right - _NARROWEST)))
    room = max(_NARROWEST, width - wide - right)
    lines = [f"{'':{wide}} 0{seconds(last - first):>{room - 1}} {ran[0]}  {waited[0]}"]
    for number, (stretch, name, state) in enumerate(zip(drawn, names, states, strict=True), 1):
        shown_name = clip(name, wide, style.more)
        shown_name += " " * (wide - columns(shown_name))
        bar = _bar(stretch, first, last, room, style)
        lines.append(f"{shown_name} {bar} {ran[number]}  {waited[number]} {state}")
    return lines


def _aligned(title: str, texts: Sequence[str]) -> list[str]:
    """A column with its title, to the right."""
    cells = [title, *texts]
    return [cell.rjust(max(map(len, cells))) for cell in cells]


def _bar(stretch: Stretch, first: float, last: float, room: int, style: Style) -> str:
    cells = [" "] * room

    def fill(start: float, end: float, mark: str) -> None:
        left = _cell(start, first, last, room)
        for cell in range(left, max(left + 1, _cell(end, first, last, room))):
            cells[min(cell, room - 1)] = mark

    for span in stretch.spans:
        if span.began > span.ready:
            fill(span.ready, span.began, style.empty)
    for span in stretch.spans:
        if span.ended > span.began or span.began == span.ready:
            fill(span.began, span.ended, style.full)
    return style.paint(stretch.state, "".join(cells))


def _cell(at: float, first: float, last: float, room: int) -> int:
    return int((at - first) / (last - first) * room) if last > first else 0
