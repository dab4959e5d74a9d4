"""Dead letters in one place: messages and poisoned visits, on both embedded backends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flowcraft.adapter import Adapter
from flowcraft.deadletters import DeadLetters, record_poisoned
from flowcraft.errors import DeadLetterNotFound, InvalidRequest, NotReplayable, RunNotFound, Unavailable
from flowcraft.memory import MemoryBackend
from flowcraft.model import Job
from flowcraft.runtime import FlowRuntime
from flowcraft.sqlite import SqliteBackend

from .ports.virtual_clock import VirtualClock

Backend = MemoryBackend | SqliteBackend


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request: pytest.FixtureRequest, clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Backend]:
    if request.param == "memory":
        yield MemoryBackend(clock)
    else:
        async with SqliteBackend.open(tmp_path / "flow.db", clock=clock) as made:
            yield made


@pytest.fixture
async def adapter(backend: Backend, clock: VirtualClock) -> AsyncIterator[Adapter]:
    parts = {"store": backend.store, "coordination": backend.coordination, "events": backend.events}
    async with Adapter(FlowRuntime(clock=clock), queue=backend.queue, **parts) as made:
        yield made


def job(run_id: str, node: str = "node") -> Job:
    return Job(run_id, node, 2, 3, "nonce", "q", 1)


async def nobody(run_id: str, node: str) -> None:
    raise AssertionError(f"nothing of {run_id} {node} is to be retried")


async def reject(backend: Backend, sent: Job | bytes, *, queue: str = "q") -> None:
    body = sent if isinstance(sent, bytes) else sent.to_bytes()
    await backend.queue.publish_bytes(queue, body)
    await backend.queue.publish([job("last")])
    async with backend.queue.deliveries([queue], prefetch=5) as batches:
        seen = False
        while not seen:
            for delivery in await anext(batches):
                seen = seen or delivery.job.run_id == "last"
                await (delivery.ack() if delivery.job.run_id == "last" else delivery.reject("no"))


async def received(backend: Backend, queue: str = "q") -> list[Job]:
    found: list[Job] = []
    async with backend.queue.deliveries([queue], prefetch=100) as batches:
        while await backend.queue.depth(queue):
            for delivery in await anext(batches):
                found.append(delivery.job)
                await delivery.ack()
    return found


async def test_a_poisoned_visit_is_one_letter_however_often_it_is_recorded(
    backend: Backend, adapter: Adapter, clock: VirtualClock
) -> None:
    for _ in range(3):
        await record_poisoned(backend.store, job("run'é", 'no"de'), 5, "5 deaths")
    (letter,) = (await adapter.dead_letters.list()).items
    assert (letter.kind, letter.job, letter.deaths, letter.reason) == ("poisoned", job("run'é", 'no"de'), 5, "5 deaths")
    assert (letter.queue, letter.at) == ("q", clock.time())
    assert await adapter.dead_letters.get(letter.id) == letter
    assert (await adapter.list()).items == (), "it is no run"


async def test_both_sources_page_as_one_list(backend: Backend, adapter: Adapter) -> None:
    for number in range(3):
        await record_poisoned(backend.store, job(f"p{number}"), 5, "deaths")
        await reject(backend, job(f"m{number}"))
    await reject(backend, b"?")
    letters = adapter.dead_letters
    for limit in range(1, 9):
        found: list[str] = []
        after: str | None = None
        while True:
            page = await letters.list(limit, after)
            assert len(page.items) <= limit
            found += [letter.job.run_id if letter.job else "?" for letter in page.items]
            after = page.after
            if after is None:
                break
        assert sorted(found[:3]) == ["p0", "p1", "p2"]
        assert found[3:] == ["m0", "m1", "m2", "?"], limit


async def test_every_id_of_a_list_can_be_read_and_deleted_once(backend: Backend, adapter: Adapter) -> None:
    await record_poisoned(backend.store, job("p"), 5, "deaths")
    await reject(backend, job("m"))
    letters = adapter.dead_letters
    for letter in (await letters.list()).items:
        assert await letters.get(letter.id) == letter
        assert await letters.delete(letter.id) is True
        assert await letters.delete(letter.id) is False
        with pytest.raises(DeadLetterNotFound, match=letter.id):
            await letters.get(letter.id)
        with pytest.raises(DeadLetterNotFound):
            await letters.replay(letter.id)
    assert (await letters.list()).items == ()


async def test_a_message_is_replayed_where_it_died(backend: Backend, adapter: Adapter) -> None:
    """As it was, but for the queue: that is where it had been received, whatever it says."""
    await reject(backend, job("run"), queue="q")
    (letter,) = (await adapter.dead_letters.list()).items
    assert await adapter.dead_letters.replay(letter.id) == letter
    assert await received(backend) == [job("run")]
    assert (await adapter.dead_letters.list()).items == ()


async def test_an_undecodable_message_stays(backend: Backend, adapter: Adapter) -> None:
    await reject(backend, b"\x00 nonsense")
    (letter,) = (await adapter.dead_letters.list()).items
    with pytest.raises(NotReplayable, match="no message that this version knows"):
        await adapter.dead_letters.replay(letter.id)
    assert await backend.queue.depth("q") == 0
    assert (await adapter.dead_letters.list()).items == (letter,)


async def test_what_the_broker_does_not_take_stays(adapter: Adapter, backend: Backend) -> None:
    class Unconfirming:
        def __getattr__(self, name: str) -> object:
            return getattr(backend.queue, name)

        async def publish(self, jobs: list[Job]) -> list[Job]:
            return jobs

    await reject(backend, job("run"))
    letters = DeadLetters(Unconfirming(), backend.store, nobody)  # type: ignore[arg-type] # a transparent proxy
    (letter,) = (await letters.list()).items
    with pytest.raises(Unavailable, match="did not confirm"):
        await letters.replay(letter.id)
    assert (await letters.list()).items == (letter,)


async def test_a_poisoned_visit_is_replayed_by_retrying_its_node(backend: Backend, adapter: Adapter) -> None:
    await record_poisoned(backend.store, job("run", "b"), 5, "deaths")
    (letter,) = (await adapter.dead_letters.list()).items
    with pytest.raises(RunNotFound, match="there is no run 'run'"):
        await adapter.dead_letters.replay(letter.id)
    asked: list[tuple[str, str]] = []

    async def retry(run_id: str, node: str) -> None:
        asked.append((run_id, node))
        if len(asked) == 1:
            raise Unavailable("not now")

    letters = DeadLetters(backend.queue, backend.store, retry)
    with pytest.raises(Unavailable):
        await letters.replay(letter.id)
    assert (await letters.list()).items == (letter,), "it was not retried, so it stays"
    await letters.replay(letter.id)
    assert asked == [("run", "b")] * 2
    assert (await letters.list()).items == ()


@pytest.mark.parametrize("letter_id", ["", "1", "message:", "message:x", "visit:", "visit:'", "other:1"])
async def test_an_id_of_nothing(adapter: Adapter, backend: Backend, letter_id: str) -> None:
    await reject(backend, job("run"))
    with pytest.raises(DeadLetterNotFound):
        await adapter.dead_letters.get(letter_id)
    assert await adapter.dead_letters.delete(letter_id) is False
    assert len((await adapter.dead_letters.list()).items) == 1


async def test_bad_requests(adapter: Adapter) -> None:
    for limit in (0, 1001):
        with pytest.raises(InvalidRequest, match="limit"):
            await adapter.dead_letters.list(limit)
    for after in ("x", "message:x", "visit:x", ""):
        with pytest.raises(InvalidRequest, match="cursor"):
            await adapter.dead_letters.list(after=after)
