"""A step of a check in another process, which is killed: the only honest proof that something survives."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import IO, Protocol, cast

from flowcraft.conformance.expecting import Blocked, Violated
from flowcraft.conformance.loading import name_of, source_of
from flowcraft.conformance.target import Place, Target
from flowcraft.conformance.tools import TOOLS

__all__ = ["Named", "elsewhere"]


class Named(Protocol):
    """A function at the top of a module, which another process finds by its name."""

    __module__: str
    __qualname__: str


@asynccontextmanager
async def elsewhere(target: Target, place: Place, step: Named) -> AsyncGenerator[object]:
    """Do ``step`` on the place in a process of its own; yields what it returned, as JSON carries it.

    The process keeps its ports open until the block ends. Then it is killed (SIGKILL), so none of its code runs again.

    Raises:
        Violated: the step raised something. Blocked: another process does not find the target or the step.
    """
    source, name = source_of(target), name_of(step)
    if source is None:
        raise Blocked(TOOLS["elsewhere"])
    if name is None:
        raise Blocked(f"{step.__qualname__} is no function at the top of a module that can be imported")
    with tempfile.TemporaryFile() as errors:
        process = await _started(source, place, name, errors)
        try:
            yield await _answer(process, step, errors)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def _started(source: str, place: Place, step: str, errors: IO[bytes]) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    what = (source, place.namespace, repr(place.clock.time()), step)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flowcraft.conformance.elsewhere", *what,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors, env=environment,
        start_new_session=True,  # Ctrl-C is for us, who end it
    )  # fmt: skip


async def _answer(process: asyncio.subprocess.Process, step: Named, errors: IO[bytes]) -> object:
    stdout = cast("asyncio.StreamReader", process.stdout)
    try:
        line = await stdout.readline()
    except asyncio.CancelledError as error:
        error.add_note(f"the process of {step.__qualname__} had not said that it was done")
        raise
    if not line:
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
        said = errors.read().decode(errors="replace").strip()
        code = await process.wait()
        raise Violated(f"the process of {step.__qualname__} ended with {code} before it was done: {said}")
    answer = cast("dict[str, object]", json.loads(line))
    if "blocked" in answer:
        raise Blocked(str(answer["blocked"]))
    if "failed" in answer:
        raise Violated(f"in another process, {step.__qualname__}: {answer['failed']}")
    return answer["value"]
