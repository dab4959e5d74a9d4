"""Leases, counters and limits in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

from flowcraft.errors import InvalidRequest
from flowcraft.ports import Clock
from flowcraft.tokenbucket import check_limit, take_token

__all__ = ["MemoryCoordination"]


class _Expiring(Protocol):
    expires: float


class _Text:
    __slots__ = ("expires", "text")

    def __init__(self, text: str, expires: float) -> None:
        self.text = text
        self.expires = expires


class _Lease:
    __slots__ = ("expires", "owner", "revoked")

    def __init__(self, owner: str, expires: float) -> None:
        self.owner = owner
        self.expires = expires
        self.revoked = False


class _Bucket:
    """``expires`` is when the bucket is full again, which is the same as having none."""

    __slots__ = ("expires",)

    def __init__(self, expires: float) -> None:
        self.expires = expires


class _Slots:
    """Who holds a slot, until when; ``expires`` is when the last of them is free."""

    __slots__ = ("expires", "holders")

    def __init__(self, holders: dict[str, float]) -> None:
        self.holders = holders
        self.expires = max(holders.values())


_E = TypeVar("_E", bound=_Expiring)


class _Table(dict[str, _E]):
    """Entries that vanish: an expired one counts as absent; the dead ones are dropped when the table has doubled."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self._now = now
        self._sweep_at = 1024

    def alive(self, key: str) -> _E | None:
        entry = self.get(key)
        if entry is None or entry.expires <= self._now():
            return None
        return entry

    def put(self, key: str, entry: _E) -> None:
        self[key] = entry
        if len(self) >= self._sweep_at:
            now = self._now()
            for dead in [k for k, e in self.items() if e.expires <= now]:
                del self[dead]
            self._sweep_at = max(1024, 2 * len(self))


class MemoryCoordination:
    """See the protocol. A revoked lease belongs to nobody new until its time is over or its holder releases it."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._texts: _Table[_Text] = _Table(self._now)
        self._leases: _Table[_Lease] = _Table(self._now)
        self._buckets: _Table[_Bucket] = _Table(self._now)
        self._slots: _Table[_Slots] = _Table(self._now)

    async def setup(self) -> None:
        """Nothing to create."""

    async def aclose(self) -> None:
        """Nothing to close."""

    async def increment(self, key: str, ttl_seconds: float) -> int:
        """See the protocol. A key that holds other text is refused with `InvalidRequest`."""
        entry = self._texts.alive(key)
        if entry is None:
            entry = _Text("0", self._now() + ttl_seconds)
            self._texts.put(key, entry)
        try:
            total = int(entry.text) + 1
        except ValueError as error:
            raise InvalidRequest(f"the key {key!r} holds no number") from error
        entry.text = str(total)
        return total

    async def set_if_not_exist(self, key: str, value: str, ttl_seconds: float) -> bool:
        """See the protocol."""
        if self._texts.alive(key) is not None:
            return False
        self._texts.put(key, _Text(value, self._now() + ttl_seconds))
        return True

    async def extend_ttl(self, key: str, ttl_seconds: float) -> bool:
        """See the protocol."""
        entry = self._texts.alive(key)
        if entry is None:
            return False
        entry.expires = self._now() + ttl_seconds
        return True

    async def get(self, key: str) -> str | None:
        """See the protocol."""
        entry = self._texts.alive(key)
        return None if entry is None else entry.text

    async def delete(self, key: str) -> None:
        """See the protocol."""
        self._texts.pop(key, None)

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        """See the protocol."""
        expires = self._now() + ttl
        results: list[bool] = []
        for key in keys:
            lease = self._leases.alive(key)
            if lease is None:
                self._leases.put(key, _Lease(owner, expires))
                results.append(True)
            elif lease.owner == owner and not lease.revoked:
                lease.expires = expires
                results.append(True)
            else:
                results.append(False)
        return results

    async def renew(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[Literal["mine", "other", "gone"]]:
        """See the protocol."""
        expires = self._now() + ttl
        results: list[Literal["mine", "other", "gone"]] = []
        for key in keys:
            lease = self._leases.alive(key)
            if lease is None:
                results.append("gone")
            elif lease.owner != owner or lease.revoked:
                results.append("other")
            else:
                lease.expires = expires
                results.append("mine")
        return results

    async def release(self, keys: Sequence[str], owner: str) -> None:
        """See the protocol."""
        for key in keys:
            lease = self._leases.get(key)
            if lease is not None and lease.owner == owner:
                del self._leases[key]

    async def holders(self, keys: Sequence[str]) -> Sequence[str | None]:
        """See the protocol. The holder of a revoked lease is still named: it may still be at work."""
        leases = [self._leases.alive(key) for key in keys]
        return [None if lease is None else lease.owner for lease in leases]

    async def revoke(self, keys: Sequence[str]) -> None:
        """See the protocol."""
        for key in keys:
            lease = self._leases.alive(key)
            if lease is not None:
                lease.revoked = True

    async def acquire_slot(self, key: str, holder: str, limit: int, ttl: float) -> bool:
        """See the protocol."""
        now = self._now()
        known = self._slots.alive(key)
        alive = {} if known is None else {name: until for name, until in known.holders.items() if until > now}
        granted = holder in alive or len(alive) < limit
        if granted:
            alive[holder] = now + ttl
            self._slots.put(key, _Slots(alive))
        return granted

    async def release_slot(self, key: str, holder: str) -> None:
        """See the protocol."""
        known = self._slots.get(key)
        if known is None or known.holders.pop(holder, None) is None:
            return
        if known.holders:
            known.expires = max(known.holders.values())
        else:
            del self._slots[key]

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        """See the protocol. At most ``burst`` tokens are saved up."""
        check_limit(rate, per, burst)
        bucket = self._buckets.alive(key)
        full_at, wait = take_token(None if bucket is None else bucket.expires, self._now(), per / rate, burst)
        if wait == 0.0:
            self._buckets.put(key, _Bucket(full_at))
        return wait
