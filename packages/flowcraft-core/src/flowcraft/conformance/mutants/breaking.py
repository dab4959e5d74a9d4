"""How a backend in memory is broken: one port is made otherwise, or every opening gets something of its own."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from flowcraft.conformance.mutants.mutant import Mutant
from flowcraft.conformance.target import Place, Ports, Target
from flowcraft.conformance.targets import memory_target
from flowcraft.memory import MemoryBackend
from flowcraft.ports import Clock

__all__ = ["Split", "broken", "mutant", "opened_otherwise", "places_shared"]


def broken(name: str, **ports: Any) -> Target:
    """The memory target with some ports made otherwise: by name (``store=``, ``queue=``, …) a class, or a function that
    takes the clock.
    """

    def make(clock: Clock) -> MemoryBackend:
        backend = MemoryBackend(clock)
        for port, made in ports.items():
            object.__setattr__(backend, port, made(clock))  # frozen, and still ours alone
        return backend

    return memory_target(name, make)


def mutant(name: str, check_id: str, **ports: Any) -> Mutant:
    """A mutant of one port; what it does wrong is said by the docstring of the class that is given for the port."""
    ((_, made),) = ports.items()
    return Mutant(name, inspect.cleandoc(made.__doc__ or ""), check_id, lambda: broken(name, **ports))


def opened_otherwise(name: str, change: Callable[[Ports, Place], Ports], inner: Target | None = None) -> Target:
    """A target on which everyone who opens a place gets what ``change`` makes of its ports."""
    base = inner or memory_target(name)

    @asynccontextmanager
    async def opened(place: Place) -> AsyncGenerator[Ports]:
        async with base.open(place) as ports:
            yield change(ports, place)

    return replace(base, name=name, open=opened, leftovers=None)


def places_shared(name: str, port: str) -> Target:
    """A target with one port that is the same in all places."""
    base = memory_target(name)

    @asynccontextmanager
    async def opened(place: Place) -> AsyncGenerator[Ports]:
        async with base.open(place) as own, base.open(Place("one-for-all", place.clock)) as shared:
            yield replace(own, **{port: getattr(shared, port)})

    async def drop(place: Place) -> None:
        if base.drop is not None:
            await base.drop(place)
            if not place.namespace.endswith("-b2"):  # the second place of a check ends before the first
                await base.drop(Place("one-for-all", place.clock))

    return replace(base, name=name, open=opened, drop=drop, leftovers=None)


class Split:
    """A port of which some methods are those of another object."""

    def __init__(self, shared: Any, own: Any, names: set[str]) -> None:
        self._shared, self._own, self._names = shared, own, names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own if name in self._names else self._shared, name)
