"""What is shown of a run: pure functions of events and time."""

import io
import re

import pytest

from flowcraft.blueprint import ANY, Blueprint, Edge, Node
from flowcraft.cli.board import ASCII, FANCY, Board, clip, columns, seconds
from flowcraft.cli.failures import one_line
from flowcraft.cli.screen import Screen, style_of
from flowcraft.cli.timeline import Span, Stretch, draw_timeline, longest, shown, stretches
from flowcraft.engine.view import NodeView
from flowcraft.model import Event


def event(
    kind: str, node: str | None = None, at: float = 0.0, *, seq: int = 1, attempt: int = 1, **data: object
) -> Event:
    return Event("r", seq, kind, at, node, 1, attempt, data)


def board(*nodes: str) -> Board:
    return Board("r", nodes, 0.0)


def test_a_node_from_start_to_end() -> None:
    shown = board("a", "b")
    assert shown.apply(event("node:started", "a", 1.0)) is None
    assert shown.apply(event("node:progress", "a", 1.5, share=0.4, text="two\nlines")) is None
    assert shown.lines(2.0, width=80, height=5, style=ASCII)[1:] == [
        "  * a  running      1.0 s 40% two lines",
        "    b  pending",
    ]
    assert shown.apply(event("node:completed", "a", 3.0)) == "a completed in 2.0 s"
    assert shown.counts() == {"completed": 1, "pending": 1}


def test_retries_and_failures_say_why() -> None:
    shown = board("a")
    shown.apply(event("node:started", "a", 1.0))
    assert shown.apply(event("node:retrying", "a", 2.0, attempt=1, error="E: x")) == "a retrying (attempt 2): E: x"
    shown.apply(event("node:started", "a", 3.0, attempt=2))
    hint = Event("r", 0, "node:retry", 3.5, "a", 1, 2, {"attempt": 2, "error": "E: y"})
    assert shown.apply(hint) == "a trying again (attempt 3): E: y"
    assert shown.apply(event("node:failed", "a", 4.0, error="E: z")) == "a failed in 1.0 s: E: z"
    assert shown.summary(9.0) == "1/1 nodes · 1 failed · 2 retries · 9.0 s"


def test_a_fallback_ends_with_the_node_it_stands_in_for() -> None:
    shown = board("a", "f")
    shown.apply(event("node:started", "a", 1.0))
    assert shown.apply(event("node:fallback", "a", 2.0, fallback="f", error="E")) == "a falls back to f (attempt 1): E"
    shown.apply(event("node:started", "f", 2.0))
    shown.apply(event("node:completed", "a", 3.0, by="f"))
    assert shown.counts() == {"completed": 2}


def test_unknown_events_and_nodes_do_no_harm() -> None:
    shown = board("a")
    assert shown.apply(event("node:invented", "a")) is None
    assert shown.apply(event("scope:visit", "a")) is None
    assert shown.apply(event("node:completed", "stranger", 1.0)) == "stranger completed"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("height", [2, 5, 24])
def test_never_wider_or_higher_than_the_screen(width: int, height: int) -> None:
    shown = board(*(f"node {n} " + "漢字" * (n % 9) for n in range(100)))
    for n, node in enumerate(shown.rows):
        if n % 3:
            shown.apply(event("node:started", node, 1.0))
        if n % 3 == 2:
            shown.apply(event("node:failed", node, 2.0, error="an error that is long " * 9))
    lines = shown.lines(3.0, width=width, height=height, style=FANCY)
    assert len(lines) <= height
    for line in lines:
        assert sum(2 if "\u2e80" < char < "\ua000" else 1 for char in line) <= width


def test_failed_and_running_nodes_come_first_when_room_is_short() -> None:
    shown = board(*"abcdefghij")
    for node in "abcdefgh":
        shown.apply(event("node:completed", node, 1.0))
    shown.apply(event("node:started", "i", 1.0))
    shown.apply(event("node:failed", "j", 1.0))
    lines = shown.lines(2.0, width=80, height=5, style=ASCII)
    assert [line.split()[1] for line in lines[1:4]] == ["j", "i", "h"]
    assert lines[4] == "  ... and 7 completed"


def test_state_is_told_without_colour_and_colour_only_when_wanted() -> None:
    shown = board("a")
    shown.apply(event("node:completed", "a", 1.0))
    assert "\x1b" not in "".join(shown.lines(1.0, width=80, height=5, style=FANCY))
    assert "completed" in shown.lines(1.0, width=80, height=5, style=FANCY)[1]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0004, "0.4 ms"),
        (0.05, "0.05 s"),
        (1.0, "1.0 s"),
        (59.96, "60.0 s"),
        (125, "2 min 05 s"),
        (12000, "3 h 20 min"),
    ],
)
def test_durations(value: float, told: str) -> None:
    assert seconds(value) == told


def test_clipping_counts_columns() -> None:
    assert clip("漢字漢字", 5, "…") == "漢字…"
    assert clip("abc", 3, "…") == "abc"
    assert clip("abcdef", 4, "...") == "a..."
    assert one_line("a\n\tb\x1b[31m\u202ec") == "a b [31m c"


class Terminal(io.StringIO):
    """Says that it is one."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert style_of(Terminal()).colour
    assert not style_of(io.StringIO()).colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not style_of(Terminal()).colour
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen(Terminal()).live
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert style_of(ascii_only).full == "="


async def test_redrawing_replaces_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    screen = Screen(terminal, now=lambda: 0.0)
    shown = board("a", "b")
    async with screen.showing(shown):
        screen.draw(shown)
        screen.tell(event("node:completed", "a"))
        screen.draw(shown)
        print("what a node prints")
    parts = re.split(r"\r\x1b\[3A\x1b\[J", terminal.getvalue())
    assert len(parts) == 3
    assert parts[0].count("\n") == 3
    assert "✓ a" in parts[-1]


def blueprint() -> Blueprint:
    nodes = (Node("a", "f"), Node("b", "f"), Node("c", "f"), Node("d", "f", join=ANY))
    return Blueprint("t", nodes, (Edge("a", "b"), Edge("a", "c"), Edge("b", "d"), Edge("c", "d")))


def test_timeline_tells_waiting_from_running() -> None:
    events = [
        event("run:started", at=10.0, seq=1),
        event("node:completed", "a", 12.0, seq=2, took=0.5),
        event("node:retrying", "b", 13.0, seq=3, error="E: late", due=14.0, took=1.0),
        event("node:completed", "b", 15.0, seq=4, attempt=2, took=0.25, attempts=3),
        event("node:completed", "c", 16.0, seq=5),
        event("node:completed", "d", 17.0, seq=6, took=60.0),
        event("run:completed", at=17.0, seq=7),
    ]
    found = {stretch.node: stretch for stretch in stretches(blueprint(), events, 17.0)}
    assert found["a"].spans == [Span(10.0, 11.5, 12.0)]
    assert found["b"].spans == [Span(12.0, 12.0, 13.0), Span(14.0, 14.75, 15.0)]
    assert (found["b"].took, found["b"].waited, found["b"].attempt) == (1.25, 0.75, 3)
    assert found["c"].spans == [Span(12.0, 12.0, 16.0)], "how long it took is not known"
    assert found["d"].spans == [Span(15.0, 15.0, 17.0)], "an any join is ready with its first predecessor"
    lines = draw_timeline(shown(found.values(), 10), width=75, style=ASCII)
    assert all(len(line) <= 75 for line in lines)
    assert re.fullmatch(r"  0 +7\.0 s +ran = +waited -", lines[0])
    assert re.fullmatch(r"b +=+ +-+=+ +1\.2 s +0\.75 s completed x3", lines[2])
    assert longest(found.values(), 2) == [("c", 4.0, 1), ("d", 2.0, 1)]


def test_what_is_not_over_is_drawn_until_now() -> None:
    events = [
        event("run:started", at=10.0, seq=1),
        event("node:completed", "a", 12.0, seq=2),
        event("node:parked", "b", 13.0, seq=3, reason="no function"),
    ]
    nodes = {n: NodeView(n, s, 1, None) for n, s in {"a": "completed", "b": "parked", "c": "ready"}.items()}  # type: ignore[arg-type]  # they are states
    found = {stretch.node: stretch for stretch in stretches(blueprint(), events, 20.0, nodes)}
    assert (found["b"].state, found["b"].spans) == ("parked", [Span(12.0, 13.0, 13.0)])
    assert (found["c"].state, found["c"].spans) == ("ready", [Span(12.0, 20.0, 20.0)])
    assert list(found) == ["a", "b", "c"]


def test_of_many_visits_those_in_trouble_and_the_longest_are_shown() -> None:
    found = [Stretch(f"n{n}", 1, "completed", [Span(0.0, 0.0, float(n))]) for n in range(50)]
    found[3].state, found[4].attempt, found[5].state = "failed", 2, "skipped"
    found[5].spans = []
    assert {stretch.node for stretch in shown(found, 4)} == {"n3", "n4", "n49", "n48"}
    assert len(shown(found, 100)) == 49


def test_lines_are_never_wider_than_the_screen() -> None:
    names = ("x" * 200, "日本語の名前" * 20, "a")
    found = [Stretch(name, 12, "retrying", [Span(0.0, 1.0, 1e5)], attempt=3) for name in names]
    for width in (60, 79, 119):
        lines = draw_timeline(found, width=width, style=FANCY)
        assert all(columns(line) <= width for line in lines), [columns(line) for line in lines]


def test_timeline_of_nothing() -> None:
    assert stretches(blueprint(), [], 0.0) == []
    assert draw_timeline([], width=80, style=ASCII) == []
