"""All mutants of ports."""

from __future__ import annotations

from flowcraft.conformance.mutants import (
    coordination_leases,
    coordination_rest,
    queue,
    store_committing,
    store_creating,
    store_due,
    store_handles,
    store_listing,
    store_removing,
    store_values,
    store_versions,
    telling,
)
from flowcraft.conformance.mutants.breaking import broken
from flowcraft.conformance.mutants.mutant import Mutant

__all__ = ["broken", "mutants"]

mutants: tuple[Mutant, ...] = (
    *queue.mutants,
    *store_creating.mutants,
    *store_committing.mutants,
    *store_values.mutants,
    *store_versions.mutants,
    *store_due.mutants,
    *store_listing.mutants,
    *store_removing.mutants,
    *store_handles.mutants,
    *coordination_leases.mutants,
    *coordination_rest.mutants,
    *telling.mutants,
)
