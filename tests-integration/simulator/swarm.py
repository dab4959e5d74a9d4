"""What goes wrong in a seed: a random subset of the faults, each at a random rate; some seeds have all, some none."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field

__all__ = ["FAULTS", "Swarm", "draw_swarm"]

#: By name: the share of seeds that have it, and the lowest and highest rate: of 1 per operation, or times per seed.
FAULTS: dict[str, tuple[float, float, float]] = {
    # processes
    "kills": (0.45, 1, 4),  # SIGKILL before or after a random operation of a random worker; another one takes its place
    "pauses": (0.35, 1, 3),  # SIGSTOP, perhaps for longer than a lease, and SIGCONT: a zombie
    "scaling": (0.3, 1, 3),  # a worker more, or one that is told to end
    "rolling": (0.25, 0.3, 0.7),  # the share of workers with other code, and with other blueprints of the same ids
    "skew": (0.3, 1, 4),  # clocks that differ, and jump
    # the queue
    "lost": (0.3, 0.02, 0.4),
    "first lost": (0.08, 1, 1),  # every message that is no repetition
    "twice": (0.35, 0.05, 0.8),
    "late": (0.35, 0.05, 0.8),
    "acks lost": (0.3, 0.02, 0.3),
    "publish": (0.3, 0.02, 0.3),  # not at all, in part, or nobody knows
    "cut off": (0.2, 0.005, 0.05),  # the connection of a receiver
    # the store
    "unavailable": (0.3, 0.01, 0.15),
    "unknown before": (0.3, 0.01, 0.2),
    "unknown after": (0.3, 0.01, 0.2),
    "unknown late": (0.25, 0.01, 0.15),
    "partial": (0.25, 0.05, 0.3),  # some of the changes of one call are applied, and nobody is told which
    "stale due": (0.3, 0.1, 0.6),
    "store failover": (0.15, 1, 2),  # to what it was some time ago
    "queue failover": (0.15, 1, 2),
    # the rest
    "flush": (0.3, 1, 5),  # coordination forgets everything
    "coordination": (0.25, 0.02, 0.3),  # does not answer
    "deaf": (0.2, 0.2, 1.0),  # revocations are lost
    "bus": (0.3, 0.1, 1.0),  # events are lost
    # neither of these is a fault
    "latency": (0.5, 0.05, 0.6),
    "slow nodes": (0.5, 0.05, 0.4),
}


@dataclass
class Swarm:
    """The rates of one seed; 0 for what does not happen. ``store_bound``: jobs are pushed within commits."""

    rates: dict[str, float]
    horizon: float
    store_bound: bool
    workers: int
    own_leases: bool
    without: frozenset[str] = field(default_factory=frozenset[str])

    def __getitem__(self, name: str) -> float:
        return self.rates[name]

    def times(self, name: str) -> int:
        """How often in this seed."""
        return round(self.rates[name])

    @property
    def faulty(self) -> bool:
        """Whether anything goes wrong at all."""
        return any(rate for name, rate in self.rates.items() if name not in ("latency", "slow nodes"))

    def __str__(self) -> str:
        on = ", ".join(f"{name} {rate:.2g}" for name, rate in self.rates.items() if rate)
        kind = "bound" if self.store_bound else "unbound"
        leases = "in the store" if self.own_leases else "in coordination"
        return f"{self.workers} workers, {kind}, leases {leases}, {self.horizon:.0f} s; {on or 'nothing goes wrong'}"


def draw_swarm(seed: int, source: random.Random, without: Collection[str] = ()) -> Swarm:
    """Of ten seeds one has no faults, one all of them."""
    group = seed % 10
    rates: dict[str, float] = {}
    for name, (share, low, high) in FAULTS.items():
        on, rate = source.random() < share, source.uniform(low, high)
        if group == 0 and name not in ("latency", "slow nodes"):
            on = False
        elif group == 1:
            on = name != "first lost" or source.random() < 0.3
            rate = low + (rate - low) / 3  # all of them at once are enough
        rates[name] = rate if on and name not in without else 0.0
    return Swarm(
        rates, source.choice((5.0, 10.0, 20.0, 30.0)), source.random() < 0.6, source.choice((1, 2, 2, 3)),
        source.random() < 0.12, frozenset(without),
    )  # fmt: skip
