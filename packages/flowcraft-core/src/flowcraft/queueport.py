"""The queue's port: messages, and what delivers them. `flowcraft.ports` has the rules that hold for every port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from flowcraft.model import Capabilities, DeadLetter, Job, Page

__all__ = ["Delivery", "JobQueue"]


class Delivery(Protocol):
    """One message in hand. Exactly one of `ack`, `retry`, `reject` and `settled` ends it."""

    @property
    def job(self) -> Job:
        """What it is about."""
        ...

    @property
    def redelivered(self) -> bool:
        """True if the backend knows that this message was delivered before; False proves nothing."""
        ...

    async def ack(self) -> None:
        """Done: it is never delivered again (except by accident, which at-least-once allows)."""
        ...

    async def retry(self, *, delay: float = 0.0) -> None:
        """Hand it back, for anyone, after ``delay`` seconds."""
        ...

    async def reject(self, reason: str) -> None:
        """Move it to the dead letters."""
        ...

    async def extend(self, seconds: float) -> None:
        """Keep it for ``seconds`` from now, if ``capabilities.extend``; else nothing happens."""
        ...

    def settled(self) -> None:
        """Called by a bound store after a commit in which it acked this delivery: nothing is left to do."""
        ...


@runtime_checkable
class JobQueue(Protocol):
    """The doorbell: at least once, in any order. Losing, repeating or delaying a message loses no run."""

    capabilities: Capabilities

    async def setup(self) -> None:
        """Create what is missing; safe to repeat and to race."""
        ...

    async def aclose(self) -> None:
        """Close what this object opened: iterators of `deliveries` stop, also those that wait; leaving their blocks
        afterwards raises nothing.
        """
        ...

    async def publish(self, jobs: Sequence[Job], *, delay: float = 0.0) -> Sequence[Job]:
        """Send; returns the jobs that the broker did NOT confirm (they may or may not arrive)."""
        ...

    def deliveries(
        self, queues: Sequence[str], *, prefetch: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Delivery]]]:
        """Receive from these queues, in batches, never more than ``prefetch`` unsettled deliveries at a time.

        The iterator waits while there is nothing. On leaving the block, deliveries not yet ended come again to anyone.
        An undecodable message is moved to the dead letters with its raw body and never stops the iterator.
        """
        ...

    async def depth(self, queue: str) -> int | None:
        """How many messages wait, roughly; None if the backend cannot say."""
        ...

    async def dead_letters(self, *, limit: int = 100, after: str | None = None) -> Page[DeadLetter]:
        """What was rejected or could not be decoded, in any of the queues; it stays where it is.

        Oldest first and each letter once, as well as the broker can. One that shows its dead letters only by delivering
        them (SQS, RabbitMQ) delivers and hands back: a letter that somebody else looks at may be missing, and a page
        may be shorter than ``limit`` with more behind it.

        An id is opaque text and never names another letter later. It is good as long as the letter is there; with a
        broker that cannot find a message by an id it is good only until this object's next page.
        """
        ...

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """The letter with this id, or None: it is gone, or the broker cannot find it by its id any more."""
        ...

    async def discard(self, letter_id: str) -> bool:
        """Remove a letter for good; False as `dead_letter` is None. Who wants it delivered again publishes it first."""
        ...
