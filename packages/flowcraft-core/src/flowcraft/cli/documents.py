"""``flowcraft lint`` and ``flowcraft diagram``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from flowcraft.blueprint import Blueprint
from flowcraft.cli.failures import FAILED, OK, TROUBLE, CommandError
from flowcraft.cli.looking import stored_blueprint
from flowcraft.cli.payload import to_json
from flowcraft.cli.targets import load_target, store_of
from flowcraft.cli.timeline import durations, stretches
from flowcraft.diagrams import to_dot, to_mermaid
from flowcraft.errors import DefinitionError
from flowcraft.lint import LintReport, lint_blueprint
from flowcraft.uigraph import to_ui_graph

__all__ = ["diagram_command", "lint_command"]


async def lint_command(args: argparse.Namespace) -> int:
    """Everything that is wrong or odd about the flows of a target."""
    data = _no_blueprint(Path(args.target))
    reports = [lint_blueprint(data)] if data is not None else _lint_target(args)
    errors = sum(len(report.errors) for report in reports)
    warnings = sum(len(report.warnings) for report in reports)
    if args.json:
        rows = [
            {"flow": r.blueprint_id, "valid": r.is_valid, "issues": [issue.to_dict() for issue in r.issues]}
            for r in reports
        ]
        print(to_json({"errors": errors, "warnings": warnings, "flows": rows}))
    else:
        for report in reports:
            for issue in report.issues:
                print(f"{report.blueprint_id}: {issue}")
        print(f"{len(reports)} flow(s): {errors} error(s), {warnings} warning(s)")
    return FAILED if errors or (args.strict and warnings) else OK


def _lint_target(args: argparse.Namespace) -> list[LintReport]:
    target = load_target(args.target, args.registry)
    blueprints = target.blueprints if args.flow is None else (target.blueprint(args.flow),)
    registry = target.runtime.registry if target.has_functions else None
    others = target.blueprints if len(target.blueprints) > 1 else None  # one alone may run what is elsewhere
    return [lint_blueprint(blueprint, registry, others) for blueprint in blueprints]


def _no_blueprint(path: Path) -> Mapping[str, object] | None:
    """The JSON object in a file of which no blueprint can be made: lint tells all that is wrong, not only the first."""
    try:
        data: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # another target, or no JSON: whoever loads it says so
    try:
        Blueprint.from_dict(data)
    except DefinitionError:
        return cast("Mapping[str, object]", data) if isinstance(data, dict) else None
    return None


async def diagram_command(args: argparse.Namespace) -> int:
    """A flow of a target, or a run of a store with its states."""
    if (args.target is None) == (args.run is None):
        raise CommandError("give either TARGET, or --run with --app or --url (see: flowcraft diagram --help)")
    view = None
    took: Mapping[str, float] = {}
    if args.run is None:
        blueprint = load_target(args.target, args.registry).blueprint(args.flow)
    else:
        async with store_of(args.app, args.url) as adapter:
            handle = adapter.run(args.run)
            view = await handle.view()
            blueprint = await stored_blueprint(adapter, args.run)
            took = durations(stretches(blueprint, await handle.history(), time.time()))
    if args.format == "ui":
        text = to_ui_graph(blueprint).to_json(indent=2) + "\n"
    else:
        draw = to_mermaid if args.format == "mermaid" else to_dot
        text = draw(blueprint, view, direction=args.direction, fold=args.fold, durations=took, legend=args.legend)
    if args.output is None:
        print(text, end="")
        return OK
    _write(Path(args.output), text)
    return OK


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}", TROUBLE) from error
