"""The options of adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flowcraft.endpoints import check_base_url
from flowcraft.errors import InvalidRequest
from flowcraft.limit import Limit

__all__ = ["AdapterOptions"]


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """How the parts work together. Durations are seconds.

    ``queue_name``: the queue of nodes that name none · ``retention``: how long a run is kept after its end, None for
    ever · ``lease_ttl``: how long the visits of a dead worker are left alone · ``stalled_threshold_seconds``: without a
    commit for so long, a run may be stalled for the reconciler · ``drain_grace``: how long a cancelled visit may go
    without a sign of life before it counts as over · ``resend_after``: until the message of a visit that nobody works
    on is sent again, doubled each time · ``tick``: the mean time from one look at due runs to the next ·
    ``queue_limits``: a `Limit` for every visit that comes from a queue, by the queue's name; the same in all
    processes · ``webhook_base_url``: where `flowcraft.webhooks.WebhookApp` is reached from outside, ``https://example.org``.
    """

    queue_name: str = "flowcraft-queue"
    retention: float | None = None
    lease_ttl: float = 30.0
    stalled_threshold_seconds: float = 300.0
    drain_grace: float = 30.0
    resend_after: float = 30.0
    tick: float = 1.0
    queue_limits: Mapping[str, Limit] = field(default_factory=dict[str, Limit])
    webhook_base_url: str | None = None

    def __post_init__(self) -> None:
        if min(self.lease_ttl, self.tick, self.drain_grace, self.resend_after) <= 0:
            raise InvalidRequest("lease_ttl, drain_grace, resend_after and tick must be positive")
        if self.retention is not None and self.retention < 0:
            raise InvalidRequest("retention must not be negative")
        for queue, limit in self.queue_limits.items():
            if not isinstance(limit, Limit):
                raise InvalidRequest(f"the limit of queue {queue!r} must be a Limit, not {type(limit).__name__}")
        check_base_url(self.webhook_base_url)
