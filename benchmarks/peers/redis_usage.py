"""What a measurement asked of Redis: commands per node, and bytes that stay per run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import redis
from protocol import Reply


async def counting(url: str, work: int, measure: Callable[[], Awaitable[Reply]]) -> Reply:
    """The reply of `measure`, whose runs execute `work` nodes each, with both figures added."""
    with redis.Redis.from_url(url) as client:
        before = _usage(client)
        reply = await measure()
        after = _usage(client)
    runs = reply["runs"] + 1  # the one to warm up
    return reply | {
        "commands_per_node": (after[0] - before[0]) / (runs * work),
        "kb_per_run": (after[1] - before[1]) / runs / 1000,
    }


def _usage(client: redis.Redis) -> tuple[int, int]:
    stats: dict[str, Any] = client.info("commandstats")
    memory: dict[str, Any] = client.info("memory")
    return sum(int(command["calls"]) for command in stats.values()), int(memory["used_memory"])
