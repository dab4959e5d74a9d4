"""Turns samples into tables: Markdown on stdout, JSON in results/, and with `--write` the section of README.md."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness import HERE, Samples, say

BUSY = 0.6  # load per core, before we start, from which results are not to be trusted
README = HERE / "README.md"


@dataclass(frozen=True)
class Column:
    """One contender in a table. `ratio`: the next column says how many times its figure ours is."""

    contender: str
    title: str
    ratio: bool = True


@dataclass(frozen=True)
class Row:
    """One figure in a table, of each contender that has it. `cases` are alternatives: the best one counts."""

    label: str
    cases: Sequence[str]
    figure: str = "rate"
    unit: str = "nodes/s"
    less_is_better: bool = False
    scale: float = 1.0  # shown = measured × scale


@dataclass(frozen=True)
class Table:
    """Our column, and the peers beside it."""

    title: str
    ours: Column
    peers: Sequence[Column]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Target:
    """A floor (or, `at_most`, a ceiling) that was promised; `measured` is None if it could not be measured."""

    what: str
    bound: float
    measured: float | None
    unit: str = ""
    at_most: bool = False

    @property
    def outcome(self) -> str:
        """PASS, MISS, or that there is nothing to judge."""
        if self.measured is None:
            return "not measured"
        good = self.measured <= self.bound if self.at_most else self.measured >= self.bound
        return "PASS" if good else "MISS"


@dataclass(frozen=True)
class Machine:
    """What the figures depend on, without names of hosts or people."""

    description: str
    load: float | None
    date: str
    notes: Mapping[str, str] = field(default_factory=dict)


def machine(**notes: str) -> Machine:
    """This machine, now: call it before anything is measured."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cores = os.cpu_count() or 1
    if load is not None and load > BUSY * cores:
        say(f"!!! this machine is busy (load {load:.1f} on {cores} cores): do not publish these figures")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    if load is not None:
        notes["load_at_the_start"] = f"{load:.1f}"
    description = f"{cores} cores, {platform.system()} {platform.machine()}, {python}"
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return Machine(description, load, today, {name.replace("_", " "): text for name, text in notes.items()})


def number(value: float) -> str:
    """Three significant figures, grouped by thousands."""
    if value >= 100:
        digits = max(0, len(str(int(value))) - 3)
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def _figures(samples: Samples, contender: str, row: Row) -> list[float]:
    """The samples of the best of the row's alternatives."""
    found = [values for case in row.cases if (values := samples.of(contender, case, row.figure))]
    best = min if row.less_is_better else max
    return [value * row.scale for value in best(found, key=statistics.median)] if found else []


def _cell(samples: Samples, contender: str, row: Row) -> str:
    values = _figures(samples, contender, row)
    if not values:
        return "failed" if any((contender, case) in samples.failed for case in row.cases) else "–"
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}–{number(max(values))})"


def _ratio(samples: Samples, ours: str, peer: str, row: Row) -> str:
    mine, others = _figures(samples, ours, row), _figures(samples, peer, row)
    if not mine or not others or not statistics.median(mine) or not statistics.median(others):
        return "–"
    times = statistics.median(mine) / statistics.median(others)
    return f"{number(1 / times if row.less_is_better else times)} ×"


def _table(table: Table, samples: Samples) -> list[str]:
    shown = [peer for peer in table.peers if peer.contender not in samples.skipped]
    heads = ["", table.ours.title]
    for peer in shown:
        heads += [peer.title, "ratio"] if peer.ratio else [peer.title]
    lines = [f"**{table.title}**", "", "| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    for row in table.rows:
        cells = [f"{row.label}, {row.unit}", _cell(samples, table.ours.contender, row)]
        for peer in shown:
            cells.append(_cell(samples, peer.contender, row))
            if peer.ratio:
                cells.append(_ratio(samples, table.ours.contender, peer.contender, row))
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _targets(targets: Sequence[Target]) -> list[str]:
    lines = ["**Targets**", "", "| | target | measured | |", "|---|--:|--:|---|"]
    for target in targets:
        sign = "≤" if target.at_most else "≥"
        found = "–" if target.measured is None else f"{number(target.measured)}{target.unit}"
        lines.append(f"| {target.what} | {sign} {number(target.bound)}{target.unit} | {found} | {target.outcome} |")
    return [*lines, ""]


def markdown(tables: Sequence[Table], targets: Sequence[Target], samples: Samples, where: Machine, rounds: int) -> str:
    """The whole section."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(samples.versions.items()))
    notes = "".join(f"; {name}: {text}" for name, text in where.notes.items())
    lines = [
        f"{where.date}; {where.description}{notes}. {versions}.",
        f"Rounds: {rounds}; median (lowest–highest).",
        "",
    ]
    for name, reason in samples.skipped.items():
        lines += [f"**SKIPPED: {name}**: {reason}", ""]
    for (name, case), reason in samples.failed.items():
        lines += [f"**FAILED: {name}, {case}**: {reason}", ""]
    for table in tables:
        lines += _table(table, samples)
    return "\n".join(lines + (_targets(targets) if targets else [])).rstrip() + "\n"


def save(name: str, samples: Samples, targets: Sequence[Target], where: Machine, rounds: int) -> Path:
    """Every sample, as JSON, to results/<name>.json."""
    content = {
        "benchmark": name,
        "machine": asdict(where),
        "rounds": rounds,
        "versions": samples.versions,
        "skipped": samples.skipped,
        "failed": [{"contender": who, "case": case, "reason": why} for (who, case), why in samples.failed.items()],
        "targets": [asdict(target) | {"outcome": target.outcome} for target in targets],
        "samples": [
            {"contender": who, "case": case, "figure": figure, "median": statistics.median(values), "values": values}
            for (who, case, figure), values in samples.values.items()
        ],
    }
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def write_section(name: str, section: str, readme: Path = README) -> None:
    """Replace what stands between the markers of this benchmark in the README."""
    start, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    text = readme.read_text(encoding="utf-8")
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{readme.name} lacks the markers {start} and {end}")
    readme.write_text(f"{before}{start}\n{section}{end}{after}", encoding="utf-8")
