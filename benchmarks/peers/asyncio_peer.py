"""asyncio without an engine: what an inline await and a task cost here. No peer, but the measure of the machine."""

from __future__ import annotations

import asyncio
import platform
from typing import Any

from protocol import Reply, repeat, serve


async def noop() -> None:
    """Nothing."""


async def measure(case: dict[str, Any]) -> Reply:
    """One case: {"shape": "await" or "task", "size", "seconds"}."""
    size = int(case["size"])

    async def awaits() -> None:
        for _ in range(size):
            await noop()

    async def tasks() -> None:
        await asyncio.gather(*[asyncio.create_task(noop()) for _ in range(size)])

    return await repeat(awaits if case["shape"] == "await" else tasks, work=size, seconds=float(case["seconds"]))


if __name__ == "__main__":
    asyncio.run(serve({platform.python_implementation(): platform.python_version()}, measure))
