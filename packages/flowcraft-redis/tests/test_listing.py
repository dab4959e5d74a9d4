"""Pages of listings while documents move: what stays is shown exactly once."""

from __future__ import annotations

from flowcraft.model import RunSummary
from flowcraft_redis import RedisBackend

from .making import change, index, new


async def pages(backend: RedisBackend, moves: list[tuple[str, float | None]]) -> list[str]:
    """What is due, two at a time; after each page one document moves, to another time or away."""
    found: list[RunSummary] = []
    after: str | None = None
    while True:
        page = await backend.store.due(100.0, limit=2, after=after)
        found += page.items
        after = page.after
        if after is None:
            return [row.run_id for row in found]
        if moves:
            run_id, wake_at = moves.pop(0)
            step = change(run_id, "t0", "t1", index=index(wake_at=wake_at))
            assert (await backend.store.commit([step]))[0].applied


async def test_the_last_one_of_a_page_may_move(backend: RedisBackend) -> None:
    for number in range(7):
        await backend.store.create(new(f"r{number}", wake_at=10.0 + number // 3))  # some at the same time
    whole = [f"r{number}" for number in range(7)]
    assert await pages(backend, []) == whole
    assert await pages(backend, [("r1", None), ("r3", None)]) == whole, "gone"


async def test_the_last_one_may_move_on(backend: RedisBackend) -> None:
    for number in range(6):
        await backend.store.create(new(f"r{number}", wake_at=10.0 + number))
    assert await pages(backend, [("r1", 50.0)]) == ["r0", "r1", "r2", "r3", "r4", "r5", "r1"]


async def test_the_last_one_may_move_back(backend: RedisBackend) -> None:
    for number in range(6):
        await backend.store.create(new(f"r{number}", wake_at=10.0 + number))
    assert await pages(backend, [("r1", 5.0), ("r3", 6.0)]) == ["r0", "r1", "r2", "r3", "r4", "r5"]


async def test_newest_first_while_the_last_one_of_a_page_goes(backend: RedisBackend) -> None:
    for number in range(7):
        await backend.store.create(new(f"r{number}", created_at=10.0 + number // 2))
    found: list[str] = []
    after: str | None = None
    while True:
        page = await backend.store.list(limit=2, after=after)
        found += [row.run_id for row in page.items]
        after = page.after
        if after is None:
            break
        await backend.store.delete(page.items[-1].run_id, "t0")
    assert found == [f"r{number}" for number in range(6, -1, -1)]
    assert len((await backend.store.list()).items) == 4


async def test_both_conditions_over_many_documents(backend: RedisBackend) -> None:
    """More than are looked at in one step, and few of them count."""
    for number in range(450):
        await backend.store.create(
            new(f"r{number:03}", created_at=float(number), blueprint_id="few" if number % 90 == 0 else "many")
        )
    found: list[str] = []
    after: str | None = None
    while True:
        page = await backend.store.list(status="running", blueprint_id="few", limit=2, after=after)
        found += [row.run_id for row in page.items]
        after = page.after
        if after is None:
            break
    assert found == ["r360", "r270", "r180", "r090", "r000"]
