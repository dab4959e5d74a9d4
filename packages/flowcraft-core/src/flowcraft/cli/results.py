"""What a command prints of a run: for people, or as one JSON document."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence

from flowcraft.cli.failures import OK, report
from flowcraft.cli.payload import to_json
from flowcraft.engine.view import RunView
from flowcraft.errors import RunFailed
from flowcraft.results import RunResult

__all__ = ["moment", "print_result", "print_table", "view_data"]


def print_result(result: RunResult, *, as_json: bool) -> int:
    """The output of a run on stdout, what failed on stderr; returns the exit code."""
    if as_json:
        print(to_json(_result_data(result)))
    elif result.status == "completed":
        output = result.output()
        if output is not None:
            print(output if isinstance(output, str) else _readable(output))
    try:
        result.raise_for_failure()
    except RunFailed as error:
        return report(error)
    for failure in result.failures:
        print(f"made up for: {failure}", file=sys.stderr)
    return OK


def _readable(output: object) -> str:
    return json.dumps(json.loads(to_json(output)), ensure_ascii=False, indent=2)


def _result_data(result: RunResult) -> dict[str, object]:
    return {
        "run_id": result.run_id,
        "status": result.status,
        "cause": result.cause,
        "output": result.output(),
        "nodes": dict(result.nodes),
        "failures": [
            {
                "node": failure.node_id,
                "visit": failure.visit,
                "absolved": failure.absolved,
                "errors": [{"kind": error.kind, "message": error.text} for error in failure.errors],
            }
            for failure in result.failures
        ],
    }


def view_data(run_id: str, view: RunView) -> Mapping[str, object]:
    """A run that may still go on, as JSON data."""
    return {
        "run_id": run_id,
        "status": view.status,
        "cause": view.cause,
        "origin": None if view.origin is None else {"run_id": view.origin[0], "node": view.origin[1]},
        "nodes": {node.id: {"state": node.state, "visit": node.visit} for node in view.nodes.values()},
        "failures": [
            {"node": failure.node_id, "visit": failure.visit, "absolved": failure.absolved} for failure in view.failures
        ],
    }


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of as many cells each, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def moment(at: float) -> str:
    """A time for people, in the zone of whoever asks."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
