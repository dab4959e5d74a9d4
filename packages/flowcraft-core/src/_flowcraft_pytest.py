"""What pytest loads wherever flowcraft-core is installed: an option, and nothing else until somebody uses it.

It is not inside the package, so that pytest does not import Flowcraft for those who only have it installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_addoption", "pytest_collect_file"]

_SUITE = ("flowcraft", "conformance", "suite.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the conformance suite."""
    group = parser.getgroup("flowcraft", "conformance of Flowcraft backends (with --pyargs flowcraft.conformance)")
    group.addoption("--flowcraft-target", metavar="TARGET", help="package.module:target, or path/to/file.py:target")
    group.addoption("--flowcraft-profile", metavar="PROFILE", help="the checks of this profile (default: the latest)")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The checks, where the suite's own folder is collected for a target."""
    if file_path.parts[-len(_SUITE) :] != _SUITE:
        return None
    target = parent.config.getoption("--flowcraft-target")
    if target is None and "flowcraft.conformance" not in parent.config.invocation_params.args:
        return None
    from flowcraft.conformance.items import CheckFile  # noqa: PLC0415 - nobody else pays for it

    return CheckFile.from_parent(parent, path=file_path)
