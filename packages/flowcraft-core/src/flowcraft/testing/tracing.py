"""A run in process that shows what happened if it did not go well."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from typing import TextIO

from flowcraft.blueprint import Blueprint
from flowcraft.registry import Definition
from flowcraft.results import RunResult
from flowcraft.runtime import FlowRuntime
from flowcraft.testing.recorder import Recorder

__all__ = ["run_with_trace"]


async def run_with_trace(
    runtime: FlowRuntime,
    flow: Definition | Blueprint | str,
    input: object = None,
    *,
    context: Mapping[str, object] | None = None,
    run_id: str | None = None,
    file: TextIO | None = None,
) -> RunResult:
    """`FlowRuntime.run`, and unless the run completed its timeline is written to ``file``, by default to stdout.

    Raises:
        As `FlowRuntime.run`; then, too, the timeline is written.
    """
    recorder = Recorder()
    traced = copy.copy(runtime)  # the same functions and blueprints with one more listener
    traced.listeners = (*runtime.listeners, recorder)
    shown = sys.stdout if file is None else file
    try:
        result = await traced.run(flow, input, context=context, run_id=run_id)
    except BaseException:
        shown.write(f"{recorder.timeline()}\n")
        raise
    if result.status != "completed":
        shown.write(f"{recorder.timeline()}\n{_ending(result)}\n")
    return result


def _ending(result: RunResult) -> str:
    lines = [f"run {result.run_id!r} {result.status}" + (f": {result.cause}" if result.cause else "")]
    return "\n".join(lines + [f"  {failure}" for failure in result.failures])
