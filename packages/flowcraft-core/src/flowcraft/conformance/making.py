"""Short ways to make what a port takes, for checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from flowcraft.conformance.expecting import fail
from flowcraft.model import Change, Event, Index, Job, NewRun, StoredHead, ValueKey

__all__ = ["change", "event", "existing", "index", "job", "new"]


def index(status: str = "running", wake_at: float | None = None, updated_at: float = 5.0) -> Index:
    """The columns of a document."""
    return Index(status, wake_at, updated_at)


def new(
    run_id: str,
    token: str = "t0",  # noqa: S107 -- no secret
    *,
    wake_at: float | None = None,
    status: str = "running",
    fingerprint: str | None = None,
    created_at: float = 5.0,
    values: Mapping[ValueKey, bytes] | None = None,
    jobs: Sequence[Job] = (),
    events: Sequence[Event] = (),
    kind: str = "run",
    blueprint_id: str = "",
) -> NewRun:
    """A document whose head is ``b"head"``."""
    return NewRun(
        run_id, f"f-{token}" if fingerprint is None else fingerprint, token, b"head", index(status, wake_at),
        created_at, blueprint_id, "", dict(values or {}), jobs, events, kind,
    )  # fmt: skip


def change(
    run_id: str,
    version: str,
    token: str,
    *,
    head: bytes | None = None,
    at: Index | None = None,
    values: Mapping[ValueKey, bytes] | None = None,
    deleted: Collection[ValueKey] = (),
    jobs: Sequence[Job] = (),
    deliveries: Sequence[object] = (),
    events: Sequence[Event] = (),
    kind: str = "run",
    blueprint: tuple[str, str] | None = None,
) -> Change:
    """A step from ``version`` to a document whose head tells its token."""
    return Change(
        run_id, version, token, b"head " + token.encode() if head is None else head, at or index(), dict(values or {}),
        deleted, jobs, deliveries, events, kind, blueprint,
    )  # fmt: skip


def job(run_id: str, queue: str = "q", *, node: str = "node", priority: int = 0, nonce: str = "nonce") -> Job:
    """A doorbell for a node's first visit."""
    return Job(run_id, node, 1, 1, nonce, queue, priority)


def event(run_id: str, seq: int, **data: object) -> Event:
    """A fact."""
    return Event(run_id, seq, "node:completed", 7.5, "node", 2, 3, data)


def existing(stored: StoredHead | None, what: str = "the document") -> StoredHead:
    """What was loaded. Raises: Violated, if nothing was."""
    return stored if stored is not None else fail(f"{what} is not there")
