"""What job queues have in common: a message in hand, which ends once, and one block of `JobQueue.deliveries`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from flowcraft.errors import AdapterError
from flowcraft.model import Job

__all__ = ["DeliveryBlock", "DeliveryHome", "HeldDelivery"]

_D = TypeVar("_D", bound="HeldDelivery")
_D_contra = TypeVar("_D_contra", contravariant=True)


class DeliveryHome(Protocol[_D_contra]):
    """What deliveries need of their queue. Of the three that end a delivery one is called, and only once."""

    async def settle(self, delivery: _D_contra) -> None:
        """Remove the message, if the delivery is still its latest."""
        ...

    async def retry(self, delivery: _D_contra, delay: float) -> None:
        """Make the message anyone's, now or later, if the delivery is still its latest."""
        ...

    async def bury(self, delivery: _D_contra, reason: str) -> None:
        """Move the message to the dead letters, if the delivery is still its latest."""
        ...

    async def extend(self, delivery: _D_contra, seconds: float) -> None:
        """Keep the message for so long, if the delivery is still its latest and nobody else can have it yet."""
        ...


class HeldDelivery:
    """See `Delivery`. A second ending of one delivery does nothing.

    A subclass adds, in slots of its own, what its server needs to find the message again.
    """

    __slots__ = ("_home", "ended", "job", "redelivered")

    def __init__(self, home: DeliveryHome[Self], job: Job, *, redelivered: bool) -> None:
        self._home: DeliveryHome[Any] = home  # of this very class, as the signature says
        self.job = job
        self.redelivered = redelivered
        #: Called when it ends; None once it has, and before a block holds it.
        self.ended: Callable[[Any], None] | None = None

    async def ack(self) -> None:
        """See the protocol."""
        if self._end():
            await self._home.settle(self)

    async def retry(self, *, delay: float = 0.0) -> None:
        """See the protocol."""
        if self._end():
            await self._home.retry(self, delay)

    async def reject(self, reason: str) -> None:
        """See the protocol."""
        if self._end():
            await self._home.bury(self, reason)

    async def extend(self, seconds: float) -> None:
        """See the protocol."""
        if self.ended is not None:
            await self._home.extend(self, seconds)

    def settled(self) -> None:
        """See the protocol."""
        self._end()

    def _end(self) -> bool:
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self)
        return ended is not None


class DeliveryBlock(ABC, Generic[_D]):
    """One block of `JobQueue.deliveries`: counts what is in hand, and is an iterator over batches.

    A subclass says how messages come, in `more`. What comes while nobody asks for it is kept for whoever asks next.

    Args:
        prefetch: how many deliveries may be in hand at a time.
    """

    def __init__(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self._held: dict[int, _D] = {}
        self._batch: list[_D] = []
        self._over = False
        #: Set by `hold`, by `end`, and when a delivery has ended.
        self.changed = asyncio.Event()

    # ---- what a subclass says

    @abstractmethod
    async def enter(self) -> None:
        """The block is entered."""

    @abstractmethod
    async def more(self) -> None:
        """`hold` a batch, or wait for `changed`; called again until there is a batch or the block is left.

        Whoever iterates may be cancelled while it waits here; what comes all the same must be held, too.
        """

    async def stop(self) -> None:
        """The block is left: when this returns, nothing more comes. May raise."""

    @abstractmethod
    async def leave(self, held: Sequence[_D]) -> None:
        """The block was left: make these anyone's again, as if they had never been delivered.

        An `AdapterError` goes no further.
        """

    # ---- what a subclass uses

    @property
    def free(self) -> int:
        """How many more deliveries may be in hand."""
        return self.prefetch - len(self._held)

    @property
    def over(self) -> bool:
        """Whether the block is being left, or the queue was closed."""
        return self._over

    def hold(self, batch: Sequence[_D]) -> None:
        """These are in hand from now on, and the next batch that is asked for."""
        for delivery in batch:
            delivery.ended = self.let_go
            self._held[id(delivery)] = delivery
        self._batch += batch
        self.changed.set()

    def let_go(self, delivery: _D) -> None:
        """A delivery has ended."""
        self._held.pop(id(delivery), None)
        self.changed.set()

    def end(self) -> None:
        """Let the iterator stop."""
        self._over = True
        self.changed.set()

    # ---- the block

    async def __aenter__(self) -> AsyncIterator[Sequence[_D]]:
        await self.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        try:
            await self.stop()
        finally:
            held = list(self._held.values())
            self._held.clear()
            # If the server is in trouble, they come again when their visibility ends; leaving must not fail for that.
            with suppress(AdapterError):
                await self.leave(held)

    def __aiter__(self) -> AsyncIterator[Sequence[_D]]:
        return self

    async def __anext__(self) -> Sequence[_D]:
        while not self._over:
            if self._batch:
                batch, self._batch = self._batch, []
                return batch
            await self.more()
        raise StopAsyncIteration
