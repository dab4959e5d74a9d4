"""Value store: large values are whole or absent, and go with their run."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final, cast

from flowcraft.conformance.asking import apart, handles
from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect, fail, raises
from flowcraft.conformance.hostile import IDS
from flowcraft.errors import PayloadTooLarge
from flowcraft.model import value_address

__all__ = ["checks"]

checks = Collection("values", "store")

#: A limit beyond so many bytes is not tried: a check must not move gigabytes.
_PRACTICAL: Final = 32 << 20


@checks.check("what-was-put", kills=("values-empty-is-absent",))
async def what_was_put(env: Env) -> None:
    """What was put is found, empty values too, and nothing else.

    A reference in a run without a value behind it is a run that can never go on.
    """
    first, second = (value_address("run", data) for data in (b"one", b""))
    equal(dict(await env.values.get_many([first, second])), {}, "values before they were put")
    await env.values.put(first, b"one")
    await env.values.put(second, b"")
    found = await env.values.get_many([first, second, value_address("run", b"other"), value_address("other", b"one")])
    equal({key: bytes(data) for key, data in found.items()}, {first: b"one", second: b""}, "the values")
    equal(dict(await env.values.get_many([])), {}, "values of no keys")
    equal(len(await env.values.get_many([first, first])), 1, "values of a key that is asked for twice")


@checks.check("put-again", kills=("values-put-twice-fails",))
async def put_again(env: Env) -> None:
    """Putting a value again, one after the other or at the same time, changes nothing.

    A commit that met a conflict puts all of its values once more.
    """
    key = value_address("run", b"data")
    for _ in range(3):
        await env.values.put(key, b"data")
    await asyncio.gather(*(env.values.put(key, b"data") for _ in range(20)))
    equal(
        {name: bytes(data) for name, data in (await env.values.get_many([key])).items()}, {key: b"data"}, "the values"
    )


@checks.check("whole", kills=("values-end-in-zeros", "values-cut"), timeout=30.0)
async def whole(env: Env) -> None:
    """Values of any size up to some megabytes, of any bytes, come back whole.

    That is what the store is for.
    """
    limit = env.values.max_value_bytes
    for size in (1, 4095, 65_537, 1 << 20, (3 << 20) + 1):
        data = env.rng.randbytes(size if limit is None else min(size, limit))
        key = value_address("run", data)
        await env.values.put(key, data)
        found = (await env.values.get_many([key])).get(key, b"")
        equal(len(found), len(data), "bytes that came back")
        equal(hashlib.sha256(found).digest(), hashlib.sha256(data).digest(), f"the hash of {len(data)} bytes")


@checks.check("many", kills=("values-first-hundred",), timeout=30.0)
async def many(env: Env) -> None:
    """Any number of values is found in one call.

    A batch of some hundred large items is read at once by the node after it.
    """
    contents = [f"value {n}".encode() * 20 for n in range(230)]
    keys = [value_address("run", data) for data in contents]
    for start in range(0, 230, 46):
        pairs = list(zip(keys, contents, strict=True))[start : start + 46]
        await asyncio.gather(*(env.values.put(key, data) for key, data in pairs))
    found = await env.values.get_many(keys)
    equal(len(found), 230, "values that were found")
    expect(all(found[key] == data for key, data in zip(keys, contents, strict=True)), "values that were found differ")


@checks.check("goes-with-its-run", kills=("values-deletion-incomplete",), timeout=30.0)
async def goes_with_its_run(env: Env) -> None:
    """`delete_run` removes all values of a run, however many there are.

    Large values cost most, and nobody finds them again once the run is gone.
    """
    contents = [f"value {n}".encode() for n in range(120)]
    keys = [value_address("run", data) for data in contents]
    for start in range(0, 120, 40):
        pairs = list(zip(keys, contents, strict=True))[start : start + 40]
        await asyncio.gather(*(env.values.put(key, data) for key, data in pairs))
    await env.values.delete_run("run")
    equal(len(await env.values.get_many(keys)), 0, "values of the run that was deleted")


@checks.check("other-runs-stay", kills=("values-deletion-takes-others",), timeout=30.0)
async def other_runs_stay(env: Env) -> None:
    """`delete_run` removes no value of another run, whatever the ids, also of the same content.

    Two runs with the same large input store it twice, so that each can go on its own.
    """
    tried = (*IDS[::2], "run", "run/", "run/x", "ru")
    keys = {run_id: [value_address(run_id, data) for data in (b"same", run_id.encode())] for run_id in tried}
    for run_id, pair in keys.items():
        await asyncio.gather(env.values.put(pair[0], b"same"), env.values.put(pair[1], run_id.encode()))
    for gone in tried[::2]:
        await env.values.delete_run(gone)
    for number, run_id in enumerate(tried):
        found = await env.values.get_many(keys[run_id])
        expected = {} if number % 2 == 0 else {keys[run_id][0]: b"same", keys[run_id][1]: run_id.encode()}
        equal({key: bytes(data) for key, data in found.items()}, expected, f"the values of {run_id!r}")


@checks.check("deletion-repeated", kills=("values-stay-deleted",))
async def deletion_repeated(env: Env) -> None:
    """`delete_run` may be repeated, also of a run without values; afterwards the same values may be put again.

    It is repeated after a crash; and an id may be used again.
    """
    key = value_address("run", b"data")
    await env.values.delete_run("never was")
    for _ in range(3):
        await env.values.put(key, b"data")
        equal(len(await env.values.get_many([key])), 1, "the value that was put again")
        await env.values.delete_run("run")
        await env.values.delete_run("run")
        equal(len(await env.values.get_many([key])), 0, "the value that was deleted")


@checks.check("whole-or-absent", kills=("values-seen-in-part",), timeout=30.0)
async def whole_or_absent(env: Env) -> None:
    """Nobody ever sees a part of a value, whatever is put, read and deleted at the same time.

    Half a value that is taken for a whole one is found out by the user.
    """
    contents = [env.rng.randbytes(40_000) for _ in range(8)]
    keys = [value_address("run", data) for data in contents]
    pairs = list(zip(keys, contents, strict=True))

    async def read() -> None:
        for _ in range(10):
            for key, data in (await env.values.get_many(keys)).items():
                expect(data == contents[keys.index(key)], f"{len(data)} bytes of a value of 40,000 were seen")
            await asyncio.sleep(0)

    for _ in range(3):
        puts = [env.values.put(key, data) for key, data in (*pairs, *pairs)]
        await asyncio.gather(read(), *puts, read(), env.values.delete_run("run"))
        await read()
    await env.values.delete_run("run")
    equal(len(await env.values.get_many(keys)), 0, "values after the last deletion")


@checks.check("callers-buffers", kills=("values-keep-buffers",))
async def callers_buffers(env: Env) -> None:
    """What is stored does not change when the caller goes on using its buffer.

    The key says what the content is; a buffer that is kept breaks that word.
    """
    buffer = bytearray(b"before")
    key = value_address("run", b"before")
    await env.values.put(key, cast("bytes", buffer))
    buffer[:] = b"after!"
    equal(bytes((await env.values.get_many([key]))[key]), b"before", "the value")


@checks.check("limit", kills=("values-limit-undeclared",), timeout=60.0)
async def limit(env: Env) -> None:
    """Values of up to ``max_value_bytes`` are taken; larger ones raise `PayloadTooLarge`, and leave nothing.

    The core offloads and refuses by the declared limit. One beyond 32 MB is taken for none, and 4 MB are put.
    """
    most = env.values.max_value_bytes
    data = bytes(4 << 20 if most is None or most > _PRACTICAL else most)
    key = value_address("run", data)
    await env.values.put(key, data)
    equal(len((await env.values.get_many([key])).get(key, b"")), len(data), "bytes of a value of the largest size")
    if most is not None and most <= _PRACTICAL:
        large = value_address("run", bytes(most + 1))
        with raises(PayloadTooLarge, "a value beyond the limit"):
            await env.values.put(large, bytes(most + 1))
        equal(dict(await env.values.get_many([large])), {}, "the value beyond the limit")


@checks.check("shared", level=3, kills=("values-of-one-handle",))
async def shared(env: Env) -> None:
    """What one has put, all who have opened the place find from then on; what one has deleted, nobody finds.

    The commit that names a value is read by another process a moment later.
    """
    async with handles(env, 2, lambda ports: ports.values) as (first, second):
        key = ""
        for number, (one, two) in enumerate([(first, second), (second, first)] * 5):
            data = str(number).encode()
            key = value_address("run", data)
            await one.put(key, data)
            equal(
                {k: bytes(v) for k, v in (await two.get_many([key])).items()}, {key: data}, "what another handle finds"
            )
        await first.delete_run("run")
        equal(dict(await second.get_many([key])), {}, "what another handle finds after a deletion")


@checks.check("places-are-apart", kills=("values-places-shared",))
async def places_are_apart(env: Env) -> None:
    """Two namespaces on one backend share no value.

    Runs of both may have one id and one content; the deletion of one must leave the other.
    """
    ours, key = env.values, value_address("run", b"data")
    async with apart(env) as ports:
        theirs = ports.values or fail("another place has no value store")
        await ours.put(key, b"data")
        equal(dict(await theirs.get_many([key])), {}, "our value, elsewhere")
        await theirs.put(key, b"data")
        await theirs.delete_run("run")
        equal(len(await ours.get_many([key])), 1, "our value after a deletion elsewhere")
