"""The reconciler: repairs runs that seem stuck, with figures. Where a worker runs, its ticker does the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from flowcraft.committer import Committer
from flowcraft.engine.head import READY, Head
from flowcraft.engine.transition import EngineEvent, Resent
from flowcraft.folding import Applied, job_of
from flowcraft.graph import Graph
from flowcraft.ports import CoordinationStore, RunStore
from flowcraft.sealing import traceback_of
from flowcraft.ticker import unclaimed

__all__ = ["Reconciler", "ReconciliationStats"]

_LOG = logging.getLogger("flowcraft.reconciler")


@dataclass(frozen=True, slots=True)
class ReconciliationStats:
    """``scanned``: running runs looked at · ``stalled_runs``: with a READY visit that nobody has a lease on, and no
    commit for longer than the threshold · ``reconciled_runs``: a job was published · ``failed_runs``: the repair
    raised.
    """

    scanned: int = 0
    stalled_runs: int = 0
    reconciled_runs: int = 0
    failed_runs: int = 0


class Reconciler:
    """Call `run` from a cron job or the like; concurrent calls, and calls beside tickers, are safe."""

    def __init__(
        self,
        committer: Committer,
        *,
        store: RunStore,
        coordination: CoordinationStore,
        stalled_threshold_seconds: float = 300.0,
    ) -> None:
        self._committer = committer
        self._store = store
        self._coordination = coordination
        self._threshold = stalled_threshold_seconds

    async def run(self) -> ReconciliationStats:
        """Look at every running run once. Waiting, sleeping, paused and parked runs are never stalled."""
        await self._committer.time.sync()
        before = self._committer.time.now() - self._threshold
        scanned = stalled = reconciled = failed = 0
        after: str | None = None
        while True:
            page = await self._store.list(status="running", after=after)
            for row in page.items:
                scanned += 1
                if row.updated_at > before:
                    continue
                try:
                    found, sent = await self._repair(row.run_id, before)
                except Exception as error:  # noqa: BLE001 - it is counted, and others want their repair
                    shown = traceback_of(self._committer.rules.codec, error)
                    _LOG.error("a stalled run could not be repaired: %s", type(error).__name__, exc_info=shown,
                               extra={"run_id": row.run_id})  # fmt: skip
                    failed += 1
                else:
                    stalled += found
                    reconciled += sent
            after = page.after
            if after is None:
                return ReconciliationStats(scanned, stalled, reconciled, failed)

    async def _repair(self, run_id: str, before: float) -> tuple[bool, bool]:
        state = await self._committer.load(run_id)
        if state is None:
            return False, False
        keys = list(_ready(state.graph, run_id, state.committed(), before))
        free = await unclaimed(self._coordination, keys)
        if not free:
            return False, False

        def events(graph: Graph, head: Head, now: float) -> Sequence[EngineEvent]:  # noqa: ARG001 - what is asked for
            nodes = [node for key, node in _ready(graph, run_id, head, before).items() if key in free]
            return [Resent(nodes)] if nodes else []

        result = await self._committer.submit(run_id, events)
        return True, isinstance(result, Applied)


def _ready(graph: Graph, run_id: str, head: Head, before: float) -> dict[str, int]:
    """READY nodes by lease, without those that were sent since ``before``, by another reconciler perhaps."""
    return {
        job_of(graph, run_id, node, activation, "").claim_key: node
        for node, activation in head.active.items()
        if head.state(node) == READY and not head.paused and activation.at <= before
    }
