"""``flowcraft worker``: one worker in this process, or a supervisor of several processes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping

from flowcraft.cli.failures import INTERRUPTED, OK
from flowcraft.cli.health import serve_health
from flowcraft.cli.logs import set_up_logging
from flowcraft.cli.signals import Stop, stop_signals
from flowcraft.cli.supervise import TIE, Supervisor, tied_to_supervisor
from flowcraft.cli.targets import URL_VARIABLE, adapter_of, load_target
from flowcraft.worker import Worker

__all__ = ["worker_command"]

_LOG = logging.getLogger("flowcraft.command")
#: So much longer than the grace period workers get to hand back what is left.
_MARGIN = 15.0


async def worker_command(args: argparse.Namespace) -> int:
    """Work until the first signal, then finish within the grace period; a second signal ends it at once."""
    set_up_logging(args.log_format, args.log_level)
    with stop_signals() as stop:
        if args.processes > 1 and TIE not in os.environ:
            return await _supervise(args, stop)
        return await _work(args, stop)


async def _supervise(args: argparse.Namespace, stop: Stop) -> int:
    async with adapter_of(load_target(args.target, args.registry), args.url):
        pass  # what can never work is said once, here, and not by every worker again and again
    environment = {} if args.url is None else {URL_VARIABLE: args.url}  # a list of processes shows no password
    supervisor = Supervisor(
        _worker_arguments(args), args.processes, patience=2 * args.grace + _MARGIN, environment=environment
    )
    async with serve_health(args.health_port, supervisor.health) as port:
        _LOG.info("supervisor of %d workers%s", args.processes, _told(port))
        code = await supervisor.run(stop)
    _LOG.info("supervisor ends")
    return code


def _worker_arguments(args: argparse.Namespace) -> list[str]:
    """The command of one worker process, without the URL."""
    command = [sys.executable, "-m", "flowcraft", "worker", args.target]
    if args.registry is not None:
        command += ["--registry", args.registry]
    for queue in args.queue or ():
        command += ["--queue", queue]
    command += ["--concurrency", str(args.concurrency), "--grace", str(args.grace)]
    return [*command, "--log-format", args.log_format, "--log-level", args.log_level]


async def _work(args: argparse.Namespace, stop: Stop) -> int:
    adapter = adapter_of(load_target(args.target, args.registry), args.url)
    current: Worker | None = None

    def state() -> tuple[bool, int]:
        return (False, 0) if current is None else (current.healthy, current.in_hand)

    def health() -> tuple[bool, Mapping[str, object]]:
        healthy, in_hand = state()
        return healthy, {"in_hand": in_hand, "pid": os.getpid(), "stopping": stop.asked.is_set()}

    async def work() -> None:
        nonlocal current
        async with (
            adapter,
            adapter.worker(concurrency=args.concurrency, grace=args.grace, queues=args.queue or None) as worker,
        ):
            current = worker
            _LOG.info("worker %s: concurrency %d%s", worker.owner, args.concurrency, _told(port))
            await _until_asked(worker, stop)

    async with tied_to_supervisor(stop, state), serve_health(args.health_port, health) as port:
        urged = await _unless_urged(asyncio.create_task(work()), stop)
    _LOG.info("worker ends%s", " at once" if urged else "")
    return INTERRUPTED if urged else OK


async def _until_asked(worker: Worker, stop: Stop) -> None:
    asked = asyncio.create_task(stop.asked.wait())
    ended = asyncio.create_task(worker.wait())
    try:
        await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            ended.result()
        else:
            _LOG.info("stopping: %d visit(s) in hand", worker.in_hand)
    finally:
        for task in (asked, ended):
            task.cancel()
        await asyncio.gather(asked, ended, return_exceptions=True)


async def _unless_urged(work: asyncio.Task[None], stop: Stop) -> bool:
    """Wait for the work to end; True if it had to be cut short."""
    urged = asyncio.create_task(stop.urged.wait())
    try:
        await asyncio.wait({work, urged}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            return False
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        return True
    finally:
        urged.cancel()
        work.cancel()
        await asyncio.gather(work, urged, return_exceptions=True)


def _told(port: int | None) -> str:
    return "" if port is None else f", health on http://127.0.0.1:{port}/healthz"
