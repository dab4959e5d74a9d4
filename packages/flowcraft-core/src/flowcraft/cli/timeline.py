"""When each visit of a run was worked on, from its history, and as bars on a screen.

The history holds when a visit ended. It began, at the earliest, when what it waited for had ended: a bar covers the
time from there, waiting for a free worker included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flowcraft.blueprint import Blueprint
from flowcraft.cli.board import Style, clip, seconds
from flowcraft.cli.failures import one_line
from flowcraft.model import Event

__all__ = ["Stretch", "draw_timeline", "durations", "stretches"]

_ENDS: Mapping[str, str] = {
    "node:completed": "completed",
    "node:failed": "failed",
    "node:cancelled": "cancelled",
    "node:skipped": "skipped",
}


@dataclass(slots=True)
class Stretch:
    """One visit: when it was READY, as (from, to) in epoch seconds, and how it ended (``running``: it has not)."""

    node: str
    visit: int
    state: str = "running"
    spans: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    error: str = ""
    attempt: int = 1

    @property
    def duration(self) -> float:
        """Seconds from the beginning to the end, pauses between attempts included."""
        return self.spans[-1][1] - self.spans[0][0] if self.spans else 0.0

    def to_dict(self) -> dict[str, object]:
        """The visit as JSON data."""
        return {
            "node": self.node,
            "visit": self.visit,
            "attempt": self.attempt,
            "state": self.state,
            "spans": [{"from": start, "to": end} for start, end in self.spans],
            "seconds": round(self.duration, 6),
            "error": self.error,
        }


def stretches(blueprint: Blueprint, events: Sequence[Event], now: float) -> list[Stretch]:
    """The visits of a run in the order in which they ended, those that have not at the end."""
    before: dict[str, list[str]] = {node.id: [] for node in blueprint.nodes}
    needed = {node.id: node.join.at_least for node in blueprint.nodes}
    for edge in blueprint.edges:
        before[edge.target].append(edge.source)
    started = events[0].at if events else now
    settled: dict[str, float] = {}
    open_visits: dict[str, Stretch] = {}
    again: dict[str, float] = {}
    found: list[Stretch] = []
    for event in events:
        node = event.node
        if node is None or node not in before:
            continue
        begin = again.pop(node, None)
        if begin is None:
            begin = _ready_at(sorted(settled[n] for n in set(before[node]) if n in settled), needed[node], started)
        stretch = open_visits.setdefault(node, Stretch(node, event.visit))
        stretch.attempt = max(stretch.attempt, event.attempt)
        if event.type in ("node:retrying", "node:fallback"):
            stretch.spans.append((min(begin, event.at), event.at))
            due = event.data.get("due")
            again[node] = float(due) if isinstance(due, int | float) else event.at
            stretch.error = one_line(str(event.data.get("error") or ""))
        elif event.type in _ENDS:
            stretch.state = _ENDS[event.type]
            if stretch.state != "skipped":
                stretch.spans.append((min(begin, event.at), event.at))
            stretch.error = one_line(str(event.data.get("error") or ""))
            stretch.visit = max(stretch.visit, event.visit)
            settled[node] = event.at
            found.append(open_visits.pop(node))
    return found + list(open_visits.values())


def durations(found: Sequence[Stretch]) -> Mapping[str, float]:
    """By node, the seconds of its attempts that have ended and of the pauses between them, all visits together."""
    took: dict[str, float] = {}
    for stretch in found:
        if stretch.spans:
            took[stretch.node] = took.get(stretch.node, 0.0) + stretch.duration
    return took


def _ready_at(ends: Sequence[float], needed: int | None, started: float) -> float:
    if not ends:
        return started
    return ends[-1] if needed is None else ends[min(needed, len(ends)) - 1]


def draw_timeline(found: Sequence[Stretch], *, width: int, style: Style) -> list[str]:
    """One line a visit: its node, a bar on the run's time axis, how long it took and how it ended."""
    shown = [stretch for stretch in found if stretch.spans]
    if not shown:
        return []
    first = min(stretch.spans[0][0] for stretch in shown)
    last = max(stretch.spans[-1][1] for stretch in shown)
    names = [one_line(s.node) + (f" #{s.visit}" if s.visit > 1 else "") for s in shown]
    wide = min(max(map(len, names)), max(10, width // 3))
    room = max(10, width - wide - 34)
    lines: list[str] = []
    for stretch, name in zip(shown, names, strict=True):
        cells = [" "] * room
        for start, end in stretch.spans:
            left = _cell(start, first, last, room)
            for cell in range(left, max(left + 1, _cell(end, first, last, room))):
                cells[min(cell, room - 1)] = style.full
        bar = style.paint(stretch.state, "".join(cells))
        tries = f", attempt {stretch.attempt}" if stretch.attempt > 1 else ""
        took = f"{seconds(stretch.duration):>8}  {stretch.state}{tries}"
        lines.append(f"{clip(name, wide, style.more):<{wide}} {bar} {took}")
    return lines


def _cell(at: float, first: float, last: float, room: int) -> int:
    return int((at - first) / (last - first) * room) if last > first else 0
