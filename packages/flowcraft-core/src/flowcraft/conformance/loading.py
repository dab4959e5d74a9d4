"""Targets by name, ``package.module:target`` or ``path/to/file.py:target``; and the name by the target."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from flowcraft.conformance.target import Target
from flowcraft.errors import FlowcraftError, InvalidRequest

__all__ = ["load_function", "load_target", "name_of", "source_of"]


def load_target(name: str) -> Target:
    """The target with this name, or what a function without arguments of this name returns.

    Modules are looked for in the current directory first.

    Raises:
        InvalidRequest: there is none; the text says what there is.
    """
    found = _named(name)
    if inspect.isfunction(found):
        found = _called(found, name)
    if not isinstance(found, Target):
        raise InvalidRequest(f"{name} is a {type(found).__name__}, not a Target: write @target(…) above its function")
    return found if source_of(found) is not None else replace(found, source=name)


def load_function(name: str) -> Any:
    """The function that `name_of` gave this name. Raises: InvalidRequest, as `load_target`."""
    found = _named(name)
    if not inspect.isfunction(found):
        raise InvalidRequest(f"{name} is a {type(found).__name__}, not a function")
    return found


def name_of(function: object) -> str | None:
    """The name under which another process finds a function; None: it is not at the top of an importable module."""
    name, module = getattr(function, "__qualname__", ""), sys.modules.get(getattr(function, "__module__", ""))
    if module is None or getattr(module, name, None) is not function:
        return None
    where = _importable(module)
    return None if where is None else f"{where}:{name}"


def source_of(target: Target) -> str | None:
    """The name under which another process finds the target; None: it is no attribute of a module that has one."""
    if target.source:
        return target.source
    function = inspect.unwrap(target.open)
    module = sys.modules.get(function.__module__)
    if module is None:
        return None
    for attribute, found in vars(module).items():
        if found is target:
            where = _importable(module)
            return None if where is None else f"{where}:{attribute}"
    return None


def _named(name: str) -> object:
    where, colon, attribute = name.rpartition(":")
    if not colon or not where or not attribute:
        raise InvalidRequest(f"{name!r} names nothing: write package.module:attribute, or path/to/file.py:attribute")
    module = _file(Path(where)) if where.endswith(".py") else _module(where)
    return _attribute(module, attribute, name)


def _importable(module: ModuleType) -> str | None:
    """A name under which another process gets this very module: its own, if it is found by it, or its file."""
    if module.__name__ != "__main__" and _is_found(module.__name__.partition(".")[0]):
        return module.__name__
    file = getattr(module, "__file__", None)
    return str(Path(file).resolve()) if file is not None and file.endswith(".py") else None


def _is_found(top: str) -> bool:
    """A fresh interpreter with our path would import this same module. What is imported already proves nothing: pytest
    imports files under names of its own.
    """
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(top, None)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec is not None:
            imported = sys.modules.get(top)
            here = None if imported is None else imported.__spec__
            return here is not None and here.origin == spec.origin
    return False


def _module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InvalidRequest(f"{name!r} is neither the name of a module nor a .py file")
    _findable(Path.cwd())  # a console script does not have it, `python -m` does
    try:
        return importlib.import_module(name)
    except FlowcraftError:
        raise
    except (Exception, SystemExit) as error:  # whatever a module of the user's raises while it is imported
        raise InvalidRequest(f"cannot import {name}: {type(error).__name__}: {error}") from error


def _findable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _file(path: Path) -> ModuleType:
    """Load a file as a module, once for all that ask for it. What lies beside it can be imported, as beside a script:
    first of all on the path, from now on, for what is imported while it runs; other processes are given our path.
    """
    if not path.is_file():
        raise InvalidRequest(f"there is no file {path}")
    path = path.resolve()
    name = f"flowcraft_target_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidRequest(f"{path} cannot be loaded as a module")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    _findable(path.parent)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, FlowcraftError):
            raise
        raise InvalidRequest(f"cannot load {path}: {type(error).__name__}: {error}") from error
    return module


def _attribute(module: ModuleType, attribute: str, name: str) -> object:
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), n=1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            raise InvalidRequest(f"{name}: there is no {part!r}{meant}")
        found = cast("object", getattr(found, part))
    return found


def _called(function: Callable[..., object], name: str) -> object:
    try:
        inspect.signature(function).bind()
    except TypeError:
        raise InvalidRequest(f"{name} is a function that needs arguments: it must need none, or be a @target") from None
    try:
        return function()
    except FlowcraftError:
        raise
    except Exception as error:  # whatever a function of the user's raises
        raise InvalidRequest(f"{name}() raised {type(error).__name__}: {error}") from error
