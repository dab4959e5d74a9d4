"""Who works on what: the leases of one worker. They prevent duplicate work and never authorise a commit."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Literal

from flowcraft.errors import AdapterError
from flowcraft.ports import Clock, CoordinationStore

__all__ = ["LINGER", "TRUST", "Claims", "Standing"]

#: A remembered head may decide "execute" for so many seconds after the store confirmed it …
TRUST: Final = 1.0
#: … because the lease of a finished visit is given up only so much later: whoever wins a lease while trusting such a
#: head knows that nobody finished the visit in between.
LINGER: Final = 3.0
Standing = Literal["mine", "other", "gone"]
_LOG = logging.getLogger("flowcraft.worker")


class Claims:
    """The leases of one owner. While the coordination store does not answer, work goes on without them.

    That can make work double, which is then told in the log; it can never make a result wrong.
    """

    def __init__(self, coordination: CoordinationStore, owner: str, ttl: float, clock: Clock) -> None:
        self.owner = owner
        self.ttl = ttl
        self._coordination = coordination
        self._clock = clock
        self._finished: OrderedDict[str, float] = OrderedDict()
        self._unneeded: list[str] = []

    @property
    def trust(self) -> float:
        """`TRUST`, or less where leases are so short that a finished visit's is over before `LINGER` is."""
        return min(TRUST, self.ttl / 6)

    def finished(self, key: str) -> bool:
        """Whether a visit of this worker ended under that lease a moment ago."""
        return key in self._finished

    async def take(self, keys: Sequence[str]) -> Sequence[bool]:
        """Take what is free; True where this owner may go on."""
        try:
            return await self._coordination.claim(keys, self.owner, self.ttl)
        except AdapterError as error:
            _LOG.warning("no leases at the moment, %d visits go on without: %s", len(keys), error)
            return [True] * len(keys)

    async def renew(self, keys: Sequence[str]) -> Sequence[Standing]:
        """Extend what is this owner's, and take again what has vanished."""
        try:
            standings: list[Standing] = list(await self._coordination.renew(keys, self.owner, self.ttl))
            gone = [n for n, standing in enumerate(standings) if standing == "gone"]
            if gone:
                again = await self._coordination.claim([keys[n] for n in gone], self.owner, self.ttl)
                for n, won in zip(gone, again, strict=True):
                    standings[n] = "mine" if won else "other"
        except AdapterError as error:
            _LOG.warning("%d leases could not be renewed: %s", len(keys), error)
            return ["mine" for _ in keys]
        return standings

    async def taken_over(self, key: str) -> bool:
        """Whether another owner has the lease now; a lease that was only revoked is still this owner's."""
        try:
            return (await self._coordination.holders([key]))[0] not in (None, self.owner)
        except AdapterError:
            return False

    def finish(self, key: str) -> None:
        """The visit is decided. Its lease is kept for a moment, so that it cannot be won with an old head in hand."""
        self._finished[key] = self._clock.monotonic() + LINGER

    def forget(self, keys: Sequence[str]) -> None:
        """Give up leases of visits that never were, soon."""
        self._unneeded.extend(keys)

    async def release(self, keys: Sequence[str]) -> None:
        """Give up leases now, so that another worker can take the visits."""
        try:
            await self._coordination.release(keys, self.owner)
        except AdapterError as error:
            _LOG.warning("%d leases could not be released and expire by themselves: %s", len(keys), error)

    async def sweep(self) -> None:
        """Give up what lingered long enough; to be called about once a second."""
        now = self._clock.monotonic()
        keys, self._unneeded = self._unneeded, []
        while self._finished:
            key, until = next(iter(self._finished.items()))
            if until > now:
                break
            del self._finished[key]
            keys.append(key)
        if keys:
            await self.release(keys)

    async def poisoned(self, key: str, most: int) -> str | None:
        """Count one more execution of a visit that was begun before; why there must be none, if so."""
        deaths = await self.begun(key)
        if deaths < most:
            return None
        return f"{deaths} executions of this visit began and left no outcome; it is not tried again"

    async def begun(self, key: str) -> int:
        """Count one more execution of a visit (its `Job.visit_key`) that was begun before and left no outcome."""
        try:
            return await self._coordination.increment(f"begun:{key}", _BEGUN_TTL)
        except AdapterError as error:
            _LOG.warning("deaths of a visit could not be counted: %s", error)
            return 0

    async def forgive(self, key: str) -> None:
        """A hand-back is no death: forget what was counted."""
        try:
            await self._coordination.delete(f"begun:{key}")
        except AdapterError as error:
            _LOG.warning("the count of a visit's deaths could not be removed: %s", error)


_BEGUN_TTL: Final = 86_400.0
