"""A report for people: as text for a terminal of 80 columns, and as Markdown."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from flowcraft.conformance.checks import Check
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.levels import LEVEL_NAMES, hindrance
from flowcraft.conformance.report import Report
from flowcraft.conformance.results import OUTCOMES, Outcome, Result
from flowcraft.conformance.target import PortName

__all__ = ["Paint", "as_markdown", "as_text", "explained", "plain"]

#: Marks a text as good, bad or doubtful; a terminal has colours for that.
Paint = Callable[[str, Literal["good", "bad", "doubtful", "bold"]], str]
_WIDTH: Final = 80
_TOLD: Final[tuple[Outcome, ...]] = ("fail", "blocked", "deviation")
_COLUMNS: Final[tuple[tuple[Outcome, str], ...]] = (
    ("pass", "pass"), ("fail", "fail"), ("not applicable", "n/a"), ("deviation", "dev."), ("blocked", "blocked"),
    ("deselected", "not run"),
)  # fmt: skip


def plain(text: str, _meaning: str) -> str:
    """No colours."""
    return text


def as_text(report: Report, paint: Paint = plain, checks: Mapping[str, Check] | None = None) -> str:
    """The card for a terminal: a table of ports, what failed with its evidence, and the level."""
    known = {check.id: check for check in CATALOGUE} if checks is None else checks
    lines = [
        paint(f"Conformance of {_safe(report.target)}, profile {report.profile}", "bold"),
        _environment(report),
        "",
    ]
    lines += _table(report, paint)
    for outcome in _TOLD:
        for result in report.results:
            if result.outcome == outcome:
                lines += ["", *_case(result, paint, known)]
    lines += _left_out(report)
    lines += _hindered(report) if report.complete else ()
    lines += ["", *(line for text in report.warnings for line in _wrapped(f"warning: {text}", "  "))]
    return "\n".join([*lines, *_verdict(report, paint)]).replace("\n\n\n", "\n\n") + "\n"


def _environment(report: Report) -> str:
    where = report.environment
    return f"flowcraft-core {where.core}, {where.python}, {where.platform}"[:_WIDTH]


def _table(report: Report, paint: Paint) -> Iterator[str]:
    shown = [(outcome, name) for outcome, name in _COLUMNS if report.count(outcome) or outcome in {"pass", "fail"}]
    yield "port          level            " + "".join(f"{name:>8}" for _, name in shown)
    for port, level in report.levels.items():
        counts = Counter(result.outcome for result in report.results if result.port == port)
        told = f"{level} {LEVEL_NAMES[level]}" if report.complete else "–"
        cells = "".join(f"{counts[outcome]:>8}" for outcome, _ in shown)
        bad = counts["fail"] or counts["blocked"]
        yield paint(f"{port:<14}{told:<17}", "bad" if bad else "good" if level else "doubtful") + cells


def _case(result: Result, paint: Paint, known: Mapping[str, Check]) -> Iterator[str]:
    check = known.get(result.check_id)
    yield paint(f"{result.outcome.upper()}  {result.check_id}", "bad" if result.outcome == "fail" else "doubtful")
    if check is not None:
        yield from _row("contract", check.contract)
    yield from _row("reason" if result.outcome in {"deviation", "blocked"} else "seen", result.evidence)
    for number, line in enumerate(result.trace.splitlines()[-3:] if result.outcome == "fail" else ()):
        yield from _row("" if number else "at", line)
    yield from _row("more", f"flowcraft conformance explain {result.check_id}")


def _row(name: str, text: str) -> list[str]:
    return _wrapped(f"  {name:<9} {_safe(text)}", " " * 12)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=True, break_on_hyphens=False)


def _left_out(report: Report) -> Iterator[str]:
    reasons = Counter(result.evidence for result in report.results if result.outcome == "not applicable")
    if reasons:
        yield ""
    for reason, count in sorted(reasons.items()):
        yield from _wrapped(f"not applicable: {count} check{'s' * (count > 1)}, {_safe(reason)}", "  ")


def _hindered(report: Report) -> Iterator[str]:
    by_cause: dict[str, list[PortName]] = {}
    for port, level in report.levels.items():
        cause = hindrance(report.results, report.facts, port) if level < max(LEVEL_NAMES) else ""
        if cause:
            by_cause.setdefault(cause, []).append(port)
    yield from ("",) if by_cause else ()
    whole = report.overall if "system" in report.levels else 0
    for cause, ports in by_cause.items():
        found = ", ".join(f"{port} at {report.levels[port]}" for port in ports)
        ends = "; the overall level ends there, too" if whole and whole in map(report.levels.get, ports) else ""
        yield from _wrapped(f"held back: {found}, by {cause}{ends}", "  ")


def _verdict(report: Report, paint: Paint) -> Iterator[str]:
    counted = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in OUTCOMES if report.count(outcome))
    yield f"{counted or 'no checks'}; {report.seconds:.1f} s"
    if not report.complete:
        yield paint("Nothing is certified: not all checks of the profile were asked for.", "doubtful")
    elif "system" not in report.levels:
        reached = ", ".join(f"{port} {level}" for port, level in report.levels.items())
        yield paint(f"Certified by port (no whole system is offered): {reached or 'nothing'}", "bold")
    else:
        yield paint(
            f"Overall level: {report.overall} {LEVEL_NAMES[report.overall]}", "good" if report.overall else "bad"
        )


def as_markdown(report: Report) -> str:
    """The card for a README or a wiki."""
    where, title = report.environment, f"{report.overall} ({LEVEL_NAMES[report.overall]})"
    overall = f"overall level **{title}**" if report.complete else "**not certified**: only some checks were asked for"
    lines = [
        f"### Conformance of {_cell(report.target)}",
        "",
        f"Profile {report.profile}, {overall}. flowcraft-core {where.core}, {where.python}, {_cell(where.platform)}.",
        "",
        "| port | level | " + " | ".join(name for _, name in _COLUMNS) + " |",
        "|---|---|" + "---:|" * len(_COLUMNS),
    ]
    for port, level in report.levels.items():
        counts = Counter(result.outcome for result in report.results if result.port == port)
        told = f"{level} {LEVEL_NAMES[level]}" if report.complete else "–"
        lines.append(f"| {port} | {told} | " + " | ".join(str(counts[outcome]) for outcome, _ in _COLUMNS) + " |")
    for outcome in _TOLD:
        found = [result for result in report.results if result.outcome == outcome]
        lines += ["", f"**{outcome}**", ""] if found else []
        lines += [f"- `{result.check_id}`: {_cell(result.evidence)}" for result in found]
    return "\n".join(lines) + "\n"


def explained(check: Check) -> str:
    """All that there is to say about a check."""
    needs = ", ".join(sorted(check.requires)) or "nothing"
    kills = ", ".join(check.kills) or "–"
    level = f"{check.level} {LEVEL_NAMES[check.level]}"
    lines = [check.id, ""]
    lines += _wrapped(check.contract, "")
    for paragraph in check.why.split("\n\n"):
        lines += ["", *_wrapped(" ".join(paragraph.split()), "")] if paragraph.strip() else []
    lines += ["", f"port      {check.port}", f"level     {level}", f"requires  {needs}", f"since     {check.since}"]
    return "\n".join([*lines, *_wrapped(f"mutants   {kills}", " " * 10)]) + "\n"


def _cell(text: str) -> str:
    return _safe(text)[:500].replace("|", "\\|").replace("<", "&lt;")


def _safe(text: str) -> str:
    """One line without control characters: a backend's words must not steer a terminal."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
