"""Steps of a flow that are no functions of its own: loops, batches, sleeps, waits, webhooks and subflows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from flowcraft.blueprint import ANY, Edge, Inputs, Json, Node, Retry, check_id
from flowcraft.constructs import GATHER, SCATTER, SLEEP_USES, SUBFLOW, WAIT_USES, WEBHOOK, duration
from flowcraft.errors import DefinitionError
from flowcraft.nodes import ClassNode
from flowcraft.registry import Definition
from flowcraft.scopes import LOOP_CONTROLLER

__all__ = ["Ref", "Steps", "as_list"]

DepsT = TypeVar("DepsT")

#: How a node is named: by id, or by its function or class.
Ref = str | Callable[..., Any] | type[ClassNode[Any, Any, Any]]
#: A length of time: seconds, a timedelta, or a text such as ``"90s"``, ``"5m"``, ``"7d"``.
Duration = float | timedelta | str


def as_list(after: object) -> Sequence[Any]:
    """One node or several, as a list."""
    if after is None:
        return ()
    return after if isinstance(after, list | tuple) else (after,)


class Steps(ABC, Generic[DepsT]):
    """The part of `flowcraft.Flow` that adds built-in nodes. Every method returns the id to connect others with."""

    def __init__(self) -> None:
        self._loops: set[str] = set()
        self._scatters: dict[str, str] = {}
        self._flows: dict[str, Definition] = {}
        self._payloads: dict[str, Any] = {}

    @abstractmethod
    def _place(self, node: Node, after: object = None) -> None:
        """Add a node, and an edge from each of ``after``."""

    @abstractmethod
    def _connect(self, source: Ref, target: Ref, edge: Edge) -> None:
        """Add an edge."""

    @abstractmethod
    def _function(self, function: Any, uses: str | None) -> str:
        """Register a function; its name in the registry."""

    def loop(
        self, id: str, *, condition: str, start: Ref, end: Ref, after: Ref | Sequence[Ref] | None = None
    ) -> str:  # fmt: skip
        """Go round from ``start`` to ``end`` as long as the condition holds; it is asked before every round.

        What follows the loop is connected with ``edge(id, …)`` or ``after=id``, and gets the output of ``end``; an edge
        with an action or a condition from inside the loop to outside ends it at once.

        Args:
            condition: an expression, e.g. ``"input.left > 0"``; ``input`` is what comes from before the loop, then what
                ``end`` returned.
            start, end: the first and the last node of a round.
            after: what comes before the loop.
        """
        self._place(Node(check_id(id, "loop id"), LOOP_CONTROLLER, {"condition": condition}, join=ANY), after)
        self._loops.add(id)
        self._connect(end, id, Edge("?", "?"))
        self._connect(id, start, Edge("?", "?", "continue"))
        return id

    def batch(
        self,
        id: str,
        worker: Any,
        *,
        after: Ref | Sequence[Ref] | None = None,
        items: Any = None,
        inputs: Inputs | None = None,
        output_key: str | None = None,
        concurrency: int | None = None,
        items_per_job: int = 1,
        on_error: Literal["fail", "collect"] | int = "fail",
        params: Mapping[str, Json] | None = None,
        retries: Retry | int | None = None,
        timeout: float | None = None,
        queue: str | None = None,
        priority: int = 0,
        uses: str | None = None,
    ) -> str:
        """Execute ``worker`` once for every item of a list; what follows gets the list of results, in order.

        Args:
            worker: a function or class whose input is one item.
            after: the node whose output is the list, unless ``items`` or ``inputs`` says otherwise.
            items: a function, or an async generator, that makes the items.
            inputs: the name of the list, as for `Flow.node`.
            output_key: the context key that gets the list of results, too.
            concurrency: how many items are worked on at once; 256 by default.
            items_per_job: how many small items a worker takes at once.
            on_error: ``"fail"``: the batch fails with the first item; ``"collect"``: a failed item's result is
                ``{"error": …}``; a number: so many may fail.
            params: constants for the worker. retries, timeout, queue, priority: of each item, as for `Flow.node`.
            uses: the worker's name in the registry.
        """
        given: dict[str, Json] = {"workerUsesKey": self._function(worker, uses), "gatherNodeId": id}
        source = None if items is None else self._function(items, None)
        given |= _batch_options(source, concurrency, items_per_job, on_error, params)
        retry = retries if isinstance(retries, Retry) else Retry(attempts=1 if retries is None else retries)
        scatter = Node(
            f"{check_id(id, 'batch id')}_scatter", SCATTER, given, inputs, retry, timeout, queue=queue,
            priority=priority,
        )  # fmt: skip
        self._place(scatter, after)
        self._place(Node(id, GATHER, {"outputKey": output_key} if output_key else {}), scatter.id)
        self._scatters[id] = scatter.id
        return id

    def sleep(self, id: str, duration: Duration, *, after: Ref | Sequence[Ref] | None = None) -> str:
        """Wait for a length of time, which takes no worker; what follows gets what led here."""
        self._place(Node(check_id(id, "node id"), SLEEP_USES, {"duration": _milliseconds(duration, id)}), after)
        return id

    def wait(
        self,
        id: str,
        *,
        after: Ref | Sequence[Ref] | None = None,
        event: str | None = None,
        timeout: Duration | None = None,
        payload: Any = None,
        fallback: Ref | None = None,
    ) -> str:
        """Wait for a signal, which takes no worker: a person's answer, an event, a webhook. Its payload is the output.

        Args:
            event: the name of an event that ends the wait when it is published.
            timeout: after so long the edge with the action ``timeout`` is taken; without one the node fails.
            payload: the type of the payload; another one is refused when it is sent.
            fallback: what stands in when the wait fails.
        """
        params: dict[str, Json] = {}
        if event is not None:
            params["eventName"] = event
        if timeout is not None:
            params["timeout"] = _milliseconds(timeout, id)
        self._place(Node(check_id(id, "node id"), WAIT_USES, params), after)
        if payload is not None:
            self._payloads[id] = payload
        if fallback is not None:
            self._stand_in(id, fallback)
        return id

    @abstractmethod
    def _stand_in(self, node_id: str, fallback: Ref) -> None:
        """Note the fallback of a node."""

    def create_webhook(
        self, id: str, *, waits: str | None = None, after: Ref | Sequence[Ref] | None = None
    ) -> str:  # fmt: skip
        """Open an address that the outside world can call, as ``{"url", "event"}``; a call ends the wait ``waits``.

        ``waits`` is the id of a `wait`, by default the only one that follows.
        """
        params: dict[str, Json] = {} if waits is None else {"waitNodeId": waits}
        self._place(Node(check_id(id, "node id"), WEBHOOK, params), after)
        return id

    def subflow(
        self,
        id: str,
        flow: Definition | str,
        *,
        after: Ref | Sequence[Ref] | None = None,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        retries: Retry | int | None = None,
    ) -> str:
        """Run another flow as one step; its output is the node's.

        Args:
            flow: a flow, or the id of a blueprint that the runtime knows.
            inputs: names of the child's context keys, and where each comes from here; without it the child's input is
                what led here.
            outputs: context keys here, and the child's node or context key that each comes from.
            retries: as for `Flow.node`; each attempt is a run of its own.
        """
        name = flow if isinstance(flow, str) else flow.blueprint.id
        if not isinstance(flow, str) and self._flows.setdefault(name, flow) is not flow:
            raise DefinitionError(f"two subflows have the id {name!r}", subject=name)
        params: dict[str, Json] = {"blueprintId": name}
        params |= {key: dict(value) for key, value in (("inputs", inputs), ("outputs", outputs)) if value}
        retry = retries if isinstance(retries, Retry) else Retry(attempts=1 if retries is None else retries)
        self._place(Node(check_id(id, "node id"), SUBFLOW, params, retry=retry), after)
        return id

    @property
    def subflows(self) -> Sequence[Definition]:
        """The flows that this one runs as steps."""
        return tuple(self._flows.values())

    @property
    def payloads(self) -> Mapping[str, Any]:
        """The types of what waits wait for, by node."""
        return MappingProxyType(self._payloads)

    def _finished(self, edge: Edge) -> Edge:
        """An edge with real ends: into a batch it leads to the scatter; out of a loop it is the way on."""
        if edge.source in self._loops and edge.action is None and edge.condition is None:
            edge = Edge(edge.source, edge.target, "break", None, edge.transform)
        scatter = self._scatters.get(edge.target)
        if scatter is None or edge.source == scatter:
            return edge
        return Edge(edge.source, scatter, edge.action, edge.condition, edge.transform)


def _batch_options(
    source: str | None, concurrency: int | None, items_per_job: int, on_error: Literal["fail", "collect"] | int,
    params: Mapping[str, Json] | None,
) -> Mapping[str, Json]:  # fmt: skip
    """The parameters of a scatter that are not what they are by default."""
    options: dict[str, Json] = {
        "sourceUsesKey": source,
        "concurrency": concurrency,
        "itemsPerJob": None if items_per_job == 1 else items_per_job,
        "onItemError": None if on_error == "fail" else on_error,
        "workerParams": dict(params) if params else None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _milliseconds(length: Duration, node_id: str) -> Json:
    """A length of time as the JSON says it."""
    what = f"the duration of node {node_id!r}"
    if isinstance(length, str):
        duration(length, what)
        return length
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    milliseconds = duration(seconds * 1000.0, what) * 1000.0
    return int(milliseconds) if milliseconds == int(milliseconds) else milliseconds
