"""The checks as test classes for pytest: subclass one and say what the target is.

    class TestMine(StoreConformance):
        target = mine

Every check is one test, with the check's id. What the target declares as a deviation is an expected failure; what is
not applicable is skipped. Only `flowcraft conformance run` certifies.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from flowcraft.conformance.checks import Check
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.facts import Facts
from flowcraft.conformance.profiles import LATEST, in_profile
from flowcraft.conformance.results import Finding
from flowcraft.conformance.runner import look_at
from flowcraft.conformance.target import PortName, Target
from flowcraft.conformance.verdict import pronounce
from flowcraft.errors import InvalidRequest

if TYPE_CHECKING:
    import pytest

__all__ = [
    "Conformance",
    "CoordinationConformance",
    "EventsConformance",
    "QueueConformance",
    "StoreConformance",
    "SystemConformance",
    "ValuesConformance",
]


class Conformance:
    """The checks of every port. ``target``: what is checked · ``profile``: whose checks."""

    target: ClassVar[Target]
    profile: ClassVar[str] = LATEST
    _ports: ClassVar[frozenset[PortName]] = frozenset({"store", "queue", "coordination", "events", "values", "system"})
    _found: ClassVar[Facts | Finding | None] = None

    def __init_subclass__(cls) -> None:
        """Raises: InvalidRequest, if a check is overridden: what does not hold is declared as a deviation."""
        super().__init_subclass__()
        own = cls.__module__ == __name__
        for name in () if own else vars(cls):
            if name.startswith(("test", "pytest_", "_ports", "_found")) and hasattr(Conformance, name):
                raise InvalidRequest(
                    f"{cls.__qualname__} overrides {name!r}: what does not hold belongs into the target's `deviations`"
                )
        cls._found = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each check."""
        if metafunc.definition.originalname == "test_contract":
            checks = [check for check in in_profile(CATALOGUE, self.profile) if check.port in self._ports]
            metafunc.parametrize("check", checks, ids=[check.id for check in checks])

    def test_contract(self, check: Check) -> None:
        """One check holds."""
        cls = type(self)
        if not isinstance(getattr(cls, "target", None), Target):
            raise InvalidRequest(f"{cls.__qualname__} has no target: write `target = …` in it")
        if cls._found is None:
            cls._found = asyncio.run(look_at(cls.target))
        pronounce(cls.target, cls._found, check)


class StoreConformance(Conformance):
    """The checks of the run store."""

    _ports = frozenset({"store"})


class QueueConformance(Conformance):
    """The checks of the job queue."""

    _ports = frozenset({"queue"})


class CoordinationConformance(Conformance):
    """The checks of the coordination store."""

    _ports = frozenset({"coordination"})


class EventsConformance(Conformance):
    """The checks of the event bus."""

    _ports = frozenset({"events"})


class ValuesConformance(Conformance):
    """The checks of the value store."""

    _ports = frozenset({"values"})


class SystemConformance(Conformance):
    """The whole-system scenarios."""

    _ports = frozenset({"system"})
