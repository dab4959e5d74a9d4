"""Leases, counters and limits in the run store itself, where there is no coordination store.

Each is a small document of the kind ``lease``, found by the hash of its name, changed by compare-and-set, and removed
some time after it has expired. The store's clock decides what has expired.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeVar

from flowcraft.errors import AdapterError, InvalidRequest, UnknownOutcome
from flowcraft.model import Change, Index, NewRun, StoredHead
from flowcraft.ports import Clock, RunStore
from flowcraft.runstate import StoreTime

__all__ = ["StoreLeases"]

T = TypeVar("T")
_KIND: Final = "lease"
_PURGE_SECONDS: Final = 10.0
_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class _Row:
    """One entry: a lease (``owner``), a text, or the holders of slots with their times."""

    expires: float
    owner: str = ""
    revoked: bool = False
    text: str = ""
    slots: dict[str, float] = field(default_factory=dict[str, float])

    def to_bytes(self) -> bytes:
        row = [1, self.expires, self.owner, self.revoked, self.text, self.slots]
        return json.dumps(row, separators=(",", ":")).encode()

    @staticmethod
    def from_bytes(data: bytes) -> _Row:
        _, expires, owner, revoked, text, slots = json.loads(data)
        return _Row(expires, owner, revoked, text, slots)


#: From the live row (None: absent or expired) and the time: the row to store (None: remove it), and the answer.
_Decision = tuple[_Row | None, T]


class StoreLeases:
    """A `CoordinationStore` over a `RunStore`. Slower than a store made for it, and needs nothing else."""

    def __init__(
        self, store: RunStore, clock: Clock, *, mint: Callable[[], str] = lambda: secrets.token_hex(8)
    ) -> None:
        self._store = store
        self._clock = clock
        self._time = StoreTime(store, clock)
        self._mint = mint

    async def setup(self) -> None:
        """Nothing to create: the documents live in the run store."""

    async def aclose(self) -> None:
        """Nothing to close: the run store belongs to somebody else."""

    async def run(self) -> None:
        """Remove what has expired, now and then, for ever; the caller cancels it."""
        while True:
            await self._clock.sleep(_PURGE_SECONDS)
            try:
                await self.purge()
            except AdapterError:
                continue  # nothing depends on it; the next time will do

    async def purge(self) -> int:
        """Remove what has expired; how many there were."""
        removed = 0
        while True:
            page = await self._store.due(await self._store.clock(), kind=_KIND, limit=_PAGE)
            gone = await asyncio.gather(*(self._store.delete(row.run_id, row.token, kind=_KIND) for row in page.items))
            removed += sum(gone)
            if page.after is None or not any(gone):
                return removed

    async def _update(self, name: str, decide: Callable[[_Row | None, float], _Decision[T]]) -> T:
        """Compare-and-set until it holds. ``decide`` may be asked several times."""
        document = hashlib.sha256(name.encode()).hexdigest()
        if self._time.stale:
            await self._time.sync()
        token = self._mint()
        while True:
            now = self._time.now()
            stored = await self._store.load(document, kind=_KIND)
            row = None if stored is None else _Row.from_bytes(stored.head)
            live = row if row is not None and row.expires > now else None
            wanted, answer = decide(live, now)
            if (wanted == live and live is not None) or (wanted is None and stored is None):
                return answer
            if await self._write(document, stored, wanted, token, now):
                return answer

    async def _write(self, document: str, stored: StoredHead | None, row: _Row | None, token: str, now: float) -> bool:
        try:
            if row is None:
                return stored is None or await self._store.delete(document, stored.token, kind=_KIND)
            index = Index("lease", row.expires, now)
            if stored is None:
                new = NewRun(document, "", token, row.to_bytes(), index, now, kind=_KIND)
                return (await self._store.create(new)).token == token
            change = Change(document, stored.version, token, row.to_bytes(), index, kind=_KIND)
            return (await self._store.commit([change]))[0].applied
        except UnknownOutcome:
            found = await self._store.load(document, kind=_KIND)
            return found is not None and found.token == token

    async def increment(self, key: str, ttl_seconds: float) -> int:
        """See the protocol. A key that holds other text is refused with `InvalidRequest`."""

        def decide(row: _Row | None, now: float) -> _Decision[int]:
            row = row or _Row(now + ttl_seconds, text="0")
            if not row.text.lstrip("-").isdigit():
                raise InvalidRequest(f"the key {key!r} holds no number")
            total = int(row.text) + 1
            return replace(row, text=str(total)), total

        return await self._update(f"text:{key}", decide)

    async def set_if_not_exist(self, key: str, value: str, ttl_seconds: float) -> bool:
        """See the protocol."""

        def decide(row: _Row | None, now: float) -> _Decision[bool]:
            return (row, False) if row is not None else (_Row(now + ttl_seconds, text=value), True)

        return await self._update(f"text:{key}", decide)

    async def extend_ttl(self, key: str, ttl_seconds: float) -> bool:
        """See the protocol."""

        def decide(row: _Row | None, now: float) -> _Decision[bool]:
            return (None, False) if row is None else (replace(row, expires=now + ttl_seconds), True)

        return await self._update(f"text:{key}", decide)

    async def get(self, key: str) -> str | None:
        """See the protocol."""
        row = await self._read(f"text:{key}")
        return None if row is None else row.text

    async def delete(self, key: str) -> None:
        """See the protocol."""
        await self._update(f"text:{key}", lambda _row, _now: (None, None))

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[bool]:
        """See the protocol."""

        def decide(row: _Row | None, now: float) -> _Decision[bool]:
            if row is not None and (row.owner != owner or row.revoked):
                return row, False
            return _Row(now + ttl, owner), True

        return await asyncio.gather(*(self._update(f"lease:{key}", decide) for key in keys))

    async def renew(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[Literal["mine", "other", "gone"]]:
        """See the protocol."""

        def decide(row: _Row | None, now: float) -> _Decision[Literal["mine", "other", "gone"]]:
            if row is None:
                return None, "gone"
            if row.owner != owner or row.revoked:
                return row, "other"
            return _Row(now + ttl, owner), "mine"

        return await asyncio.gather(*(self._update(f"lease:{key}", decide) for key in keys))

    async def release(self, keys: Sequence[str], owner: str) -> None:
        """See the protocol."""

        def decide(row: _Row | None, _now: float) -> _Decision[None]:
            return (None if row is None or row.owner == owner else row), None

        await asyncio.gather(*(self._update(f"lease:{key}", decide) for key in keys))

    async def holders(self, keys: Sequence[str]) -> Sequence[str | None]:
        """See the protocol. The holder of a revoked lease is still named: it may still be at work."""
        rows = await asyncio.gather(*(self._read(f"lease:{key}") for key in keys))
        return [None if row is None else row.owner for row in rows]

    async def revoke(self, keys: Sequence[str]) -> None:
        """See the protocol."""

        def decide(row: _Row | None, _now: float) -> _Decision[None]:
            return (None if row is None else replace(row, revoked=True)), None

        await asyncio.gather(*(self._update(f"lease:{key}", decide) for key in keys))

    async def acquire_slot(self, key: str, holder: str, limit: int, ttl: float) -> bool:
        """See the protocol."""

        def decide(row: _Row | None, now: float) -> _Decision[bool]:
            slots = {name: until for name, until in (row.slots if row else {}).items() if until > now}
            if holder not in slots and len(slots) >= limit:
                return row, False
            slots[holder] = now + ttl
            return _Row(max(slots.values()), slots=slots), True

        return await self._update(f"slots:{key}", decide)

    async def release_slot(self, key: str, holder: str) -> None:
        """See the protocol."""

        def decide(row: _Row | None, now: float) -> _Decision[None]:
            slots = {n: until for n, until in (row.slots if row else {}).items() if until > now and n != holder}
            return (_Row(max(slots.values()), slots=slots) if slots else None), None

        await self._update(f"slots:{key}", decide)

    async def take(self, key: str, rate: float, per: float, burst: int) -> float:
        """See the protocol. At most ``burst`` tokens are saved up; what is kept is when all of them are there again."""
        if not (rate > 0 and per > 0 and burst >= 1):
            raise InvalidRequest(f"a rate limit needs rate > 0, per > 0 and burst >= 1, not {rate}, {per} and {burst}")
        interval = per / rate

        def decide(row: _Row | None, now: float) -> _Decision[float]:
            full_at = max(now, row.expires if row else now)
            wait = full_at + interval - now - interval * burst
            if wait > 1e-6 * interval:
                return row, wait
            return _Row(full_at + interval), 0.0

        return await self._update(f"rate:{key}", decide)

    async def _read(self, name: str) -> _Row | None:
        if self._time.stale:
            await self._time.sync()
        stored = await self._store.load(hashlib.sha256(name.encode()).hexdigest(), kind=_KIND)
        row = None if stored is None else _Row.from_bytes(stored.head)
        return row if row is not None and row.expires > self._time.now() else None
