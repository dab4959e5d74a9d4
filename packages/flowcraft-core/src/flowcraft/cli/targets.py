"""What a command works on: ``module:attribute`` or a blueprint's file, and the store behind a URL."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flowcraft.adapter import Adapter
from flowcraft.blueprint import Blueprint
from flowcraft.cli.failures import CommandError, one_line
from flowcraft.errors import DefinitionError, FlowcraftError, Misconfigured
from flowcraft.flow import Flow
from flowcraft.runtime import FlowRuntime

__all__ = ["URL_VARIABLE", "Target", "adapter_of", "load_target", "open_url", "store_of"]

#: Where the store is, if no ``--url`` says so.
URL_VARIABLE = "FLOWCRAFT_URL"


@dataclass(frozen=True, slots=True)
class Target:
    """A runtime, with the blueprints that were named in it, and the adapter if the target brought one."""

    name: str
    runtime: FlowRuntime
    blueprints: tuple[Blueprint, ...]
    has_functions: bool = True
    adapter: Adapter | None = None

    def blueprint(self, wanted: str | None) -> Blueprint:
        """The blueprint with the id ``wanted``, or the only one.

        Raises:
            CommandError: there is none, or there are several to choose from.
        """
        known = ", ".join(sorted(repr(b.id) for b in self.blueprints)) or "none"
        if wanted is not None:
            for blueprint in self.blueprints:
                if blueprint.id == wanted:
                    return blueprint
            raise CommandError(f"{self.name} has no flow {wanted!r} (it has: {known})")
        if len(self.blueprints) != 1:
            raise CommandError(f"{self.name} has {len(self.blueprints)} flows ({known}): name one with --flow")
        return self.blueprints[0]


def load_target(name: str, registry: str | None = None) -> Target:
    """Import ``module:attribute``, or read a blueprint's JSON file with the functions of ``registry``.

    Raises:
        CommandError: it does not exist or is something else. DefinitionError: a blueprint that cannot work.
    """
    if name.endswith(".json") or Path(name).is_file():
        return _from_file(name, registry)
    if registry is not None:
        raise CommandError(f"--registry belongs to a blueprint's JSON file, and {name!r} is none")
    found = _called(name, _import(name))
    if isinstance(found, Flow):
        flow: Flow[Any] = found
        return Target(name, FlowRuntime([flow]), (flow.blueprint,))
    if isinstance(found, FlowRuntime):
        return Target(name, found, _blueprints(found))
    if isinstance(found, Adapter):
        runtime = found.runtime
        if not isinstance(runtime, FlowRuntime):
            raise CommandError(f"the runtime of {name} is {_kind(runtime)}, not a FlowRuntime")
        return Target(name, runtime, _blueprints(runtime), adapter=found)
    raise CommandError(
        f"{name} is {_kind(found)}: it must be a Flow, FlowRuntime or Adapter, or a function that returns one"
    )


def _blueprints(runtime: FlowRuntime) -> tuple[Blueprint, ...]:
    return tuple(runtime.blueprints.values())


def _from_file(name: str, registry: str | None) -> Target:
    try:
        text = Path(name).read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror or error}") from error
    try:
        blueprint = Blueprint.from_json(text)
    except DefinitionError as error:
        raise CommandError(f"{name}: {error}") from error
    functions: Mapping[str, Any] = {}
    if registry is not None:
        functions = _called(registry, _import(registry))
        if not isinstance(functions, Mapping):
            raise CommandError(f"--registry: {registry} is {_kind(functions)}, not a dict of functions by 'uses'")
    runtime = FlowRuntime(blueprints=[blueprint], registry=functions)
    return Target(name, runtime, (blueprint,), has_functions=registry is not None)


def _import(name: str) -> object:
    module_name, colon, attribute = name.partition(":")
    if not colon or not attribute or not all(part.isidentifier() for part in module_name.split(".")):
        raise CommandError(f"{name!r} is neither module:attribute nor a file that exists")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # a console script does not have it, `python -m` does
    try:
        found: Any = importlib.import_module(module_name)
    except FlowcraftError:
        raise
    except (Exception, SystemExit) as error:  # whatever a module of the user's raises while it is imported
        what = f"{type(error).__name__}: {one_line(str(error))}"
        raise CommandError(f"cannot import {module_name}: {what}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), n=1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            raise CommandError(f"{name}: {_kind(found)} has no attribute {part!r}{meant}")
        found = getattr(found, part)
    return cast("object", found)


def _called(name: str, found: Any) -> Any:
    """What a function without arguments returns; anything else as it is."""
    if not inspect.isfunction(found) and not inspect.ismethod(found):
        return found
    needed = [
        p.name
        for p in inspect.signature(found).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed:
        raise CommandError(f"{name} is a function that needs arguments ({', '.join(needed)}): it must need none")
    if inspect.iscoroutinefunction(found):
        raise CommandError(f"{name} is an async function: it must be a plain one, which opens nothing")
    try:
        return found()
    except FlowcraftError:
        raise
    except Exception as error:  # whatever a function of the user's raises
        raise CommandError(f"{name}() raised {type(error).__name__}: {one_line(str(error))}") from error


def _kind(found: object) -> str:
    if inspect.ismodule(found):
        return f"module {found.__name__!r}"
    return f"a {type(found).__name__}" if found is not None else "None"


def adapter_of(target: Target, url: str | None) -> Adapter:
    """The adapter that the target brought, or the one for a URL; nothing is opened yet.

    Raises:
        CommandError: both, or neither.
    """
    if target.adapter is None:
        return open_url(url, target.runtime)
    if url is not None:
        raise CommandError(f"{target.name} is an adapter and knows its store: leave out --url")
    return target.adapter


def store_of(app: str | None, url: str | None) -> Adapter:
    """The adapter for a command that only looks at runs: of ``--app``, or for a URL without any functions.

    Raises:
        CommandError: see `load_target` and `open_url`.
    """
    return open_url(url, FlowRuntime()) if app is None else adapter_of(load_target(app), url)


def open_url(url: str | None, runtime: FlowRuntime) -> Adapter:
    """The adapter for a URL, or for ``FLOWCRAFT_URL``; nothing is opened yet.

    Raises:
        CommandError: no URL at all, or a scheme that no installed package serves.
    """
    chosen = url or os.environ.get(URL_VARIABLE)
    if not chosen:
        raise CommandError(
            f"where is the store? Give --url, for instance --url sqlite:///flowcraft.db, or {URL_VARIABLE}"
        )
    scheme, colon, _ = chosen.partition(":")
    points = {point.name: point for point in importlib.metadata.entry_points(group="flowcraft.adapters")}
    point = points.get(scheme)
    if not colon or point is None:
        known = ", ".join(f"{name}:" for name in sorted(points)) or "none"
        raise CommandError(f"no adapter for the URL {_without_secrets(chosen)!r} (installed: {known})")
    try:
        open_adapter = cast("Callable[[str, FlowRuntime], Adapter]", point.load())
    except ImportError as error:
        raise CommandError(f"the adapter for {scheme}: cannot be imported: {error}") from error
    try:
        return open_adapter(chosen, runtime)
    except (Misconfigured, ValueError) as error:
        raise CommandError(one_line(str(error))) from error


def _without_secrets(url: str) -> str:
    """A URL without user and password, and not all of a long one."""
    scheme, slashes, rest = url.partition("//")
    authority, slash, path = rest.partition("/")
    return (scheme + slashes + authority.rpartition("@")[2] + slash + path)[:80]
