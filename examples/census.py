"""A census of the source files of Python's standard library, as a durable workflow: the demo job, ``./run demo``.

A survey, then one node for every portion of the library, a hundred or so at the same time as far as threads allow; two
joins that add up and rank; two branches that are taken only if there is something to look into; and a report. The
biggest portions are read one at a time, so that memory stays small: a portion that finds the permit taken fails, and is
tried again a little later. All of it is kept in one SQLite file. Kill it at any moment, and ``--resume`` finishes the
same run.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import json
import platform
import sqlite3
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import flowcraft.cli.running as live
from flowcraft import Flow, FlowcraftError, FlowRuntime, NodeContext, Retry, RunResult
from flowcraft.cli.board import seconds
from flowcraft.cli.screen import Screen
from flowcraft.diagrams import to_mermaid
from flowcraft.model import Event
from flowcraft.runs import RunHandle
from flowcraft.sqlite import SqliteAdapter

FOLDER = Path("flowcraft-census")
PORTION_FILES, PORTION_BYTES, BIG_PORTIONS = 60, 700_000, 6
GIANT_LINES = 3000
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__"}


# ---- what is passed from node to node


@dataclass(frozen=True)
class Figures:
    """What was counted, in one portion or in all. ``text``: lines in strings of several lines, such as docstrings."""

    files: int = 0
    bytes: int = 0
    lines: int = 0
    code: int = 0
    comment: int = 0
    text: int = 0
    blank: int = 0
    functions: int = 0
    classes: int = 0
    seconds: float = 0.0
    imports: dict[str, int] = field(default_factory=dict[str, int])
    biggest: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    unparsable: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


@dataclass(frozen=True)
class Total:
    """All portions together; ``portions`` are (lines, files, seconds, name), the largest first."""

    figures: Figures
    portions: list[tuple[int, int, float, str]]
    giants: int
    unparsable: int


class PermitTaken(Exception):
    """Another big portion is being read at this moment."""


# ---- the work


def portions(library: Path) -> dict[str, list[str]]:
    """The library's source files in portions: by folder, and a large folder in several; the largest portion first."""
    folders: dict[str, list[tuple[str, int]]] = {}
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        if not SKIPPED_FOLDERS & set(relative.parts) and path.is_file():
            name = relative.parent.as_posix()
            folders.setdefault("top level" if name == "." else name, []).append(
                (relative.as_posix(), path.stat().st_size)
            )
    sized: list[tuple[int, str, list[str]]] = []
    for name, files in folders.items():
        cut: list[list[tuple[str, int]]] = [[]]
        for file in files:
            if len(cut[-1]) >= PORTION_FILES or (cut[-1] and sum(s for _, s in cut[-1]) + file[1] > PORTION_BYTES):
                cut.append([])
            cut[-1].append(file)
        for number, part in enumerate(cut, 1):
            title = name if len(cut) == 1 else f"{name} ({number})"
            sized.append((sum(size for _, size in part), title[-120:], [file for file, _ in part]))
    return {title: files for _, title, files in sorted(sized, key=lambda row: -row[0])}


@contextmanager
def permit(path: Path) -> Generator[None]:
    """The one permit to read a big portion: a lock of the operating system, which a killed process cannot keep."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise PermitTaken("another big portion is being read") from error
        yield
    finally:
        connection.close()


def count(library: Path, files: Sequence[str]) -> Figures:
    """Read and parse the files of one portion."""
    began = time.perf_counter()
    found: Counter[str] = Counter()
    imports: Counter[str] = Counter()
    biggest: list[tuple[int, str]] = []
    unparsable: list[tuple[str, str]] = []
    for name in files:
        data = (library / name).read_bytes()
        found["files"] += 1
        found["bytes"] += len(data)
        tree = None
        try:
            tree = ast.parse(data, name)
        except (SyntaxError, ValueError, RecursionError) as error:  # also other encodings than the file says
            unparsable.append((name, f"{type(error).__name__}: {error}"[:200]))
        lines = data.splitlines()
        biggest.append((len(lines), name))
        text = _look(tree, found, imports) if tree is not None else set[int]()
        for number, line in enumerate(lines, 1):
            stripped = line.strip()
            kind = "text" if number in text else "blank" if not stripped else "code"
            found["comment" if kind == "code" and stripped.startswith(b"#") else kind] += 1
        found["lines"] += len(lines)
    return Figures(
        **found,
        seconds=time.perf_counter() - began,
        imports=dict(imports),
        biggest=sorted(biggest, reverse=True)[:10],
        unparsable=unparsable,
    )


def _look(tree: ast.Module, found: Counter[str], imports: Counter[str]) -> set[int]:
    """Count what a module defines and imports; returns the lines inside its strings of several lines."""
    text: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found["functions"] += 1
        elif isinstance(node, ast.ClassDef):
            found["classes"] += 1
        elif isinstance(node, ast.Import):
            imports.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports[node.module.partition(".")[0]] += 1
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            last = node.end_lineno or node.lineno
            if last > node.lineno:
                text.update(range(node.lineno, last + 1))
    return text


# ---- the nodes: plain functions, which are run in threads, so that the loop is never blocked


@dataclass(frozen=True)
class Library:
    """What the nodes depend on."""

    root: Path
    permit: Path


def survey(ctx: NodeContext[str, Library]) -> str:
    if not ctx.deps.root.is_dir():
        raise NotADirectoryError(str(ctx.deps.root))
    return f"{platform.python_implementation()} {platform.python_version()}"


def count_portion(ctx: NodeContext[str, Library]) -> Figures:
    files: list[str] = ctx.params["files"]
    with permit(ctx.deps.permit) if ctx.params["big"] else nullcontext():
        return count(ctx.deps.root, files)


def total(ctx: NodeContext[dict[str, Figures], Library]) -> Total:
    every = ctx.input
    summed: dict[str, Any] = {name: sum(getattr(f, name) for f in every.values()) for name in _NUMBERS}
    biggest = sorted((row for figures in every.values() for row in figures.biggest), reverse=True)
    unparsable = [row for figures in every.values() for row in figures.unparsable]
    figures = Figures(**summed, biggest=biggest[:50], unparsable=unparsable)
    rows = [(f.lines, f.files, f.seconds, node.removeprefix("count ")) for node, f in every.items()]
    giants = sum(lines >= GIANT_LINES for lines, _ in biggest[:50])
    return Total(figures, sorted(rows, reverse=True), giants, len(unparsable))


def rank(ctx: NodeContext[dict[str, Figures], Library]) -> list[tuple[str, int]]:
    imported: Counter[str] = Counter()
    for figures in ctx.input.values():
        imported.update(figures.imports)
    return imported.most_common(15)


def giants(ctx: NodeContext[Total, Library]) -> list[tuple[int, str, str]]:
    """The longest functions of the files that are very long."""
    found: list[tuple[int, str, str]] = []
    for lines, name in ctx.input.figures.biggest:
        if lines >= GIANT_LINES:
            tree = ast.parse((ctx.deps.root / name).read_bytes())
            functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
            found += [((f.end_lineno or f.lineno) - f.lineno + 1, name, f.name) for f in functions]
    return sorted(found, reverse=True)[:10]


def explain(ctx: NodeContext[Total, Library]) -> dict[str, int]:
    """Why files do not parse, by kind of error."""
    reasons = Counter(why.partition(" (")[0] for _, why in ctx.input.figures.unparsable)
    return dict(reasons.most_common(10))


def report(ctx: NodeContext[dict[str, Any], Library]) -> str:
    return "\n".join(figures_as_markdown(ctx.input))


def build(library: Path) -> Flow[Library]:
    """The census of one library as a flow."""
    flow = Flow[Library]("census", version="1")
    flow.node()(survey)
    counted: list[str] = []
    for number, (title, files) in enumerate(portions(library).items()):
        counted.append(f"count {title}")
        flow.node(
            id=counted[-1],
            uses="census.count",
            after="survey",
            params={"files": files, "big": number < BIG_PORTIONS},
            retries=Retry(attempts=200, delay=1.0, backoff=1.2, max_delay=3.0, jitter=0.3),
        )(count_portion)
    by_portion = {node: node for node in counted}  # an object of outputs, also where there is one portion only
    flow.node(after=counted, inputs=by_portion)(total)
    flow.node(after=counted, inputs=by_portion)(rank)
    flow.node()(giants)
    flow.node()(explain)
    flow.edge("total", "giants", condition="result.output.giants > 0")
    flow.edge("total", "explain", condition="result.output.unparsable > 0")
    flow.node(after=["survey", "total", "rank", "giants", "explain"])(report)
    return flow


_NUMBERS = ("files", "bytes", "lines", "code", "comment", "text", "blank", "functions", "classes", "seconds")


# ---- the report


def figures_as_markdown(found: Mapping[str, Any]) -> Iterator[str]:
    """What the nodes found out, by their ids; the branches that were not taken are missing."""
    total: Total = found["total"]
    figures = total.figures
    yield f"# A census of {found['survey']}\n"
    yield from _table(("what", "how many"), [(n, f"{getattr(figures, n):,}") for n in _NUMBERS if n != "seconds"])
    yield "A line is text if it is in a string of several lines, a docstring for instance.\n"
    yield "## Most imported modules\n"
    yield from _table(("module", "imports"), found["rank"])
    yield "## Biggest files\n"
    yield from _table(("lines", "file"), [(f"{lines:,}", name) for lines, name in figures.biggest[:10]])
    yield f"## Longest functions of the files of {GIANT_LINES:,} lines and more\n"
    if "giants" in found:
        yield from _table(("lines", "file", "function"), found["giants"])
    else:
        yield "There is no such file: this branch was not taken.\n"
    yield "## Files that do not parse\n"
    if "explain" in found:
        yield from _table(("why", "files"), found["explain"].items())
        yield from _table(("file", "error"), figures.unparsable[:40])
    else:
        yield "All files parse: this branch was not taken.\n"
    yield "## Largest portions\n"
    rows = [(name, files, f"{lines:,}", seconds(took)) for lines, files, took, name in total.portions[:12]]
    yield from _table(("portion", "files", "lines", "time"), rows)


def what_ran(flow: Flow[Library], result: RunResult, events: Sequence[Event], wall: float) -> Iterator[str]:
    """How the run itself went, with a picture."""
    total: Total = result.output("total")
    states = ", ".join(f"{number} {state}" for state, number in Counter(result.nodes.values()).most_common())
    retries = sum(event.type == "node:retrying" for event in events)
    yield "## What ran\n"
    yield f"Run `{result.run_id}`: {len(result.nodes)} nodes ({states}) in {seconds(wall)}. The portions alone took"
    yield f"{seconds(total.figures.seconds)} of threads' time, waiting for the interpreter included."
    yield f"A big portion found the permit taken, and was tried again later, {retries} times.\n"
    yield "```mermaid\n" + to_mermaid(flow.blueprint, result, fold=BIG_PORTIONS) + "```"


def write_report(folder: Path, flow: Flow[Library], result: RunResult, events: Sequence[Event]) -> Path:
    """The figures as Markdown and as JSON; returns the path of the Markdown file."""
    total: Total = result.output("total")
    wall = events[-1].at - events[0].at
    retries = [event for event in events if event.type == "node:retrying"]
    data = {
        "run_id": result.run_id,
        "python": result.output("survey"),
        "figures": asdict(total.figures) | {"imports": dict(result.output("rank"))},
        "portions": total.portions,
        "longest_functions": result.outputs.get("giants", []),
        "errors_by_kind": result.outputs.get("explain", {}),
        "nodes": dict(result.nodes),
        "retries": [{"node": event.node, "attempt": event.attempt, "at": event.at} for event in retries],
        "wall_seconds": round(wall, 3),
    }
    (folder / "report.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    lines = [str(result.output("report")), *what_ran(flow, result, events, wall)]
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


# ---- the command


def make_adapter(folder: Path, library: Path, flow: Flow[Library]) -> SqliteAdapter:
    """The run's own file. After a crash the leases of the dead process are over before its messages come again."""
    runtime = FlowRuntime([flow], deps=Library(library, folder / "permit.db"))
    return SqliteAdapter(runtime, path=folder / "census.db", lease_ttl=3.0, queue_visibility=6.0, tick=0.3)


def unfinished(home: Path) -> Path | None:
    """The folder of the latest run that has begun and has no report yet."""
    begun = sorted(home.glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path.parent for path in begun if not (path.parent / "report.md").exists()), None)


async def take(folder: Path, library: Path, concurrency: int) -> Path:
    """Run the census in this folder, from wherever it stands, and write its report."""
    flow = build(library)
    async with make_adapter(folder, library, flow) as adapter:
        run: RunHandle = await adapter.start_run(flow, str(library), run_id=folder.name)
        async with adapter.worker(concurrency=concurrency, grace=5.0) as worker:
            await live.while_alive(worker, live.follow(run, Screen()))
        result = await run.result()
        result.raise_for_failure()
        return write_report(folder, flow, result, await run.history())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of the demo."""
    parser = argparse.ArgumentParser(prog="census", description="A census of Python's standard library.")
    parser.add_argument("--resume", action="store_true", help="finish the latest run that was interrupted")
    parser.add_argument("--home", type=Path, default=FOLDER, help=f"where runs are kept (default: {FOLDER})")
    parser.add_argument("--library", type=Path, help="another folder of Python files to look at")
    parser.add_argument("--concurrency", type=int, default=8, help="nodes at a time (default 8)")
    args = parser.parse_args(arguments)
    left = unfinished(args.home)
    if args.resume and left is None:
        print(f"census: nothing to resume in {args.home}", file=sys.stderr)
        return 2
    if args.resume and left is not None:
        folder, library = left, Path(json.loads((left / "run.json").read_text(encoding="utf-8"))["library"])
    else:
        folder, library = _fresh(args.home, args.library)
        if left is not None:
            print(f"census: run {left.name} was interrupted; --resume would finish it", file=sys.stderr)
    try:
        path = asyncio.run(take(folder, library, args.concurrency))
    except KeyboardInterrupt:
        print("\ncensus: interrupted; --resume finishes this run", file=sys.stderr)
        return 130
    except (FlowcraftError, OSError) as error:
        print(f"census: {error}", file=sys.stderr)
        return 1
    print(f"report: {path.resolve()}")
    return 0


def _fresh(home: Path, library: Path | None) -> tuple[Path, Path]:
    chosen = (library or Path(sysconfig.get_path("stdlib"))).resolve()
    name = time.strftime("%Y%m%d-%H%M%S")
    number = next(n for n in range(1, 1000) if not (home / f"{name}-{n}").exists())
    folder = home / f"{name}-{number}"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"library": str(chosen)}) + "\n", encoding="utf-8")
    return folder, chosen


if __name__ == "__main__":
    sys.exit(main())
