"""The claim check: a run store that keeps large values elsewhere and small references in their place."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from flowcraft.errors import InvalidRequest, Misconfigured, PayloadTooLarge, Tampered, Unavailable, UnknownOutcome
from flowcraft.model import (
    Change,
    Committed,
    Created,
    Event,
    NewRun,
    Page,
    RunSummary,
    Space,
    StoredHead,
    ValueKey,
    run_address,
    value_address,
)
from flowcraft.ports import JobQueue, RunStore, ValueStore

__all__ = ["OFFLOAD_ABOVE", "OffloadingStore", "offloading"]

#: From so many bytes on a value is worth a second place.
OFFLOAD_ABOVE: Final = 65_536
#: How a reference begins, see `flowcraft.codec.Codec`; then the SHA-256 of the content.
_MARK: Final = b"\xfcr\x01"
#: How the token of a document begins whose removal has begun. Tokens that are minted never begin so.
_GOING: Final = "going:"
_REFERENCE: Final = len(_MARK) + 32


class OffloadingStore:
    """A `RunStore` around another one: values of more than ``above`` bytes go to ``values``. See `RunStore`.

    They are put before the commit that names them, and deleted with their run: with it go those whose commit met a
    conflict or never came. Only what was put for a run that was then never created stays, until a run of that id is
    deleted. Values of documents of other kinds than ``run`` stay where they are.

    All processes on one run store need the same value store; ``above`` may differ. A process without it hands visits
    that need an offloaded value back (`Misconfigured`).
    """

    def __init__(self, store: RunStore, values: ValueStore, *, above: int = OFFLOAD_ABOVE) -> None:
        self._store = store
        self._values = values
        inner = store.capabilities
        limit = inner.max_value_bytes
        if above < 0 or (limit is not None and above > limit):
            most = "" if limit is None else f" of at most {limit:,}"
            raise InvalidRequest(f"above is a number of bytes{most}, not {above}")
        self._above = above
        self._most_bytes = inner.max_commit_bytes
        # What one commit may take is seen to here: of a change that is too large, more is offloaded.
        self.capabilities = replace(inner, max_value_bytes=values.max_value_bytes, max_commit_bytes=None)

    # ---- what is offloaded

    async def create(self, new: NewRun) -> Created:
        """See the protocol."""
        if new.kind != "run":
            return await self._store.create(new)
        plan = self._plan(new.run_id, new.head, new.values)
        while True:
            await self._put([plan])
            created = await self._store.create(replace(new, values=plan.kept) if plan.moved else new)
            if created.made or not _is_going(created.token):
                return created
            await self._finish(new.run_id, created.token)

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        """See the protocol."""
        plans = [
            self._plan(change.run_id, change.head, change.values if change.kind == "run" else {}) for change in changes
        ]
        await self._put(plans)
        results = await self._store.commit(
            [replace(change, values=plan.kept) if plan.moved else change
             for change, plan in zip(changes, plans, strict=True)]
        )  # fmt: skip
        return [
            result
            if result.stored is None
            else replace(result, stored=await self._resolved(_there(result.stored), change.kind))
            for change, result in zip(changes, results, strict=True)
        ]

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        """See the protocol."""
        return await self._resolved(_there(await self._store.load(run_id, want=want, kind=kind)), kind)

    async def read_values(
        self, run_id: str, keys: Collection[ValueKey] = (), *, space: Space | None = None
    ) -> Mapping[ValueKey, bytes]:
        """See the protocol."""
        if space is None:
            stored = _there(await self._store.load(run_id, want=keys))
            return {} if stored is None else await self._fetched(run_id, stored.values)
        found = await self._store.read_values(run_id, space=space)
        if found and _there(await self._store.load(run_id)) is None:
            return {}
        return await self._fetched(run_id, found)

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        """See the protocol. The values go first: while the document is there, a removal can be repeated.

        Before them a commit marks the document as going, which decides between this removal and a change that comes
        at the same time: nobody loads or changes such a document any more, and whoever meets one ends its removal.
        """
        if kind != "run":
            return await self._store.delete(run_id, token, kind=kind)
        stored = await self._store.load(run_id)
        if stored is None:
            return True  # and what lies there now may be of a run that is just being created
        if not _is_going(stored.token):
            if stored.token != token:
                return False
            mark = Change(run_id, stored.version, _GOING + token, stored.head, stored.index)
            (marked,) = await self._store.commit([mark])
            if not marked.applied:
                return await self.delete(run_id, token)
        await self._finish(run_id, stored.token if _is_going(stored.token) else _GOING + token)
        return True

    async def _finish(self, run_id: str, token: str) -> None:
        """Remove what is marked as going."""
        await self._values.delete_run(run_id)
        await self._store.delete(run_id, token)

    def _plan(self, run_id: str, head: bytes, values: Mapping[ValueKey, bytes]) -> _Plan:
        limit = self._values.max_value_bytes
        kept, moved = dict(values), dict[str, bytes]()
        size = len(head) + sum(map(len, values.values()))
        for key, data in sorted(values.items(), key=lambda item: -len(item[1])):
            crowded = self._most_bytes is not None and size > self._most_bytes and len(data) > _REFERENCE
            if len(data) <= self._above and not crowded and not _is_reference(data):
                continue
            if limit is not None and len(data) > limit:
                raise PayloadTooLarge(f"{_name(run_id, key)} has {len(data):,} bytes, the limit is {limit:,}")
            content = bytes(data)
            moved[value_address(run_id, content)] = content
            kept[key] = _MARK + hashlib.sha256(content).digest()
            size += _REFERENCE - len(content)
        if self._most_bytes is not None and size > self._most_bytes:
            raise PayloadTooLarge(f"a commit of run {run_id!r} takes {size:,} bytes, too many")
        return _Plan(kept, moved)

    async def _put(self, plans: Sequence[_Plan]) -> None:
        moved = {key: data for plan in plans for key, data in plan.moved.items()}
        putting = [self._values.put(key, data) for key, data in moved.items()]
        for result in await asyncio.gather(*putting, return_exceptions=True):
            if isinstance(result, UnknownOutcome):
                raise Unavailable(f"a value could not be put, so nothing was committed: {result}") from result
            if isinstance(result, BaseException):
                raise result

    async def _resolved(self, stored: StoredHead | None, kind: str) -> StoredHead | None:
        if stored is None or kind != "run" or not any(map(_is_reference, stored.values.values())):
            return stored
        return replace(stored, values=await self._fetched(stored.run_id, stored.values))

    async def _fetched(self, run_id: str, values: Mapping[ValueKey, bytes]) -> Mapping[ValueKey, bytes]:
        """The values, with contents in place of references."""
        wanted = {key: data for key, data in values.items() if _is_reference(data)}
        if not wanted:
            return values
        found = await self._contents(run_id, wanted)
        missing = [key for key in wanted if key not in found]
        if missing:  # deleted meanwhile, with its run; or it was never where this process looks
            there = _there(await self._store.load(run_id, want=missing))
            now = {} if there is None else there.values
            if lost := [key for key in missing if now.get(key) == wanted[key]]:
                told = "is not in the value store: is it the one that all processes use?"
                raise Misconfigured(f"{_name(run_id, lost[0])} {told}")
            found.update(await self._fetched(run_id, now))
        return {key: found.get(key, data) for key, data in values.items() if key not in wanted or key in found}

    async def _contents(self, run_id: str, wanted: Mapping[ValueKey, bytes]) -> dict[ValueKey, bytes]:
        run = run_address(run_id)
        places = {key: f"{run}/{data[len(_MARK) :].hex()}" for key, data in wanted.items()}
        contents = await self._values.get_many(list(dict.fromkeys(places.values())))
        found = {key: contents[place] for key, place in places.items() if place in contents}
        for key, data in found.items():
            if hashlib.sha256(data).digest() != wanted[key][len(_MARK) :]:
                raise Tampered(f"{_name(run_id, key)} was changed in the value store")
        return found

    # ---- what is not

    async def setup(self) -> None:
        """See the protocol."""
        await self._store.setup()

    async def ping(self) -> None:
        """See the protocol."""
        await self._store.ping()

    async def aclose(self) -> None:
        """Close the store inside; the value store belongs to whoever made it."""
        await self._store.aclose()

    async def clock(self) -> float:
        """See the protocol."""
        return await self._store.clock()

    async def due(
        self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None
    ) -> Page[RunSummary]:
        """See the protocol. Ends removals that were interrupted."""
        page = await self._store.due(now, kind=kind, limit=limit, after=after)
        going = [row for row in page.items if kind == "run" and _is_going(row.token)]
        for row in going:
            await self._finish(row.run_id, row.token)
        return replace(page, items=tuple(row for row in page.items if row not in going)) if going else page

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        """See the protocol."""
        return await self._store.defer(run_id, token, wake_at, kind=kind)

    async def list(
        self,
        *,
        kind: str = "run",
        status: str | None = None,
        blueprint_id: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[RunSummary]:
        """See the protocol."""
        page = await self._store.list(kind=kind, status=status, blueprint_id=blueprint_id, limit=limit, after=after)
        rows = tuple(row for row in page.items if kind != "run" or not _is_going(row.token))
        return page if len(rows) == len(page.items) else replace(page, items=rows)

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Event]:
        """See the protocol."""
        return await self._store.read_events(run_id, after_seq, limit)

    async def save_blueprint(self, content_hash: str, data: bytes) -> None:
        """See the protocol."""
        await self._store.save_blueprint(content_hash, data)

    async def load_blueprint(self, content_hash: str) -> bytes | None:
        """See the protocol."""
        return await self._store.load_blueprint(content_hash)

    async def delete_blueprint(self, content_hash: str) -> None:
        """See the protocol."""
        await self._store.delete_blueprint(content_hash)

    def bind(self, queue: JobQueue) -> bool:
        """See the protocol: that of the store inside."""
        return self._store.bind(queue)


def offloading(
    store: RunStore, values: ValueStore | None, above: int | None, own: ValueStore | None = None
) -> RunStore:
    """What an adapter's options ``values`` and ``offload_above`` make of its store; ``own`` is the backend's, if any.

    Raises:
        Misconfigured: large values are to go, and nowhere is a place for them.
    """
    if values is None and above is None:
        return store
    place = own if values is None else values
    if place is None:
        raise Misconfigured("offload_above needs values: where the large values go")
    return OffloadingStore(store, place, above=OFFLOAD_ABOVE if above is None else above)


class _Plan(NamedTuple):
    """What a change writes to the run store, and what goes to the value store before."""

    kept: dict[ValueKey, bytes]
    moved: dict[str, bytes]


def _name(run_id: str, key: ValueKey) -> str:
    return f"the value ({key.space} {key.name!r}, visit {key.visit}) of {run_id!r}"


def _is_going(token: str) -> bool:
    return token.startswith(_GOING)


def _there(stored: StoredHead | None) -> StoredHead | None:
    return None if stored is not None and _is_going(stored.token) else stored


def _is_reference(data: bytes) -> bool:
    """Also of a value that merely looks like one: it is offloaded, so that no reader takes it for one."""
    return len(data) == _REFERENCE and data[: len(_MARK)] == _MARK
