"""``flowcraft run`` and ``flowcraft start``."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Coroutine
from contextlib import aclosing, nullcontext, redirect_stdout
from typing import Any, TypeVar

from flowcraft.blueprint import check_id
from flowcraft.cli.board import Board
from flowcraft.cli.failures import OK, TROUBLE, CommandError
from flowcraft.cli.payload import read_context, read_input, to_json
from flowcraft.cli.results import print_result
from flowcraft.cli.screen import Screen
from flowcraft.cli.targets import Target, adapter_of, load_target
from flowcraft.results import RunResult
from flowcraft.runs import RunHandle
from flowcraft.worker import Worker

__all__ = ["follow", "run_command", "start_command", "while_alive"]

T = TypeVar("T")
_GRACE = 5.0


async def run_command(args: argparse.Namespace) -> int:
    """Run to the end: in process, or durably with a worker of this process."""
    target = load_target(args.target, args.registry)
    screen = Screen(quiet=args.quiet)
    with redirect_stdout(sys.stderr) if args.json else nullcontext():  # what nodes print is not the document
        if args.url is None and target.adapter is None:
            result = await _in_process(target, args, screen)
        else:
            result = await _durably(target, args, screen)
    return print_result(result, as_json=args.json)


async def _in_process(target: Target, args: argparse.Namespace, screen: Screen) -> RunResult:
    blueprint, runtime = target.blueprint(args.flow), target.runtime
    value, context = read_input(args.input), read_context(args.context)
    run_id = check_id(args.run_id, "run id") if args.run_id is not None else secrets.token_hex(4)
    board = Board(run_id, [node.id for node in blueprint.nodes], time.time())
    runtime.listeners = (*runtime.listeners, screen.tell)
    runtime.check_functions(runtime.resolve(blueprint))  # before anything is shown
    async with screen.showing(board):
        return await runtime.run(blueprint, value, context=context, run_id=run_id, concurrency=args.concurrency)


async def _durably(target: Target, args: argparse.Namespace, screen: Screen) -> RunResult:
    blueprint, runtime = target.blueprint(args.flow), target.runtime
    value, context = read_input(args.input), read_context(args.context)
    runtime.check_functions(runtime.resolve(blueprint))
    async with adapter_of(target, args.url) as adapter:
        queues = {node.queue or adapter.options.queue_name for node in blueprint.nodes}
        handle = await adapter.start_run(blueprint, value, run_id=args.run_id, context=context)
        try:
            async with adapter.worker(concurrency=args.concurrency, grace=_GRACE, queues=sorted(queues)) as worker:
                await while_alive(worker, follow(handle, screen))
        except asyncio.CancelledError:
            print(f"run {handle.run_id} is kept; a worker, or the same command with --run-id, goes on", file=sys.stderr)
            raise
        return await handle.result()


async def while_alive(worker: Worker, coroutine: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns; if the worker dies first, what it died of is raised."""
    task = asyncio.create_task(coroutine)
    died = asyncio.create_task(worker.wait())
    try:
        await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            died.result()
            raise CommandError("the worker has ended before the run", TROUBLE)
        return task.result()
    finally:
        for each in (task, died):
            each.cancel()
        await asyncio.gather(task, died, return_exceptions=True)


async def follow(handle: RunHandle, screen: Screen) -> None:
    """Show a run from its first event until it has ended."""
    view = await handle.view()
    board = Board(handle.run_id, view.nodes, time.time())
    if view.status != "running" or any(node.state != "pending" for node in view.nodes.values()):
        board.set_states({node.id: node.state for node in view.nodes.values()})
    async with screen.showing(board), aclosing(handle.watch()) as events:
        async for event in events:
            screen.tell(event)
        board.set_states({node.id: node.state for node in (await handle.view()).nodes.values()})


async def start_command(args: argparse.Namespace) -> int:
    """Start a run, and wait for it if asked to."""
    target = load_target(args.target, args.registry)
    blueprint = target.blueprint(args.flow)
    value, context = read_input(args.input), read_context(args.context)
    dedup = {"dedup_key": args.dedup_key, "dedup_window": args.dedup_window}
    async with adapter_of(target, args.url) as adapter:
        handle = await adapter.start_run(blueprint, value, run_id=args.run_id, context=context, **dedup)
        if not args.wait:
            print(to_json({"run_id": handle.run_id}) if args.json else handle.run_id)
            return OK
        try:
            async with asyncio.timeout(args.timeout):
                await follow(handle, Screen(quiet=args.quiet))
        except TimeoutError:
            told = f"run {handle.run_id} has not ended within {args.timeout:g} s; it goes on"
            raise CommandError(told, TROUBLE) from None
        return print_result(await handle.result(), as_json=args.json)
