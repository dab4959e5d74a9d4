"""When what goes wrong: a plan is asked at each call of a port, and may answer with a fault."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["At", "Call", "Fault", "Plan", "Rates", "either", "writes"]

#: ``die before``, ``die after``: the process is killed, this call not done, or done · ``slow``: it takes `Weather.lag`
#: seconds · ``unavailable``: nothing happened, `Unavailable` · ``lost before``, ``lost after``: `UnknownOutcome` for a
#: write that was not, or was, done · ``late``: `UnknownOutcome`, and the commit lands some calls later · ``dropped``:
#: told to be done, but was not (an ack, a revocation, an event) · ``unconfirmed``: some of the published jobs were not
#: sent, and the broker says so · ``stale``: `due` answers what it answered the last time. Where a fault makes no sense
#: it is ``unavailable``.
Fault = Literal[
    "die before", "die after", "slow", "unavailable", "lost before", "lost after", "late", "dropped", "unconfirmed",
    "stale",
]  # fmt: skip
_WRITES = frozenset({"create", "commit", "defer", "save_blueprint", "delete_blueprint", "delete", "publish", "put"})


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a port: ``kind`` is that of the document; of ``code``, the execution of a node, its id."""

    port: Literal["store", "queue", "delivery", "coordination", "events", "values", "code"]
    method: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.port}.{self.method}" + (f"({self.kind})" if self.kind else "")


#: Asked once for each call, in the order in which they begin.
Plan = Callable[[Call], Fault | None]


def writes(call: Call) -> bool:
    """Whether the call changes what is stored, so that its outcome can be unknown."""
    return call.method in _WRITES and call.port in ("store", "queue", "values")


class At:
    """The ``number``-th call (from 1) of those that count goes wrong, and no other. ``struck``: which one it was."""

    def __init__(self, number: int, fault: Fault, only: Callable[[Call], bool] = lambda _: True) -> None:
        self.seen = 0
        self.struck: Call | None = None
        self._number = number
        self._fault: Fault = fault
        self._only = only

    def __call__(self, call: Call) -> Fault | None:
        """See `Plan`."""
        if not self._only(call):
            return None
        self.seen += 1
        if self.seen != self._number:
            return None
        self.struck = call
        return self._fault


class Rates:
    """Each call that counts goes wrong with these probabilities."""

    def __init__(
        self, rng: random.Random, rates: Mapping[Fault, float], only: Callable[[Call], bool] = lambda _: True
    ) -> None:
        self.rates: dict[Fault, float] = dict(rates)
        self._rng = rng
        self._only = only

    def __call__(self, call: Call) -> Fault | None:
        """See `Plan`."""
        if not self._only(call):
            return None
        for fault, rate in self.rates.items():
            if self._rng.random() < rate:
                return fault
        return None


def either(*plans: Plan) -> Plan:
    """The first fault that one of the plans has; all of them are asked."""

    def ask(call: Call) -> Fault | None:
        struck: Fault | None = None
        for plan in plans:
            fault = plan(call)
            struck = struck or fault
        return struck

    return ask
