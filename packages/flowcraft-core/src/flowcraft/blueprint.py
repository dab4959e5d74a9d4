"""Blueprint: a workflow as data. Frozen dataclasses, and JSON both ways.

The JSON is that of the TypeScript Flowcraft (camelCase, durations in milliseconds), so a file written for it loads
unchanged; the dataclasses speak seconds. Parsing refuses what can never work and names the offending node or edge.
What depends on the whole graph (cycles, entry points, fallbacks) is checked by `flowcraft.graph.compile_graph`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from flowcraft.checks import (
    MAX_ID_BYTES,
    MAX_WHOLE,
    check_id,
    check_number,
    check_text,
    check_whole,
    copy_json,
    told,
)
from flowcraft.errors import DefinitionError
from flowcraft.limit import Limit, check_limits, named_limits

__all__ = [
    "ALL",
    "ANY",
    "MAX_BLUEPRINT_BYTES",
    "MAX_ID_BYTES",
    "Blueprint",
    "Edge",
    "Inputs",
    "Join",
    "Json",
    "Node",
    "Retry",
    "check_id",
    "check_number",
]

#: The largest blueprint, as JSON text in bytes.
MAX_BLUEPRINT_BYTES = 8 * 1024 * 1024
#: The longest duration, in seconds: some 300 years.
MAX_SECONDS = 1e10
#: How deep lists and objects may be nested in parameters and metadata.
_MAX_DEPTH = 100

#: What JSON can say; checked where it is parsed.
Json = object
#: Where a node's input comes from: a name or dotted path, a mapping of them, or a list of alternatives.
Inputs = str | Mapping[str, "str | Sequence[str]"] | Sequence[str]


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed visit is tried again: ``delay * backoff ** (attempt - 1)`` seconds later, at most ``max_delay``.

    ``attempts`` counts all executions, the first included. ``jitter`` spreads a delay by up to that share of it.
    """

    attempts: int = 1
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        check_whole(self.attempts, "attempts", at_least=1)
        for name, low in (("delay", 0.0), ("backoff", 1.0), ("max_delay", 0.0), ("jitter", 0.0)):
            check_number(getattr(self, name), name, at_least=low)
        if self.jitter > 1:
            raise DefinitionError(f"jitter is a share between 0 and 1, not {told(self.jitter)}")

    def delay_after(self, attempt: int, random: float) -> float:
        """Seconds to wait after the failed ``attempt`` (from 1); ``random`` in [0, 1) spreads it."""
        try:
            wait = min(self.delay * self.backoff ** (attempt - 1), self.max_delay)
        except OverflowError:
            wait = self.max_delay if self.delay else 0.0
        return wait * (1 + self.jitter * (2 * random - 1))


@dataclass(frozen=True, slots=True)
class Join:
    """When a node with several predecessors fires: after ``at_least`` LIVE ones, or when all are decided (None).

    ``losers`` says what becomes of unfinished predecessors that nothing else needs once it has fired.
    """

    at_least: int | None = None
    losers: Literal["cancel", "run"] = "cancel"

    def __post_init__(self) -> None:
        if self.at_least is not None:
            check_whole(self.at_least, "the number of predecessors that a join needs", at_least=1)
        if self.losers not in ("cancel", "run"):
            raise DefinitionError(f"losers is 'cancel' or 'run', not {told(self.losers)}")


ALL = Join()
ANY = Join(at_least=1)


@dataclass(frozen=True, slots=True)
class Node:
    """One step. ``uses`` names its function in the registry, with ``@version`` where it declares one.

    ``fallback`` names the node that stands in when all attempts failed; ``compensate`` the one that undoes a completed
    visit when the run is rolled back. ``limits`` bound how many of its visits run at a time, or begin in a time.
    """

    id: str
    uses: str
    params: Mapping[str, Json] = field(default_factory=dict[str, Json])
    inputs: Inputs | None = None
    retry: Retry = Retry()
    timeout: float | None = None
    fallback: str | None = None
    join: Join = ALL
    queue: str | None = None
    priority: int = 0
    compensate: str | None = None
    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        check_id(self.id, "node id")
        at = f"node {self.id!r}"
        check_id(self.uses, f"'uses' of {at}")
        if self.params:
            if not isinstance(self.params, Mapping):
                raise DefinitionError(f"params of {at} must be an object, not {told(self.params)}", subject=self.id)
            object.__setattr__(self, "params", copy_json(self.params, f"params of {at}"))
        if self.inputs is not None:
            object.__setattr__(self, "inputs", _check_inputs(self.inputs, f"inputs of {at}"))
        if self.timeout is not None:
            check_number(self.timeout, f"timeout of {at}", above=0.0)
        if self.fallback is not None:
            check_id(self.fallback, f"fallback of {at}")
        if self.compensate is not None:
            check_id(self.compensate, f"compensate of {at}")
        if self.queue is not None:
            check_id(self.queue, f"queue of {at}")
        check_whole(self.priority, f"priority of {at}", at_least=-MAX_WHOLE)
        object.__setattr__(self, "limits", check_limits(self.limits, self.id))


def _check_inputs(value: object, what: str) -> Inputs:
    if isinstance(value, Mapping):
        rows = cast("Mapping[object, object]", value).items()
        return {check_text(name, f"a key of {what}"): _check_names(source, what) for name, source in rows}
    return _check_names(value, what)


def _check_names(value: object, what: str) -> str | tuple[str, ...]:
    if isinstance(value, str) and value:
        return check_text(value, what)
    if isinstance(value, list | tuple) and value:
        names = tuple(cast("Sequence[object]", value))
        if all(isinstance(name, str) and name for name in names):
            return tuple(check_text(name, what) for name in names)
    raise DefinitionError(f"{what} must be a name, a list of names or an object of names, not {told(value)}")


@dataclass(frozen=True, slots=True)
class Edge:
    """From ``source`` to ``target``, taken for ``action`` and if ``condition`` holds; ``transform`` makes the input."""

    source: str
    target: str
    action: str | None = None
    condition: str | None = None
    transform: str | None = None

    def __post_init__(self) -> None:
        if self.action is not None:
            check_id(self.action, f"action of edge {self}")
        for name in ("condition", "transform"):
            if (text := getattr(self, name)) is not None and not check_text(text, f"{name} of edge {self}"):
                raise DefinitionError(f"{name} of edge {self} must not be empty", subject=str(self))

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


#: What the JSON keeps beside the author's own keys in ``metadata``.
_SETTINGS = frozenset({"version", "cycleEntryPoints", "failure", "timeout", "maxVisits"})


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A workflow: nodes, edges and how a run of it behaves.

    ``failure`` is ``"continue"`` (independent branches finish first) or ``"fail-fast"``; ``timeout`` is the deadline of
    a run in seconds; ``max_visits`` bounds how often one opening of a cycle goes round; ``metadata`` is the author's.
    """

    id: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    version: str | None = None
    cycle_entry_points: tuple[str, ...] = ()
    failure: Literal["continue", "fail-fast"] = "continue"
    timeout: float | None = None
    max_visits: int = 10_000
    metadata: Mapping[str, Json] = field(default_factory=dict[str, Json])

    def __post_init__(self) -> None:
        check_id(self.id, "blueprint id")
        if self.failure not in ("continue", "fail-fast"):
            raise DefinitionError(f"failure is 'continue' or 'fail-fast', not {told(self.failure)}", subject=self.id)
        if self.version is not None:
            check_text(self.version, f"version of blueprint {self.id!r}")
        if self.timeout is not None:
            check_number(self.timeout, f"timeout of blueprint {self.id!r}", above=0.0)
        check_whole(self.max_visits, f"maxVisits of blueprint {self.id!r}", at_least=1)
        object.__setattr__(self, "metadata", copy_json(self.metadata, "metadata"))
        if any(node.limits for node in self.nodes):
            named = (replace(node, limits=named_limits(node.limits, self.id, node.id)) for node in self.nodes)
            object.__setattr__(self, "nodes", tuple(named))
        for name in _SETTINGS & self.metadata.keys():
            raise DefinitionError(f"metadata of blueprint {self.id!r} has {name!r}, which is a setting", subject=name)
        _check_references(self)

    def node(self, node_id: str) -> Node:
        """The node with this id.

        Raises:
            DefinitionError: there is none.
        """
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise DefinitionError(f"blueprint {self.id!r} has no node {node_id!r}", subject=node_id)

    @staticmethod
    def from_json(text: str | bytes) -> Blueprint:
        """Parse JSON text.

        Raises:
            DefinitionError: malformed or too large JSON, or a blueprint that cannot work; the message names the place.
        """
        from flowcraft.blueprint_json import parse_text  # noqa: PLC0415 - it imports this module: shapes first

        return parse_text(text)

    @staticmethod
    def from_dict(data: object) -> Blueprint:
        """Build a blueprint from decoded JSON; unknown keys (of user interfaces) are dropped.

        Raises:
            DefinitionError: see `from_json`.
        """
        from flowcraft.blueprint_json import parse_blueprint  # noqa: PLC0415 - as above

        return parse_blueprint(data)

    def to_dict(self) -> dict[str, Json]:
        """The blueprint as JSON data, without what is a default."""
        from flowcraft.blueprint_json import dump_blueprint  # noqa: PLC0415 - as above

        return dump_blueprint(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """The blueprint as JSON text; without ``indent`` on one line, without spaces."""
        separators = (",", ":") if indent is None else None
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent, separators=separators, allow_nan=False)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON: the same for the same content, whatever the key order of the source was.

        Raises:
            DefinitionError: the blueprint is larger than it may be stored.
        """
        text = json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
        canonical = text.encode()
        if len(canonical) > MAX_BLUEPRINT_BYTES:
            size = f"{len(canonical)} bytes as JSON, the limit is {MAX_BLUEPRINT_BYTES}"
            raise DefinitionError(f"blueprint {self.id!r} has {size}", subject=self.id)
        return hashlib.sha256(canonical).hexdigest()


def _check_references(blueprint: Blueprint) -> None:
    if not blueprint.nodes:
        raise DefinitionError(f"blueprint {blueprint.id!r} has no nodes", subject=blueprint.id)
    ids: set[str] = set()
    for node in blueprint.nodes:
        if node.id in ids:
            raise DefinitionError(f"two nodes have the id {node.id!r}", subject=node.id)
        ids.add(node.id)
    for node in blueprint.nodes:
        if node.fallback is not None and node.fallback not in ids:
            raise DefinitionError(f"the fallback {node.fallback!r} of node {node.id!r} does not exist", subject=node.id)
        if node.compensate is not None and node.compensate not in ids:
            raise DefinitionError(
                f"the compensation {node.compensate!r} of node {node.id!r} does not exist", subject=node.id
            )
    for edge in blueprint.edges:
        for end, name in ((edge.source, "source"), (edge.target, "target")):
            if end not in ids:
                raise DefinitionError(f"edge {edge} has a {name} that does not exist: {end!r}", subject=str(edge))
    for entry in blueprint.cycle_entry_points:
        if entry not in ids:
            raise DefinitionError(f"the cycle entry point {entry!r} does not exist", subject=entry)
