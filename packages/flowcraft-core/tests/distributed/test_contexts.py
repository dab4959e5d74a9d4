"""A run's context, read and written by somebody who is none of its nodes."""

from __future__ import annotations

import pytest

from flowcraft.contexts import StoredContext
from flowcraft.errors import InvalidRequest, RunNotFound

from .leaping import Stand
from .world import blueprint


async def test_a_context_is_read_and_patched_from_outside(stand: Stand) -> None:
    async with stand.adapter([blueprint("p", {"a": "a"}, [])], {}) as adapter:
        run = await adapter.start_run("p", context={"old": 1, "none": None})
        reading = StoredContext(adapter.store, run.run_id, adapter.runtime.codec)
        async with StoredContext(adapter.store, run.run_id, adapter.runtime.codec, adapter) as context:
            await context.set("new", {"a": [1]})
            assert await context.delete("old")
            assert not await context.delete("old")
            assert (await context.get("new"), await context.get("old", 7)) == ({"a": [1]}, 7)
        assert (await reading.has("none"), await reading.has("old")) == (True, False)
        assert await reading.to_dict() == {"none": None, "new": {"a": [1]}}
        for write in (reading.set("new", 2), reading.delete("new")):
            with pytest.raises(InvalidRequest, match="make StoredContext of an adapter"):
                await write
        assert await reading.get("new") == {"a": [1]}


async def test_nobody_has_no_context(stand: Stand) -> None:
    async with stand.adapter([blueprint("p", {"a": "a"}, [])], {}) as adapter:
        context = StoredContext(adapter.store, "nobody", adapter.runtime.codec, adapter)
        assert await context.to_dict() == {}
        with pytest.raises(RunNotFound):
            await context.set("key", 1)
