"""FlowRuntime: blueprints, functions and dependencies together; runs in process, and the parts that adapters need."""

from __future__ import annotations

import dataclasses
import enum
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, get_args, get_origin

from flowcraft.blueprint import Blueprint, Node
from flowcraft.checks import requested_id, told
from flowcraft.clock import SystemClock
from flowcraft.codec import Codec, JsonCodec
from flowcraft.constructs import BUILT_IN, ORDINARY, SUBFLOW, kind_of
from flowcraft.engine.draft import Cell
from flowcraft.errors import DefinitionError, InvalidRequest
from flowcraft.executor import Dependencies, Executor, open_dependencies
from flowcraft.gate import Gate, GatedExecutor
from flowcraft.graph import Graph, compile_graph
from flowcraft.limits import check_keys
from flowcraft.local import Listener, LocalRun, Surroundings
from flowcraft.middleware import Middleware
from flowcraft.notes import log_level
from flowcraft.ports import Clock
from flowcraft.registry import Definition, Implementation, NodeFunction, Registry, payloads_of
from flowcraft.results import RunResult
from flowcraft.resuming import result_of, resume_run
from flowcraft.signals import SignalRequest

__all__ = ["FlowRuntime"]


class FlowRuntime:
    """What a process can run. Opens nothing until something runs; may be shared by any number of runs and adapters.

    Args:
        flows: flows, with the functions of their nodes.
        blueprints: workflows as data, whose functions are in ``registry`` (by ``uses``).
        registry: functions and classes by ``uses``.
        deps: what nodes see as ``ctx.deps``: the object itself, or a function returning an async context manager that
            opens it (once per in-process run, once per worker).
        middleware: wrapped around every execution, the first outermost.
        listeners: called with every event of in-process runs, on the event loop; they must not block.
        codec: how values are stored; the default knows the dataclasses and enums in the annotations of the nodes.
        concurrency: how many nodes of one in-process run may wait for something at the same time.
        strict: refuse blueprints with cycles that can never end.
        keep_logs: the least level of what nodes tell ``ctx.log`` that is kept with the run; None keeps nothing.
        token_hex: makes a text of so many random bytes, in hex, for the ids and tokens of runs and commits, which must
            never repeat among all processes that share a store; a simulation brings its own.

    Raises:
        DefinitionError: a blueprint that cannot work, two of one id, or two functions of one name.
    """

    def __init__(
        self,
        flows: Iterable[Definition] = (),
        *,
        blueprints: Iterable[Blueprint] | Mapping[str, Blueprint] = (),
        registry: Mapping[str, Implementation | NodeFunction] | None = None,
        deps: Dependencies = None,
        middleware: Sequence[Middleware] = (),
        listeners: Sequence[Listener] = (),
        codec: Codec | None = None,
        clock: Clock | None = None,
        concurrency: int = 100,
        strict: bool = False,
        keep_logs: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = "INFO",
        token_hex: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.codec: Codec = codec or JsonCodec()
        self.deps = deps
        self.middleware = tuple(middleware)
        self.listeners = tuple(listeners)
        self.concurrency = _check_concurrency(concurrency)
        self._strict = strict
        self._keep_logs = log_level(keep_logs)
        self.token_hex = token_hex
        self.registry = Registry.of(registry or {})
        self._definitions: dict[str, Definition] = {}
        self._graphs: dict[str, Graph] = {}
        self._ids: dict[str, Graph] = {}
        self._checked: set[str] = set()
        self._gate = Gate(self.clock)
        for flow in flows:
            self._add_flow(flow)
        for blueprint in blueprints.values() if isinstance(blueprints, Mapping) else blueprints:
            self._name(self.register(blueprint))
        for function in self.registry:
            self._register_types(function)

    def _add_flow(self, flow: Definition) -> None:
        self.registry = self.registry.merged(flow.functions)
        graph = self.register(flow.blueprint)
        self._name(graph)
        self._definitions[graph.blueprint.id] = flow
        self._register_payloads(flow)
        self._add_subflows(flow)

    def _add_subflows(self, flow: Definition) -> None:
        """The flows that it runs as steps, and theirs."""
        for child in getattr(flow, "subflows", ()):
            if self._definitions.get(child.blueprint.id) is not child:
                self._add_flow(child)

    def _name(self, graph: Graph) -> None:
        known = self._ids.setdefault(graph.blueprint.id, graph)
        if known.content_hash != graph.content_hash:
            raise DefinitionError(f"two blueprints have the id {graph.blueprint.id!r}", subject=graph.blueprint.id)

    def _register_types(self, function: NodeFunction) -> None:
        self._register_classes(function.input_type, function.output_type)

    def _register_payloads(self, flow: Definition) -> None:
        self._register_classes(*payloads_of(flow).values())

    def _register_classes(self, *annotations: object) -> None:
        for annotation in annotations:
            for found in _classes(annotation):
                if dataclasses.is_dataclass(found) or issubclass(found, enum.Enum) or hasattr(found, "model_validate"):
                    self.codec.register(found)

    def register(self, blueprint: Blueprint) -> Graph:
        """Compile a blueprint, once per content; it can then be run by its content hash.

        Raises:
            DefinitionError: it cannot work.
        """
        content_hash = blueprint.content_hash
        graph = self._graphs.get(content_hash)
        if graph is None:
            check_keys(blueprint)
            graph = self._graphs[content_hash] = compile_graph(blueprint, strict=self._strict)
        return graph

    @property
    def blueprints(self) -> Mapping[str, Blueprint]:
        """The blueprints that this runtime was made with, by id."""
        return {blueprint_id: graph.blueprint for blueprint_id, graph in self._ids.items()}

    def graph(self, key: str) -> Graph | None:
        """The compiled blueprint by id or content hash, or None."""
        return self._ids.get(key) or self._graphs.get(key)

    def resolve(self, flow: Definition | Blueprint | str) -> Graph:
        """The compiled form of a flow, a blueprint, or the id of one that this runtime was made with.

        Raises:
            DefinitionError: an unknown id, or a blueprint that cannot work.
        """
        if isinstance(flow, str):
            graph = self._ids.get(flow)
            if graph is None:
                known = ", ".join(sorted(self._ids)) or "none"
                raise DefinitionError(f"there is no blueprint {flow!r} here (known: {known})", subject=flow)
            return graph
        if isinstance(flow, Blueprint):
            return self.register(flow)
        graph = self._ids.get(flow.blueprint.id)
        if graph is None or graph.blueprint is not flow.blueprint:
            registry, compiled = self.registry.merged(flow.functions), self.register(flow.blueprint)
            self.registry, self._ids[flow.blueprint.id], self._definitions[flow.blueprint.id] = registry, compiled, flow
            self._add_subflows(flow)
            for function in flow.functions.values():
                self._register_types(function)
            self._register_payloads(flow)
            graph = self._ids[flow.blueprint.id]
        return graph

    def names_of(self, graph: Graph) -> Callable[[object], str] | None:
        """How functions of a flow are turned into node ids, if the graph came from a flow."""
        flow = self._definitions.get(graph.blueprint.id)
        return getattr(flow, "id_of", None)

    def payload_of(self, graph: Graph, node_id: str) -> Any:
        """The type that a flow declares for the payload of a wait, or None."""
        flow = self._definitions.get(graph.blueprint.id)
        return None if flow is None else payloads_of(flow).get(node_id)

    @asynccontextmanager
    async def open_executor(
        self, to_cell: Callable[[object], Cell] | None = None, gate: Gate | None = None
    ) -> AsyncGenerator[Executor]:
        """An executor with this runtime's functions, its dependencies open for as long as the block lasts.

        With a ``gate``, visits under limits wait in it; a worker parks them instead.
        """
        make = Executor if gate is None else partial(GatedExecutor, gate)
        async with open_dependencies(self.deps) as deps:
            yield make(
                self.registry,
                deps=deps,
                middleware=self.middleware,
                codec=self.codec,
                clock=self.clock,
                to_cell=to_cell,
                keep_logs=self._keep_logs,
                knows=lambda blueprint_id: blueprint_id in self._ids,
            )

    def snapshot(self, value: object) -> object:
        """What a reader elsewhere would get: in process, what cannot be stored fails as it would on any backend."""
        return value if value is None or value is True or value is False else self.codec.snapshot(value)

    async def run(
        self,
        flow: Definition | Blueprint | str,
        input: object = None,
        *,
        context: Mapping[str, object] | None = None,
        run_id: str | None = None,
        concurrency: int | None = None,
    ) -> RunResult:
        """Run in this process, from the start to the end, or until only signals can move it; nothing is stored.

        Args:
            flow: a flow, a blueprint, or the id of one of this runtime.
            input: what the start nodes get.
            context: the run's keys at the start.
            run_id: an id of your own; by default a random one.
            concurrency: for this run, instead of the runtime's.

        Returns:
            The result of any terminal status: a failed run is a result, not an exception. Or, if only waits without a
            timeout are left, a result with status ``awaiting``, to be passed to `resume`.

        Raises:
            DefinitionError: an unknown or unworkable blueprint, or a node without a function. InvalidRequest: a run id,
            context key or limit that cannot be. SerializationError: an input that cannot be stored.
            asyncio.CancelledError: the caller was cancelled, and with it the run.
        """
        graph = self.resolve(flow)
        self.check_functions(graph)
        chosen = requested_id(run_id, "run id") if run_id is not None else self.token_hex(8)
        limit = self.concurrency if concurrency is None else _check_concurrency(concurrency)
        start_input = self.snapshot(input)
        keys = {requested_id(key, "context key"): self.snapshot(value) for key, value in (context or {}).items()}
        gate = self._gate if any(node.limits for node in graph.nodes) else None
        async with self.open_executor(self.snapshot, gate) as executor:
            around = Surroundings(
                executor, self.clock, limit, self.snapshot, self.resolve, self.names_of, self.listeners
            )
            run = LocalRun(graph, chosen, around)
            await run.run(start_input, keys)
        return result_of(run)

    async def resume(
        self,
        result: RunResult,
        node: object,
        payload: object = None,
        *,
        action: str | None = None,
        signal_id: str | None = None,
        visit: int | None = None,
    ) -> RunResult:
        """Give a wait of an ``awaiting`` run what it waits for, and run on, with dependencies opened afresh.

        Args:
            result: the latest result of the run, or an earlier one: they stand for the same run.
            node: the wait, by id, function or class; a wait in a subflow is ``"subflow-node/wait-node"``.
            payload, action, signal_id, visit: see `flowcraft.runs.RunHandle.signal`. A signal for a wait that has not
                begun is kept.

        Returns:
            As `run`.

        Raises:
            NotWaiting, SignalConflict, TooLate, MailboxFull, InvalidPayload, InvalidRequest, SerializationError: as
            `flowcraft.runs.RunHandle.signal`. TooLate also if the run has ended. CommandRefused: it is being resumed,
            or was interrupted. InvalidRequest also if it is a run of an adapter.
        """
        chosen = self.token_hex(8) if signal_id is None else signal_id
        return await resume_run(self, result, node, SignalRequest(payload, action, chosen, visit))

    def _has(self, node: Node) -> bool:
        if kind_of(node) != ORDINARY or self.registry.find(node.uses) is not None:
            return True
        return str(node.params.get("blueprintId")) in self._ids if node.uses == SUBFLOW else node.uses in BUILT_IN

    def check_functions(self, graph: Graph) -> None:
        """Make sure that every node of a blueprint can be executed here.

        Raises:
            DefinitionError: it names the nodes that cannot.
        """
        if graph.content_hash in self._checked:
            return
        missing = [node for node in graph.nodes if not self._has(node)]
        if missing:
            told = ", ".join(f"{node.id!r} uses {node.uses!r}" for node in missing[:5])
            raise DefinitionError(
                f"{len(missing)} node(s) of blueprint {graph.blueprint.id!r} have no function here: {told}",
                subject=missing[0].id,
            )
        self._checked.add(graph.content_hash)


def _check_concurrency(limit: int) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidRequest(f"concurrency must be a whole number of at least 1, not {told(limit)}")
    return limit


def _classes(annotation: object) -> Iterator[type]:
    """All classes in an annotation such as ``list[Order] | None``."""
    found = get_origin(annotation) or annotation
    if isinstance(found, type):
        yield found
    for part in get_args(annotation):
        yield from _classes(part)
