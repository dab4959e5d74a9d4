"""What the events of commits carry, and that every head is rebuilt from it: bytes and pages, without a run."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from flowcraft.errors import SerializationError
from flowcraft.history import BLOCK, carrying, head_at, rebuild, record
from flowcraft.memory import MemoryRunStore
from flowcraft.model import Event, Index, NewRun, Page

from .world import SimClock


def _event(seq: int) -> Event:
    return Event("r", seq, "node:completed", 1.0, "a", data={"by": "a"} if seq % 2 else {})


def _heads(size: int, count: int, source: random.Random) -> list[bytes]:
    """Like heads: most of it stays, some bytes change, and the length does too."""
    head = bytearray(source.randbytes(size))
    made = [bytes(head)]
    for _ in range(count):
        for _ in range(3 if head else 0):
            head[source.randrange(len(head))] = source.randrange(256)
        at = source.randint(0, len(head))
        head[at : at + source.randrange(4)] = source.randbytes(source.randrange(4))
        made.append(bytes(head))
    return made


@pytest.mark.parametrize("size", [1, 300, 4_000, 12 * 1024, 12 * 1024 + 1, 33_000, 80_000])
def test_heads_of_any_size_are_rebuilt(size: int) -> None:
    source = random.Random(size)
    heads = _heads(size, 12, source)
    records = [record(b"", heads[0], before=0, after=1)]
    records += [record(old, new, before=n, after=n + 1) for n, (old, new) in enumerate(pairwise(heads), 1)]
    for number, head in enumerate(heads):
        assert rebuild(records[: number + 1]) == head
    assert all(len(data) < 100 + size // 20 for data in records[1:]), [len(data) for data in records]


def test_a_head_that_shrinks_to_nothing_and_grows() -> None:
    heads = [b"x" * 40_000, b"", b"y" * 30_000, b"y"]
    records = [record(b"", heads[0], before=0, after=1)]
    records += [record(heads[n - 1], heads[n], before=n, after=n + 1) for n in range(1, 4)]
    assert [rebuild(records[: n + 1]) for n in range(4)] == heads


def test_a_whole_copy_comes_with_the_first_event_and_in_every_block() -> None:
    head = random.Random(1).randbytes(500)
    assert record(head, head, before=0, after=1)[:1] == b"W"
    assert record(head, head, before=1, after=BLOCK - 1)[:1] == b"D"
    assert record(head, head, before=BLOCK - 1, after=BLOCK)[:1] == b"W"
    assert record(head, head, before=BLOCK, after=BLOCK + 1)[:1] == b"D"
    assert record(head, head, before=1, after=5 * BLOCK)[:1] == b"W"


def test_what_is_damaged_or_missing_is_told() -> None:
    heads = _heads(400, 3, random.Random(2))
    records = [record(b"", heads[0], before=0, after=1)]
    records += [record(heads[n], heads[n + 1], before=n + 1, after=n + 2) for n in range(3)]
    broken = [
        records[1:],  # the copy is missing
        [records[0], records[2]],  # one in between is missing
        [records[0], records[1][:-3]],
        [records[0], records[1][:6] + bytes([records[1][6] ^ 255]) + records[1][7:]],
        [b"?" + records[0][1:]],
    ]
    for given in broken:
        with pytest.raises(SerializationError, match="the history does not hold this head"):
            rebuild(given)


def test_only_the_last_event_carries_the_head_and_json_keeps_it() -> None:
    events = carrying([_event(1), _event(2), _event(3)], b"", b"the head")
    assert [bool(event.head) for event in events] == [False, False, True]
    again = [Event.from_json("r", event.seq, event.to_json()) for event in events]
    assert again == list(events)
    assert [event.told() for event in events] == [_event(1), _event(2), _event(3)]
    assert "head" not in _event(1).to_json()
    assert "head" not in repr(events[2])


async def _stored(commits: list[tuple[int, int]], heads: list[bytes], *, without: bool = False) -> MemoryRunStore:
    store = MemoryRunStore(SimClock())
    events: list[Event] = []
    for number, (first, last) in enumerate(commits):
        told = [_event(seq) for seq in range(first, last + 1)]
        events += told if without else carrying(told, heads[number - 1] if number else b"", heads[number])
    await store.create(NewRun("r", "f", "t", b"head", Index("running", None, 0.0), 0.0, events=events))
    return store


@pytest.mark.parametrize("seed", range(12))
async def test_every_number_stands_for_the_head_of_its_commit(seed: int) -> None:
    source = random.Random(seed)
    commits: list[tuple[int, int]] = []
    longest = source.choice((1, 3, 70, 400))
    last = 0
    while last < 10 * BLOCK:
        first, last = last + 1, last + source.randint(1, longest)
        commits.append((first, last))
    heads = _heads(200, len(commits), source)
    store = await _stored(commits, heads)
    for (first, end), head in zip(commits, heads, strict=False):
        for seq in range(first, end + 1):
            assert await head_at(store, "r", seq) == head
    for seq in (-1, 0, last + 1, last + 1000):
        assert await head_at(store, "r", seq) is None


async def test_a_history_without_heads_is_told() -> None:
    store = await _stored([(1, 5)], [b"head"], without=True)
    with pytest.raises(SerializationError, match="an earlier version"):
        await head_at(store, "r", 3)
    assert await head_at(store, "r", 6) is None


async def test_no_more_than_a_block_is_read() -> None:
    heads = _heads(200, 1000, random.Random(3))
    store = await _stored([(n, n) for n in range(1, 1001)], heads)
    asked: list[tuple[int, int]] = []

    class Counting(MemoryRunStore):
        async def read_events(self, run_id: str, after_seq: int = 0, limit: int = 1000) -> Page[Event]:
            asked.append((after_seq, limit))
            return await store.read_events(run_id, after_seq, limit)

    counting = Counting(SimClock())
    for seq in (1, BLOCK - 1, BLOCK, 700, 1000):
        asked.clear()
        assert await head_at(counting, "r", seq) == heads[seq - 1]
        assert len(asked) == 1
        assert asked[0][1] <= BLOCK
