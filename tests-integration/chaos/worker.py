"""A worker process of a campaign: ``python -m chaos.worker SETTINGS NAME ADDRESS``. SIGTERM: it leaves in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time

from flowcraft import FlowRuntime
from flowcraft.engine import transition
from flowcraft.engine.draft import Draft
from flowcraft.engine.transition import EngineEvent, Resent
from flowcraft.runstate import StoreTime
from flowcraft.visits import VisitRunner
from flowcraft.work import Slot, Work

from .backends import reached
from .nodes import ACTIVATION, Journal, functions
from .settings import Settings

__all__: list[str] = []


def _note_activations() -> None:
    """Let the nodes' lines name the activation, which is no business of user code."""
    execute = VisitRunner._execute

    async def noted(self: VisitRunner, slot: Slot, work: Work) -> EngineEvent | None:
        job = work.job
        ACTIVATION.set(
            {
                "owner": job.node, "nonce": job.nonce, "resend": job.resend, "kept": slot.steps > 0,
                "lease": job.claim_key,
            }
        )  # fmt: skip
        return await execute(self, slot, work)

    VisitRunner._execute = noted  # type: ignore[method-assign]


def _note_resends(journal: Journal) -> None:
    """A line for each message that this process's ticker wants sent again."""
    apply = transition.apply

    def noted(draft: Draft, event: EngineEvent) -> bool:
        if isinstance(event, Resent):
            for node in event.nodes:
                if (activation := draft.head.active.get(node)) is not None:
                    journal.write("resend", nonce=activation.nonce, owner=draft.graph.ids[node])
        return apply(draft, event)

    from flowcraft import folding  # noqa: PLC0415 - the name is replaced where it is used

    vars(folding)["apply"] = noted


def _note_clock(journal: Journal) -> None:
    """A line for each look at the store's clock: how far from the world's it is taken to be. It is the same one here."""
    sync = StoreTime.sync

    async def noted(self: StoreTime) -> None:
        await sync(self)
        journal.write("clock", error=self.now() - time.time())

    StoreTime.sync = noted  # type: ignore[method-assign]


async def _main(settings: Settings, name: str, address: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    journal = Journal(settings.place / f"{name}.journal")
    _note_activations()
    _note_resends(journal)
    _note_clock(journal)
    runtime = FlowRuntime(registry=functions(journal))
    async with (
        reached(settings, runtime, address) as adapter,
        # Strikes kill some visits several times; that is no fault of theirs.
        adapter.worker(concurrency=settings.concurrency, grace=settings.grace, max_deliveries=1000) as worker,
    ):
        journal.write("ready")
        ended = asyncio.create_task(worker.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        journal.write("stopping")
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    await ended


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(_main(Settings.load(sys.argv[1]), *sys.argv[2:]))
