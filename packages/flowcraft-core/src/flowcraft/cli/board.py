"""What is known about the nodes of one run while it goes on: fed with events, read as lines of text."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from flowcraft.cli.failures import one_line
from flowcraft.model import TERMINAL, Event

__all__ = ["ASCII", "FANCY", "Board", "Row", "Style", "clip", "columns", "seconds"]

_SETTLED: Final = frozenset({"completed", "failed", "skipped", "cancelled"})
#: How nodes are sorted when not all of them fit on the screen.
_URGENCY: Final = ("failed", "running", "retrying", "parked", "waiting", "draining", "ready", "completed", "cancelled")
#: What a fact of the history makes of its node.
_FACTS: Final[Mapping[str, str]] = {
    "node:started": "running",
    "node:progress": "running",
    "node:retry": "running",
    "node:retrying": "retrying",
    "node:fallback": "retrying",
    "node:parked": "parked",
    "node:draining": "draining",
    "node:completed": "completed",
    "node:failed": "failed",
    "node:skipped": "skipped",
    "node:cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True)
class Style:
    """The characters of a terminal that can show them, or plain ASCII; ``colour`` adds escape sequences."""

    marks: Mapping[str, str]
    full: str
    empty: str
    dot: str
    more: str
    colour: bool = False

    def paint(self, state: str, text: str) -> str:
        """``text`` in the colour of ``state``, which is also told by a mark and a word."""
        code = {"completed": "32", "failed": "31", "running": "36", "retrying": "33"}.get(state, "2")
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


_MARKS: Final = {"completed": "✓", "failed": "✗", "skipped": "–", "cancelled": "■", "running": "●", "retrying": "↻"}
_PLAIN: Final = {"completed": "+", "failed": "x", "skipped": "-", "cancelled": "#", "running": "*", "retrying": "~"}
FANCY: Final = Style({**_MARKS, "parked": "…", "waiting": "…", "draining": "…"}, "━", "─", " · ", "…")
ASCII: Final = Style({**_PLAIN, "parked": ".", "waiting": ".", "draining": "."}, "=", "-", ", ", "...")


@dataclass(slots=True)
class Row:
    """One node. ``since``: when the state began, or its execution; ``took``: how long the last execution lasted."""

    id: str
    state: str = "pending"
    since: float | None = None
    took: float | None = None
    attempt: int = 1
    share: float | None = None
    text: str = ""
    seq: int = 0


class Board:
    """All nodes of a run. `apply` takes its events, in any number and with gaps; `lines` shows where it stands."""

    def __init__(self, run_id: str, node_ids: Iterable[str], started: float) -> None:
        self.run_id = run_id
        self.rows = {node_id: Row(node_id) for node_id in node_ids}
        self.status = "running"
        self.started = started
        self.ended: float | None = None
        self.retries = 0
        self._count = 0

    def set_states(self, states: Mapping[str, str]) -> None:
        """Take over the nodes' states as they were read from the store."""
        for node_id, state in states.items():
            self.rows.setdefault(node_id, Row(node_id)).state = state

    def apply(self, event: Event) -> str | None:
        """Take in an event; returns a line that tells it to whoever reads a log, if it is worth one."""
        if event.type.startswith("run:"):
            return self._run_event(event)
        state = _FACTS.get(event.type)
        if event.node is None or state is None:
            return None
        row = self.rows.setdefault(event.node, Row(event.node))
        self._count += 1
        row.seq = self._count
        if event.type == "node:progress":
            row.state, row.share = state, _number(event.data.get("share"))
            row.text = one_line(str(event.data.get("text") or ""))
            return None
        if event.type in ("node:retry", "node:retrying"):
            self.retries += 1
            attempt = event.attempt if event.type == "node:retrying" else _number(event.data.get("attempt")) or 1
            row.attempt = int(attempt) + 1
        self._enter(row, state, event)
        self._stand_in(row, state, event)
        return None if event.type == "node:started" else self._told(row, event)

    def _enter(self, row: Row, state: str, event: Event) -> None:
        if event.type == "node:started":
            row.since, row.share, row.text = event.at, None, ""
            row.attempt = max(event.attempt, 1)
        elif state in _SETTLED or state == "retrying":
            row.took = None if row.since is None or row.state == "pending" else max(0.0, event.at - row.since)
            row.share = None
            row.text = one_line(str(event.data.get("error") or event.data.get("reason") or ""))
        row.state = state

    def _stand_in(self, row: Row, state: str, event: Event) -> None:
        """A fallback's function was executed under its own name; what it came to is the other node's."""
        other = self.rows.get(str(event.data.get("by") or ""))
        if other is not None and other is not row and other.state == "running":
            other.state = state
            other.took = None if other.since is None else max(0.0, event.at - other.since)

    def _run_event(self, event: Event) -> str | None:
        word = event.type.partition(":")[2]
        if word == "started":
            self.started = event.at
        elif word in TERMINAL:
            self.status, self.ended = word, event.at
        elif word == "cancelling":
            self.status = word
        return None if word in TERMINAL or word == "updated" else f"run {self.run_id} {word}"

    def _told(self, row: Row, event: Event) -> str:
        words = [row.id, "trying again" if row.state == "running" else row.state]
        if event.type == "node:fallback":
            words[1] = f"falls back to {event.data.get('fallback')}"
        if row.took is not None and row.state in _SETTLED:
            words.append(f"in {seconds(row.took)}")
        if row.state in ("retrying", "running"):
            words.append(f"(attempt {row.attempt})")
        reason = one_line(str(event.data.get("error") or event.data.get("reason") or ""))
        return " ".join(words) + (f": {reason}" if reason else "")

    # ---- what it looks like

    def counts(self) -> Counter[str]:
        """How many nodes are in which state."""
        return Counter(row.state for row in self.rows.values())

    def summary(self, now: float) -> str:
        """``98/152 nodes · 8 running · 3 retries · 4.2 s``."""
        return FANCY.dot.join(self._figures(now))

    def _figures(self, now: float) -> list[str]:
        counts = self.counts()
        settled = sum(counts[state] for state in _SETTLED)
        figures = [f"{settled}/{len(self.rows)} nodes"]
        figures += [f"{counts[s]} {s}" for s in ("running", "retrying", "parked", "failed", "skipped") if counts[s]]
        if self.retries:
            figures.append(f"{self.retries} {'retry' if self.retries == 1 else 'retries'}")
        return [*figures, seconds((self.ended or now) - self.started)]

    def lines(self, now: float, *, width: int, height: int, style: Style) -> list[str]:
        """The run on at most ``height`` lines of at most ``width`` columns: a bar, then the nodes that matter now."""
        shown = self._shown(max(1, height - 1))
        if self.ended is not None and len(shown) < len(self.rows):
            shown = [row for row in shown if row.state in ("failed", "cancelled")]
        wide = min(max((columns(row.id) for row in shown), default=0), max(8, width // 2 - 4))
        lines = [self._head(now, width, style), *(self._line(row, now, wide, width, style) for row in shown)]
        if len(shown) < len(self.rows) and len(lines) < height:
            left = Counter(row.state for row in self.rows.values())
            left.subtract(row.state for row in shown)
            told = ", ".join(f"{count} {state}" for state, count in left.most_common() if count > 0)
            lines.append(clip(f"  {style.more} and {told}", width, style.more))
        return lines

    def _shown(self, room: int) -> list[Row]:
        rows = list(self.rows.values())
        if len(rows) <= room:
            return rows
        rank = {state: number for number, state in enumerate(_URGENCY)}
        urgent = sorted(
            (row for row in rows if row.state in rank), key=lambda row: (rank[row.state], -row.seq)
        )  # the latest first, and of what has settled the latest only
        return urgent[: room - 1]

    def _head(self, now: float, width: int, style: Style) -> str:
        figures = style.dot.join(self._figures(now))
        name = clip(self.run_id, max(8, width // 3), style.more)
        room = min(40, width - columns(name) - columns(figures) - 4)
        settled = sum(row.state in _SETTLED for row in self.rows.values())
        if room < 8:
            return clip(f"{name}  {figures}", width, style.more)
        full = room * settled // max(1, len(self.rows))
        bar = style.paint("failed" if self.status == "failed" else "completed", style.full * full)
        return f"{name}  {bar}{style.empty * (room - full)}  {figures}"

    def _line(self, row: Row, now: float, wide: int, width: int, style: Style) -> str:
        name = clip(one_line(row.id), wide, style.more)
        name += " " * (wide - columns(name))
        took = now - row.since if row.state == "running" and row.since is not None else row.took
        words = [f"{row.state:9}", f"{'' if took is None else seconds(max(0.0, took)):>8}"]
        if row.attempt > 1:
            words.append(f"attempt {row.attempt}")
        if row.share is not None and row.state == "running":
            words.append(f"{row.share:.0%}")
        if row.text:
            words.append(row.text)
        line = clip(f"  {style.marks.get(row.state, ' ')} {name}  {' '.join(words)}".rstrip(), width, style.more)
        return style.paint(row.state, line) if row.state != "pending" else line


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def seconds(value: float) -> str:
    """A duration for people: ``0.4 s``, ``2 min 05 s``, ``3 h 20 min``."""
    if value < 0.0095:
        return f"{max(0.0, value) * 1000:.1f} ms"
    if value < 99.95:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clip(text: str, width: int, more: str) -> str:
    """``text`` in at most ``width`` columns of a terminal."""
    if columns(text) <= width:
        return text
    made, used, room = "", 0, width - columns(more)
    for char in text:
        used += columns(char)
        if used > room:
            break
        made += char
    return (made + more)[: max(0, width)]


def columns(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
