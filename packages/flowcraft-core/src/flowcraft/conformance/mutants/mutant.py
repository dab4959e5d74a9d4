"""What a mutant is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from flowcraft.conformance.target import Target
from flowcraft.conformance.targets import memory

__all__ = ["Mutant"]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault.

    ``name``: stable, in the ``kills`` of its check · ``describes``: what is broken, in a sentence · ``check_id``: the
    check that must fail on it · ``target``: makes the broken target · ``base``: makes the same target unbroken, on
    which the check must pass · ``planted``: breaks the engine in this process for as long as its block lasts, where the
    fault is not in a port.
    """

    name: str
    describes: str
    check_id: str
    target: Callable[[], Target] = lambda: memory
    base: Callable[[], Target] = lambda: memory
    planted: Callable[[], AbstractContextManager[object]] = nullcontext
