"""A plain asyncio program with durable runs: it starts some, works on them itself, and prints what came out.

Run it twice with the same file: the second time every run is found finished, and nothing is executed again.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from flowcraft import Flow, FlowRuntime, NodeContext, Retry
from flowcraft.sqlite import SqliteAdapter

flow = Flow[None]("greetings", version="1")


@flow.node
async def parse(ctx: NodeContext[str, None]) -> list[str]:
    return [name.strip() for name in ctx.input.split(",") if name.strip()]


@flow.node(retries=Retry(attempts=3, delay=0.1), timeout=10)
async def greet(ctx: NodeContext[list[str], None]) -> list[str]:
    ctx.log.info("greeting %d people", len(ctx.input))
    return [f"hello, {name}" for name in ctx.input]


@flow.node
async def nobody(ctx: NodeContext[list[str], None]) -> str:
    ctx.log.info("nobody is there")
    return "there is nobody to greet"


flow.edge(parse, greet, condition="len(result.output) > 0")
flow.edge(parse, nobody, condition="len(result.output) == 0")


def create_adapter(path: Path) -> SqliteAdapter:
    """Opens nothing yet."""
    return SqliteAdapter(FlowRuntime([flow]), path=path)


async def main(path: Path, lines: list[str]) -> list[object]:
    """Start one run for each line, and wait for all of them."""
    async with create_adapter(path) as adapter, adapter.worker(concurrency=20, grace=10):
        runs = [await adapter.start_run(flow, line, run_id=f"greet:{line}") for line in lines]
        results = await asyncio.gather(*(run.result(timeout=30) for run in runs))
    return [result.raise_for_failure().output() for result in results]


if __name__ == "__main__":
    for output in asyncio.run(main(Path("greetings.db"), sys.argv[1:] or ["Ada, Grace", ""])):
        print(output)
