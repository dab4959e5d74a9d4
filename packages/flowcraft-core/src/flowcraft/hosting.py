"""The worker beside a ticker, as the ticker sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from flowcraft.blueprint import Node
from flowcraft.committer import Committer
from flowcraft.folding import Applied, EventSource, Kept, Result
from flowcraft.model import Job
from flowcraft.ports import Clock
from flowcraft.runstate import RunState

__all__ = ["Host", "Hosting"]

#: So many seconds a ticker waits until the worker beside it has room again; then the queue gets what it wakes.
_PATIENCE: Final = 0.05


class Host(Protocol):
    """The worker beside a ticker."""

    def adopts(self, job: Job, node: Node) -> bool:
        """Whether it has room for a visit that could be executed by it."""
        ...

    @property
    def room(self) -> int:
        """For how many visits that its ticker wakes there is room."""
        ...

    def adopt(self, kept: Kept) -> asyncio.Task[None]:
        """Execute it; the task ends when the visit, and what the worker went on with, is over."""
        ...

    async def claim(self, keys: Sequence[str]) -> Sequence[bool]:
        """See `Keeper`."""
        ...

    def forget(self, keys: Sequence[str]) -> None:
        """See `Keeper`."""
        ...

    async def meet(self, state: RunState) -> None:
        """Take care of those visits of a due run that are parked by a limit."""
        ...


class _ForHost:
    """Keeps what a tick made READY for the worker beside it: sent out, it might come to one that cannot execute it."""

    def __init__(self, host: Host) -> None:
        self.wants = host.adopts
        self.claim = host.claim
        self.forget = host.forget


class Hosting:
    """What a ticker wakes is executed by the worker beside it, as far as that has room; the rest is sent out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._host: Host | None = None
        self._keeper: _ForHost | None = None
        self._offered = 0
        self._adopted: set[asyncio.Task[None]] = set()
        self._wanted = 0
        self._roomy = asyncio.Event()

    @property
    def host(self) -> Host | None:
        """The worker, if there is one."""
        return self._host

    @host.setter
    def host(self, host: Host) -> None:
        self._host, self._keeper = host, _ForHost(host)

    async def submit(self, committer: Committer, run_id: str, source: EventSource, *, woken: bool) -> Result:
        """Commit; ``woken``: a timer fires, so there may be something for the worker to go on with."""
        host = self._host
        if host is None or not woken or self._offered >= host.room:
            return await committer.submit(run_id, source)
        self._offered += 1  # room that is asked for, but not taken yet
        try:
            result = await committer.submit(run_id, source, keeper=self._keeper)
            if isinstance(result, Applied) and result.kept is not None:
                task = host.adopt(result.kept)
                self._adopted.add(task)
                task.add_done_callback(self._ended)
        finally:
            self._offered -= 1
        return result

    async def wait_for_room(self, wanted: int) -> bool:
        """Wait until the worker has room for half of what is woken next; False if that takes long.

        So the queue does not fill up with what this worker would get out of it again, and what is due stays for the
        tickers of other workers. But a worker that is slow does not hold up what others could do.
        """
        self._wanted = wanted
        if self._has_room():
            return True
        self._roomy.clear()
        waits = [asyncio.ensure_future(self._clock.sleep(_PATIENCE)), asyncio.ensure_future(self._roomy.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return self._roomy.is_set()
        finally:
            for wait in waits:
                wait.cancel()

    def _has_room(self) -> bool:
        return self._host is None or not self._adopted or self._host.room * 2 > self._wanted

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._adopted.discard(task)
        if self._has_room():
            self._roomy.set()
