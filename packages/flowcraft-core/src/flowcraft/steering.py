"""What people tell a run: signals, and the commands pause, resume, patch, mark completed, retry and roll back.

Each is decided on the head that is really committed on, so that of any number of callers at once, in any number of
processes, each gets a true answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from flowcraft.checks import requested_id
from flowcraft.codec import Codec
from flowcraft.committer import Committer
from flowcraft.engine.commands import can_mark
from flowcraft.engine.draft import MISSING, Cell
from flowcraft.engine.events import EngineEvent, MarkCompleted, Patch, Pause, Retry, Rollback, Unpause
from flowcraft.engine.head import COMPLETED, Head
from flowcraft.errors import CommandRefused, DefinitionError, FlowcraftError, InvalidRequest, NotWaiting, RunNotFound
from flowcraft.folding import Gone
from flowcraft.graph import Graph
from flowcraft.refusals import begun_node, ended, may_restart, restartable, why_not_marked, why_not_steered
from flowcraft.signals import Answered, Names, SignalRequest, name_of, waits_for_event

__all__ = ["Access", "Decision", "Steering", "decide"]

T = TypeVar("T")
#: Looks at the head that is committed on: what the caller is answered, and what is to happen. A generator of events
#: sees the head as its events change it, and may complete the answer meanwhile.
Decision = Callable[[Graph, Head], tuple[T, Iterable[EngineEvent]]]


class Access(Protocol):
    """What steering needs of a process."""

    @property
    def committer(self) -> Committer:
        """The only writer of runs."""
        ...

    @property
    def codec(self) -> Codec:
        """How values become bytes."""
        ...

    @property
    def names_of(self) -> Callable[[Graph], Names | None]:
        """How node functions become node ids, if that is known."""
        ...

    @property
    def payload_of(self) -> Callable[[Graph, str], Any]:
        """The type that a wait declares for its payload, or None."""
        ...


async def decide(committer: Committer, run_id: str, decision: Decision[T]) -> T:
    """Commit what ``decision`` says about the run, and return its answer. It is asked again after a conflict.

    Raises:
        RunNotFound: there is no such run. What the decision raises: nothing is committed for it then.
    """
    answer: list[T] = []
    refused: list[FlowcraftError] = []

    def events(graph: Graph, head: Head, now: float) -> Iterator[EngineEvent]:  # noqa: ARG001 - what is asked for
        answer.clear()
        refused.clear()
        try:
            told, found = decision(graph, head)
            answer.append(told)
            yield from found
        except FlowcraftError as error:  # of this caller: what else is folded into the commit goes on
            refused.append(error)

    if isinstance(await committer.submit(run_id, events), Gone):
        raise RunNotFound(f"there is no run {run_id!r}: it never was, or its retention time is over")
    if refused:
        raise refused[0]
    return answer[0]


class Steering:
    """The part of a `RunHandle` that changes the run. Nodes are named by id, or by function or class of the flow."""

    def __init__(self, run_id: str, access: Access) -> None:
        self.run_id = run_id
        self._steering = access

    async def signal(
        self,
        node: object,
        payload: object = None,
        *,
        action: str | None = None,
        signal_id: str | None = None,
        visit: int | None = None,
    ) -> Answered:
        """Give a wait what it waits for; exactly one signal is accepted for each of its visits.

        Args:
            node: the wait.
            payload: becomes the wait's output; where the flow declares a type for it, a value of that type.
            action: chooses the edges with this action, as a node's `Result` does.
            signal_id: an id of your own, by default a random one. The same id again gets the same answer.
            visit: which visit of the wait is meant; by default the one that waits now, or the first.

        Returns:
            ``accepted``: the wait is over. ``repeated``: it was this id that ended it. ``early``: the wait has not
            begun; the signal is kept and will end it.

        Raises:
            RunNotFound: there is no such run. NotWaiting: the run has no such node, or it is no wait. SignalConflict:
            another signal was accepted or kept for this visit. TooLate: the visit is over, or the run has ended.
            MailboxFull: too many signals are kept. InvalidPayload: not the declared type. InvalidRequest: an id, action
            or visit that cannot be. SerializationError: a payload that cannot be stored.
        """
        codec = self._steering.codec
        request = SignalRequest(payload, action, secrets.token_hex(16) if signal_id is None else signal_id, visit)
        codec.encode(payload)  # what cannot be stored is told before anything else

        def decision(graph: Graph, head: Head) -> tuple[Answered, Sequence[EngineEvent]]:
            node_id = self._name(graph, node, NotWaiting)
            return request.event(graph, head, node_id, self._steering.payload_of(graph, node_id), codec.encode, codec)

        return await self._decide(decision)

    async def publish(
        self, event: str, payload: object = None, *, action: str | None = None, signal_id: str | None = None
    ) -> Mapping[str, Answered]:
        """Signal every wait of the run whose ``params.eventName`` is ``event``, in one step.

        Returns:
            The answers, as of `signal`, by the id of the wait, without those that refused it.

        Raises:
            NotWaiting: the run has no such wait. If all refused it: what the first of them raises, as `signal` does.
        """
        codec = self._steering.codec
        request = SignalRequest(payload, action, secrets.token_hex(16) if signal_id is None else signal_id, None)
        codec.encode(payload)

        def signals(graph: Graph, head: Head, answers: dict[str, Answered]) -> Iterator[EngineEvent]:
            refused: list[FlowcraftError] = []
            for node_id in waits_for_event(graph, event):
                wanted = self._steering.payload_of(graph, node_id)
                try:
                    answers[node_id], found = request.event(graph, head, node_id, wanted, codec.encode, codec)
                except FlowcraftError as error:
                    refused.append(error)
                else:
                    yield from found  # before the next wait is judged: this may begin it, or end it
            if not answers:
                raise refused[0] if refused else NotWaiting(f"no wait of run {self.run_id!r} is for event {event!r}")

        def decision(graph: Graph, head: Head) -> tuple[Mapping[str, Answered], Iterable[EngineEvent]]:
            answers: dict[str, Answered] = {}
            return answers, signals(graph, head, answers)

        return await self._decide(decision)

    async def pause(self) -> bool:
        """Hand out nothing more; what runs may finish, timers and signals count. False if it was paused already.

        Raises:
            RunNotFound: there is no such run. CommandRefused: it has ended, or is ending.
        """
        return await self._pause(True)

    async def resume(self) -> bool:
        """Go on after a pause. False if the run was not paused.

        Raises:
            As `pause`.
        """
        return await self._pause(False)

    async def _pause(self, paused: bool) -> bool:
        def decision(_: Graph, head: Head) -> tuple[bool, Sequence[EngineEvent]]:
            self._require(why_not_steered(head))
            changes = head.paused != paused
            return changes, [Pause() if paused else Unpause()] if changes else []

        return await self._decide(decision)

    async def patch_context(self, values: Mapping[str, object], delete: Iterable[str] = ()) -> None:
        """Set and delete keys of the run's context, as a node does; the last commit of a key wins.

        Raises:
            RunNotFound: there is no such run. CommandRefused: it has ended. InvalidRequest: a key that cannot be, or is
            both set and deleted. SerializationError: a value that cannot be stored.
        """
        encode = self._steering.codec.encode
        writes: dict[str, Cell] = {requested_id(key, "context key"): encode(value) for key, value in values.items()}
        for key in [delete] if isinstance(delete, str) else delete:
            if requested_id(key, "context key") in writes:
                raise InvalidRequest(f"context key {key!r} is to be both set and deleted")
            writes[key] = MISSING

        def decision(_: Graph, head: Head) -> tuple[None, Sequence[EngineEvent]]:
            self._require(ended(head))
            return None, [Patch(writes)] if writes else []

        await self._decide(decision)

    async def mark_completed(self, node: object, output: object = None, action: str | None = None) -> bool:
        """Complete a node as if its function had returned so; what was running for it counts no more.

        False if the node is completed already, with whatever output.

        Raises:
            RunNotFound: there is no such run. CommandRefused: no such node, it is settled otherwise, or it is none that
            can be marked: a batch, a loop's controller, a fallback, a subflow with its child. InvalidRequest: an action
            that cannot be. SerializationError: an output that cannot be stored.
        """
        cell = self._steering.codec.encode(output)
        if action is not None:
            requested_id(action, "action")

        def decision(graph: Graph, head: Head) -> tuple[bool, Sequence[EngineEvent]]:
            number = self._number(graph, node)
            if can_mark(graph, head, number):
                return True, [MarkCompleted(number, cell, action)]
            if head.states[number] == COMPLETED:
                return False, []
            raise self._refused(f"node {graph.ids[number]!r} cannot be marked: {why_not_marked(graph, head, number)}")

        return await self._decide(decision)

    async def retry(self, nodes: Iterable[object] | str | Callable[..., Any] = ()) -> int:
        """Start a run again that has ended as failed or cancelled, from ``nodes``; returns the number of its new epoch.

        By default from all nodes whose failure counts, and from what was cancelled when the run was stopped. All that
        follows from them runs again, as the next visits; what else is settled stays.

        Raises:
            RunNotFound: there is no such run. CommandRefused: it has not failed, is the run of a subflow, nothing in it
            failed, or a node that cannot start again.
        """
        named = [nodes] if isinstance(nodes, str) or callable(nodes) else list(nodes)

        def decision(graph: Graph, head: Head) -> tuple[int, Sequence[EngineEvent]]:
            if head.phase not in ("failed", "cancelled"):
                why = ended(head) or f"it has not failed, it is {head.phase}"
                raise self._refused(f"only a run that has ended as failed or cancelled can be retried: {why}")
            self._require(may_restart(head))
            numbers = tuple(self._startable(graph, head, node) for node in named)
            if not numbers and not restartable(graph, head):
                raise self._refused("nothing in it failed or was cancelled")
            return head.epoch + 1, [Retry(numbers)]

        return await self._decide(decision)

    async def rollback(self, to: object = None) -> bool:
        """Undo what was completed at and after ``to``, and start again there; without it, everything, and end the run.

        The completed visits of nodes that declare `compensate` are undone in the reverse order of their completion. The
        run may be under way, or have ended. False if it is being rolled back so already.

        Raises:
            RunNotFound: there is no such run. CommandRefused: it is ending, or being rolled back to somewhere else; it
            is the run of a subflow that has ended; or ``to`` is no node that has begun.
        """

        def decision(graph: Graph, head: Head) -> tuple[bool, Sequence[EngineEvent]]:
            number = None if to is None else self._number(graph, to)
            if head.phase == "undoing" and head.goal == (() if number is None else (number,)):
                return False, []
            self._require(may_restart(head) if head.terminal else why_not_steered(head))
            if to is not None:
                self._startable(graph, head, to)
            return True, [Rollback(number)]

        return await self._decide(decision)

    def _startable(self, graph: Graph, head: Head, node: object) -> int:
        number = self._number(graph, node)
        why = begun_node(graph, head, number)
        if why:
            raise self._refused(f"it cannot start again from node {graph.ids[number]!r}: {why}")
        return number

    def _number(self, graph: Graph, node: object) -> int:
        node_id = self._name(graph, node, CommandRefused)
        if node_id not in graph.index:
            raise self._refused(f"blueprint {graph.blueprint.id!r} has no node {node_id!r}")
        return graph.index[node_id]

    def _name(self, graph: Graph, node: object, unknown: type[FlowcraftError]) -> str:
        try:
            return name_of(node, self._steering.names_of(graph))
        except DefinitionError as error:
            raise unknown(str(error)) from error

    def _require(self, why_not: str) -> None:
        if why_not:
            raise self._refused(why_not)

    def _refused(self, reason: str) -> CommandRefused:
        return CommandRefused(f"run {self.run_id!r}: {reason}", reason=reason)

    async def _decide(self, decision: Decision[T]) -> T:
        return await decide(self._steering.committer, self.run_id, decision)
