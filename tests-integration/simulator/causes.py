"""Why user code was executed twice: each time needs something that happened in between and explains it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from .processes import GRACE, LEASE, Effect

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["count_causes"]

#: An outcome, or a lease, that was in trouble so long ago may still make work double.
_ECHO = 3 * LEASE
#: So long after a pause a worker may not know yet that its leases are gone: what it had claimed before, it executes.
_UNTIL_RENEWED = LEASE / 3


def count_causes(simulation: Simulation, undoing: Iterable[tuple[str, str]]) -> tuple[Counter[str], list[str]]:
    """Executions that came again, by cause; and those that nothing explains. ``undoing``: (run, compensation), whose
    visits are counted like those of what they undo."""
    ignored = set(undoing)
    by_key: dict[tuple[str, str, int, int, int], list[Effect]] = defaultdict(list)
    for effect in simulation.effects:
        if (effect.run_id, effect.node) not in ignored:
            by_key[effect.key].append(effect)
    counts: Counter[str] = Counter()
    unexplained: list[str] = []
    for key, effects in by_key.items():
        for earlier, later in pairwise(effects):
            cause = _cause(simulation, earlier, later)
            if cause is None:
                unexplained.append(f"{key}: {earlier} and {later}")
            else:
                counts[cause] += 1
    return counts, unexplained


def _cause(simulation: Simulation, earlier: Effect, later: Effect) -> str | None:
    process = simulation.process(earlier.process)
    link = process.link
    if link.dead and link.died >= earlier.began and link.died <= later.began:
        return "kill"
    if any(earlier.began - LEASE <= at <= later.began for at in simulation.store.failovers):
        return "failover of the store"
    if process.stopped_at is not None and _cut_short(simulation, earlier, process.stopped_at + GRACE):
        return "shutdown"
    for name, begins, ends in simulation.pauses:
        if (
            name in (earlier.process, later.process)
            and begins <= later.began
            and ends + _UNTIL_RENEWED >= earlier.began
        ):
            return "pause"
    since = earlier.began - _ECHO
    if any(since <= at <= later.began for at in simulation.flushes):
        return "flush"
    for at, kind, name in simulation.weather.blows:
        if since <= at <= later.began and name in (earlier.process, later.process):
            return kind
    return None


def _cut_short(simulation: Simulation, effect: Effect, grace: float) -> bool:
    """Whether its process gave up the visit when its grace was over: in this execution, in a later attempt, or in
    another item of the job."""
    visit = (effect.process, effect.run_id, effect.node, effect.visit)
    return any(
        other.cancelled
        and (other.process, other.run_id, other.node, other.visit) == visit
        and other.ended is not None
        and other.ended >= grace
        for other in simulation.effects
        if effect.began <= grace
    )
