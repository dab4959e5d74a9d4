"""Which function stands behind a node's ``uses``."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ForwardRef, Protocol, TypeVar, cast, get_args, get_origin, get_type_hints

from flowcraft.blueprint import Blueprint, check_id
from flowcraft.constructs import IRREPLACEABLE
from flowcraft.errors import DefinitionError
from flowcraft.nodes import ClassNode, NodeContext

__all__ = ["Definition", "Implementation", "NodeFunction", "Registry", "node_function", "payloads_of"]

#: What may stand behind ``uses``: an ``async def`` or plain function of one context, or a `ClassNode`.
Implementation = Callable[[Any], Any] | type[ClassNode[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class NodeFunction:
    """An executable: ``call`` is awaited with the context; a ``blocking`` one is run in a thread.

    ``input_type`` is what the context's type parameter says (None: anything); errors of the types ``never_retry`` go
    to the fallback at once.
    """

    name: str
    call: Callable[[NodeContext[Any, Any]], Awaitable[Any]] | Callable[[NodeContext[Any, Any]], Any]
    blocking: bool = False
    input_type: Any = field(default=None, compare=False)
    output_type: Any = field(default=None, compare=False)
    node_class: type[ClassNode[Any, Any, Any]] | None = None
    never_retry: tuple[type[BaseException], ...] = ()


class Definition(Protocol):
    """What a runtime accepts as a flow: its blueprint and the functions of its nodes.

    It may have ``payloads``, too: a mapping from the ids of its waits to the types of their payloads.
    """

    @property
    def blueprint(self) -> Blueprint:
        """The workflow as data."""
        ...

    @property
    def functions(self) -> Mapping[str, NodeFunction]:
        """The node functions by ``uses``."""
        ...


def payloads_of(flow: Definition) -> Mapping[str, Any]:
    """The types that a flow declares for the payloads of its waits, by node id."""
    return cast("Mapping[str, Any]", getattr(flow, "payloads", None) or {})


class Registry:
    """Functions by ``uses``. Frozen once it is made.

    Raises:
        DefinitionError: a function for a wait, a sleep or a subflow, which would never be executed.
    """

    def __init__(self, functions: Mapping[str, NodeFunction]) -> None:
        for uses in sorted(IRREPLACEABLE & functions.keys()):
            raise DefinitionError(
                f"a function registered as {uses!r} would never be executed: nodes that use {uses!r} have none; "
                "register it under another name",
                subject=uses,
            )
        self._functions = dict(functions)

    @staticmethod
    def of(implementations: Mapping[str, Implementation | NodeFunction]) -> Registry:
        """From plain functions and classes, as they are written beside a JSON blueprint."""
        return Registry(
            {
                uses: found if isinstance(found, NodeFunction) else node_function(uses, found)
                for uses, found in implementations.items()
            }
        )

    def find(self, uses: str) -> NodeFunction | None:
        """The function, or None: this process cannot execute it."""
        return self._functions.get(uses)

    def __iter__(self) -> Iterator[NodeFunction]:
        return iter(self._functions.values())

    def merged(self, functions: Mapping[str, NodeFunction]) -> Registry:
        """This registry with more functions.

        Raises:
            DefinitionError: a name is taken by another function.
        """
        for uses, function in functions.items():
            known = self._functions.get(uses)
            if known is not None and known != function:
                raise DefinitionError(f"two different functions are registered as {uses!r}", subject=uses)
        return Registry({**self._functions, **functions})


def node_function(
    uses: str, implementation: Implementation, *, never_retry: tuple[type[BaseException], ...] = ()
) -> NodeFunction:
    """Wrap an implementation.

    Raises:
        DefinitionError: it is no function of one parameter and no `ClassNode`.
    """
    check_id(uses, "uses")
    if isinstance(implementation, type):
        input_type, output_type = _check_class(uses, implementation)
        return NodeFunction(uses, _never_called, False, input_type, output_type, implementation, never_retry)
    if not callable(implementation):
        raise DefinitionError(f"what is registered as {uses!r} is not callable: {implementation!r}", subject=uses)
    if not _takes(implementation, 1):
        raise DefinitionError(f"the function of {uses!r} must take one argument: its context", subject=uses)
    if inspect.isasyncgenfunction(implementation):
        input_type, _ = _types_of(implementation)
        return NodeFunction(uses, _collecting(implementation), False, input_type, list, None, never_retry)
    if inspect.isgeneratorfunction(implementation):
        raise DefinitionError(f"the function of {uses!r} is a generator: it must return its output", subject=uses)
    input_type, output_type = _types_of(implementation)
    blocking = not inspect.iscoroutinefunction(implementation) and not inspect.iscoroutinefunction(
        getattr(implementation, "__call__", None)  # noqa: B004 - an object with an async __call__ is fine too
    )
    return NodeFunction(uses, implementation, blocking, input_type, output_type, None, never_retry)


@dataclass(frozen=True)
class _collecting:  # noqa: N801 - used like a function; a class, so that two of one function are equal
    """An async generator as a node's function: its output is the list of what it yields."""

    function: Callable[[Any], AsyncIterator[Any]]

    async def __call__(self, ctx: NodeContext[Any, Any]) -> list[Any]:
        return [item async for item in self.function(ctx)]


def _check_class(uses: str, found: type[Any]) -> tuple[Any, Any]:
    """The input and output type of a class that can be a node."""
    if not issubclass(found, ClassNode):
        raise DefinitionError(f"{found.__name__} is not a ClassNode, which a node's class must be", subject=uses)
    if found.exec is ClassNode.exec:
        raise DefinitionError(f"{found.__name__}, registered as {uses!r}, has no exec of its own", subject=uses)
    if not _takes(found, 0):
        raise DefinitionError(f"{found.__name__}, registered as {uses!r}, must be made without arguments", subject=uses)
    for base in (base for cls in found.__mro__ for base in vars(cls).get("__orig_bases__", ())):
        arguments = get_args(base)
        if get_origin(base) is ClassNode and not any(isinstance(part, TypeVar) for part in arguments):
            return _wanted(arguments[0]), arguments[1]
    return _types_of(found.exec)


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with so many arguments; what has no signature may be."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


async def _never_called(_: NodeContext[Any, Any]) -> None:
    raise AssertionError("a class node is instantiated by the executor")


def _types_of(function: Callable[..., Any]) -> tuple[Any, Any]:
    """The input type in the ``NodeContext[In, Deps]`` annotation and the return type; None where unknown."""
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return None, None
    returned = hints.pop("return", None)
    for hint in hints.values():
        if get_origin(hint) is NodeContext:
            return _wanted(get_args(hint)[0]), returned
    return None, returned


def _wanted(annotation: Any) -> Any:
    return None if annotation in (Any, object) or isinstance(annotation, TypeVar | ForwardRef) else annotation
