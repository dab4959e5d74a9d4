"""Run store and coordination beside those in memory: the same operations, the same answers."""

from __future__ import annotations

from flowcraft.conformance.checks import Collection
from flowcraft.conformance.env import Env

__all__ = ["checks"]

_of_store = Collection("store", "model")
_of_coordination = Collection("coordination", "model")


@_of_store.check("same-answers", requires=["hypothesis"], kills=("store-conflict-forgets-defer",), timeout=90.0)
async def store_says_the_same(env: Env) -> None:
    """Random operations in random order get the same answers as from the store in memory, versions aside.

    The other checks prove sentences one by one; bugs live where two of them meet.
    """
    from flowcraft.conformance.sidebyside import drive  # noqa: PLC0415 -- Hypothesis is needed only here
    from flowcraft.conformance.storemodel import StoreBesideMemory  # noqa: PLC0415

    await drive(env, StoreBesideMemory, examples=120, steps=25)


@_of_coordination.check(
    "same-answers", requires=["hypothesis"], kills=("coordination-extend-begins-count-anew",), timeout=90.0
)  # fmt: skip
async def coordination_says_the_same(env: Env) -> None:
    """Random operations in random order get the same answers as from the coordination store in memory.

    The other checks prove sentences one by one; bugs live where two of them meet.
    """
    from flowcraft.conformance.coordinationmodel import CoordinationBesideMemory  # noqa: PLC0415
    from flowcraft.conformance.sidebyside import drive  # noqa: PLC0415

    await drive(env, CoordinationBesideMemory, examples=100, steps=40)


checks = (*_of_store, *_of_coordination)
