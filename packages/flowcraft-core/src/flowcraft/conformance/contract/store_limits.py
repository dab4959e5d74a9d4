"""Run store: declared limits hold both ways: up to them it works, beyond them nothing happens."""

from __future__ import annotations

from typing import Final

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.contract.store_committing import version_of
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import equal, expect, raises
from flowcraft.conformance.making import change, existing, new
from flowcraft.errors import PayloadTooLarge
from flowcraft.model import ValueKey

__all__ = ["checks"]

checks = Collection("store", "limits")

#: Beyond so many bytes a limit is taken for "practically none"; a check must not move gigabytes.
_PRACTICAL: Final = 32 << 20
_KEY: Final = ValueKey("output", "n", 1)


def value_limit(env: Env) -> int:
    """The limit of one value that one commit can also hold, with its head and key."""
    most = env.store.capabilities
    limits = [most.max_value_bytes, None if most.max_commit_bytes is None else most.max_commit_bytes - 4096]
    return min(limit for limit in (*limits, _PRACTICAL) if limit is not None)


@checks.check(
    "value-up-to-the-limit", requires=["max_value_bytes"], kills=("store-limit-declared-too-high",), timeout=60.0
)
async def value_up_to_the_limit(env: Env) -> None:
    """A value of exactly ``max_value_bytes`` is stored whole, in a creation and in a change.

    What is just below the limit was accepted by the core, and must not get stuck later.
    """
    data = env.rng.randbytes(value_limit(env))
    await env.store.create(new("made", values={_KEY: data}))
    await env.store.create(new("changed"))
    version = await version_of(env.store, "changed")
    (result,) = await env.store.commit([change("changed", version, "t1", values={_KEY: data})])
    expect(result.applied, "the change was applied")
    for run_id in ("made", "changed"):
        stored = existing(await env.store.load(run_id, want=[_KEY]))
        expect(_KEY in stored.values, f"the value of {run_id!r} is there")
        equal(len(stored.values[_KEY]), len(data), f"bytes of the value of {run_id!r}")
        expect(bytes(stored.values[_KEY]) == data, f"the value of {run_id!r} came back otherwise")


@checks.check(
    "value-beyond-the-limit", requires=["max_value_bytes"], kills=("store-limit-truncates", "store-limit-half-a-call"),
    timeout=60.0,
)  # fmt: skip
async def value_beyond_the_limit(env: Env) -> None:
    """A value beyond ``max_value_bytes`` raises `PayloadTooLarge`, and nothing of the call happens.

    A value that is cut, or a call that is half applied, is found out by nobody until it is needed.
    """
    limit, store = env.store.capabilities.max_value_bytes or 0, env.store
    if limit > _PRACTICAL:
        return
    large = {_KEY: bytes(limit + 1), ValueKey("context", "small"): b"1"}
    await store.create(new("a"))
    await store.create(new("b"))
    steps = [
        change("a", await version_of(store, "a"), "t1"),
        change("b", await version_of(store, "b"), "t1", values=large),
    ]
    with raises(PayloadTooLarge, "a change with a value beyond the limit"):
        await store.commit(steps)
    with raises(PayloadTooLarge, "the same in another order"):
        await store.commit(steps[::-1])
    with raises(PayloadTooLarge, "a creation with a value beyond the limit"):
        await store.create(new("c", values=large))
    equal([existing(await store.load(run_id)).token for run_id in ("a", "b")], ["t0", "t0"], "the tokens")
    equal(dict(await store.read_values("b", list(large))), {}, "the values")
    equal(await store.load("c"), None, "the document with the large value")
    (result,) = await store.commit(steps[:1])
    expect(result.applied, "the change that is small, alone, was refused")


@checks.check("no-limit", requires=["!max_value_bytes"], kills=("store-limit-undeclared",), timeout=60.0)
async def no_limit(env: Env) -> None:
    """A store that declares no limit of a value, nor of a commit, takes one of 4 MB.

    The core offloads or refuses by the declared limit; an undeclared one is met in production.
    """
    most = env.store.capabilities.max_commit_bytes
    data = env.rng.randbytes(4 << 20 if most is None else max(1, min(4 << 20, most - 4096)))
    await env.store.create(new("run", values={_KEY: data}))
    stored = existing(await env.store.load("run", want=[_KEY]))
    expect(bytes(stored.values.get(_KEY, b"")) == data, "a value of 4 MB came back otherwise")


@checks.check(
    "commit-bytes", requires=["max_commit_bytes"], kills=("store-commit-bytes-cut",), timeout=60.0
)  # fmt: skip
async def commit_bytes(env: Env) -> None:
    """Head and values of less than ``max_commit_bytes`` are applied; beyond, `PayloadTooLarge` is raised, or it works.

    A change beyond the limit of the backend would be tried again and again, and the run would stand still.
    """
    limit, store = env.store.capabilities.max_commit_bytes or 0, env.store
    if limit > _PRACTICAL:
        return
    share = min(value_limit(env), max(1, limit // 8))
    count = limit // share

    def values(number: int) -> dict[ValueKey, bytes]:
        return {ValueKey("context", f"k{n}"): bytes(share) for n in range(number)}

    await store.create(new("run"))
    fitting = values(max(1, count - 2))
    (result,) = await store.commit([change("run", await version_of(store, "run"), "t1", values=fitting)])
    expect(result.applied, "a change below the limit was refused")
    many = values(count + 2)
    try:
        await store.commit([change("run", result.version, "t2", values=many)])
    except PayloadTooLarge:
        equal(existing(await store.load("run")).token, "t1", "the token after a refusal")
        many = fitting
    equal(set(await store.read_values("run", space="context")), set(many), "the values")
    try:
        await store.create(new("large", values=values(count + 2)))
    except PayloadTooLarge:
        equal(await store.load("large"), None, "the document after a refusal")
    else:
        equal(len(await store.read_values("large", space="context")), count + 2, "values of what was made")


@checks.check("commit-items", requires=["max_commit_items"], kills=("store-commit-items-cut",), timeout=60.0)
async def commit_items(env: Env) -> None:
    """A change of ``max_commit_items`` is applied; one of twice as many raises `PayloadTooLarge`, or works.

    The core cuts its steps by the declared number; a smaller one in truth lets them fail.
    """
    limit, store = env.store.capabilities.max_commit_items or 0, env.store
    limit = min(limit, 2000)

    def values(number: int) -> dict[ValueKey, bytes]:
        return {ValueKey("context", f"k{n}"): b"v" for n in range(number)}

    await store.create(new("run"))
    (result,) = await store.commit([change("run", await version_of(store, "run"), "t1", values=values(limit - 1))])
    expect(result.applied, "a change within the limit was refused")
    equal(len(await store.read_values("run", space="context")), limit - 1, "values")
    try:
        (result,) = await store.commit([change("run", result.version, "t2", values=values(2 * limit + 1))])
    except PayloadTooLarge:
        equal(existing(await store.load("run")).token, "t1", "the token after a refusal")
        equal(len(await store.read_values("run", space="context")), limit - 1, "values after a refusal")
    else:
        expect(result.applied, "a change of a version that is stored was refused without an error")
        equal(
            len(await store.read_values("run", space="context")), 2 * limit + 1, "values of a change that was applied"
        )


@checks.check("large-head", kills=("store-head-cut",), timeout=30.0)
async def large_head(env: Env) -> None:
    """A head of 200 KB, or of what one commit can hold, is stored, and comes back with conflicts, too.

    A batch of a hundred thousand items has one; a store that cuts it loses the whole run.
    """
    most = env.store.capabilities.max_commit_bytes
    head = env.rng.randbytes(200_000 if most is None else min(200_000, most - 4096))
    await env.store.create(new("run"))
    first = await version_of(env.store, "run")
    (result,) = await env.store.commit([change("run", first, "t1", head=head)])
    expect(result.applied, "the change was applied")
    expect(bytes(existing(await env.store.load("run")).head) == head, "a large head came back otherwise")
    (lost,) = await env.store.commit([change("run", first, "t2", head=b"")])
    expect(bytes(existing(lost.stored).head) == head, "a large head came back with a conflict otherwise")
