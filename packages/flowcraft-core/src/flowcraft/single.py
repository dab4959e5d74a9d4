"""A flow of one node, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, Unpack, overload

from flowcraft.flow import Flow, NodeOptions
from flowcraft.nodes import ClassNode, NodeContext

__all__ = ["job"]

DepsT = TypeVar("DepsT")


@overload
def job(function: type[ClassNode[Any, Any, DepsT]], /, **options: Unpack[NodeOptions]) -> Flow[DepsT]: ...
@overload
def job(function: Callable[[NodeContext[Any, DepsT]], Any], /, **options: Unpack[NodeOptions]) -> Flow[DepsT]: ...
def job(function: Any, /, **options: Any) -> Flow[Any]:
    """A flow of this one node, with the node's id: ``await FlowRuntime().run(job(work), 7)``.

    Calling it again with the same function and options gives the same blueprint. Options as for `Flow.node`.

    Raises:
        DefinitionError: an option cannot work.
    """
    flow = Flow[Any](options.get("id") or str(getattr(function, "__name__", type(function).__name__)))
    flow.node(**options)(function)
    return flow
