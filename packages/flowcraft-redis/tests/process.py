"""A worker in a process of its own: ``python -m … URL PREFIX``. Says when it is ready; ends with its stdin."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from flowcraft_redis import RedisAdapter


def neighbour(name: str) -> ModuleType:
    """A module of this folder, which is no package on any path here."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


async def main(url: str, prefix: str) -> None:
    runtime = neighbour("flows").runtime()
    adapter = RedisAdapter(
        runtime, url=url, prefix=prefix, lease_ttl=1.0, queue_visibility=1.0, resend_after=1.0, tick=0.2
    )
    async with adapter, adapter.worker(concurrency=20, grace=5):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
