"""The small world of the core's distributed tests: virtual time, and processes that can be killed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    SimClock = Any
    World = Any
    Process = Any

__all__ = ["Process", "SimClock", "World"]

_FILE = Path(__file__).resolve().parents[2] / "packages/flowcraft-core/tests/distributed/world.py"


def _load() -> ModuleType:
    """Tests of another package are no package of ours, so the file is loaded as a module by itself."""
    spec = importlib.util.spec_from_file_location("flowcraft_distributed_world", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


_module = _load()
if not TYPE_CHECKING:
    Process, SimClock, World = _module.Process, _module.SimClock, _module.World
