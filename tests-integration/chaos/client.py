"""The client process of a campaign: ``python -m chaos.client SETTINGS NAME ADDRESS`` starts the runs and waits for their
ends.

It may start as many runs as the latest line of its standard input says; whatever an earlier client began to start, it
starts again at once, with the same id and input. Its own journal tells what it did.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

from flowcraft import Blueprint, FlowRuntime
from flowcraft.adapter import Adapter
from flowcraft.engine.head import READY
from flowcraft.errors import AdapterError, RunNotFound, Unavailable, UnknownOutcome
from flowcraft.folding import job_of
from flowcraft.graph import compile_graph
from flowcraft.runs import RunHandle
from flowcraft.runstate import unpack_head

from .backends import reached
from .nodes import Journal
from .settings import Settings

__all__: list[str] = []


class _Client:
    def __init__(self, settings: Settings, adapter: Adapter, journal: Journal) -> None:
        self._settings = settings
        self._adapter = adapter
        self._journal = journal
        self._plan: list[tuple[str, dict[str, object], object]] = json.loads(
            (settings.place / "plan.json").read_text(encoding="utf-8")
        )
        self._running: dict[str, Blueprint] = {}
        self._begun = {
            json.loads(line)["run"]
            for path in settings.place.glob("client*.journal")
            for line in path.read_text(encoding="utf-8").splitlines()
            if '"starting"' in line
        }

    async def main(self) -> None:
        self._journal.write("ready")
        echoing = asyncio.create_task(self._echo())
        allowed = asyncio.create_task(self._follow())
        async with asyncio.TaskGroup() as runs:
            for number, (run_id, blueprint, value) in enumerate(self._plan):
                while number >= self._allowed and run_id not in self._begun:
                    await asyncio.sleep(0.005)  # between two looks at what another process allows
                runs.create_task(self._run(run_id, Blueprint.from_dict(blueprint), value))
        self._journal.write("all")
        for task in (echoing, allowed):
            task.cancel()
        await asyncio.gather(echoing, allowed, return_exceptions=True)

    _allowed = 0

    async def _follow(self) -> None:
        async for line in _lines():
            self._allowed = int(line)

    async def _run(self, run_id: str, blueprint: Blueprint, value: object) -> None:
        existed = None
        if run_id in self._begun:
            existed = await self._exists(run_id)
        self._journal.write("starting", run=run_id, existed=existed)
        handle = await self._start(run_id, blueprint, value)
        self._journal.write("started", run=run_id)
        self._running[run_id] = blueprint
        result = await handle.result()
        del self._running[run_id]
        self._journal.write("ended", run=run_id, status=result.status)

    async def _exists(self, run_id: str) -> bool:
        while True:
            try:
                await self._adapter.status(run_id)
            except RunNotFound:
                return False
            except Unavailable as error:
                await self._wait(run_id, error)
            else:
                return True

    async def _start(self, run_id: str, blueprint: Blueprint, value: object) -> RunHandle:
        while True:
            try:
                return await self._adapter.start_run(blueprint, value, run_id=run_id)
            except (Unavailable, UnknownOutcome) as error:
                await self._wait(run_id, error)

    async def _wait(self, run_id: str, error: AdapterError) -> None:
        self._journal.write("again", run=run_id, error=repr(error))
        await asyncio.sleep(0.1)  # before it asks again, as any client would

    async def _echo(self) -> None:
        """Send messages once more, of visits that are READY: waiting, on their way, being executed or committed."""
        source = random.Random(self._settings.seed)
        async with asyncio.TaskGroup() as echoes:
            for _ in range(self._settings.echoes):
                while not self._running:
                    await asyncio.sleep(0.01)  # between two looks
                await asyncio.sleep(source.random() * 0.04)  # a random moment of a run is wanted
                if not self._running:
                    continue
                delay = source.choice((0.0, 0.0, 0.05, 0.3, 1.0, 2.5))
                echoes.create_task(self._try_echo(source.choice(list(self._running)), source.random(), delay))

    async def _try_echo(self, run_id: str, which: float, delay: float) -> None:
        with suppress(AdapterError):  # one less
            await self._echo_one(run_id, which, delay)

    async def _echo_one(self, run_id: str, which: float, delay: float) -> None:
        blueprint = self._running[run_id]
        stored = await self._adapter.store.load(run_id)
        if stored is None:
            return
        head, graph = unpack_head(stored.head)[1], compile_graph(blueprint)
        ready = [node for node in head.active if head.states[node] == READY]
        if not ready:
            return
        node = ready[int(which * len(ready))]
        job = job_of(graph, run_id, node, head.active[node], "flowcraft-queue")
        await self._adapter.queue.publish([job], delay=delay)
        self._journal.write("echo", run=run_id, owner=job.node, nonce=job.nonce)


async def _lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


async def _main(settings: Settings, name: str, address: str) -> None:
    async with reached(settings, FlowRuntime(), address) as adapter:
        await _Client(settings, adapter, Journal(settings.place / f"{name}.journal")).main()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(_main(Settings.load(sys.argv[1]), *sys.argv[2:]))
