"""Short ways to make what a port takes."""

from __future__ import annotations

from typing import Any

from flowcraft.model import Change, Event, Index, Job, NewRun, StoredHead


def index(status: str = "running", wake_at: float | None = None) -> Index:
    return Index(status, wake_at, 5.0)


def new(
    run_id: str,
    token: str = "t0",  # noqa: S107 -- no secret
    *,
    wake_at: float | None = None,
    status: str = "running",
    **more: Any,
) -> NewRun:
    more.setdefault("fingerprint", "f-" + token)
    more.setdefault("created_at", 5.0)
    return NewRun(run_id=run_id, token=token, head=b"head", index=index(status, wake_at), **more)


def change(run_id: str, version: str, token: str, **more: Any) -> Change:
    more.setdefault("head", b"head " + token.encode())
    more.setdefault("index", index())
    return Change(run_id=run_id, version=version, token=token, **more)


def job(run_id: str, queue: str = "q", *, priority: int = 0) -> Job:
    return Job(run_id, "node", 1, 1, "nonce", queue, priority)


def event(run_id: str, seq: int, **data: object) -> Event:
    return Event(run_id, seq, "node.completed", 7.5, "node", 2, 3, data)


def existing(stored: StoredHead | None) -> StoredHead:
    assert stored is not None
    return stored
