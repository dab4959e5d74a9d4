"""Coordination stores that do one thing wrong with leases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from flowcraft.conformance.mutants.breaking import Split, mutant, opened_otherwise
from flowcraft.conformance.mutants.mutant import Mutant
from flowcraft.conformance.target import Place, Ports, Target
from flowcraft.memory import MemoryCoordination
from flowcraft.ports import CoordinationStore

__all__ = ["Renewal", "mutants"]


Renewal = Literal["mine", "other", "gone"]


_LEASES = {"claim", "renew", "release", "holders", "revoke"}


class _Crowded(MemoryCoordination):
    """Where more than 35 ask at once, asking and taking are two steps."""

    callers = 0

    async def crowd(self) -> bool:
        """Let all who ask at the same time get here; whether they are too many."""
        self.callers += 1
        try:
            await asyncio.sleep(0)
            return self.callers > 35
        finally:
            asyncio.get_running_loop().call_soon(self._left)

    def _left(self) -> None:
        self.callers -= 1


class _ClaimRaces(_Crowded):
    """Where more than 35 claim at once, a claim looks and takes in two steps."""

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        free = [self._leases.alive(key) is None for key in keys]
        if await self.crowd():
            for key, was in zip(keys, free, strict=True):
                if was:
                    self._leases.pop(key, None)
        return await super().claim(keys, owner, ttl)


class _AllOrNothing(MemoryCoordination):
    """A claim of several keys takes all of them or none."""

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        won = await super().claim(keys, owner, ttl)
        if all(won):
            return won
        await super().release([key for key, mine in zip(keys, won, strict=True) if mine], owner)
        return [False] * len(keys)


class _FirstHundredKeys(MemoryCoordination):
    """A release gives up a hundred leases at most."""

    async def release(self, keys: Sequence[str], owner: str) -> None:
        await super().release(keys[:100], owner)


class _LeaseNeverExpires(MemoryCoordination):
    """A lease lasts for ever."""

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        return await super().claim(keys, owner, 1e12)


class _LeaseBounded(MemoryCoordination):
    """A lease lasts 35 seconds at most, unless it is renewed."""

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        return await super().claim(keys, owner, min(ttl, 35.0))


class _OfTheLate(MemoryCoordination):
    """An expired lease is free for all but the one who had it."""

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        late = {key for key in keys if (held := self._leases.get(key)) is not None and held.owner == owner}
        late = {key for key in late if self._leases.alive(key) is None}
        won = iter(await super().claim([key for key in keys if key not in late], owner, ttl))
        return [key not in late and next(won) for key in keys]


class _ClaimKeepsTime(MemoryCoordination):
    """A claim of the owner's own lease does not extend it."""

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        before = {key: lease.expires for key in keys if (lease := self._leases.alive(key)) is not None}
        won = await super().claim(keys, owner, ttl)
        for key, expires in before.items():
            self._leases[key].expires = expires
        return won


class _RenewKeepsTime(MemoryCoordination):
    """A renewal says whose a lease is, and does not extend it."""

    async def renew(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[Renewal]:
        before = {key: lease.expires for key in keys if (lease := self._leases.get(key)) is not None}
        answers = await super().renew(keys, owner, ttl)
        for key, expires in before.items():
            self._leases[key].expires = expires
        return answers


class _RenewOfAnothers(MemoryCoordination):
    """A renewal says whose a lease is, and extends it whoever's it is."""

    async def renew(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[Renewal]:
        answers = await super().renew(keys, owner, ttl)
        for key in keys:
            lease = self._leases.alive(key)
            if lease is not None and not lease.revoked:
                lease.expires = self._now() + ttl
        return answers


class _ReleaseAnyones(MemoryCoordination):
    """A release gives up leases whoever's they are."""

    async def release(self, keys: Sequence[str], owner: str) -> None:
        for key in keys:
            self._leases.pop(key, None)


class _RevokeForgotten(MemoryCoordination):
    """A revocation is told once."""

    async def renew(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[Renewal]:
        answers = await super().renew(keys, owner, ttl)
        for key in keys:
            lease = self._leases.alive(key)
            if lease is not None and lease.owner == owner:
                lease.revoked = False
        return answers


class _RevokeFrees(MemoryCoordination):
    """Anyone but its holder may claim a revoked lease."""

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        for key in keys:
            lease = self._leases.alive(key)
            if lease is not None and lease.revoked and lease.owner != owner:
                del self._leases[key]
        return await super().claim(keys, owner, ttl)


class _RevokeOutlives(MemoryCoordination):
    """A revocation holds for whoever claims the lease after its time."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._revoked: set[str] = set()

    async def release(self, keys: Sequence[str], owner: str) -> None:
        await super().release(keys, owner)
        self._revoked -= {key for key in keys if key not in self._leases}

    async def revoke(self, keys: Sequence[str]) -> None:
        await super().revoke(keys)
        self._revoked |= {key for key in keys if self._leases.alive(key) is not None}

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        fresh = {key for key in keys if self._leases.alive(key) is None}
        won = await super().claim(keys, owner, ttl)
        for key in fresh & self._revoked:
            self._leases[key].revoked = True
        return won


class _NamesCollide(MemoryCoordination):
    """Upper and lower case of keys of leases is not told apart."""

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        return [(await super(_NamesCollide, self).claim([key.lower()], owner, ttl))[0] for key in keys]

    async def holders(self, keys: Sequence[str]) -> Sequence[str | None]:
        return await super().holders([key.lower() for key in keys])

    async def release(self, keys: Sequence[str], owner: str) -> None:
        await super().release([key.lower() for key in keys], owner)


def _of_one_handle(name: str, names: set[str]) -> Callable[[], Target]:
    def change(ports: Ports, place: Place) -> Ports:
        split = Split(ports.coordination, MemoryCoordination(place.clock), names)
        return replace(ports, coordination=cast("CoordinationStore", split))

    return lambda: opened_otherwise(name, change)


mutants = (
    mutant("coordination-claim-races", "coordination.lease.one-owner", coordination=_ClaimRaces),
    mutant("coordination-claim-all-or-nothing", "coordination.lease.of-several-keys", coordination=_AllOrNothing),
    mutant("coordination-first-hundred-keys", "coordination.lease.many-keys", coordination=_FirstHundredKeys),
    mutant("coordination-lease-never-expires", "coordination.lease.expires", coordination=_LeaseNeverExpires),
    mutant("coordination-lease-bounded", "coordination.lease.not-before-its-time", coordination=_LeaseBounded),
    mutant("coordination-lease-of-the-late", "coordination.lease.expires", coordination=_OfTheLate),
    mutant("coordination-claim-keeps-time", "coordination.lease.renewal-extends", coordination=_ClaimKeepsTime),
    mutant("coordination-renew-keeps-time", "coordination.lease.renewal-extends", coordination=_RenewKeepsTime),
    mutant("coordination-renew-of-anothers", "coordination.lease.renewal-is-the-owners", coordination=_RenewOfAnothers),
    mutant("coordination-release-anyones", "coordination.lease.release-is-the-owners", coordination=_ReleaseAnyones),
    mutant("coordination-revoke-forgotten", "coordination.lease.revoked-is-told", coordination=_RevokeForgotten),
    mutant("coordination-revoke-frees", "coordination.lease.revoked-is-nobodys", coordination=_RevokeFrees),
    mutant("coordination-revoke-outlives", "coordination.lease.revocation-ends", coordination=_RevokeOutlives),
    mutant("coordination-names-collide", "coordination.lease.names", coordination=_NamesCollide),
    Mutant(
        "coordination-of-one-handle",
        "Every handle has leases of its own.",
        "coordination.lease.shared",
        _of_one_handle("coordination-of-one-handle", _LEASES),
    ),
)
