"""The checks as pytest collects them for ``--flowcraft-target``: one item each, with the check's id as its name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft.conformance.checks import Check
from flowcraft.conformance.contract import CATALOGUE
from flowcraft.conformance.facts import Facts
from flowcraft.conformance.loading import load_target
from flowcraft.conformance.profiles import LATEST, in_profile
from flowcraft.conformance.results import Finding
from flowcraft.conformance.runner import look_at
from flowcraft.conformance.target import Target
from flowcraft.conformance.verdict import NotHeld, pronounce
from flowcraft.errors import FlowcraftError

__all__ = ["CheckFile", "CheckItem"]


class CheckFile(pytest.File):
    """All checks of the profile, for one target."""

    target: Target
    _found: Facts | Finding | None = None

    def collect(self) -> Iterator[CheckItem]:
        """Raises: CollectError, if there is no such target or profile."""
        name = self.config.getoption("--flowcraft-target")
        if name is None:
            raise self.CollectError("which backend? Give --flowcraft-target package.module:target")
        try:
            self.target = load_target(name)
            checks = in_profile(CATALOGUE, self.config.getoption("--flowcraft-profile") or LATEST)
        except FlowcraftError as error:
            raise self.CollectError(f"--flowcraft-target: {error}") from error
        for check in checks:
            yield CheckItem.from_parent(self, name=check.id, check=check)

    @property
    def found(self) -> Facts | Finding:
        """What the target declares, looked at once."""
        if self._found is None:
            self._found = asyncio.run(look_at(self.target))
        return self._found


class CheckItem(pytest.Item):
    """One check."""

    def __init__(self, *, check: Check, **more: Any) -> None:
        super().__init__(**more)
        self._check = check

    def runtest(self) -> None:
        """Raises what `pronounce` raises."""
        file = self.parent
        assert isinstance(file, CheckFile)
        pronounce(file.target, file.found, self._check)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The finding alone: where pytest was called from explains nothing."""
        if isinstance(excinfo.value, NotHeld):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it is, and the headline of a failure."""
        file = self.parent
        return self.path, None, f"{self.name} on {file.target.name}" if isinstance(file, CheckFile) else self.name
