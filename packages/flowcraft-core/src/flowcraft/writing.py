"""Handing planned commits to the store until it is certain what became of them, and what follows a commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from flowcraft.errors import AdapterError, PayloadTooLarge, Unavailable, UnknownOutcome
from flowcraft.model import Change, Committed, Event, Job
from flowcraft.ports import Clock, CoordinationStore, Delivery, EventBus, JobQueue, RunStore

__all__ = ["Aftermath", "Writer", "Written", "backoff"]

T = TypeVar("T")
#: What became of a change: committed or in conflict, or why it can never be committed like this.
Written = Committed | Exception
_LOG = logging.getLogger("flowcraft.committer")
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 10.0


def backoff(attempt: int, random: float) -> float:
    """Seconds to wait after the failed ``attempt`` (from 1), spread by ``random`` in [0, 1)."""
    return min(_FIRST_WAIT * 2.0 ** min(attempt - 1, 12), _LONGEST_WAIT) * (0.5 + random)


class Writer:
    """The way to the store. An unavailable one is asked again for ever; whoever gives up cancels the task."""

    def __init__(self, store: RunStore, clock: Clock, random: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._random = random

    async def pause(self, attempt: int) -> None:
        """Wait before the next attempt."""
        await self._clock.sleep(backoff(attempt, self._random()))

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to a question that changes nothing."""
        attempt = 0
        while True:
            try:
                return await ask()
            except (Unavailable, UnknownOutcome) as error:
                attempt += 1
                _LOG.warning("the run store does not answer (attempt %d): %s", attempt, error)
                await self.pause(attempt)

    async def write(self, changes: Sequence[Change]) -> Sequence[Written]:
        """Commit; the results are in the order of ``changes``.

        A conflict may turn out to be one's own commit: the caller looks for its token in what is stored now.
        """
        attempt = 0
        while True:
            try:
                return await self._store.commit(changes)
            except Unavailable as error:
                attempt += 1
                _LOG.warning("%d commits wait for the run store (attempt %d): %s", len(changes), attempt, error)
                await self.pause(attempt)
            except UnknownOutcome as error:
                _LOG.warning("the outcome of %d commits is not known, looking for them: %s", len(changes), error)
                return await asyncio.gather(*map(self._find_out, changes))
            except PayloadTooLarge as error:
                if len(changes) == 1:
                    return [error]
                return [(await self.write([change]))[0] for change in changes]
            except Exception as error:  # noqa: BLE001 - it is handed to those who wait for these commits
                return [error] * len(changes)

    async def _find_out(self, change: Change) -> Written:
        """Whether a change was applied, from what is stored now: never a guess.

        As long as the document is at the version before the change, the very same change is tried again. Should the
        first one land late after all, the second is a conflict with a document that holds its own token.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                stored = await self._store.load(change.run_id)
                if stored is None or stored.version != change.version:
                    return Committed(False, stored=stored)
                return (await self._store.commit([change]))[0]
            except (Unavailable, UnknownOutcome) as error:
                _LOG.warning("run %r: outcome still unknown (attempt %d): %s", change.run_id, attempt, error)
                await self.pause(attempt)
            except Exception as error:  # noqa: BLE001 - it is handed to those who wait for this commit
                return error


class Aftermath:
    """What follows commits. None of it is needed for correctness: the ticker makes up for whatever is lost here."""

    def __init__(self, queue: JobQueue, coordination: CoordinationStore, events: EventBus | None) -> None:
        self._queue = queue
        self._coordination = coordination
        self._events = events
        self.jobs: list[Job] = []
        self.deliveries: list[Delivery] = []
        self.revoked: list[str] = []
        self.told: list[Event] = []

    async def run(self) -> None:
        """Publish, ack, revoke and tell, in this order. To be run once."""
        if self.jobs:
            await self._publish()
        if self.deliveries:
            await asyncio.gather(*map(_ack, self.deliveries))
        if self.revoked:
            try:
                await self._coordination.revoke(self.revoked)
            except AdapterError as error:
                _LOG.warning("%d leases could not be revoked: %s", len(self.revoked), error)
        if self.told and self._events is not None:
            try:
                await self._events.publish(self.told)
            except AdapterError as error:
                _LOG.warning("%d events could not be told: %s", len(self.told), error)

    async def _publish(self) -> None:
        try:
            lost = await self._queue.publish(self.jobs)
        except AdapterError as error:
            _LOG.warning("%d jobs could not be published, the ticker will: %s", len(self.jobs), error)
        else:
            if lost:
                _LOG.warning("%d of %d jobs were not confirmed, the ticker will look", len(lost), len(self.jobs))


async def _ack(delivery: Delivery) -> None:
    try:
        await delivery.ack()
    except AdapterError as error:  # it comes again and is found stale
        _LOG.warning("a delivery could not be acked: %s", error, extra={"run_id": delivery.job.run_id})
