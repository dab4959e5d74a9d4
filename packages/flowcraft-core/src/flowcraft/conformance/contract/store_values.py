"""Run store: values come back as they were, under the name they were given, and nobody else's."""

from __future__ import annotations

import asyncio
import hashlib
from typing import cast

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.store_committing import version_of
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect
from flowcraft.conformance.hostile import IDS, NAMES
from flowcraft.conformance.making import change, existing, new
from flowcraft.model import Space, ValueKey

__all__ = ["checks"]

checks = Collection("store", "values")

_SPACES: tuple[Space, ...] = (
    "context", "output", "input", "error", "item", "result", "signal", "webhook", "log",
)  # fmt: skip


def room(env: Env, wanted: int) -> int:
    """So many bytes, or less if one value or one commit of the target may not have them (beside a small head)."""
    most = env.store.capabilities
    limits = [limit for limit in (most.max_value_bytes, most.max_commit_bytes and most.max_commit_bytes // 3) if limit]
    return min([wanted, *limits])


@checks.check("sizes", kills=("store-value-empty-is-none",))
async def sizes(env: Env) -> None:
    """Heads and values of any size up to the limits come back byte for byte, also empty ones.

    A store that takes no bytes for no value loses the difference between "" and nothing.
    """
    key = ValueKey("output", "n", 1)
    for size in sorted({room(env, each) for each in (0, 1, 255, 4096, 65_537, 262_144)}):
        data = bytes(n * 7 & 0xFF for n in range(size))
        run_id = f"r{size}"
        await env.store.create(new(run_id))
        step = change(run_id, await version_of(env.store, run_id), "t1", head=data[:131_072], values={key: data})
        (result,) = await env.store.commit([step])
        expect(result.applied, f"a change with {size} bytes was applied")
        stored = existing(await env.store.load(run_id, want=[key]))
        expect(stored.head == data[:131_072], f"a head of {min(size, 131_072)} bytes came back otherwise")
        equal(set(stored.values), {key}, f"the values that are there, of which one has {size} bytes")
        expect(stored.values[key] == data, f"a value of {size} bytes came back otherwise")


@checks.check("bytes", kills=("store-value-is-json", "store-value-is-text"))
async def any_bytes(env: Env) -> None:
    """Bytes mean nothing to the store: what looks like text, JSON, numbers or its own marks comes back as it was.

    Values are compressed and encrypted; a store that takes them for text destroys them.
    """
    contents = [
        bytes(range(256)), b"\x00", b"\xff\xfe", b"null", b"None", b"12", b"1.50", b"{}", b'{"S": "x"}',
        b"\xfcr\x01" + b"r" * 32,
        b"\x80\x04K\x01.", b"\x1f\x8b\x08", b"x\x9c\x03", "é\r\n".encode(), b"a\n", b" ", b"'", b"\\x00",
        b"\x00\x00end",
    ]  # fmt: skip
    values = {ValueKey("context", f"k{n}"): data for n, data in enumerate(contents)}
    await env.store.create(new("run", values=values))
    stored = existing(await env.store.load("run", want=list(values)))
    for key, data in values.items():
        expect(key in stored.values, f"{data!r} is not there")
        equal(bytes(stored.values[key]), data, "a value")
    for number, data in enumerate(contents):
        step = change("run", await version_of(env.store, "run"), f"t{number}.", head=data)
        await env.store.commit([step])
        equal(bytes(existing(await env.store.load("run")).head), data, "a head")


@checks.check("names", kills=("store-names-collide",))
async def names(env: Env) -> None:
    """Values with different space, name or visit are different, whatever their names.

    Context keys and node ids are chosen by people: two that collide silently overwrite each other.
    """
    tried = (*NAMES, "a\x1f1", "a:1", "1", "11", "output:a")
    keys = [ValueKey(space, name, visit) for space in ("context", "output") for name in tried for visit in (0, 1, 11)]
    values = {key: repr(tuple(key)).encode() for key in keys}
    await env.store.create(new("run"))
    for number in range(0, len(keys), 20):  # small steps, for stores that bound what one may hold
        step = {key: values[key] for key in keys[number : number + 20]}
        await env.store.commit([change("run", await version_of(env.store, "run"), f"t{number}.", values=step)])
    found = {
        **await env.store.read_values("run", space="context"),
        **await env.store.read_values("run", space="output"),
    }
    for key, data in values.items():
        equal(bytes(found.get(key, b"nothing")), data, f"the value under {tuple(key)}")
    equal(len(found), len(values), "values")


@checks.check("spaces", kills=("store-spaces-mixed",))
async def spaces(env: Env) -> None:
    """Every space is one of its own, and `read_values` of a space returns all of it and nothing else.

    A run's context is read as a space: an output among it would become a context key.
    """
    keys = [ValueKey(space, name, visit) for space in _SPACES for name, visit in (("a", 0), ("a", 7), ("", 0))]
    await env.store.create(new("run", values={key: repr(tuple(key)).encode() for key in keys[:14]}))
    rest = {key: repr(tuple(key)).encode() for key in keys[14:]}
    await env.store.commit([change("run", await version_of(env.store, "run"), "t1", values=rest)])
    for space in _SPACES:
        found = await env.store.read_values("run", space=space)
        expected = {key: repr(tuple(key)).encode() for key in keys if key.space == space}
        equal({key: bytes(data) for key, data in found.items()}, expected, f"the values of {space!r}")
        expect(all(type(key) is ValueKey for key in found), "keys are ValueKeys")


@checks.check("many", kills=("store-space-first-page",), timeout=20.0)
async def many(env: Env) -> None:
    """A space has any number of values, and all of them are read; so are any number of keys.

    A batch of some hundred items has as many results; backends that answer in pages forget the second one.
    """
    count, keys = 420, [ValueKey("result", "n", visit) for visit in range(420)]
    await env.store.create(new("run"))
    most = env.store.capabilities.max_commit_items
    step = 50 if most is None else max(1, min(50, most // 2))
    for start in range(0, count, step):
        values = {key: str(key.visit).encode() * 50 for key in keys[start : start + step]}
        await env.store.commit([change("run", await version_of(env.store, "run"), f"t{start}.", values=values)])
    for what, found in (
        ("by space", await env.store.read_values("run", space="result")),
        ("by key", await env.store.read_values("run", keys)),
        ("with the document", existing(await env.store.load("run", want=keys)).values),
    ):
        equal(len(found), count, f"values that are read {what}")
        expect(all(found[key] == str(key.visit).encode() * 50 for key in keys), f"values that are read {what} differ")


@checks.check("only-what-is-asked", kills=("store-no-keys-is-all-keys", "store-load-brings-all"))
async def only_what_is_asked(env: Env) -> None:
    """`load` and `read_values` return those of the wanted values that exist, and no other.

    The cost of a step must not grow with what the run has stored.
    """
    one, two, no = ValueKey("context", "one"), ValueKey("context", "two"), ValueKey("context", "three")
    await env.store.create(new("run", values={one: b"1", two: b"2"}))
    equal(dict(existing(await env.store.load("run")).values), {}, "values that nobody asked for")
    equal(dict(existing(await env.store.load("run", want=[two, no])).values), {two: b"2"}, "the wanted values")
    equal(dict(existing(await env.store.load("run", want=[one, one])).values), {one: b"1"}, "a value wanted twice")
    equal(dict(await env.store.read_values("run", [one, no])), {one: b"1"}, "the values that are read")
    equal(dict(await env.store.read_values("run", [])), {}, "values of no keys")
    equal(dict(await env.store.read_values("run", space="output")), {}, "values of an empty space")
    equal(dict(await env.store.read_values("missing", [one])), {}, "values of a missing document")
    equal(dict(await env.store.read_values("missing", space="context")), {}, "values of a missing document, by space")


@checks.check("one-moment", kills=("store-load-torn",))
async def one_moment(env: Env) -> None:
    """`load` returns head and values as of one moment.

    A node would run on an input of one step and a head of another, and nobody could ever tell why.
    """
    keys = [ValueKey("context", f"k{n}") for n in range(5)]
    await env.store.create(new("run", values=dict.fromkeys(keys, b"t0")))
    ended = False

    async def write() -> None:
        nonlocal ended
        version = await version_of(env.store, "run")
        for number in range(1, 60):
            values = dict.fromkeys(keys, f"t{number}".encode())
            (result,) = await env.store.commit([change("run", version, f"t{number}", values=values)])
            version = result.version
            await asyncio.sleep(0)  # a store that never waits must let the readers in
        ended = True

    async def read() -> None:
        while not ended:
            stored = existing(await env.store.load("run", want=keys))
            seen = {bytes(data) for data in stored.values.values()}
            equal(seen, {stored.token.encode()}, f"the values beside the head with token {stored.token!r}")
            await asyncio.sleep(0)

    await asyncio.gather(write(), read(), read(), read())


@checks.check("of-their-run", kills=("store-values-leak-across-runs", "store-ids-collide"))
async def of_their_run(env: Env) -> None:
    """Documents with different ids are different, whatever their ids, and so are their values.

    Ids are chosen by people, too: a run must never see what another customer's run has stored.
    """
    key = ValueKey("context", "k")
    made = await asyncio.gather(*(env.store.create(new(run_id, values={key: run_id.encode()})) for run_id in IDS))
    for run_id, created in zip(IDS, made, strict=True):
        expect(created.made, f"the id {run_id!r} was taken")
    for run_id in IDS:
        stored = existing(await env.store.load(run_id, want=[key]), f"the document {run_id!r}")
        equal((stored.run_id, dict(stored.values)), (run_id, {key: run_id.encode()}), f"what {run_id!r} holds")
        await env.store.commit([change(run_id, stored.version, "t1", values={key: b"new " + run_id.encode()})])
    for run_id in IDS:
        found = await env.store.read_values(run_id, space="context")
        equal(dict(found), {key: b"new " + run_id.encode()}, f"what {run_id!r} holds after all were changed")


@checks.check("callers-buffers", kills=("store-keeps-buffers",))
async def callers_buffers(env: Env) -> None:
    """What is stored does not change when the caller goes on using the buffer that it handed over.

    Codecs reuse their buffers; a store that keeps them would change values after the fact.
    """
    key, buffer, head = ValueKey("context", "k"), bytearray(b"before"), bytearray(b"head 1")
    values = {key: bytes_like(buffer)}
    await env.store.create(new("run", values=values))
    buffer[:] = b"after!"
    equal(bytes((await env.store.read_values("run", [key]))[key]), b"before", "a created value")
    step = change("run", await version_of(env.store, "run"), "t1", head=bytes_like(head), values=values)
    await env.store.commit([step])
    buffer[:], head[:] = b"later!", b"head 2"
    values.clear()
    stored = existing(await env.store.load("run", want=[key]))
    equal((bytes(stored.head), bytes(stored.values[key])), (b"head 1", b"after!"), "a committed head and value")


def bytes_like(buffer: bytearray) -> bytes:
    """The buffer itself, typed as what a port takes: a caller that does so is the point."""
    return cast("bytes", buffer)


@checks.check("digest", kills=("store-value-same-size",), timeout=20.0)
async def digest(env: Env) -> None:
    """Seeded random contents, written over each other in random order, are what was written last.

    Sizes and bytes at random find what chosen ones do not: a chunk lost at a boundary, a value of the step before.
    """
    rng, keys = env.rng, [ValueKey("context", f"k{n}") for n in range(6)]
    expected = dict[ValueKey, bytes]()
    await env.store.create(new("run"))
    for number in range(40):
        written = {key: rng.randbytes(rng.choice((1, 17, 900, room(env, 20_000)))) for key in rng.sample(keys, 2)}
        dropped = [key for key in rng.sample(keys, 1) if key not in written]
        version = await version_of(env.store, "run")
        await env.store.commit([change("run", version, f"t{number}.", values=written, deleted=dropped)])
        expected.update(written)
        for key in dropped:
            expected.pop(key, None)
        stored = existing(await env.store.load("run", want=keys)).values
        seen = {key: hashlib.sha256(data).hexdigest() for key, data in stored.items()}
        equal(seen, {key: hashlib.sha256(data).hexdigest() for key, data in expected.items()}, f"step {number}")
