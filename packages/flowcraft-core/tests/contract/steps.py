"""What other processes do for `test_elsewhere`. They load this file by its path, so it imports nothing beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from flowcraft.conformance import Env, Violated
from flowcraft.conformance.expecting import Blocked
from flowcraft.conformance.making import new


async def stores(env: Env) -> dict[str, object]:
    """What is done is in the name."""
    sys.stdout.write("noise on stdout\n")
    sys.stdout.flush()
    await env.store.create(new("run"))
    return {"pid": os.getpid(), "now": env.clock.time()}


async def fails(env: Env) -> None:
    """What is done is in the name."""
    raise Violated("seen there")


async def dies(env: Env) -> None:
    """What is done is in the name."""
    sys.stderr.write("the last words\n")
    sys.stderr.flush()
    os._exit(7)


async def cannot(env: Env) -> None:
    """What is done is in the name."""
    raise Blocked("not here")


async def hears_signals(env: Env) -> str:
    """Would leave a note, if it were asked to end in order."""
    note = Path(tempfile.gettempdir(), f"{env.place.namespace}.ended-in-order")
    signal.signal(signal.SIGTERM, lambda *_: note.touch())
    return str(note)


async def never_done(env: Env) -> None:
    """What is done is in the name."""
    await asyncio.Event().wait()
