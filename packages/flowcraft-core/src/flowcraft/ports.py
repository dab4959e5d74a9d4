"""The ports: what a backend must offer. These docstrings are the specification; implementations document differences.

Rules for every port:

* Identifiers (run, node and context names) are user data of up to 200 bytes of UTF-8, with quotes, slashes, any
  script. They never become code or an identifier of the backend, and two of them never collide.
* Trouble of the backend is raised as `Unavailable` (nothing happened, try again), `UnknownOutcome` (a write may have
  happened), `Misconfigured` (never) or `PayloadTooLarge`; no driver exception passes. `asyncio.CancelledError` passes.
  What waiting, or more room, will cure is `Unavailable`, also in `setup`: no server, a lock, a full disk. What stays
  until somebody changes an address, a permission or a file is `Misconfigured`.
* Every method may be called concurrently from tasks of one event loop, and by other processes on the same backend.
* A method that never waits still yields to the event loop (``await asyncio.sleep(0)``): else a caller in a loop keeps
  all other tasks from their turns, among them the one that would end the loop.
* Times are finite: 0, fractions and negative ones are times like others. A ``limit`` is at least 1.
* Bytes are copied on the way in: a buffer that the caller goes on using does not change what is stored.
* A client that was passed in belongs to the caller; what the port opened, `aclose` closes. `aclose` may be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Literal, Protocol, runtime_checkable

from flowcraft.model import (
    TERMINAL,
    Capabilities,
    Change,
    Committed,
    Created,
    Event,
    NewRun,
    Page,
    RunSummary,
    Space,
    StoredHead,
    ValueKey,
)
from flowcraft.queueport import Delivery, JobQueue

__all__ = ["ENDS", "Clock", "CoordinationStore", "Delivery", "EventBus", "JobQueue", "RunStore", "ValueStore"]

#: The types of the events that end a run.
ENDS: Final = frozenset(f"run:{status}" for status in TERMINAL)


class Clock(Protocol):
    """Time, injected. Tests and the simulator bring their own."""

    def time(self) -> float:
        """Epoch seconds; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        ...


@runtime_checkable
class RunStore(Protocol):
    """The truth: small versioned documents with values beside them. Strongly consistent.

    A document has a ``kind`` (``run``, ``lease``, ``dedup``, ``schedule``, ``dead``, ``meta``) and an id that is unique
    in its kind. It changes only by compare-and-set on the version that `load` returned. Documents of every kind may
    have values, which `load` returns as asked for.

    Sizes, all in UTF-8: ids of documents and of blueprints 200 bytes (of blueprints also none) · the name of a value
    205, or none; its visit is a whole number of 64 bits, which may be negative · kind and status: a word · content
    hashes: 64 hexadecimal digits · tokens and fingerprints: 100 bytes are plenty.
    """

    capabilities: Capabilities

    async def setup(self) -> None:
        """Create tables, indexes or queues if they are missing; safe to repeat and to race.

        `Adapter.open` calls it, on the event loop that all that follows is called on. Before it, only ``capabilities``
        are read and `bind` is called; `aclose` may come without it, and after one that failed. A store that cannot
        serve before it, or after `aclose`, says so by an `AdapterError`.
        """
        ...

    async def ping(self) -> None:
        """Return if the store answers. Raises `Unavailable` otherwise."""
        ...

    async def aclose(self) -> None:
        """Close what this object opened."""
        ...

    async def clock(self) -> float:
        """The store's clock in epoch seconds; due times are compared with it."""
        ...

    async def create(self, new: NewRun) -> Created:
        """Create the document, its values, events and (if bound) jobs in one step, or nothing if its id is taken.

        Of any number of concurrent creations of one id exactly one is ``made``.

        Raises:
            UnknownOutcome: the caller creates again and compares the token.
            PayloadTooLarge: nothing was written.
        """
        ...

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        """The latest committed document with the wanted values that exist, as of one moment; None if there is none."""
        ...

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        """Apply each change on its own, atomically: one's conflict or failure never touches the others.

        The results are in the order of ``changes``. Applied: the head, token, index, values, events and, where the
        change names one, the blueprint are stored, and a later `load` or `list` by anyone returns them. Conflict:
        nothing of it happened, and ``stored`` is the document now, as `load` tells it without ``want``. It may be
        answered without a look at values and events: where these are to be refused, an error is as right as a conflict.
        No two changes of one call name the same document, and none both sets and deletes a value. A version never comes
        back: neither when a document holds what it held before, nor in a later document of the same id. The tokens of
        changes do not either, so they are good for versions. `defer` leaves both.

        The core keeps steps of runs within ``max_commit_items`` (the document, each value that is set or deleted, each
        job, each stored event) and ``max_commit_bytes`` (head, values, what events carry in `Event.head`; not keys, nor
        the rest of events: leave room for these). A value beyond ``max_value_bytes`` is for the store to refuse.

        Raises:
            UnknownOutcome: any of the changes may or may not have been applied; the caller reloads and looks for its
                token. Unavailable: none was applied. PayloadTooLarge: none was applied. SerializationError: an event is
                no JSON, and none was applied.
        """
        ...

    async def read_values(
        self, run_id: str, keys: Collection[ValueKey] = (), *, space: Space | None = None
    ) -> Mapping[ValueKey, bytes]:
        """The values that exist among ``keys``, or all of one ``space``."""
        ...

    async def due(
        self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None
    ) -> Page[RunSummary]:
        """Documents with ``wake_at <= now``, earliest first, found by an index. May lag behind the latest commits."""
        ...

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        """Move only the index of a document that still has this token; True if it had."""
        ...

    async def list(
        self,
        *,
        kind: str = "run",
        status: str | None = None,
        blueprint_id: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[RunSummary]:
        """Documents, newest first. A document that exists throughout the paging appears exactly once.

        ``blueprint_id`` None: of any blueprint. The empty text finds no run, for each has one; what it finds of other
        kinds, nobody asks.

        Raises:
            InvalidRequest: ``after`` is no cursor of this listing, however long; so does `due`. One may be understood.
        """
        ...

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Event]:
        """Events of a run with ``seq > after_seq`` in order, without gaps. Empty unless ``capabilities.history``.

        ``Page.after`` is the number of the last event as text, if there are more: it goes on as ``after_seq``.
        """
        ...

    async def save_blueprint(self, content_hash: str, data: bytes) -> None:
        """Store a blueprint under its content hash; storing it again changes nothing."""
        ...

    async def load_blueprint(self, content_hash: str) -> bytes | None:
        """The stored blueprint, or None."""
        ...

    async def delete_blueprint(self, content_hash: str) -> None:
        """Remove a blueprint, if it is there."""
        ...

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        """Remove the document with its values and events if it still has this token; True if it is gone now.

        A removal that was interrupted can be repeated: values and events go first, the head last.
        """
        ...

    def bind(self, queue: JobQueue) -> bool:
        """True if jobs are pushed and deliveries acked inside `create` and `commit` from now on, with this queue.

        `Adapter` asks when it is made, before `setup`: nothing is opened yet.
        """
        ...


@runtime_checkable
class CoordinationStore(Protocol):
    """Leases, counters and limits. Never the truth: all of it may vanish at any moment without losing a run."""

    async def setup(self) -> None:
        """Create what is missing; safe to repeat and to race."""
        ...

    async def aclose(self) -> None:
        """Close what this object opened."""
        ...

    async def increment(self, key: str, ttl_seconds: float) -> int:
        """Add one and return the sum; the key vanishes ``ttl_seconds`` after its first increment.

        Raises:
            InvalidRequest: the key holds another text, which stays.
        """
        ...

    async def set_if_not_exist(self, key: str, value: str, ttl_seconds: float) -> bool:
        """Set the key if it is absent or expired; True for exactly one of any number of concurrent callers."""
        ...

    async def extend_ttl(self, key: str, ttl_seconds: float) -> bool:
        """Give an existing key a new time to live; False if it is gone."""
        ...

    async def get(self, key: str) -> str | None:
        """The value, or None if it is absent or expired."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the key, if it is there."""
        ...

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        """Take each lease that is free, expired or already this owner's; True where this owner holds it now."""
        ...

    async def renew(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[Literal["mine", "other", "gone"]]:
        """Extend the leases that are this owner's; say whose each is."""
        ...

    async def release(self, keys: Sequence[str], owner: str) -> None:
        """Give up the leases that are this owner's; never another's."""
        ...

    async def holders(self, keys: Sequence[str]) -> Sequence[str | None]:
        """Who holds each lease now, or None."""
        ...

    async def revoke(self, keys: Sequence[str]) -> None:
        """Make every `renew` of whoever holds these answer ``other``, until their time to live is over.

        Until then, or until the holder releases it, nobody can claim a revoked lease: its holder may still be at work.
        """
        ...

    async def acquire_slot(self, key: str, holder: str, limit: int, ttl: float) -> bool:
        """Take (or renew) one of ``limit`` slots for this holder; False if all are taken."""
        ...

    async def release_slot(self, key: str, holder: str) -> None:
        """Give the slot back, if this holder has one."""
        ...

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        """Take one of ``rate`` tokens per ``per`` seconds: 0.0 if it was there, else the seconds to wait.

        At most ``burst`` tokens are saved up, and as many are there at first. Who has to wait has taken nothing.

        Raises:
            InvalidRequest: a rate that never lets anything through.
        """
        ...


@runtime_checkable
class EventBus(Protocol):
    """Hints and live views. Delivery is best effort; a slow subscriber never slows a publisher."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Tell the subscribers; never raises for their sake."""
        ...

    def subscribe(
        self, *, run_id: str | None = None, ends: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Events published from the moment the block is entered; the oldest are dropped when the reader is slow.

        ``ends``: only those whose type is in `ENDS`. Whoever waits for a result need not hear of every step.
        """
        ...

    async def aclose(self) -> None:
        """Close what this object opened; subscriptions end."""
        ...


@runtime_checkable
class ValueStore(Protocol):
    """Where values go that are too large for the run store: immutable, written before the commit that names them.

    Keys are made by `flowcraft.model.value_address`, of the run's id and the content: two SHA-256 in lower-case hex,
    with a slash between them. So one key never has two contents, and no text of a user is in it.
    """

    max_value_bytes: int | None
    """The limit of one value; None: unlimited."""

    async def put(self, key: str, data: bytes) -> None:
        """Store durably; repeating it changes nothing. Nobody ever sees a part of a value.

        Raises:
            Unavailable, UnknownOutcome: the caller puts it again. PayloadTooLarge: beyond ``max_value_bytes``.
        """
        ...

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """The values that exist. What was put, by anyone, is found from then on."""
        ...

    async def delete_run(self, run_id: str) -> None:
        """Remove all values of a run, also those that no commit ever named. Safe to repeat, and after a crash."""
        ...
