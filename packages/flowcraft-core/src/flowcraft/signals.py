"""Signals: which node one is for, whether its payload is what the wait declares, and why it is refused.

Decided by the graph and the head alone, the same in process and distributed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from flowcraft.checks import requested_id, told
from flowcraft.codec import Codec
from flowcraft.constructs import WAIT, WEBHOOK, WEBHOOK_EVENT
from flowcraft.engine.draft import Cell
from flowcraft.engine.events import Signal
from flowcraft.engine.head import PENDING, STATE_NAMES, WAITING, Head
from flowcraft.engine.special import MAILBOX, judge, visits_begun
from flowcraft.engine.transition import run_status
from flowcraft.errors import (
    InvalidPayload,
    InvalidRequest,
    MailboxFull,
    NotWaiting,
    SerializationError,
    SignalConflict,
    TooLate,
)
from flowcraft.graph import Graph

__all__ = [
    "Answered",
    "SignalRequest",
    "coming_visit",
    "name_of",
    "wait_number",
    "wait_of_webhook",
    "waits_for_event",
]  # fmt: skip

#: ``accepted``: it ended the wait · ``repeated``: it had done so before · ``early``: kept for a wait to come.
Answered = Literal["accepted", "repeated", "early"]

Names = Callable[[object], str]


def name_of(node: object, names: Names | None) -> str:
    """The id of a node that is given as id, function or class.

    Raises:
        DefinitionError: it is no node of the flow. InvalidRequest: this process does not have the flow.
    """
    if isinstance(node, str):
        return node
    if names is None:
        raise InvalidRequest(f"name the node by its id, not as {told(node)}: this process does not have the run's flow")
    return names(node)


@dataclass(frozen=True, slots=True)
class SignalRequest:
    """A signal as somebody sends it; checked when it is made.

    Raises:
        InvalidRequest: an action, id or visit that cannot be. SerializationError: a payload that cannot be stored.
    """

    payload: object
    action: str | None
    id: str
    visit: int | None

    def __post_init__(self) -> None:
        requested_id(self.id, "signal_id")
        if self.action is not None:
            requested_id(self.action, "action")
        visit = cast("object", self.visit)
        if visit is not None and (isinstance(visit, bool) or not isinstance(visit, int) or visit < 1):
            raise InvalidRequest(f"visit counts from 1, it cannot be {told(visit)}")

    def event(
        self, graph: Graph, head: Head, node_id: str, wanted: Any, encode: Callable[[object], Cell], codec: Codec
    ) -> tuple[Answered, Sequence[Signal]]:
        """What is answered, and the event if it changes anything. ``wanted`` is the payload's type, None: any.

        Raises:
            NotWaiting, SignalConflict, TooLate, MailboxFull, InvalidPayload.
        """
        node = wait_number(graph, node_id)
        answer = judge(graph, head, Signal(node, None, self.action, self.id, self.visit))
        if answer == "repeated":
            return answer, ()
        if answer in ("accepted", "early"):
            cell = encode(self._converted(wanted, codec, node_id))
            return answer, (Signal(node, cell, self.action, self.id, self.visit),)
        if answer == "late":
            raise TooLate(self._too_late(graph, head, node))
        if answer == "conflict":
            raise SignalConflict(f"another signal was taken for {_visit(node_id, self.visit)}: there can be one only")
        text = f"{MAILBOX} signals are kept for waits of this run that have not begun: {node_id!r} must wait"
        raise MailboxFull(text)

    def _converted(self, wanted: Any, codec: Codec, node_id: str) -> object:
        if wanted is None:
            return self.payload
        try:
            return codec.convert(self.payload, wanted)
        except SerializationError as error:
            raise InvalidPayload(f"the payload for {node_id!r} is refused: {error}", field=error.path) from error

    def _too_late(self, graph: Graph, head: Head, node: int) -> str:
        told_visit = _visit(graph.ids[node], self.visit)
        if head.terminal:
            return f"a signal for {told_visit} comes too late: the run has ended ({head.phase})"
        if head.phase != "running":
            return f"a signal for {told_visit} comes too late: the run is {run_status(head)}, nothing begins any more"
        return f"a signal for {told_visit} comes too late: the node is {STATE_NAMES[head.states[node]]}"


def _visit(node_id: str, visit: int | None) -> str:
    return repr(node_id) if visit is None else f"visit {visit} of {node_id!r}"


def wait_number(graph: Graph, node_id: str) -> int:
    """The number of a wait.

    Raises:
        NotWaiting: the run has no such node, or it is no wait.
    """
    node = graph.index.get(node_id, -1)
    if node < 0:
        raise NotWaiting(f"blueprint {graph.blueprint.id!r} has no node {told(node_id)}")
    if graph.kind[node] != WAIT:
        raise NotWaiting(f"node {node_id!r} uses {graph.nodes[node].uses!r}: only a wait takes a signal")
    return node


def waits_for_event(graph: Graph, event: str) -> list[str]:
    """The ids of the waits whose ``params.eventName`` is this, in the blueprint's order."""
    return [
        node.id for n, node in enumerate(graph.nodes) if graph.kind[n] == WAIT and node.params.get("eventName") == event
    ]


def wait_of_webhook(graph: Graph, node_id: str) -> str:
    """The wait that the endpoint of a webhook node resumes; of a wait, itself.

    It is the one that the webhook's ``params.waitNodeId`` names; else the one whose ``params.eventName`` is
    ``webhook:<id of the webhook node>``; else the only wait that follows it.

    Raises:
        NotWaiting: no such node, it is neither a webhook nor a wait, or it cannot be told which wait is meant.
    """
    node = graph.index.get(node_id, -1)
    if node >= 0 and graph.kind[node] == WAIT:
        return node_id
    if node < 0 or graph.nodes[node].uses != WEBHOOK:
        wait_number(graph, node_id)  # says what it is
    named = graph.nodes[node].params.get("waitNodeId")
    if named is not None:
        return graph.ids[wait_number(graph, str(named))]
    found = waits_for_event(graph, WEBHOOK_EVENT + node_id) or _waits_after(graph, node)
    if len(found) == 1:
        return found[0]
    told_waits = f"several waits follow it ({', '.join(map(repr, found))})" if found else "no wait follows it"
    raise NotWaiting(f"webhook {node_id!r} must name its wait in params.waitNodeId: {told_waits}")


def _waits_after(graph: Graph, start: int) -> list[str]:
    """The waits that can be reached from a node."""
    seen, todo = {start}, [start]
    while todo:
        new = {graph.dst[edge] for edge in graph.out[todo.pop()]} - seen
        seen |= new
        todo += new
    return [graph.ids[node] for node in sorted(seen) if graph.kind[node] == WAIT]


def coming_visit(graph: Graph, head: Head, wait: int) -> int:
    """The visit that a wait is in, if it waits now, else its next one; the last, if there will be no other."""
    if head.states[wait] == WAITING:
        return head.active[wait].visit
    begun = visits_begun(graph, head, wait)
    return begun + 1 if graph.repeats[wait] or head.states[wait] == PENDING else begun
