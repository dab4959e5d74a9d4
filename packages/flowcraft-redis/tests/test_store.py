"""The run store."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from flowcraft.errors import InvalidRequest, PayloadTooLarge, SerializationError
from flowcraft.memory import MemoryJobQueue
from flowcraft.model import Event, Page, RunSummary, ValueKey
from flowcraft.ports import Delivery, RunStore
from flowcraft.testing import VirtualClock
from flowcraft_redis import RedisBackend

from .conftest import VISIBILITY
from .making import change, event, existing, index, job, new

HOSTILE = [
    "plain", "", " ", "a'b", 'a"b', "a;--", "a/b", "a\\b", "../x", "a%b", "a_b", "a\x1fb", "a\x01\x7fb", "a\nb", "ä",
    "a\u0308", "日本", "😀", "NULL", "null", "0", "1e3", "x" * 200, "é" * 100, "a:b", "a|b", "a,b", '["a"]', "{}",
    "$.a",     "a]b", "A", "a", "a ", "a\x00b",
]  # fmt: skip


def ids(page: Page[RunSummary]) -> list[str]:
    return [row.run_id for row in page.items]


async def all_ids(store: RunStore, **conditions: str) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while True:
        page = await store.list(after=after, limit=3, **conditions)  # type: ignore[arg-type]  # the limit is one
        found += ids(page)
        if page.after is None:
            return found
        after = page.after


async def test_exactly_one_of_a_hundred_creators_wins(backend: RedisBackend) -> None:
    created = await asyncio.gather(*(backend.store.create(new("run", f"t{n}")) for n in range(100)))
    winners = [answer for answer in created if answer.made]
    assert len(winners) == 1
    assert {(answer.token, answer.fingerprint) for answer in created} == {(winners[0].token, winners[0].fingerprint)}
    assert existing(await backend.store.load("run")).token == winners[0].token


async def test_a_creation_that_loses_writes_nothing(backend: RedisBackend) -> None:
    key = ValueKey("output", "")
    await backend.store.create(new("run", values={key: b"1"}, events=[event("run", 1)]))
    more = {key: b"2", ValueKey("context", "k"): b"3"}
    again = new("run", "t1", values=more, events=[event("run", 1), event("run", 2)])
    assert not (await backend.store.create(again)).made
    assert await backend.store.read_values("run", space="context") == {}
    assert await backend.store.read_values("run", [key]) == {key: b"1"}
    assert len((await backend.store.read_events("run")).items) == 1


async def test_what_was_created_is_loaded(backend: RedisBackend) -> None:
    keys = [ValueKey("context", "a"), ValueKey("output", "n", 3)]
    await backend.store.create(new("run", wake_at=9.0, fingerprint="fp", values=dict.fromkeys(keys, b"v")))
    stored = existing(await backend.store.load("run", want=[keys[1], ValueKey("error", "n")]))
    assert (stored.run_id, stored.head, stored.token, stored.fingerprint) == ("run", b"head", "t0", "fp")
    assert stored.index == index(wake_at=9.0)
    assert stored.values == {keys[1]: b"v"}
    assert await backend.store.load("other") is None


async def test_a_caller_cannot_change_what_is_stored(backend: RedisBackend) -> None:
    buffer = bytearray(b"before")
    key = ValueKey("context", "k")
    await backend.store.create(new("run", values={key: buffer}))
    buffer[:] = b"after!"
    assert await backend.store.read_values("run", [key]) == {key: b"before"}


async def test_exactly_one_of_a_hundred_commits_wins(backend: RedisBackend) -> None:
    await backend.store.create(new("run"))
    results = await asyncio.gather(*(backend.store.commit([change("run", "t0", f"t{n}")]) for n in range(1, 101)))
    applied = [result for (result,) in results if result.applied]
    assert len(applied) == 1
    stored = existing(await backend.store.load("run"))
    assert stored.version == applied[0].version
    for (result,) in results:
        assert result.applied or existing(result.stored).token == stored.token


async def test_a_conflict_leaves_the_other_changes_and_writes_nothing(backend: RedisBackend) -> None:
    store = backend.store
    for run_id in ("a", "b", "c"):
        await store.create(new(run_id, values={ValueKey("context", "old"): b"1"}))
    stale = change("b", "wrong", "t1", values={ValueKey("context", "k"): b"2"}, deleted=[ValueKey("context", "old")],
                   events=[event("b", 1)], index=index("failed", 1.0))  # fmt: skip
    missing = change("d", "t0", "t1", values={ValueKey("context", "k"): b"2"})
    a, b, c, d = await store.commit([change("a", "t0", "t1"), stale, change("c", "t0", "t1"), missing])
    assert [a.applied, b.applied, c.applied, d.applied] == [True, False, True, False]
    assert (a.version, c.version) == ("t1", "t1")
    assert existing(b.stored) == existing(await store.load("b"))
    assert existing(b.stored).token == "t0"
    assert d.stored is None
    assert await store.read_values("b", space="context") == {ValueKey("context", "old"): b"1"}
    assert (await store.read_events("b")).items == ()
    assert ids(await store.due(10.0)) == []


async def test_a_commit_replaces_head_token_index_and_values(backend: RedisBackend) -> None:
    store = backend.store
    one, two, three = ValueKey("context", "one"), ValueKey("context", "two"), ValueKey("output", "one", 1)
    await store.create(new("run", values={one: b"1", two: b"2"}))
    step = change("run", "t0", "t1", index=index("awaiting", 3.0), values={two: b"22", three: b"3"}, deleted=[one])
    assert (await store.commit([step]))[0].applied
    stored = existing(await store.load("run", want=[one, two, three]))
    assert (stored.head, stored.token, stored.version) == (b"head t1", "t1", "t1")
    assert stored.index == index("awaiting", 3.0)
    assert stored.values == {two: b"22", three: b"3"}
    assert stored.fingerprint == "f-t0"


async def test_names_never_collide(backend: RedisBackend) -> None:
    store = backend.store
    names = [*HOSTILE, "a\x1f1", "a1", "1"]
    keys = [ValueKey(space, name, visit) for space in ("context", "output") for name in names for visit in (0, 1, 11)]
    for run_id in names:
        await store.create(new(run_id, values={key: repr((run_id, *key)).encode() for key in keys}))
    for run_id in names:
        found = {**await store.read_values(run_id, space="context"), **await store.read_values(run_id, space="output")}
        assert found == {key: repr((run_id, *key)).encode() for key in keys}
        assert existing(await store.load(run_id)).run_id == run_id
    assert sorted(await all_ids(store)) == sorted(names)


async def test_documents_of_every_kind_have_values(backend: RedisBackend) -> None:
    store, key, other = backend.store, ValueKey("output", ""), ValueKey("context", "k")
    for kind in ("run", "dedup", "schedule"):
        await store.create(new("same", f"{kind}-1", values={key: kind.encode(), other: b"x"}, kind=kind))
    for kind in ("run", "dedup", "schedule"):
        stored = existing(await store.load("same", want=[key, other], kind=kind))
        assert stored.values == {key: kind.encode(), other: b"x"}
        assert stored.fingerprint == f"f-{kind}-1"
    await store.commit([change("same", "dedup-1", "dedup-2", values={key: b"new"}, deleted=[other], kind="dedup")])
    assert existing(await store.load("same", want=[key, other], kind="dedup")).values == {key: b"new"}
    assert len(existing(await store.load("same", want=[key, other])).values) == 2
    await store.delete("same", "dedup-2", kind="dedup")
    assert len(existing(await store.load("same", want=[key, other], kind="schedule")).values) == 2


async def test_kinds_are_apart(backend: RedisBackend) -> None:
    store = backend.store
    await store.create(new("same", "run-token", wake_at=1.0))
    await store.create(new("same", "lease-token", wake_at=1.0, kind="lease"))
    await store.commit([change("same", "lease-token", "lease-2", kind="lease", index=index(wake_at=1.0))])
    assert existing(await store.load("same")).token == "run-token"
    assert existing(await store.load("same", kind="lease")).token == "lease-2"
    assert [row.token for row in (await store.due(5.0, kind="lease")).items] == ["lease-2"]
    assert [row.token for row in (await store.list(kind="run")).items] == ["run-token"]
    assert await store.delete("same", "lease-2", kind="lease")
    assert await store.load("same", kind="lease") is None
    assert existing(await store.load("same")).token == "run-token"


@pytest.mark.parametrize("size", [0, 1, 255, 4096, 65_537, 1 << 20])
async def test_bytes_come_back_as_they_were(backend: RedisBackend, size: int) -> None:
    data = bytes(n * 7 & 0xFF for n in range(size))
    key = ValueKey("output", "n", 1)
    await backend.store.create(new("run"))
    await backend.store.commit([change("run", "t0", "t1", head=data, values={key: data})])
    stored = existing(await backend.store.load("run", want=[key]))
    assert stored.head == data
    assert stored.values == {key: data}


async def test_a_value_beyond_the_limit_applies_nothing(backend: RedisBackend) -> None:
    store = backend.store
    large = {ValueKey("output", "n", 1): bytes((store.capabilities.max_value_bytes or 0) + 1)}
    await store.create(new("a"))
    await store.create(new("b"))
    with pytest.raises(PayloadTooLarge, match="output 'n'"):
        await store.commit([change("a", "t0", "t1"), change("b", "t0", "t1", values=large)])
    assert existing(await store.load("a")).token == "t0"
    with pytest.raises(PayloadTooLarge):
        await store.create(new("c", values=large))
    assert await store.load("c") is None


async def test_an_event_that_is_no_json_applies_nothing(backend: RedisBackend) -> None:
    await backend.store.create(new("run"))
    with pytest.raises(SerializationError):
        await backend.store.commit([change("run", "t0", "t1", events=[event("run", 1, bad=object())])])
    assert existing(await backend.store.load("run")).token == "t0"


async def test_due_is_ordered_limited_and_paged(backend: RedisBackend) -> None:
    store = backend.store
    times = [5.0, 1.0, 3.0, 3.0, 3.0, 9.0, 10.0, 11.0]
    for number, at in enumerate(times):
        await store.create(new(f"r{number}", wake_at=at))
    await store.create(new("never"))
    expected = ["r1", "r2", "r3", "r4", "r0", "r5", "r6"]
    assert ids(await store.due(10.0)) == expected
    found: list[str] = []
    after: str | None = None
    for _ in range(len(times)):
        page = await store.due(10.0, limit=2, after=after)
        assert len(page.items) <= 2
        found += ids(page)
        after = page.after
        if after is None:
            break
    assert found == expected
    assert ids(await store.due(0.5)) == []


async def test_due_follows_the_index(backend: RedisBackend) -> None:
    store = backend.store
    await store.create(new("run", wake_at=1.0))
    last = 110
    for number in range(last):
        await store.commit([change("run", f"t{number}", f"t{number + 1}", index=index(wake_at=float(number)))])
        if number % 100 == 0:
            assert ids(await store.due(float(number))) == ["run"]
    assert ids(await store.due(last - 1.5)) == []
    page = await store.due(last - 1.0)
    assert [(row.run_id, row.wake_at, row.token) for row in page.items] == [("run", last - 1.0, f"t{last}")]
    await store.commit([change("run", f"t{last}", "end", index=index("completed"))])
    assert ids(await store.due(1e12)) == []


async def test_due_names_a_document_once(backend: RedisBackend) -> None:
    store = backend.store
    await store.create(new("run", wake_at=1.0))
    for number, at in enumerate([2.0, 1.0, 2.0, 1.0]):
        await store.commit([change("run", f"t{number}", f"t{number + 1}", index=index(wake_at=at))])
    assert ids(await store.due(5.0)) == ["run"]
    assert ids(await store.due(5.0, limit=1)) == ["run"]
    assert (await store.due(5.0, limit=1)).after is None


async def test_defer_moves_only_the_index_of_this_token(backend: RedisBackend) -> None:
    store = backend.store
    await store.create(new("run", wake_at=1.0))
    assert not await store.defer("run", "other", 50.0)
    assert not await store.defer("missing", "t0", 50.0)
    assert ids(await store.due(1.0)) == ["run"]
    assert await store.defer("run", "t0", 50.0)
    assert ids(await store.due(49.0)) == []
    assert ids(await store.due(50.0)) == ["run"]
    stored = existing(await store.load("run"))
    assert (stored.token, stored.index) == ("t0", index(wake_at=50.0))
    assert (await store.commit([change("run", stored.version, "t1", index=index(wake_at=60.0))]))[0].applied
    assert ids(await store.due(50.0)) == []


async def test_list_is_newest_first_by_status_and_blueprint(backend: RedisBackend) -> None:
    store = backend.store
    for number in range(10):
        status = "running" if number % 2 else "failed"
        more = {"blueprint_id": f"b{number % 3}", "blueprint_hash": f"h{number % 3}"}
        await store.create(new(f"r{number}", status=status, created_at=float(number // 2), **more))
    newest = [f"r{number}" for number in range(9, -1, -1)]
    assert await all_ids(store) == newest
    assert await all_ids(store, status="failed") == ["r8", "r6", "r4", "r2", "r0"]
    assert await all_ids(store, blueprint_id="b1") == ["r7", "r4", "r1"]
    assert await all_ids(store, blueprint_id="b1", status="failed") == ["r4"]
    assert await all_ids(store, kind="lease") == []
    await store.commit([change("r8", "t0", "t1", index=index("completed"))])
    assert await all_ids(store, status="failed") == ["r6", "r4", "r2", "r0"]
    (row,) = (await store.list(status="completed")).items
    assert row == RunSummary("r8", "completed", "b2", "h2", 4.0, 5.0, None, "t1")


async def test_paging_shows_every_lasting_document_once(backend: RedisBackend) -> None:
    store = backend.store
    lasting = {f"old{number}" for number in range(40)}
    for name in sorted(lasting):
        await store.create(new(name, created_at=10.0))
    await store.create(new("leaves", created_at=10.0))
    found: list[str] = []
    after: str | None = None
    for number in itertools.count():
        page = await store.list(limit=7, after=after)
        found += ids(page)
        await store.create(new(f"new{number}", created_at=10.0 + number % 2))
        await store.delete("leaves", "t0")
        await store.commit([change("old3", f"t{number}", f"t{number + 1}")])
        after = page.after
        if after is None:
            break
    assert [name for name in found if name in lasting] == [n for n in found if n.startswith("old")]
    assert sorted(name for name in found if name in lasting) == sorted(lasting)


@pytest.mark.parametrize("cursor", ["", "x", "[]", "[1]", "null", "[1,2,3]", "[[],[]]", '["a","b"]', "[" * 100_000])
async def test_a_cursor_is_input_like_any_other(backend: RedisBackend, cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        await backend.store.list(after=cursor)
    with pytest.raises(InvalidRequest):
        await backend.store.due(1.0, after=cursor)


async def test_delete_is_fenced_and_takes_everything(backend: RedisBackend) -> None:
    store = backend.store
    key = ValueKey("context", "k")
    await store.create(new("run", wake_at=1.0, values={key: b"v"}, events=[event("run", 1)]))
    assert not await store.delete("run", "other")
    assert existing(await store.load("run", want=[key])).values == {key: b"v"}
    assert await store.delete("run", "t0")
    assert await store.delete("run", "t0")
    assert await store.load("run") is None
    assert await store.read_values("run", [key]) == {}
    assert (await store.read_events("run")).items == ()
    assert ids(await store.due(5.0)) == []
    assert ids(await store.list()) == []
    assert not (await store.commit([change("run", "t0", "t1")]))[0].applied
    assert (await store.create(new("run", "t9"))).made
    assert existing(await store.load("run", want=[key])).values == {}
    assert (await store.read_events("run")).items == ()


async def test_sixty_four_writers_at_once_lose_nothing(backend: RedisBackend) -> None:
    store = backend.store
    await store.create(new("shared"))

    async def own(number: int) -> None:
        await store.create(new(f"own{number}"))
        for step in range(10):
            (result,) = await store.commit([change(f"own{number}", f"t{step}", f"t{step + 1}")])
            assert result.applied
            assert existing(await store.load(f"own{number}")).token == f"t{step + 1}"

    async def count(number: int) -> None:
        while True:
            stored = existing(await store.load("shared"))
            total = int(stored.head.partition(b" ")[0].replace(b"head", b"0")) + 1
            step = change("shared", stored.version, f"by{number}", head=str(total).encode())
            if (await store.commit([step]))[0].applied:
                return

    await asyncio.gather(*(own(number) for number in range(64)), *(count(number) for number in range(64)))
    assert existing(await store.load("shared")).head == b"64"


async def test_events_are_numbered_without_gaps(backend: RedisBackend) -> None:
    store = backend.store
    await store.create(new("run", events=[event("run", 1, text="é\n\x01", nested={"a": [1, None, 1e22]})]))
    hint = Event("run", 0, "progress", 1.0)
    await store.commit([change("run", "t0", "t1", events=[event("run", 2), hint, event("run", 3)])])
    await store.commit([change("run", "t0", "lost", events=[event("run", 4)])])
    await store.commit([change("run", "t1", "t2", events=[event("run", number) for number in range(4, 11)])])
    page = await store.read_events("run")
    assert [row.seq for row in page.items] == list(range(1, 11))
    assert page.items[0] == event("run", 1, text="é\n\x01", nested={"a": [1, None, 1e22]})
    assert page.items[3] == event("run", 4)
    assert page.after is None
    first = await store.read_events("run", 2, limit=3)
    assert ([row.seq for row in first.items], first.after) == ([3, 4, 5], "5")
    last = await store.read_events("run", 7, limit=3)
    assert ([row.seq for row in last.items], last.after) == ([8, 9, 10], None)
    assert (await store.read_events("run", 10)).items == ()
    assert (await store.read_events("missing")).items == ()


async def test_a_commit_may_move_a_document_to_another_blueprint(backend: RedisBackend) -> None:
    store = backend.store
    for run_id in ("r", "other"):
        await store.create(new(run_id, blueprint_id="b1", blueprint_hash="h1", wake_at=1.0))
    assert (await store.commit([change("r", "t0", "t1", index=index(wake_at=1.0))]))[0].applied
    assert sorted(await all_ids(store, blueprint_id="b1")) == ["other", "r"], "without one it stays"
    lost, moved = (
        await store.commit([change("other", "wrong", "t1", blueprint=("b2", "h2"))]),
        await store.commit([change("r", "t1", "t2", blueprint=("b2", "h2"), index=index(wake_at=1.0))]),
    )
    assert [lost[0].applied, moved[0].applied] == [False, True]
    assert await all_ids(store, blueprint_id="b1") == ["other"]
    assert await all_ids(store, blueprint_id="b2") == ["r"]
    for page in (await store.list(blueprint_id="b2"), await store.due(5.0)):
        row = next(row for row in page.items if row.run_id == "r")
        assert (row.blueprint_id, row.blueprint_hash, row.token, row.created_at) == ("b2", "h2", "t2", 5.0)


async def test_blueprints_are_stored_once(backend: RedisBackend) -> None:
    store = backend.store
    assert await store.load_blueprint("h") is None
    await store.save_blueprint("h", b"one")
    await store.save_blueprint("h", b"two")
    assert await store.load_blueprint("h") == b"one"
    await store.delete_blueprint("h")
    await store.delete_blueprint("h")
    assert await store.load_blueprint("h") is None


async def test_clock_and_ping(backend: RedisBackend) -> None:
    await backend.store.setup()
    await backend.store.ping()
    before = await backend.store.clock()
    await asyncio.sleep(0.05)
    passed = await backend.store.clock() - before
    assert 0.045 < passed < 5
    assert abs(before - time.time()) < 60


async def test_bound_jobs_and_acks_are_part_of_the_commit(backend: RedisBackend) -> None:
    store, queue = backend.store, backend.queue
    assert store.bind(queue)
    await store.create(new("run", jobs=[job("run"), job("other")]))
    await store.create(new("run", "again", jobs=[job("lost")]))
    async with queue.deliveries(["q"], prefetch=10) as batches:
        first, second = await anext(batches)
        stale = change("run", "wrong", "t1", jobs=[job("lost")], deliveries=[second])
        step = change("run", "t0", "t1", jobs=[job("next")], deliveries=[first, object()])
        await store.commit([stale])
        await store.commit([step])
        (third,) = await anext(batches)
        assert third.job == job("next")
        await first.ack()
    assert await queue.depth("q") == 2
    async with queue.deliveries(["q"], prefetch=10) as batches:
        assert {delivery.job.run_id for delivery in await anext(batches)} == {"other", "next"}


async def test_what_a_commit_acked_does_not_come_again(backend: RedisBackend) -> None:
    assert backend.store.bind(backend.queue)
    await backend.store.create(new("run", jobs=[job("run"), job("run", priority=2)]))
    async with backend.queue.deliveries(["q"], prefetch=10) as batches:
        held: list[Delivery] = []
        while len(held) < 2:
            held += await anext(batches)
        (result,) = await backend.store.commit([change("run", "t0", "t1", deliveries=held)])
        assert result.applied
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * VISIBILITY):
                await anext(batches)


async def test_a_bound_job_wakes_an_idle_receiver(backend: RedisBackend) -> None:
    assert backend.store.bind(backend.queue)
    async with backend.queue.deliveries(["q"], prefetch=5) as batches:
        for version in (None, "t0", "t1"):
            reader = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.005)  # give it the chance to find nothing
            assert not reader.done()
            if version is None:
                await backend.store.create(new("run", jobs=[job("run")]))
            else:
                await backend.store.commit([change("run", version, "t1", jobs=[job("run")])])
            (delivery,) = await reader
            await delivery.ack()


async def test_only_the_own_queue_is_bound(backend: RedisBackend, url: str, prefix: str) -> None:
    assert not backend.store.bind(MemoryJobQueue(VirtualClock()))
    async with RedisBackend.open(url, prefix=prefix) as other:
        assert not backend.store.bind(other.queue)


async def test_an_id_that_is_no_text_is_a_typed_error(backend: RedisBackend) -> None:
    with pytest.raises(InvalidRequest, match="cannot be stored"):
        await backend.store.create(new("\ud800"))
