"""Files that are not what they should be, disks that are full, and places that a backend must not be used from."""

# ruff: noqa: ASYNC240 -- the files are small, and nothing else waits for this event loop

from __future__ import annotations

import asyncio
import os
import re
import resource
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft.errors import InvalidRequest, Misconfigured, Unavailable, UnknownOutcome
from flowcraft.model import ValueKey
from flowcraft.sqlite import SqliteBackend
from flowcraft.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from flowcraft.sqlite.writer import Writer

from .making import change, event, existing, index, job, new
from .virtual_clock import VirtualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flow.db"


async def refusal(path: Path | str, kind: type[Exception] = Misconfigured) -> str:
    """The one line that opening raises, which names the path."""
    with pytest.raises(kind) as caught:
        async with SqliteBackend.open(path, clock=VirtualClock(), busy_limit=0.3):
            raise AssertionError("opened")
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def writer_of(backend: SqliteBackend) -> Writer:
    runner = backend._database._writer._runner
    assert isinstance(runner, Writer)
    return runner


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a'b.db", 'a"b?mode=ro#x%20.db', "ü 日本.db", "no-suffix"])
async def test_any_name_of_a_file(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        async with SqliteBackend.open(tmp_path / name, clock=VirtualClock()) as backend:
            await backend.store.create(new("run"))
    assert [file.name for file in tmp_path.iterdir()] == [name]


async def test_everything_is_there_after_reopening(path: Path) -> None:
    clock = VirtualClock()
    async with SqliteBackend.open(path, clock=clock) as backend:
        await backend.store.create(new("run", wake_at=1.0, events=[event("run", 1)]))
        await backend.queue.publish([job("run")])
        await backend.coordination.claim(["k"], "me", 60)
    async with SqliteBackend.open(str(path), clock=clock) as backend:
        assert existing(await backend.store.load("run")).index == index(wake_at=1.0)
        assert await backend.queue.depth("q") == 1
        assert await backend.coordination.holders(["k"]) == ["me"]


async def test_an_empty_file_is_a_new_one(path: Path) -> None:
    path.touch()
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        await backend.store.create(new("run"))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in await refusal(tmp_path)


async def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "create it" in await refusal(tmp_path / "missing" / "flow.db")


@pytest.mark.parametrize("name", ["", ":memory:"])
async def test_no_file_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="use the memory backend"):
        async with SqliteBackend.open(name, clock=VirtualClock()):
            raise AssertionError("opened")


@pytest.mark.parametrize(
    "content", [b"hello, this is no database\n" * 100, b"SQLite format 3\0" + b"\xff" * 5000, b"x"]
)
async def test_something_else_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert re.search("is not a SQLite database|is damaged|belongs to another", await refusal(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE t (a)", "PRAGMA application_id = 252006673", "PRAGMA user_version = 1"],
    ids=["tables", "application id", "version"],
)
async def test_the_database_of_another_program_is_refused_and_left_alone(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()
    content = path.read_bytes()
    assert "belongs to another program" in await refusal(path)
    assert path.read_bytes() == content


async def test_a_newer_version_is_refused(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()):
        pass
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    assert f"version {SCHEMA_VERSION + 1}" in await refusal(path)


async def test_a_damaged_file_is_named_as_such(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        for number in range(50):
            await backend.store.create(new(f"r{number}", values={ValueKey("context", "k"): bytes(3000)}))
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)  # the tables are still described, their pages are rubbish
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"is damaged; restore a backup"):
        async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
            await backend.store.create(new("run"))
    with pytest.raises(Misconfigured, match=r"is damaged; restore a backup"):
        async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
            await backend.store.list()


async def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 9))
    with pytest.raises(Misconfigured, match=r"3\.35\.0 or later"):
        async with SqliteBackend.open(path, clock=VirtualClock()):
            raise AssertionError("opened")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def unprivileged(check: Callable[[], object]) -> None:
    """Run it without the rights of root, to whom permissions do not apply: in a forked child that gives them up."""
    if os.geteuid() != 0:
        check()
        return
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            check()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(("existing_file", "mode"), [(False, 0o555), (True, 0o555)])
def test_a_folder_that_may_not_be_written_is_refused(open_folder: Path, existing_file: bool, mode: int) -> None:
    path = open_folder / "flow.db"

    async def make() -> None:
        async with SqliteBackend.open(path, clock=VirtualClock()):
            pass

    if existing_file:
        asyncio.run(make())
        path.chmod(0o444)
    open_folder.chmod(mode)
    unprivileged(lambda: asyncio.run(_cannot_write(path)))
    open_folder.chmod(0o755)


async def _cannot_write(path: Path) -> None:
    assert re.search("cannot be opened|is read-only|may not be used", await refusal(path))


# ---- locks, full disks, failing disks --------------------------------------------------------------------------------


async def test_a_lock_that_stays_is_unavailable_and_readers_do_not_wait(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock(), busy_limit=0.3) as backend:
        await backend.store.create(new("run"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked by another process"):
            await backend.store.commit([change("run", "t0", "t1")])
        waiting = asyncio.ensure_future(backend.store.commit([change("run", "t0", "t2")]))
        assert existing(await backend.store.load("run")).token == "t0"
        other.execute("ROLLBACK")
        assert (await waiting)[0].applied
        other.close()


async def test_a_locked_file_cannot_be_opened_for_now(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()):
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert "locked by another process" in await refusal(path, Unavailable)
        other.close()


async def test_a_full_disk_hurts_only_what_does_not_fit(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        store = backend.store
        for number in range(20):
            await store.create(new(f"r{number}"))
        pages = await backend._database.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await backend._database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone())
        large = {ValueKey("output", "n", 1): bytes(200_000)}
        results = await asyncio.gather(
            *(store.commit([change(f"r{n}", "t0", "t1", values=large if n % 5 == 0 else {})]) for n in range(20)),
            return_exceptions=True,
        )
        for number, result in enumerate(results):
            token = existing(await store.load(f"r{number}")).token
            if number % 5 == 0:
                assert isinstance(result, Unavailable)
                assert "disk is full" in str(result)
                assert str(path) in str(result)
                assert token == "t0"
            else:
                assert not isinstance(result, BaseException)
                assert token == "t1"
        with pytest.raises(Unavailable):  # one call is all or nothing where it raises
            await store.commit([change("r1", "t1", "t2"), change("r5", "t0", "t1", values=large)])
        assert existing(await store.load("r1")).token == "t1"
        await backend._database.write(lambda c: c.execute("PRAGMA max_page_count = 1073741823").fetchone())
        assert (await store.commit([change("r0", "t0", "t1", values=large)]))[0].applied


async def test_a_write_that_the_disk_refuses_has_an_unknown_outcome(path: Path) -> None:
    """A limit on the size of files stands for the failing disk: the log cannot grow."""
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        await backend.store.create(new("run"))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("flow.db-wal").stat().st_size, hard))
        try:
            with pytest.raises(UnknownOutcome, match=r"flow\.db.* did not confirm"):
                await backend.store.commit(
                    [change("run", "t0", "t1", values={ValueKey("context", "k"): bytes(99_999)})]
                )
            with pytest.raises(UnknownOutcome):
                await backend.coordination.claim(["k"], "me", 60)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert existing(await backend.store.load("run")).token == "t0"
        assert (await backend.store.commit([change("run", "t0", "t2")]))[0].applied
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


class Faulty:
    """A connection on which chosen statements fail, once each, as SQLite documents that they may."""

    def __init__(self, real: sqlite3.Connection, faults: dict[str, int], *, rolls_back: bool = False) -> None:
        self._real = real
        self._faults = faults
        self._rolls_back = rolls_back

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        for part, code in self._faults.items():
            if part in statement:
                del self._faults[part]
                if self._rolls_back:
                    self._real.execute("ROLLBACK")
                error = sqlite3.OperationalError("injected")
                error.sqlite_errorcode = code
                raise error
        return self._real.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


async def _two_commits(backend: SqliteBackend) -> list[str]:
    """What became of two commits that share a transaction, and whether it is true."""
    calls = [backend.store.commit([change(name, "t0", "t1", index=index("failed"))]) for name in ("a", "b")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    names: list[str] = []
    for name, result in zip("ab", results, strict=True):
        token = existing(await backend.store.load(name)).token
        names.append(f"{type(result).__name__} {token}")
    return names


async def _inject(backend: SqliteBackend, faults: dict[str, int], *, rolls_back: bool = False) -> None:
    writer = writer_of(backend)

    for name in ("a", "b"):
        await backend.store.create(new(name))
    # The thread waits for work and does not look at it meanwhile.
    writer._connection = Faulty(writer._connection, faults, rolls_back=rolls_back)  # type: ignore[assignment]


async def test_no_room_for_all_at_commit_lets_each_try_alone(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        await _inject(backend, {"COMMIT": sqlite3.SQLITE_FULL})
        assert await _two_commits(backend) == ["list t1", "list t1"]


async def test_a_commit_that_fails_otherwise_is_unknown(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        await _inject(backend, {"COMMIT": sqlite3.SQLITE_IOERR})
        with pytest.raises(UnknownOutcome):
            await backend.store.commit([change("a", "t0", "t1")])
        assert await _two_commits(backend) == ["list t1", "list t1"]


async def test_a_transaction_that_sqlite_gave_up_is_run_again_without_the_culprit(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        await _inject(backend, {"UPDATE documents SET status": sqlite3.SQLITE_IOERR}, rolls_back=True)
        assert sorted(await _two_commits(backend)) == ["Unavailable t0", "list t1"]


async def test_a_connection_that_cannot_even_roll_back_is_replaced(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        await _inject(backend, {"COMMIT": sqlite3.SQLITE_IOERR, "ROLLBACK": sqlite3.SQLITE_IOERR})
        with pytest.raises(UnknownOutcome):
            await backend.store.commit([change("a", "t0", "t1")])
        assert await _two_commits(backend) == ["list t1", "list t1"]
        assert isinstance(writer_of(backend)._connection, sqlite3.Connection)


async def test_only_what_must_not_be_lost_waits_for_the_disk(path: Path) -> None:
    def mode(connection: sqlite3.Connection) -> Any:
        return connection.execute("PRAGMA synchronous").fetchone()[0]

    normal, full = 1, 2
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        write = backend._database.write
        assert [await write(mode, durable=durable) for durable in (False, True, False)] == [normal, full, normal]
        gate = _block_writer(backend)
        await asyncio.to_thread(lambda: None)
        together = [asyncio.ensure_future(write(mode, durable=durable)) for durable in (False, True)]
        await asyncio.sleep(0)
        gate.set()
        assert [await result for result in together] == [full, full]
        seen: list[bool] = []
        submit = backend._database.submit

        def spy(work: Any, *, durable: bool = False, then: Any = None) -> Any:
            seen.append(durable)
            return submit(work, durable=durable, then=then)

        backend._database.submit = spy  # type: ignore[method-assign]
        await backend.store.create(new("run"))
        await backend.store.commit([change("run", "t0", "t1")])
        await backend.store.defer("run", "t1", 1.0)
        await backend.store.save_blueprint("h", b"")
        await backend.store.delete("run", "t1")
        assert seen == [True] * 5
        seen.clear()
        await backend.queue.publish([job("run")])
        await backend.coordination.claim(["k"], "me", 60)
        assert seen == [False] * 2


# ---- where it is used ------------------------------------------------------------------------------------------------


async def test_another_event_loop_is_refused(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        for call in (backend.store.ping(), backend.coordination.increment("k", 1), backend.store.create(new("run"))):
            with pytest.raises(Misconfigured, match="another event loop"):
                await asyncio.to_thread(asyncio.run, call)
        assert await backend.store.load("run") is None


async def test_a_closed_backend_is_refused(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        await backend.aclose()
        await backend.aclose()
        for call in (backend.store.ping(), backend.store.create(new("run")), backend.queue.publish([job("run")])):
            with pytest.raises(Misconfigured, match="is closed"):
                await call


async def test_what_was_asked_for_is_done_before_closing(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        calls = [asyncio.ensure_future(backend.store.create(new(f"r{number}"))) for number in range(100)]
        await asyncio.sleep(0)
    assert [(await call).made for call in calls] == [True] * 100
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        assert len((await backend.store.list(limit=200)).items) == 100


async def test_a_cancelled_call_happens_wholly_or_not_at_all(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        key = ValueKey("context", "k")
        for number in range(60):
            call = asyncio.ensure_future(backend.store.create(new(f"r{number}", values={key: b"v"})))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        await backend.store.create(new("last"))
        for row in (await backend.store.list(limit=100)).items:
            stored = existing(await backend.store.load(row.run_id, want=[key]))
            assert row.run_id == "last" or stored.values == {key: b"v"}


def _block_writer(backend: SqliteBackend) -> threading.Event:
    """The writer does nothing more until the event is set."""
    gate = threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        gate.wait(10)

    backend._database.write_soon(wait)
    return gate


async def test_a_call_that_is_cancelled_before_its_turn_does_not_happen(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        gate = _block_writer(backend)
        await asyncio.to_thread(lambda: None)
        call = asyncio.ensure_future(backend.store.create(new("run")))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        gate.set()
        await backend.store.create(new("other"))
        assert await backend.store.load("run") is None


async def test_a_question_outlives_its_cancelled_reader(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        await backend.queue.publish([job("run")])
        async with backend.queue.deliveries(["q"], prefetch=1) as batches:
            gate = _block_writer(backend)
            reader = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.005)  # long enough for it to ask the writer, which is blocked
            reader.cancel()
            await asyncio.wait([reader])
            gate.set()
            assert len(await anext(batches)) == 1


async def test_text_that_cannot_be_stored_is_a_typed_error(path: Path) -> None:
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        with pytest.raises(InvalidRequest):
            await backend.coordination.claim(["\ud800"], "me", 60)
        with pytest.raises(InvalidRequest):
            await backend.store.create(new("run", values={ValueKey("output", "n", 1 << 70): b""}))
        assert await backend.store.load("run") is None


async def test_a_new_thread_for_nobody(path: Path) -> None:
    """Threads end with the block, also when opening fails."""
    before = threading.active_count()
    async with SqliteBackend.open(path, clock=VirtualClock()) as backend:
        await backend.store.ping()
        assert threading.active_count() == before + 2
    await refusal(path.parent)
    assert threading.active_count() == before


# ---- indexes ---------------------------------------------------------------------------------------------------------

_ALLOWED_SCANS = {
    "CONSTANT ROW",
    "listeners",  # a row for each process that has subscribers
}


async def test_no_table_is_scanned(path: Path) -> None:
    """Every statement that the ports run is explained by SQLite."""
    clock = VirtualClock()
    async with SqliteBackend.open(path, clock=clock) as backend:
        statements: set[str] = set()

        def trace(connection: sqlite3.Connection) -> None:
            connection.set_trace_callback(statements.add)

        await backend._database.write(trace)
        await backend._database.read(trace)
        await _use_everything(backend, clock)
        await backend._database.write(lambda connection: connection.set_trace_callback(None))
        checked = 0
        connection = sqlite3.connect(path)
        for statement in sorted(statements):
            if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE)", statement):
                checked += 1
                explain = "EXPLAIN QUERY PLAN " + statement.replace("Inf", "9e999")
                for row in connection.execute(explain):
                    step = str(row[3])
                    assert not step.startswith("SCAN") or step.removeprefix("SCAN ") in _ALLOWED_SCANS, statement
                    assert "TEMP B-TREE" not in step, statement
        connection.close()
        assert checked > 40


async def _use_everything(backend: SqliteBackend, clock: VirtualClock) -> None:
    store, queue, coordination = backend.store, backend.queue, backend.coordination
    store.bind(queue)
    key = ValueKey("output", "n", 1)
    await store.create(new("run", wake_at=1.0, values={key: b"v"}, jobs=[job("run")], events=[event("run", 1)]))
    await store.create(new("run"))
    async with queue.deliveries(["q"], prefetch=3) as batches, backend.events.subscribe():
        (delivery,) = await anext(batches)
        more = {"jobs": [job("a"), job("b"), job("c")], "deliveries": [delivery], "deleted": [key]}
        await store.commit([change("run", "t0", "t1", index=index("failed"), events=[event("run", 2)], **more)])
        await store.commit([change("run", "t0", "t2")])
        found: list[Any] = []
        while len(found) < 3:
            found += await anext(batches)
        await found[0].extend(5)
        await found[0].ack()
        await found[1].retry(delay=5)
        await found[2].reject("no")
        await queue.publish([job("d")])
        await queue.publish_bytes("q", b"?")
        await clock.advance(10)
        await backend.events.publish([event("run", 3)])
    await queue.depth("q")
    (letter,) = (await queue.dead_letters(limit=1)).items
    assert await queue.dead_letter(letter.id) == letter
    await queue.discard(letter.id)
    await store.read_values("run", [key])
    await store.read_values("run", space="output")
    await store.read_events("run")
    await store.load("run", want=[key])
    for status in (None, "failed"):
        for blueprint in (None, ""):
            await store.list(status=status, blueprint_id=blueprint)
    await store.due(5.0)
    await store.defer("run", "t1", 7.0)
    await store.save_blueprint("h", b"")
    await store.load_blueprint("h")
    await store.delete_blueprint("h")
    await store.delete("run", "t1")
    await coordination.increment("k", 5)
    await coordination.set_if_not_exist("s", "v", 5)
    await coordination.extend_ttl("s", 5)
    await coordination.get("s")
    await coordination.delete("s")
    await coordination.claim(["l"], "me", 5)
    await coordination.renew(["l", "m"], "me", 5)
    await coordination.revoke(["l"])
    await coordination.holders(["l"])
    await coordination.release(["l"], "me")
    await coordination.acquire_slot("k", "me", 1, 5)
    await coordination.release_slot("k", "me")
    await coordination.take("k", 1, 1, 1)
    for _ in range(260):
        await coordination.increment("k", 5)
