"""The checks, one module for each topic; `CATALOGUE` is all of them, in the order in which they run."""

from flowcraft.conformance.checks import Check
from flowcraft.conformance.contract import (
    coordination_counters,
    coordination_leases,
    coordination_limits,
    events,
    models,
    nothing_remains,
    process_loss,
    processes,
    queue_dead,
    queue_delaying,
    queue_delivering,
    queue_ending,
    queue_living,
    store_committing,
    store_concurrency,
    store_creating,
    store_deleting,
    store_documents,
    store_history,
    store_index,
    store_limits,
    store_listing,
    store_opening,
    store_values,
    system_constructs,
    system_ports,
    system_processes,
    system_runs,
    values,
)

__all__ = ["CATALOGUE"]

_TOPICS = (
    store_creating, store_committing, store_values, store_index, store_listing, store_history, store_deleting,
    store_documents, store_opening, store_concurrency, store_limits, queue_delivering, queue_ending, queue_delaying,
    queue_dead, queue_living, coordination_leases, coordination_counters, coordination_limits, events, values, models,
    process_loss, processes, nothing_remains, system_constructs, system_processes, system_runs, system_ports,
)  # fmt: skip

CATALOGUE: tuple[Check, ...] = tuple(check for topic in _TOPICS for check in topic.checks)
