"""Deleting: all that a run ever stored is gone with it, to the last index entry."""

from __future__ import annotations

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Blocked, equal, expect
from flowcraft.conformance.making import change, event, existing, index, new
from flowcraft.conformance.tools import TOOLS
from flowcraft.model import ValueKey, value_address

__all__ = ["checks"]

_of_store = Collection("store", "remains")
_of_values = Collection("values", "remains")
_VALUES = {ValueKey("context", "ä/'"): b"c" * 3000, ValueKey("output", "node", 3): b"o"}


async def _names(env: Env) -> list[str]:
    if env.target.leftovers is None:
        raise Blocked(TOOLS["leftovers"])
    return sorted(await env.target.leftovers(env.place))


@_of_store.check("nothing", requires=("leftovers",))
async def nothing_of_a_run(env: Env) -> None:
    """Of a run that was deleted nothing is left: no value, no event, no entry of an index.

    What is left of each run fills the backend up, for ever; and a run of the same id would find what is not its own.
    """
    await env.store.create(new("stays", "t0"))
    before = await _names(env)
    for kind in ("run", "schedule"):
        first, second = ([event("run", 1)], [event("run", 2)]) if kind == "run" else ([], [])
        await env.store.create(new("run", "t0", wake_at=5.0, values=_VALUES, kind=kind, events=first))
        version = existing(await env.store.load("run", kind=kind)).version
        more = {ValueKey("output", f"node-{number}"): b"more" for number in range(20)}
        step = change("run", version, "t1", values=more, at=index("completed"), events=second, kind=kind)
        expect((await env.store.commit([step]))[0].applied, "the commit was applied")
        expect(await _names(env) != before, "the target's `leftovers` names what is stored")
        expect(await env.store.delete("run", "t1", kind=kind), "the run was deleted")
        equal(await _names(env), before, f"what is stored after a {kind} was deleted")


@_of_values.check("nothing", requires=("leftovers",))
async def nothing_of_values(env: Env) -> None:
    """Of the large values of a run that was deleted nothing is left, and another run's are untouched.

    Large values cost most, and nobody finds them again once the run is gone.
    """
    await env.values.put(value_address("stays", b"x"), b"x")
    before = await _names(env)
    for number in range(10):
        content = f"value {number}".encode()
        await env.values.put(value_address("run", content), content)
    expect(await _names(env) != before, "the target's `leftovers` names what is stored")
    await env.values.delete_run("run")
    equal(await _names(env), before, "what is stored after the values were deleted")


checks = (*_of_store, *_of_values)
