"""A run store in LMDB: one directory, shared by any number of processes of one machine. Needs ``pip install lmdb``.

It is one port of an adapter: ``Adapter(runtime, queue=…, store=LmdbRunStore("/var/lib/runs", runtime.clock))``.

* Each method is one transaction: after a crash all of it is there, or nothing. LMDB has one writer at a time, of all
  threads and processes, so a compare-and-set within a write transaction has no race. Readers see one moment.
* LMDB is called on the event loop, without threads: a read takes microseconds; a write as long as the disk takes to
  sync, and as the writers before it: one that is stopped (SIGSTOP) holds up all others, one that is killed does not.
  The capabilities bound what one change adds. A forked process makes stores of its own: LMDB does not survive a fork.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import struct
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice, product, takewhile
from pathlib import Path
from typing import TypeAlias
from weakref import WeakValueDictionary

import lmdb

from flowcraft import errors, model
from flowcraft.model import Capabilities, Change, Committed, Created, NewRun, Page, RunSummary, StoredHead, ValueKey
from flowcraft.ports import Clock, JobQueue

__all__ = ["LmdbRunStore"]

Txn: TypeAlias = "lmdb.Transaction[bytes]"

MAX_VALUE, MAX_COMMIT = 8 * 2**20, 32 * 2**20  # bytes; LMDB takes more, but everybody waits for the writer

# Each key begins with a hash, because LMDB's end at 511 bytes and names of users may be longer. All of a document lies
# under the hash of its kind and id; each listing, and what is due, under a hash of its own, in the order of time.
ROW, HEAD, VALUE, EVENT = b"r", b"h", b"v", b"e"
END = b"\xff" * 99  # sorts behind all that follows a prefix

#: LMDB opens a directory once in a process, so its stores share it; it closes when the last of them lets go of it.
_OPENED: WeakValueDictionary[Path, lmdb.Environment] = WeakValueDictionary()


def _text(data: object) -> bytes:
    """JSON in one line; two strings never look alike, also those that are no proper Unicode."""
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _hashed(*names: str | int | None) -> bytes:
    return hashlib.sha256(_text(names)).digest()


def _value_key(document: bytes, key: ValueKey) -> bytes:
    return document + VALUE + _hashed(key.space) + _hashed(key.name, key.visit)


def _time_key(moment: float) -> bytes:
    """Sorts like the numbers, those below zero included."""
    bits = int.from_bytes(struct.pack(">d", moment + 0.0))  # adding 0.0 makes 0.0 of -0.0
    return (bits ^ (2**64 - 1 if bits >> 63 else 2**63)).to_bytes(8)


@dataclass(frozen=True)
class _Row:
    """A document without its head, so that listings and `defer` never touch what is large."""

    kind: str
    fingerprint: str
    version: str
    summary: RunSummary

    def index_keys(self) -> set[bytes]:
        """Where it is listed, under each combination of filters, newest first; and where it is due, earliest first."""
        row, document = self.summary, _hashed("document", self.kind, self.summary.run_id)
        filters = product((None, row.status), (None, row.blueprint_id))
        keys = {_hashed("list", self.kind, *both) + _time_key(-row.created_at) + document for both in filters}
        if row.wake_at is not None:
            keys.add(_hashed("due", self.kind) + _time_key(row.wake_at) + document)
        return keys


def _scan(txn: Txn, prefix: bytes, first: bytes = b"", last: bytes = END) -> Iterator[tuple[bytes, bytes]]:
    """Keys and data in order; ``first`` and ``last`` are of what follows the prefix."""
    cursor = txn.cursor()
    items = cursor.iternext() if cursor.set_range(prefix + first) else ()
    return takewhile(lambda item: item[0] <= prefix + last, items)


def _row(txn: Txn, document: bytes) -> _Row | None:
    row = json.loads(txn.get(document + ROW, b"null"))
    return _Row(**row | {"summary": RunSummary(**row["summary"])}) if row else None


def _values(found: Iterable[bytes | None]) -> dict[ValueKey, bytes]:
    parts = (data.partition(b"\n") for data in found if data is not None)
    return {ValueKey(*json.loads(key)): content for key, _, content in parts}


def _stored(txn: Txn, document: bytes, row: _Row, want: Iterable[ValueKey] = ()) -> StoredHead:
    head, now = txn.get(document + HEAD, b""), row.summary
    index = model.Index(now.status, now.wake_at, now.updated_at)
    values = _values(txn.get(_value_key(document, key)) for key in want)
    return StoredHead(now.run_id, head, row.version, now.token, index, values, row.fingerprint)


def _new_row(new: NewRun | Change, fingerprint: str, created_at: float, blueprint: tuple[str, str]) -> _Row:
    index = new.index
    summary = RunSummary(new.run_id, index.status, *blueprint, created_at, index.updated_at, index.wake_at, new.token)
    version = secrets.token_hex(16)  # not counted: a counter would come back with the restoring of a backup
    return _Row(new.kind, fingerprint, version, summary)


def _replace_row(txn: Txn, document: bytes, old: _Row | None, row: _Row | None) -> None:
    """Store the row, and list it where it belongs now; without a new one, list it nowhere."""
    before, after = (each.index_keys() if each else set() for each in (old, row))
    for key in before - after:
        txn.delete(key)
    for key in after - before:
        txn.put(key, document)
    if row:
        txn.put(document + ROW, _text(asdict(row)))


def _write(txn: Txn, document: bytes, old: _Row | None, row: _Row, new: NewRun | Change) -> None:
    """Store all that is new. Raising undoes the whole transaction, also what was written before."""
    _replace_row(txn, document, old, row)
    sizes = [len(content) for content in new.values.values()]
    if max(sizes, default=0) > MAX_VALUE or len(new.head) + sum(sizes) > MAX_COMMIT:
        raise errors.PayloadTooLarge(f"{new.run_id!r}: more than {MAX_VALUE} bytes in a value, or {MAX_COMMIT} in all")
    txn.put(document + HEAD, new.head)
    for key, content in new.values.items():
        txn.put(_value_key(document, key), _text(key) + b"\n" + content)
    try:
        for event in filter(lambda event: event.seq, new.events):  # those with the number 0 are hints
            txn.put(document + EVENT + event.seq.to_bytes(8), event.to_json().encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.SerializationError(f"an event of {new.run_id!r} is no JSON: {error}") from error


def _apply(txn: Txn, change: Change) -> Committed:
    document = _hashed("document", change.kind, change.run_id)
    if (old := _row(txn, document)) is None or old.version != change.version:
        return Committed(False, stored=_stored(txn, document, old) if old else None)
    blueprint = change.blueprint or (old.summary.blueprint_id, old.summary.blueprint_hash)
    row = _new_row(change, old.fingerprint, old.summary.created_at, blueprint)
    for key in change.deleted:
        txn.delete(_value_key(document, key))
    _write(txn, document, old, row, change)
    return Committed(True, row.version)


class LmdbRunStore:
    """See `flowcraft.ports.RunStore`. `setup` opens the directory, and makes it if it is missing.

    ``map_size``: bytes that it may grow to. Writes to a full one are `Unavailable` until it is opened with more.
    """

    capabilities = Capabilities(durable=True, history=True, max_value_bytes=MAX_VALUE, max_commit_bytes=MAX_COMMIT)

    def __init__(self, directory: str | Path, clock: Clock, *, map_size: int = 2**34) -> None:
        self._directory, self._clock, self._map_size = Path(directory).resolve(), clock, map_size
        self._env: lmdb.Environment | None = None

    async def setup(self) -> None:
        where = self._directory
        try:
            where.mkdir(parents=True, exist_ok=True)
            self._env = _OPENED.get(where) or _OPENED.setdefault(where, lmdb.open(str(where), map_size=self._map_size))
            self._env.reader_check()  # readers that were killed would keep old pages from being used again
        except (OSError, lmdb.InvalidError, lmdb.VersionMismatchError) as error:
            raise errors.Misconfigured(f"{where} is no directory for LMDB: {error}") from error
        except lmdb.Error as error:
            raise errors.Unavailable(f"cannot open {where}: {error}") from error

    async def aclose(self) -> None:
        self._env = None

    @asynccontextmanager
    async def _transaction(self, *, write: bool = False) -> AsyncGenerator[Txn]:
        """Committed at the end of the block, undone if that raises. Errors of LMDB become ours here."""
        env, committing = self._env, False
        if env is None:
            raise errors.Unavailable(f"the store in {self._directory} is not set up, or closed")
        try:
            with env.begin(write=write) as txn:
                yield txn
                committing = write
        except lmdb.MapResizedError as error:
            env.set_mapsize(0)  # another process has a larger map: take its size for the next time
            raise errors.Unavailable(f"{self._directory} has grown") from error
        except lmdb.Error as error:
            kind = errors.UnknownOutcome if committing else errors.Unavailable
            raise kind(f"{self._directory}: {error}") from error
        await asyncio.sleep(0)  # LMDB never waits: whoever calls it in a loop must not stop all other tasks

    async def ping(self) -> None:
        async with self._transaction():
            pass

    async def clock(self) -> float:
        return self._clock.time()

    def bind(self, queue: JobQueue) -> bool:  # noqa: ARG002 - the same for every queue
        return False  # no queue takes part in a transaction of LMDB

    async def create(self, new: NewRun) -> Created:
        document = _hashed("document", new.kind, new.run_id)
        async with self._transaction(write=True) as txn:
            if old := _row(txn, document):
                return Created(False, old.fingerprint, old.summary.token)
            row = _new_row(new, new.fingerprint, new.created_at, (new.blueprint_id, new.blueprint_hash))
            _write(txn, document, None, row, new)
        return Created(True, new.fingerprint, new.token)

    async def load(self, run_id: str, *, want: Collection[ValueKey] = (), kind: str = "run") -> StoredHead | None:
        document = _hashed("document", kind, run_id)
        async with self._transaction() as txn:
            return _stored(txn, document, row, want) if (row := _row(txn, document)) else None

    async def commit(self, changes: Sequence[Change]) -> Sequence[Committed]:
        async with self._transaction(write=True) as txn:  # the disk syncs once for all; a conflict writes nothing
            return [_apply(txn, change) for change in changes]

    async def defer(self, run_id: str, token: str, wake_at: float, *, kind: str = "run") -> bool:
        document = _hashed("document", kind, run_id)
        async with self._transaction(write=True) as txn:
            if (old := _row(txn, document)) is None or old.summary.token != token:
                return False
            _replace_row(txn, document, old, replace(old, summary=replace(old.summary, wake_at=wake_at)))
        return True

    async def delete(self, run_id: str, token: str, *, kind: str = "run") -> bool:
        document = _hashed("document", kind, run_id)
        async with self._transaction(write=True) as txn:
            if (old := _row(txn, document)) and old.summary.token != token:
                return False
            _replace_row(txn, document, old, None)
            for key in [key for key, _ in _scan(txn, document)]:
                txn.delete(key)
        return True

    async def read_values(
        self, run_id: str, keys: Collection[ValueKey] = (), *, space: model.Space | None = None
    ) -> Mapping[ValueKey, bytes]:
        document = _hashed("document", "run", run_id)
        async with self._transaction() as txn:
            if space is None:
                return _values(txn.get(_value_key(document, key)) for key in keys)
            return _values(data for _, data in _scan(txn, document + VALUE + _hashed(space)))

    async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[model.Event]:
        document = _hashed("document", "run", run_id)
        async with self._transaction() as txn:
            found = [*islice(_scan(txn, document + EVENT, first=(after_seq + 1).to_bytes(8)), limit + 1)]
        events = [model.Event.from_json(run_id, int.from_bytes(key[-8:]), text) for key, text in found[:limit]]
        return Page(tuple(events), str(events[-1].seq) if len(found) > limit else None)

    async def save_blueprint(self, content_hash: str, data: bytes) -> None:
        async with self._transaction(write=True) as txn:
            txn.put(_hashed("blueprint", content_hash), data, overwrite=False)

    async def load_blueprint(self, content_hash: str) -> bytes | None:
        async with self._transaction() as txn:
            return txn.get(_hashed("blueprint", content_hash))

    async def delete_blueprint(self, content_hash: str) -> None:
        async with self._transaction(write=True) as txn:
            txn.delete(_hashed("blueprint", content_hash))

    async def due(
        self, now: float, *, kind: str = "run", limit: int = 100, after: str | None = None
    ) -> Page[RunSummary]:
        return await self._page(_hashed("due", kind), limit, after, last=_time_key(now) + END)

    async def list(
        self,
        *,
        kind: str = "run",
        status: str | None = None,
        blueprint_id: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[RunSummary]:
        return await self._page(_hashed("list", kind, status, blueprint_id), limit, after, last=END)

    async def _page(self, prefix: bytes, limit: int, after: str | None, last: bytes) -> Page[RunSummary]:
        """A cursor is what follows the prefix in the last key of its page."""
        try:
            first = b"" if after is None else bytes.fromhex(after)[:40] + b"\0"  # all ours are of 40 bytes
        except ValueError as error:
            raise errors.InvalidRequest(f"not a cursor of a listing: {after!r}") from error
        async with self._transaction() as txn:
            found = [*islice(_scan(txn, prefix, first, last), limit + 1)]
            rows = [_row(txn, document) for _, document in found[:limit]]
        cursor = found[limit - 1][0].removeprefix(prefix).hex() if len(found) > limit else None
        return Page(tuple(row.summary for row in rows if row), cursor)
