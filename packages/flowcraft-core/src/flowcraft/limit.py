"""A limit: how many visits may run at the same time, or how many may begin in a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from flowcraft.checks import check_id, check_number, check_text, check_whole, told
from flowcraft.errors import DefinitionError

__all__ = ["Limit", "check_limits", "named_limits"]


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``concurrency`` visits at the same time, at most ``rate`` beginnings in ``per`` seconds, or both.

    Limits of one name count together, wherever they are written. Without ``name`` a node's limit is its own.

    Args:
        name: what the limit is called, also in the reason of a parked visit.
        key: an expression over ``input`` and ``params``: visits for which it gives the same count together, others do
            not. It must give text, a number, a bool, None, a date, a Decimal or a UUID.
        concurrency: visits that may run at the same time.
        rate: visits that may begin in ``per`` seconds, evenly: one every ``per / rate`` seconds.
        per: seconds.
        burst: so many may begin at once after a quiet time, 1 by default. In any stretch of time no more than
            ``burst + rate * seconds / per`` begin.

    Raises:
        DefinitionError: a value that cannot be, or neither ``concurrency`` nor ``rate``.
    """

    name: str | None = None
    key: str | None = None
    concurrency: int | None = None
    rate: float | None = None
    per: float = 1.0
    burst: int | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            check_id(self.name, "the name of a limit")
        at = "a limit" if self.name is None else f"limit {self.name!r}"
        if self.key is not None and not check_text(self.key, f"the key of {at}"):
            raise DefinitionError(f"the key of {at} must not be empty")
        if self.concurrency is None and self.rate is None:
            raise DefinitionError(f"{at} limits nothing: give it concurrency, rate or both")
        if self.concurrency is not None:
            check_whole(self.concurrency, f"concurrency of {at}", at_least=1)
        if self.rate is not None:
            check_number(self.rate, f"rate of {at}", above=0.0)
        elif self.burst is not None:
            raise DefinitionError(f"{at} has a burst but no rate")
        check_number(self.per, f"per of {at}", above=0.0)
        if self.burst is not None:
            check_whole(self.burst, f"burst of {at}", at_least=1)


def check_limits(value: object, node_id: str) -> tuple[Limit, ...]:
    """The limits of a node, given as a list of them or nothing.

    Raises:
        DefinitionError: something else, or two limits that would count together.
    """
    at = f"node {node_id!r}"
    if not isinstance(value, list | tuple):
        raise DefinitionError(f"limits of {at} must be a list of limits, not {told(value)}", subject=node_id)
    limits = tuple(cast("Sequence[object]", value))
    seen: set[tuple[str | None, str]] = set()
    for limit in limits:
        if not isinstance(limit, Limit):
            raise DefinitionError(f"limits of {at} must be a list of limits, not of {told(limit)}", subject=node_id)
        for kind in ("concurrency", "rate"):
            if getattr(limit, kind) is None:
                continue
            if (limit.name, kind) in seen:
                raise DefinitionError(f"{at} has two limits of {kind} with one name: name them apart", subject=node_id)
            seen.add((limit.name, kind))
    return cast("tuple[Limit, ...]", limits)


def named_limits(limits: Sequence[Limit], blueprint_id: str, node_id: str) -> tuple[Limit, ...]:
    """The limits with a name for those that have none: ``<blueprint>.<node>``."""
    name = f"{blueprint_id}.{node_id}"
    return tuple(limit if limit.name is not None else replace(limit, name=name) for limit in limits)
