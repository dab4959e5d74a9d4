"""What a check is: one sentence of the contract, and how it is proved."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from collections.abc import Collection as Names
from dataclasses import dataclass
from typing import Final

from flowcraft.conformance.env import Env
from flowcraft.conformance.target import PortName

__all__ = ["Check", "Collection", "Requirement"]

#: A fact that a check needs, by the name of a field of `flowcraft.model.Capabilities` that must be true or a number;
#: with ``!`` in front: that must not be. ``bound``: the store is bound to the queue.
Requirement = str
#: The profile in which checks appear that name no later one.
FIRST_PROFILE: Final = "2026.1"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    ``id``: stable, ``port.topic.what-holds`` · ``contract``: the sentence that it proves · ``why``: what goes wrong for
    users without it · ``level``: 1 embedded (round trips, isolation), 2 durable (survives the loss of processes), 3
    distributed (many processes), 4 the rest (history, priorities, limits) · ``requires``: else it is not applicable ·
    ``kills``: names of the mutants that this check, and no other, must catch; if empty, ``why`` tells why it is there ·
    ``since``: the profile · ``timeout``: seconds of real time, for a target that needs none for itself · ``alone``: it
    looks at the whole process, so no other check may run beside it.
    """

    id: str
    port: PortName
    level: int
    contract: str
    why: str
    run: Callable[[Env], Awaitable[None]]
    requires: frozenset[Requirement] = frozenset()
    kills: tuple[str, ...] = ()
    since: str = FIRST_PROFILE
    timeout: float = 10.0
    alone: bool = False


class Collection:
    """The checks of one topic, in the order in which they are written.

    A check is an ``async def`` that takes an `Env`. The first paragraph of its docstring is the sentence of the
    contract, what follows tells why it matters.
    """

    def __init__(self, port: PortName, topic: str) -> None:
        self.port: PortName = port
        self.topic = topic
        self._checks: list[Check] = []

    def __iter__(self) -> Iterator[Check]:
        return iter(self._checks)

    def check(
        self,
        name: str,
        *,
        level: int = 1,
        requires: Names[Requirement] = (),
        kills: Names[str] = (),
        since: str = FIRST_PROFILE,
        timeout: float = 10.0,
        alone: bool = False,
    ) -> Callable[[Callable[[Env], Awaitable[None]]], Callable[[Env], Awaitable[None]]]:
        """Add the function below as ``port.topic.name``."""

        def add(run: Callable[[Env], Awaitable[None]]) -> Callable[[Env], Awaitable[None]]:
            contract, _, why = inspect.cleandoc(run.__doc__ or "").partition("\n\n")
            made = Check(
                f"{self.port}.{self.topic}.{name}", self.port, level, " ".join(contract.split()), why, run,
                frozenset(requires), tuple(kills), since, timeout, alone,
            )  # fmt: skip
            self._checks.append(made)
            return run

        return add
