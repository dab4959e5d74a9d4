"""Which limits a visit is under, and getting and giving back what they ask for: the same everywhere.

A limit becomes *demands*: a slot (concurrency) or a token (rate), each of a key in the coordination store. The keys are
hashes: names and values are user data, and a value may be a secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Final
from uuid import UUID

from flowcraft.blueprint import Blueprint, Node
from flowcraft.errors import AdapterError, ConditionError, DefinitionError, ExpressionError
from flowcraft.expressions import Expression, Reference, parse
from flowcraft.limit import Limit
from flowcraft.ports import CoordinationStore

__all__ = [
    "Demand",
    "Demands",
    "Limits",
    "Permit",
    "Refusal",
    "check_key",
    "check_keys",
    "exchange",
    "give_back",
    "renew",
]

_LOG = logging.getLogger("flowcraft.limits")
_INPUT: Final = Reference("input")
_PARAMS: Final = Reference("name", "params")
_TAGGED: Final = (datetime, date, Decimal, UUID)


@dataclass(frozen=True, slots=True)
class Demand:
    """A slot of ``slots`` at a key, or (if that is 0) one of ``rate`` tokens per ``per`` seconds."""

    name: str
    key: str
    slots: int = 0
    rate: float = 0.0
    per: float = 1.0
    burst: int = 1


#: What one visit needs, always in the same order: slots first, because they can be given back when a later demand is
#: refused; of those the ones with a key, because others wait for the wide ones; the rarest token last.
Demands = tuple[Demand, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A demand that cannot be met now; ``wait`` are the seconds until a token is there, 0 if nobody can tell."""

    demand: Demand
    wait: float = 0.0


@dataclass(slots=True, eq=False)
class Permit:
    """The slots that one visit at a time runs under, all held under one name that nobody else has.

    ``tokens``: taken, and not used yet. ``lost``: the store forgot a slot. The lock keeps a renewal from taking again
    what is being given back.
    """

    holder: str
    slots: Demands = ()
    tokens: Demands = ()
    lost: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Limits:
    """The limits of one process: those of queues by name, and those that nodes declare.

    Raises:
        DefinitionError: the key of a queue's limit does not parse, or reads something else than input and params.
    """

    def __init__(self, of_queues: Mapping[str, Limit] | None = None) -> None:
        self._of_queues = dict(of_queues or {})
        self._expressions: dict[str, Expression] = {}
        for queue, limit in self._of_queues.items():
            check_key(limit, f"queue {queue!r}", queue)

    def of(self, node: Node, queue: str | None) -> Sequence[tuple[str, Limit]]:
        """The limits with their names; ``queue`` is where the visit came from, None in process."""
        named = [(limit.name or node.id, limit) for limit in node.limits]
        shared = None if queue is None else self._of_queues.get(queue)
        return named if shared is None else [*named, (shared.name or f"queue {queue}", shared)]

    def demands(self, node: Node, value: object, queue: str | None = None) -> Demands:
        """What a visit of ``node`` with the input ``value`` needs.

        Raises:
            ConditionError: a key cannot be evaluated with this input, or gives something that is no key.
        """
        limits = self.of(node, queue)
        if not limits:
            return ()
        found: dict[str, Demand] = {}
        for name, limit in sorted(limits, key=lambda row: row[1].key is None):  # the narrow ones before the wide
            digest = _digest(name, limit, self._value(name, limit, node, value))
            key = f"limit:slots:{digest}"
            if limit.concurrency is not None and (key not in found or limit.concurrency < found[key].slots):
                found[key] = Demand(name, key, limit.concurrency)
            if limit.rate is not None:
                key = f"limit:rate:{digest}"
                found[key] = Demand(name, key, 0, limit.rate, limit.per, limit.burst or 1)
        return tuple(sorted(found.values(), key=_order))  # stable

    def _value(self, name: str, limit: Limit, node: Node, value: object) -> object:
        if limit.key is None:
            return None
        expression = self._expressions.get(limit.key)
        if expression is None:
            expression = self._expressions[limit.key] = parse(limit.key)

        def resolve(reference: Reference) -> object:
            return value if reference == _INPUT else node.params if reference == _PARAMS else None

        try:
            return expression.evaluate(resolve)
        except ConditionError as error:
            raise ConditionError(f"the key of limit {name!r} of node {node.id!r}: {error}") from error


def _order(demand: Demand) -> float:
    return demand.per / demand.rate if demand.rate else 0.0


def _digest(name: str, limit: Limit, value: object) -> str:
    row: list[object] = [name]
    if limit.key is not None:
        row += _plain(value, name, limit.key)
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:32]


def _plain(value: object, name: str, key: str) -> list[object]:
    """A key's value in a form in which equal ones look alike."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, _TAGGED):
        return [type(value).__name__, str(value)]
    if value is None or isinstance(value, str | int | float):
        return [value]
    kind = type(value).__name__
    raise ConditionError(f"the key {key!r} of limit {name!r} gives a {kind}; it must give text, a number or the like")


def check_keys(blueprint: Blueprint) -> None:
    """Parse the keys of all limits.

    Raises:
        DefinitionError: one does not parse, or reads something else than input and params; the message names the node.
    """
    for node in blueprint.nodes:
        for limit in node.limits:
            check_key(limit, f"node {node.id!r}", node.id)


def check_key(limit: Limit, at: str, subject: str) -> None:
    """Parse the key of one limit. Raises as `check_keys`."""
    if limit.key is None:
        return
    try:
        references = parse(limit.key).references
    except ExpressionError as error:
        raise ExpressionError(
            f"the key of a limit of {at} does not parse: {error}",
            source=error.source, position=error.position, subject=subject,
        ) from error  # fmt: skip
    for reference in references - {_INPUT, _PARAMS}:
        text = f"the key {limit.key!r} of a limit of {at} reads {reference.name or reference.kind!r}"
        raise DefinitionError(f"{text}: it may read input and params only", subject=subject)


async def exchange(coordination: CoordinationStore, permit: Permit, demands: Demands, ttl: float) -> Refusal | None:
    """Make the permit hold what ``demands`` name, and take their tokens: all of it, or (then it is told) no slot more.

    What it holds already stays; what the demands do not name is given back. Slots last ``ttl`` seconds.

    Raises:
        AdapterError: the store does not answer; the permit is as it was.
    """
    async with permit.lock:
        held, gained = permit.slots, list[Demand]()
        try:
            for demand in demands:
                if demand in held or demand in permit.tokens:
                    continue
                if (refusal := await _ask(coordination, permit, demand, gained, ttl)) is not None:
                    await _release(coordination, permit.holder, gained)
                    return refusal
        except BaseException:
            await _release(coordination, permit.holder, gained)
            raise
        permit.slots = tuple(demand for demand in demands if demand.slots)
        await _release(coordination, permit.holder, [demand for demand in held if demand not in demands])
    return None


async def _ask(
    coordination: CoordinationStore, permit: Permit, demand: Demand, gained: list[Demand], ttl: float
) -> Refusal | None:
    if not demand.slots:
        wait = await coordination.take(demand.key, demand.rate, demand.per, demand.burst)
        if wait > 0:
            return Refusal(demand, wait)
        permit.tokens += (demand,)
        return None
    if any(other.key == demand.key for other in permit.slots):
        return Refusal(demand)  # a slot of the same name and another number: asking for it would just renew that one
    gained.append(demand)  # before it is known: a cancelled call may have had its effect
    won = await coordination.acquire_slot(demand.key, permit.holder, demand.slots, ttl)
    return None if won else Refusal(demand)


async def give_back(coordination: CoordinationStore, permit: Permit) -> Demands:
    """Give all slots back; which they were."""
    async with permit.lock:
        slots, permit.slots, permit.tokens = permit.slots, (), ()
        await _release(coordination, permit.holder, slots)
    return slots


async def renew(coordination: CoordinationStore, permit: Permit, ttl: float) -> None:
    """Keep the slots for another ``ttl`` seconds; one that the store forgot is taken again if it is free."""
    async with permit.lock:
        won = [await coordination.acquire_slot(slot.key, permit.holder, slot.slots, ttl) for slot in permit.slots]
        if not all(won) and not permit.lost:
            _LOG.warning("a slot of limit %r was lost while a visit runs under it", permit.slots[won.index(False)].name)
        permit.lost = not all(won)


async def _release(coordination: CoordinationStore, holder: str, slots: Sequence[Demand]) -> None:
    for slot in slots:
        try:
            await coordination.release_slot(slot.key, holder)
        except AdapterError as error:
            _LOG.warning("a slot of limit %r could not be given back and expires by itself: %s", slot.name, error)
