"""``flowcraft conformance``: backends against the contract of the ports."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import fnmatch
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from flowcraft.cli.conformancefiles import write_files
from flowcraft.cli.failures import FAILED, OK, TROUBLE, CommandError
from flowcraft.conformance.card import as_markdown, as_text, explained, plain
from flowcraft.conformance.checks import Check
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.junit import to_junit
from flowcraft.conformance.loading import load_target
from flowcraft.conformance.mutants import MUTANTS, Mutant
from flowcraft.conformance.mutating import killers, try_mutant
from flowcraft.conformance.profiles import LATEST, in_profile
from flowcraft.conformance.recorded import Recorded, differences, from_json, to_json
from flowcraft.conformance.report import Report
from flowcraft.conformance.results import Result
from flowcraft.conformance.runner import run

__all__ = ["conformance_command"]


async def conformance_command(args: argparse.Namespace) -> int:
    """One action of the conformance suite."""
    return await _ACTIONS[args.action](args)


async def _run(args: argparse.Namespace) -> int:
    chosen, target = _chosen(args), load_target(args.target)
    only = None if args.only is None else {check.id for check in chosen}
    progress = _Progress(len(chosen), shown=sys.stderr.isatty() and not args.quiet)
    try:
        report = await run(
            target, profile=args.profile or LATEST, only=None if only is None else lambda check: check.id in only,
            heard=progress.tell,
        )  # fmt: skip
    finally:
        progress.clear()
    outputs: dict[str | None, Callable[[Report], str]] = {
        args.junit: to_junit, args.markdown: as_markdown, args.json: to_json,
    }  # fmt: skip
    for file, made in outputs.items():
        if file is not None and file != "-":
            await asyncio.to_thread(_write, Path(file), made(report))
    print(to_json(report) if args.json == "-" else as_text(report, _paint()), end="")
    if report.count("fail"):
        return FAILED
    return TROUBLE if report.count("blocked") else OK


async def _list(args: argparse.Namespace) -> int:
    chosen = _chosen(args)
    if args.json:
        rows = [
            {
                "id": check.id, "port": check.port, "level": check.level, "since": check.since,
                "requires": sorted(check.requires), "kills": list(check.kills), "contract": check.contract,
            }
            for check in chosen
        ]  # fmt: skip
        print(json.dumps({"checks": rows}, ensure_ascii=False, indent=2))
        return OK
    for check in chosen:
        print(f"{check.id}  (level {check.level})\n    {check.contract}")
    return OK


async def _explain(args: argparse.Namespace) -> int:
    for check in CATALOGUE:
        if check.id == args.check:
            print(explained(check), end="")
            return OK
    close = difflib.get_close_matches(args.check, [check.id for check in CATALOGUE], n=1, cutoff=0.4)
    meant = f" (did you mean {close[0]}?)" if close else ""
    raise CommandError(f"there is no check {args.check!r}{meant}; `flowcraft conformance list` names all")


async def _diff(args: argparse.Namespace) -> int:
    old, new = await asyncio.to_thread(lambda: (_recorded(args.old), _recorded(args.new)))
    found = differences(old, new)
    worse = [each for each in found if each.verdict == "worse"]
    if args.json:
        rows = [{"what": d.what, "old": d.old, "new": d.new, "verdict": d.verdict} for d in found]
        print(json.dumps({"differences": rows, "worse": len(worse)}, indent=2))
        return FAILED if worse else OK
    for one, other, what in ((old.target, new.target, "targets"), (old.profile, new.profile, "profiles")):
        if one != other:
            print(f"different {what}: {one!r} and {other!r}")
    for each in found:
        change = f"{each.old or '(not there)'} → {each.new or '(not there)'}"
        print(f"{'' if each.verdict == 'other' else each.verdict:<8}{each.what}: {change}")
    count = f"{len(found)} difference{'s' * (len(found) != 1)}" if found else "no differences"
    print(f"{count}, {len(worse)} for the worse" if worse else count)
    return FAILED if worse else OK


async def _init(args: argparse.Namespace) -> int:
    for path in await asyncio.to_thread(write_files, Path(args.folder), store_alone=args.port == "store"):
        print(f"wrote {path}")
    print(
        "next: open your ports in conformance_target.py, then: flowcraft conformance run conformance_target.py:backend"
    )
    return OK


async def _mutants(args: argparse.Namespace) -> int:
    chosen = [mutant for mutant in MUTANTS if _matches(mutant.name, args.only)]
    if not chosen:
        raise CommandError(f"no mutant matches {' or '.join(map(repr, args.only or ['*']))}")
    rows: list[dict[str, object]] = []
    for mutant in chosen:
        verdict = await try_mutant(mutant)
        row: dict[str, object] = {
            "mutant": mutant.name, "check": mutant.check_id, "caught": verdict.caught, "sound": verdict.sound.outcome,
            "broken": verdict.broken.outcome, "evidence": verdict.broken.evidence,
        }  # fmt: skip
        if args.every_check:
            row["killers"] = list(await killers(mutant))
        rows.append(row)
        if not args.json:
            _print_mutant(mutant, row)
    missed = sum(not row["caught"] for row in rows)
    if args.json:
        print(json.dumps({"mutants": rows, "missed": missed}, ensure_ascii=False, indent=2))
    else:
        print(f"of {len(rows)} mutants {missed} not caught" if missed else f"mutants: {len(rows)}, all caught")
    return FAILED if missed else OK


def _print_mutant(mutant: Mutant, row: Mapping[str, object]) -> None:
    print(f"{'caught' if row['caught'] else 'MISSED'}  {mutant.name}: {mutant.describes}")
    print(f"        by {mutant.check_id}", end="\n" if row["caught"] else "")
    if not row["caught"]:
        print(f": {row['sound']} without the fault, {row['broken']} with it")
    if "killers" in row:
        print(f"        all that fail: {', '.join(map(str, _texts(row['killers']))) or 'none'}")


def _texts(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _chosen(args: argparse.Namespace) -> list[Check]:
    checks = in_profile(CATALOGUE, args.profile or LATEST)
    chosen = [check for check in checks if _matches(check.id, args.only)]
    if not chosen:
        raise CommandError(f"no check matches {' or '.join(map(repr, args.only or ['*']))}; try: conformance list")
    return chosen


def _matches(name: str, patterns: Sequence[str] | None) -> bool:
    if patterns is None:
        return True
    return any(pattern in name or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _recorded(name: str) -> Recorded:
    try:
        return from_json(Path(name).read_bytes(), name)
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror or error}") from error


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror or error}", TROUBLE) from error


def _paint() -> Callable[[str, Literal["good", "bad", "doubtful", "bold"]], str]:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return plain
    codes = {"good": "32", "bad": "31", "doubtful": "33", "bold": "1"}
    return lambda text, meaning: f"\x1b[{codes[meaning]}m{text}\x1b[0m"


class _Progress:
    """How far it is, in one line of stderr that is redrawn; what is not shown is not written at all."""

    def __init__(self, total: int, *, shown: bool) -> None:
        self._total = total
        self._shown = shown
        self._done = 0

    def tell(self, result: Result) -> None:
        self._done += 1
        if self._shown:
            text = f"{self._done}/{self._total} {result.check_id}: {result.outcome}"
            sys.stderr.write(f"\r\x1b[K{text[:78]}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


_ACTIONS: Mapping[str, Callable[[argparse.Namespace], Coroutine[Any, Any, int]]] = {
    "run": _run, "list": _list, "explain": _explain, "diff": _diff, "init": _init, "mutants": _mutants,
}  # fmt: skip
