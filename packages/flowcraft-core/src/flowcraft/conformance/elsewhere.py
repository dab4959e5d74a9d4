"""The other process: ``python -m flowcraft.conformance.elsewhere TARGET NAMESPACE NOW STEP``.

Opens the place, does the step, says in one line of JSON what came of it, and then waits to be killed. It ends by itself
only when nobody is left to kill it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from typing import TextIO

from flowcraft.clock import SystemClock
from flowcraft.conformance.env import Env, Step
from flowcraft.conformance.expecting import Blocked
from flowcraft.conformance.loading import load_function, load_target
from flowcraft.conformance.results import told
from flowcraft.conformance.target import Place
from flowcraft.errors import InvalidRequest
from flowcraft.testing import VirtualClock

__all__ = ["main"]


async def main(answers: TextIO, target_name: str, namespace: str, now: str, step_name: str) -> None:
    """Do one step; ``answers`` gets the line."""
    try:
        target = load_target(target_name)
        step: Step = load_function(step_name)
        clock = VirtualClock(float(now)) if target.virtual_time else SystemClock()
        place = Place(namespace, clock)
        async with target.open(place) as ports:
            value = await step(Env(target, place, ports, random.Random(step_name)))
            _say(answers, {"value": value})
            await asyncio.to_thread(sys.stdin.read)
            os._exit(1)
    except (Blocked, InvalidRequest) as error:
        _say(answers, {"blocked": str(error)})
    except Exception as error:  # noqa: BLE001 - it is the result
        found = told(error)
        _say(answers, {"failed": "\n".join(filter(None, (found.evidence, found.trace)))})


def _say(answers: TextIO, row: dict[str, object]) -> None:
    answers.write(json.dumps(row) + "\n")
    answers.flush()


if __name__ == "__main__":
    # Whatever the backend's driver prints must not be taken for an answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        asyncio.run(main(channel, *sys.argv[1:5]))
