"""The builder: a flow in Python, typed from node to node, that becomes a blueprint and the functions behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType, MethodType
from typing import Any, Literal, Protocol, TypedDict, TypeVar, Unpack, overload

from flowcraft.blueprint import ALL, Blueprint, Edge, Inputs, Join, Json, Node, Retry, check_id
from flowcraft.checks import told
from flowcraft.errors import DefinitionError
from flowcraft.nodes import ClassNode, NodeContext, Result
from flowcraft.registry import NodeFunction, node_function
from flowcraft.steps import Ref, Steps, as_list

__all__ = ["Flow"]

DepsT = TypeVar("DepsT")
InT = TypeVar("InT")
OutT = TypeVar("OutT")
CallT = TypeVar("CallT", bound=Callable[..., Any])
ClassT = TypeVar("ClassT", bound=type[ClassNode[Any, Any, Any]])

#: A node's function: of an ``async def`` OutT is the awaitable, of a blocking one the output itself.
_Fn = Callable[[NodeContext[InT, DepsT]], OutT]
_Ref = Ref
JoinOption = Literal["all", "any"] | int | Join


class NodeOptions(TypedDict, total=False):
    """The options of `Flow.node`, where they are described."""

    id: str | None
    uses: str | None
    version: int | str | None
    params: Mapping[str, Json] | None
    retries: Retry | int | None
    never_retry: Sequence[type[BaseException]]
    timeout: float | None
    fallback: _Ref | None
    compensate: _Ref | None
    join: JoinOption
    losers: Literal["cancel", "run"] | None
    queue: str | None
    priority: int


class Flow(Steps[DepsT]):
    """A workflow under construction, generic over the dependencies that its nodes use.

    Nodes are added with `node`, edges with ``after=`` or `edge`. The finished `blueprint` is immutable; ``functions``
    are what a `FlowRuntime` executes. Functions stay plain functions and may be called in tests as they are.
    """

    def __init__(
        self,
        id: str,
        *,
        version: str | None = None,
        failure: Literal["continue", "fail-fast"] = "continue",
        timeout: float | None = None,
        cycle_entry_points: Sequence[_Ref] = (),
        max_visits: int = 10_000,
        metadata: Mapping[str, Json] | None = None,
    ) -> None:
        super().__init__()
        self.id = check_id(id, "flow id")
        self._version = version
        self._failure: Literal["continue", "fail-fast"] = failure
        self._timeout = timeout
        self._entries = tuple(cycle_entry_points)
        self._max_visits = max_visits
        self._metadata = dict(metadata or {})
        self._nodes: dict[str, Node] = {}
        self._edges: list[tuple[_Ref, _Ref, Edge]] = []
        self._fallbacks: dict[str, _Ref] = {}
        self._compensations: dict[str, _Ref] = {}
        self._functions: dict[str, NodeFunction] = {}
        self._ids: dict[object, str] = {}
        self._keep: list[object] = []  # an id() stays unique only while its object lives
        self._blueprint: Blueprint | None = None

    # A bare decorator, or with options: ``after`` a typed predecessor, or whatever else is named by id or in a list.
    @overload
    def node(self, function: ClassT, /) -> ClassT: ...
    @overload
    def node(self, function: _Fn[InT, DepsT, OutT], /) -> _Fn[InT, DepsT, OutT]: ...
    @overload
    def node(
        self, *, after: _Fn[Any, DepsT, Awaitable[Result[InT]]], **options: Unpack[NodeOptions]
    ) -> _After[InT, DepsT]: ...
    @overload
    def node(self, *, after: _Fn[Any, DepsT, Awaitable[InT]], **options: Unpack[NodeOptions]) -> _After[InT, DepsT]: ...
    @overload
    def node(self, *, after: _Fn[Any, DepsT, Result[InT]], **options: Unpack[NodeOptions]) -> _After[InT, DepsT]: ...
    @overload
    def node(  # type: ignore[overload-overlap] # a class as ``after`` is meant for the next one, and finds it
        self, *, after: _Fn[Any, DepsT, InT], **options: Unpack[NodeOptions]
    ) -> _After[InT, DepsT]: ...
    @overload
    def node(
        self,
        *,
        after: str | Sequence[_Ref] | type[ClassNode[Any, Any, Any]] | None = None,
        inputs: Inputs | None = None,
        **options: Unpack[NodeOptions],
    ) -> _Decorator[DepsT]: ...
    def node(self, function: Any = None, **options: Any) -> Any:
        """Add a node: ``@flow.node``, or ``@flow.node(after=…, retries=…)``.

        Args:
            after: the predecessor(s): a function, class or id, or a list of them; an edge is made from each.
            id: the node's id, by default the function's name.
            uses: the name of the function in the registry, by default ``<flow>.<function>``; ``version`` is appended.
            params: constants of the node, as ``ctx.params``.
            inputs: where the input comes from, instead of the predecessors: a name, a mapping, or alternatives.
            retries: a `Retry`, or the total number of attempts; errors of the types ``never_retry`` are not retried.
            timeout: seconds for one attempt.
            fallback: the node that stands in when all attempts failed.
            compensate: the node, without edges, that undoes this one when the run is rolled back.
            join: ``"all"``, ``"any"`` or how many predecessors are needed; ``losers="run"`` lets the others finish.
            queue, priority: where and how urgently it is executed when distributed; higher is sooner.

        Raises:
            DefinitionError: the id is taken, or an option cannot work.
        """
        if function is not None:
            self._add(function, options)
            return function

        def decorate(decorated: Any) -> Any:
            self._add(decorated, dict(options))
            return decorated

        return decorate

    def _add(self, function: Any, options: dict[str, Any]) -> None:
        name = str(getattr(function, "__name__", type(function).__name__))
        node_id = check_id(options.pop("id", None) or name, "node id")
        self._check_free(node_id)
        uses = options.pop("uses", None) or f"{self.id}.{name}"
        version = options.pop("version", None)
        uses = uses if version is None else f"{uses}@{version}"
        after = options.pop("after", None)
        fallback, compensate = options.pop("fallback", None), options.pop("compensate", None)
        never_retry = tuple(options.pop("never_retry", ()))
        node = Node(id=node_id, uses=uses, **_node_options(options))
        self._register(uses, function, never_retry)
        self._place(node, after)
        self._ids.setdefault(_identity(function), node_id)
        self._keep.append(function)
        if fallback is not None:
            self._fallbacks[node_id] = fallback
        if compensate is not None:
            self._compensations[node_id] = compensate

    def _check_free(self, node_id: str) -> None:
        if node_id in self._nodes:
            raise DefinitionError(f"flow {self.id!r} has a node {node_id!r} already", subject=node_id)

    def _place(self, node: Node, after: object = None) -> None:
        self._check_free(node.id)
        self._nodes[node.id] = node
        for source in as_list(after):
            self._edges.append((source, node.id, Edge("?", "?")))
        self._blueprint = None

    def _connect(self, source: _Ref, target: _Ref, edge: Edge) -> None:
        self._edges.append((source, target, edge))
        self._blueprint = None

    def _function(self, function: Any, uses: str | None) -> str:
        name = uses or f"{self.id}.{getattr(function, '__name__', type(function).__name__)}"
        self._register(name, function, ())
        return name

    def _stand_in(self, node_id: str, fallback: _Ref) -> None:
        self._fallbacks[node_id] = fallback

    def _register(self, uses: str, function: Any, never_retry: tuple[type[BaseException], ...]) -> None:
        made = node_function(uses, function, never_retry=never_retry)
        known = self._functions.get(uses)
        if known is not None and known != made:
            same = (known.call, known.node_class) == (made.call, made.node_class)
            what = "the same function with another never_retry" if same else "another function"
            raise DefinitionError(f"flow {self.id!r} has {what} as {uses!r}: give one of them uses=…", subject=uses)
        self._functions[uses] = made

    @overload
    def edge(
        self, source: _Fn[Any, DepsT, Awaitable[Result[InT]]], target: _Fn[InT, DepsT, Any], *,
        action: str | None = None, condition: str | None = None,
    ) -> None: ...  # fmt: skip
    @overload
    def edge(
        self, source: _Fn[Any, DepsT, Awaitable[InT]], target: _Fn[InT, DepsT, Any], *,
        action: str | None = None, condition: str | None = None,
    ) -> None: ...  # fmt: skip
    @overload
    def edge(
        self, source: _Fn[Any, DepsT, Result[InT]], target: _Fn[InT, DepsT, Any], *,
        action: str | None = None, condition: str | None = None,
    ) -> None: ...  # fmt: skip
    @overload
    def edge(
        self, source: _Fn[Any, DepsT, InT], target: _Fn[InT, DepsT, Any], *,
        action: str | None = None, condition: str | None = None,
    ) -> None: ...  # fmt: skip
    @overload
    def edge(
        self, source: str | type[ClassNode[Any, Any, Any]], target: _Ref, *,
        action: str | None = None, condition: str | None = None, transform: str | None = None,
    ) -> None: ...  # fmt: skip
    @overload
    def edge(
        self, source: _Ref, target: str | type[ClassNode[Any, Any, Any]], *,
        action: str | None = None, condition: str | None = None, transform: str | None = None,
    ) -> None: ...  # fmt: skip
    @overload
    def edge(
        self, source: _Ref, target: _Ref, *, transform: str, action: str | None = None, condition: str | None = None
    ) -> None: ...
    def edge(
        self, source: Any, target: Any, *,
        action: str | None = None, condition: str | None = None, transform: str | None = None,
    ) -> None:  # fmt: skip
        """Connect two nodes, which may be added later if they are named by id.

        Args:
            action: taken only when the source returns a `Result` with this action.
            condition: taken only when this expression holds, e.g. ``"result.output.total > 5"``.
            transform: an expression that makes the target's input, e.g. ``"input.items"``.
        """
        self._connect(source, target, Edge("?", "?", action, condition, transform))

    def id_of(self, node: object) -> str:
        """The id of a node given as id, function or class; of a function with several ids the first.

        Raises:
            DefinitionError: it is no node of this flow.
        """
        if isinstance(node, str):
            if node in self._nodes:
                return node
        elif (found := self._ids.get(_identity(node))) is not None:
            return found
        name = told(node) if isinstance(node, str) else str(getattr(node, "__name__", told(node)))
        raise DefinitionError(f"flow {self.id!r} has no node {name}", subject=name)

    def _linked(self, node: Node) -> Node:
        """The node with the ids of those that it names."""
        fallback, undo = self._fallbacks.get(node.id), self._compensations.get(node.id)
        if fallback is not None:
            node = replace(node, fallback=self.id_of(fallback))
        return node if undo is None else replace(node, compensate=self.id_of(undo))

    @property
    def functions(self) -> Mapping[str, NodeFunction]:
        """The functions of the nodes by ``uses``."""
        return MappingProxyType(self._functions)

    @property
    def blueprint(self) -> Blueprint:
        """The workflow as data.

        Raises:
            DefinitionError: no nodes, an edge or fallback that names none, or an option that cannot work.
        """
        if self._blueprint is None:
            self._blueprint = Blueprint(
                id=self.id,
                nodes=tuple(map(self._linked, self._nodes.values())),
                edges=tuple(
                    self._finished(replace(edge, source=self.id_of(source), target=self.id_of(target)))
                    for source, target, edge in self._edges
                ),
                version=self._version,
                cycle_entry_points=tuple(self.id_of(entry) for entry in self._entries),
                failure=self._failure,
                timeout=self._timeout,
                max_visits=self._max_visits,
                metadata=self._metadata,
            )
        return self._blueprint


class _Decorator(Protocol[DepsT]):
    """The type of ``flow.node(…)`` without a typed predecessor: any node of the flow's dependencies."""

    @overload
    def __call__(self, function: ClassT, /) -> ClassT: ...
    @overload
    def __call__(self, function: _Fn[InT, DepsT, OutT], /) -> _Fn[InT, DepsT, OutT]: ...


class _After(Protocol[InT, DepsT]):
    """The type of ``flow.node(after=function, …)``: a node whose input is what that function returns."""

    @overload
    def __call__(self, function: ClassT, /) -> ClassT: ...
    @overload
    def __call__(self, function: _Fn[InT, DepsT, OutT], /) -> _Fn[InT, DepsT, OutT]: ...


def _identity(node: object) -> object:
    """A key for a function or class; a method is a new object at every look, so its parts count."""
    return (id(node.__self__), node.__func__) if isinstance(node, MethodType) else id(node)


def _node_options(options: dict[str, Any]) -> dict[str, Any]:
    retries = options.pop("retries", None)
    if retries is not None:
        options["retry"] = retries if isinstance(retries, Retry) else Retry(attempts=retries)
    join, losers = options.pop("join", "all"), options.pop("losers", None)
    options["join"] = _join(join, losers)
    params = options.pop("params", None)
    if params:
        options["params"] = dict(params)
    return options


def _join(join: JoinOption, losers: Literal["cancel", "run"] | None) -> Join:
    if isinstance(join, Join):
        return join
    if join == "all":
        return ALL if losers is None else Join(losers=losers)
    if join == "any":
        return Join(1, losers or "cancel")
    if isinstance(join, int):
        return Join(join, losers or "cancel")
    raise DefinitionError(f"join is 'all', 'any' or how many predecessors are needed, not {told(join)}")
