"""Coordination stores that do one thing wrong with texts, counters and limits."""

from __future__ import annotations

import asyncio
from typing import Any

from flowcraft.conformance.mutants.breaking import mutant, places_shared
from flowcraft.conformance.mutants.coordination_leases import _Crowded, _of_one_handle
from flowcraft.conformance.mutants.mutant import Mutant
from flowcraft.memory import MemoryCoordination
from flowcraft.tokenbucket import check_limit

__all__ = ["mutants"]


_TEXTS = {"increment", "set_if_not_exist", "extend_ttl", "get", "delete"}


_LIMITS = {"acquire_slot", "release_slot", "take"}


class _IncrementsLost(MemoryCoordination):
    """An increment reads and writes in two steps."""

    async def increment(self, key: str, ttl_seconds: float) -> int:
        entry = self._texts.alive(key)
        before = None if entry is None else entry.text
        await asyncio.sleep(0)
        total = await super().increment(key, ttl_seconds)
        if before is not None:
            total = int(before) + 1
            self._texts[key].text = str(total)
        return total


class _TtlBeginsAnew(MemoryCoordination):
    """Every increment begins the time to live anew."""

    async def increment(self, key: str, ttl_seconds: float) -> int:
        total = await super().increment(key, ttl_seconds)
        self._texts[key].expires = self._now() + ttl_seconds
        return total


class _IncrementOfText(MemoryCoordination):
    """A text that is no number counts as 0 when it is incremented."""

    async def increment(self, key: str, ttl_seconds: float) -> int:
        entry = self._texts.alive(key)
        if entry is not None and not entry.text.isdecimal():
            entry.text = "0"
        return await super().increment(key, ttl_seconds)


class _SetRaces(_Crowded):
    """Where more than 35 set a key at once, setting looks and writes in two steps."""

    async def set_if_not_exist(self, key: str, value: str, ttl_seconds: float) -> bool:
        free = self._texts.alive(key) is None
        if await self.crowd() and free:
            self._texts.pop(key, None)
        return await super().set_if_not_exist(key, value, ttl_seconds)


class _TextNeverExpires(MemoryCoordination):
    """A text stays for ever."""

    async def set_if_not_exist(self, key: str, value: str, ttl_seconds: float) -> bool:
        return await super().set_if_not_exist(key, value, 1e12)


class _ExtendCreates(MemoryCoordination):
    """Extending a key that is not there makes it."""

    async def extend_ttl(self, key: str, ttl_seconds: float) -> bool:
        await super().set_if_not_exist(key, "", ttl_seconds)
        return await super().extend_ttl(key, ttl_seconds)


class _DeleteIgnored(MemoryCoordination):
    """A counter cannot be deleted."""

    async def delete(self, key: str) -> None:
        entry = self._texts.alive(key)
        if entry is None or not entry.text.isdecimal():
            await super().delete(key)


class _TextIsANumber(MemoryCoordination):
    """A text of digits is stored as a number."""

    async def set_if_not_exist(self, key: str, value: str, ttl_seconds: float) -> bool:
        return await super().set_if_not_exist(key, str(int(value)) if value.isdecimal() else value, ttl_seconds)


class _OneTable(MemoryCoordination):
    """Deleting a text releases the lease with that key."""

    async def delete(self, key: str) -> None:
        await super().delete(key)
        self._leases.pop(key, None)


def _holders(store: MemoryCoordination, key: str) -> dict[str, float]:
    """Who holds a slot of this key, until when; also those whose time is over."""
    known = store._slots.get(key)
    return {} if known is None else known.holders


class _SlotsRace(_Crowded):
    """Where more than 35 want a slot at once, taking one counts and writes in two steps."""

    async def acquire_slot(self, key: str, holder: str, limit: int, ttl: float) -> bool:
        free = len(_holders(self, key)) < limit
        if await self.crowd() and free:
            limit = 1000
        return await super().acquire_slot(key, holder, limit, ttl)


class _SlotCountedTwice(MemoryCoordination):
    """A holder that asks again when all slots are taken is refused."""

    async def acquire_slot(self, key: str, holder: str, limit: int, ttl: float) -> bool:
        alive = [until for until in _holders(self, key).values() if until > self._now()]
        return len(alive) < limit and await super().acquire_slot(key, holder, limit, ttl)


class _SlotNeverExpires(MemoryCoordination):
    """A slot is taken for ever."""

    async def acquire_slot(self, key: str, holder: str, limit: int, ttl: float) -> bool:
        return await super().acquire_slot(key, holder, limit, 1e12)


class _SlotReleaseAny(MemoryCoordination):
    """Who has no slot and gives one back gives back another's."""

    async def release_slot(self, key: str, holder: str) -> None:
        taken = _holders(self, key)
        await super().release_slot(key, holder if holder in taken else next(iter(taken), holder))


class _SlotNamesJoined(MemoryCoordination):
    """Slots lie under their key and holder, joined, and are counted by what they begin with."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._joined: dict[str, float] = {}

    async def acquire_slot(self, key: str, holder: str, limit: int, ttl: float) -> bool:
        own, now = f"{key}:{holder}", self._now()
        alive = [name for name, until in self._joined.items() if until > now and name.startswith(f"{key}:")]
        granted = own in alive or len(alive) < limit
        if granted:
            self._joined[own] = now + ttl
        return granted

    async def release_slot(self, key: str, holder: str) -> None:
        self._joined.pop(f"{key}:{holder}", None)


class _RateOtherwise(MemoryCoordination):
    """Keeps its own times at which buckets are full."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._full: dict[str, float] = {}


class _RateIsOne(MemoryCoordination):
    """One token comes in the time in which several should."""

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        check_limit(rate, per, burst)
        return await super().take(key, 1, per, burst)


class _ExtendBeginsAnew(MemoryCoordination):
    """Extending a counter begins its count anew."""

    async def extend_ttl(self, key: str, ttl_seconds: float) -> bool:
        entry = self._texts.alive(key)
        if entry is not None and entry.text.isdecimal() and entry.text == str(int(entry.text)):
            entry.text = "0"
        return await super().extend_ttl(key, ttl_seconds)


class _IgnoresBurst(MemoryCoordination):
    """One token at a time, whatever the burst."""

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        return await super().take(key, rate, per, min(burst, 1))


class _TellsTooLittle(MemoryCoordination):
    """The wait that is told is a tenth too short."""

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        return 0.9 * await super().take(key, rate, per, burst)


class _SavesWithoutEnd(_RateOtherwise):
    """Tokens are saved up without end."""

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        check_limit(rate, per, burst)
        interval, now = per / rate, self._now()
        full_at = self._full.setdefault(key, now)
        wait = full_at + interval - now - interval * burst
        if wait > 1e-6 * interval:
            return wait
        self._full[key] = full_at + interval
        return 0.0


class _CountsRefusals(_RateOtherwise):
    """Who has been told to wait eight times uses up a token with every further question."""

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        wait = await super().take(key, rate, per, burst)
        self._full[key] = 0.0 if wait == 0.0 else self._full.get(key, 0.0) + 1.0
        bucket = self._buckets.alive(key)
        if self._full[key] > 8.0 and bucket is not None:
            bucket.expires += per / rate
        return wait


class _RateRaces(_Crowded):
    """Where more than 35 want a token at once, taking one reads and writes in two steps."""

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        bucket = self._buckets.alive(key)
        if await self.crowd() and bucket is None:
            self._buckets.pop(key, None)
        return await super().take(key, rate, per, burst)


class _TakesNonsense(MemoryCoordination):
    """A rate that lets nothing through is taken for none."""

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        return await super().take(key, rate, per, burst) if rate > 0 and per > 0 and burst > 0 else 0.0


mutants = (
    mutant("coordination-rate-is-one", "coordination.rate.burst-then-rate", coordination=_RateIsOne),
    mutant("coordination-extend-begins-count-anew", "coordination.model.same-answers", coordination=_ExtendBeginsAnew),
    mutant("coordination-increments-lost", "coordination.counter.counts", coordination=_IncrementsLost),
    mutant("coordination-ttl-begins-anew", "coordination.counter.lives-from-the-first", coordination=_TtlBeginsAnew),
    mutant(
        "coordination-increment-of-text", "coordination.counter.of-a-text-is-refused", coordination=_IncrementOfText
    ),
    mutant("coordination-set-races", "coordination.text.one-setter", coordination=_SetRaces),
    mutant("coordination-text-never-expires", "coordination.text.expires", coordination=_TextNeverExpires),
    mutant("coordination-extend-creates", "coordination.text.is-extended", coordination=_ExtendCreates),
    mutant("coordination-delete-ignored", "coordination.text.is-deleted", coordination=_DeleteIgnored),
    mutant("coordination-text-is-a-number", "coordination.text.any-text", coordination=_TextIsANumber),
    mutant("coordination-one-table", "coordination.text.is-no-lease", coordination=_OneTable),
    Mutant(
        "coordination-texts-of-one-handle",
        "Every handle has texts of its own.",
        "coordination.text.shared",
        _of_one_handle("coordination-texts-of-one-handle", _TEXTS),
    ),
    Mutant(
        "coordination-places-shared",
        "All places have the same leases, texts and limits.",
        "coordination.places.are-apart",
        lambda: places_shared("coordination-places-shared", "coordination"),
    ),
    mutant("coordination-slots-race", "coordination.slots.never-more", coordination=_SlotsRace),
    mutant(
        "coordination-slot-counted-twice", "coordination.slots.a-holder-counts-once", coordination=_SlotCountedTwice
    ),
    mutant("coordination-slot-never-expires", "coordination.slots.expires", coordination=_SlotNeverExpires),
    mutant("coordination-slot-release-any", "coordination.slots.release-is-the-holders", coordination=_SlotReleaseAny),
    mutant("coordination-slot-names-joined", "coordination.slots.names", coordination=_SlotNamesJoined),
    Mutant(
        "coordination-limits-of-one-handle",
        "Every handle has slots and rates of its own.",
        "coordination.slots.shared",
        _of_one_handle("coordination-limits-of-one-handle", _LIMITS),
    ),
    mutant("coordination-rate-ignores-burst", "coordination.rate.burst-then-rate", coordination=_IgnoresBurst),
    mutant("coordination-rate-tells-too-little", "coordination.rate.wait-is-enough", coordination=_TellsTooLittle),
    mutant(
        "coordination-rate-saves-without-end", "coordination.rate.saves-up-to-the-burst", coordination=_SavesWithoutEnd
    ),
    mutant("coordination-rate-counts-refusals", "coordination.rate.asking-costs-nothing", coordination=_CountsRefusals),
    mutant("coordination-rate-races", "coordination.rate.raced", coordination=_RateRaces),
    mutant("coordination-rate-takes-nonsense", "coordination.rate.nonsense-is-refused", coordination=_TakesNonsense),
)
